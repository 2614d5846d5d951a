//! A session: the row behind a sync token.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::device::DeviceTokens;
use super::{AccessError, App, Copied};
use crate::config::TOKEN_LIFE;
use crate::store::{Op, RecordKind};
use crate::types::{Millis, Namespace, Party, clean};

/// Longest name of a session in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// Longest part of a user agent that is kept, in bytes.
pub const MAX_USER_AGENT_BYTES: usize = 256;
/// `client_id` of tokens made on the command line. No app can have it: theirs are URLs.
pub const LOCAL_CLIENT: &str = "local:command-line";
/// DID of command-line tokens while no owner DID is known: root on this machine acts for the owner.
pub const LOCAL_DID: &str = "did:local:owner";

/// Who may do what in which namespace, until when. Its JSON is the row in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Names the session for ever; not a secret.
    pub id: String,
    /// All that it can see.
    #[serde(with = "namespace_text")]
    pub namespace: Namespace,
    /// What people call it; need not be unique.
    pub name: String,
    /// On whose behalf.
    pub did: String,
    /// Which app, or [`LOCAL_CLIENT`].
    pub client_id: String,
    /// Changes from it are ignored. In the row: what it asked for; an app may besides be approved for reading only.
    pub read_only: bool,
    /// When it began; whole seconds.
    pub created: Millis,
    /// When it ends, in whole seconds. The session of a device that is in use moves its end ahead.
    pub expires: Millis,
    /// When a socket with it was last opened or closed; on disk to the hour.
    pub last_used: Option<Millis>,
    /// From where it was authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What authenticated it calls itself, at most [`MAX_USER_AGENT_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Thumbprint of the key it proved to hold (RFC 7638).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jkt: Option<String>,
    /// When the device last proved its key. Only the session of a device has it: all that the device got by
    /// `/authenticate` with DPoP is that one session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticated: Option<Millis>,
    /// A token of the session was in use from two networks at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied: Option<Copied>,
}

/// What a new session is to be.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// All that it can see.
    pub namespace: Namespace,
    /// What people call it, at most [`MAX_NAME_BYTES`].
    pub name: String,
    /// On whose behalf.
    pub did: String,
    /// Which app, or [`LOCAL_CLIENT`].
    pub client_id: String,
    /// It may only read.
    pub read_only: bool,
    /// How long it lasts, within [`TOKEN_LIFE`]; the configured life if `None`.
    pub life: Option<Duration>,
}

impl NewSession {
    pub(super) fn into_session(self, now: Millis, default_life: Duration) -> Result<Session, AccessError> {
        let name_ok = (1..=MAX_NAME_BYTES).contains(&self.name.len())
            && self.name.trim() == self.name
            && !self.name.chars().any(char::is_control)
            && clean(&self.name, MAX_NAME_BYTES).is_some();
        if !name_ok {
            return Err(AccessError::Name(self.name.chars().take(MAX_NAME_BYTES).collect()));
        }
        let life = self.life.unwrap_or(default_life);
        if !TOKEN_LIFE.contains(&life) {
            return Err(AccessError::Life(life.as_secs()));
        }
        // Whole seconds, as in the token, so that token and row agree to the digit.
        let created = now / 1000 * 1000;
        Ok(Session {
            id: new_id()?,
            namespace: self.namespace,
            name: self.name,
            did: self.did,
            client_id: self.client_id,
            read_only: self.read_only,
            created,
            expires: created.saturating_add(life.as_secs().saturating_mul(1000)),
            last_used: None,
            address: None,
            user_agent: None,
            jkt: None,
            authenticated: None,
            copied: None,
        })
    }
}

impl Session {
    /// What the session belongs to.
    pub(super) fn app(&self) -> App {
        App { client_id: self.client_id.clone(), namespace: self.namespace.clone() }
    }

    /// A token made on the command line, not an app's.
    pub fn is_local(&self) -> bool {
        self.client_id == LOCAL_CLIENT
    }

    /// Whom the session's connections and memory count for.
    pub fn party(&self) -> Party {
        Party::new(self.namespace.clone(), &self.client_id, &self.id)
    }

    /// Since when it is not in use, as far as is known.
    pub(super) fn idle_since(&self) -> Millis {
        self.last_used.unwrap_or(self.created).max(self.authenticated.unwrap_or_default())
    }
}

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) session: Session,
    /// The tokens of a device's session; any other session has one token, which says when the session begins and ends.
    #[serde(default, rename = "tokens", skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<DeviceTokens>,
}

impl From<Session> for Row {
    fn from(session: Session) -> Self {
        Self { session, device: None }
    }
}

impl Row {
    /// Reads a row; `None` if it is not one of that id.
    pub(super) fn read(id: &str, row: &[u8]) -> Option<Self> {
        let row: Self = serde_json::from_slice(row).ok()?;
        let is_device =
            (row.device.is_some(), row.session.authenticated.is_some(), row.session.jkt.is_some());
        let sound = matches!(is_device, (true, true, true) | (false, false, _));
        (sound && row.session.id == id).then_some(row)
    }

    /// The operation that stores it.
    pub(super) fn write(&self) -> Result<Op, AccessError> {
        let row = serde_json::to_vec(self).map_err(AccessError::json)?;
        let key = self.session.id.clone().into_bytes();
        Ok(Op::Record { kind: RecordKind::Session, key, row: Some(row) })
    }
}

/// The operation that deletes a session's row.
pub(super) fn deletion(id: &str) -> Op {
    Op::Record { kind: RecordKind::Session, key: id.as_bytes().to_vec(), row: None }
}

/// 96 random bits: unique without looking, short enough to type.
fn new_id() -> Result<String, AccessError> {
    let mut bytes = [0u8; 12];
    getrandom::fill(&mut bytes).map_err(|error| AccessError::Crypto {
        what: "drawing a session id from the system's random source",
        reason: error.to_string(),
    })?;
    Ok(bs58::encode(bytes).into_string())
}

pub(super) mod namespace_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::types::Namespace;

    pub fn serialize<S: Serializer>(namespace: &Namespace, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(namespace.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Namespace, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
