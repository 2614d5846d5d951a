//! One session for each device: what names a device, and what ties its tokens to its session.
//!
//! Apps authenticate at every page load, and a browser shows the same key each time. All that one key gets by
//! `/authenticate` with DPoP, of one app in one namespace, is one session with one row. Each authentication renews the
//! session and gives another token of it. Use moves the session's end ahead, up to `access.session_max` after the last
//! authentication, and that is written at most once a day ([`Sliding::STEP_MS`]).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};

use super::entering::Checked;
use super::session::Row;
use super::token::DeviceToken;
use super::{Access, AccessError, App, Session};
use crate::types::{DAY_MS, Millis, secret};

/// Names a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct DeviceKey {
    app: App,
    did: String,
    jkt: String,
}

impl DeviceKey {
    /// The device that a row is of; `None` if the session is no device's.
    pub(super) fn of(row: &Row) -> Option<Self> {
        row.device.as_ref()?;
        let session = &row.session;
        Some(Self { app: session.app(), did: session.did.clone(), jkt: session.jkt.clone()? })
    }

    pub(super) fn app(&self) -> &App {
        &self.app
    }
}

/// What ties tokens to the session of a device.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeviceTokens {
    /// Stands in every token of the session, and nowhere else but in its row. Who has the signing secret only cannot make a
    /// token for a session that exists.
    key: String,
    /// Tokens of sessions that became this one, if they have no row of their own ([`EarlierRow`]): the one that had its id. None
    /// is ever added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) earlier: Vec<EarlierToken>,
}

/// A token of the time when each authentication began a session: the session that it names, and what that session was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EarlierToken {
    pub(super) id: String,
    pub(super) created: Millis,
    pub(super) expires: Millis,
    pub(super) read_only: bool,
}

/// The row that is left of a session that became a device's. It is written once, at the migration, so that a device with many
/// earlier tokens has a small row that changes, and many that do not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EarlierRow {
    id: String,
    created: Millis,
    expires: Millis,
    read_only: bool,
    /// Id of the device's session.
    pub(super) became: String,
}

impl EarlierRow {
    /// Reads a row; `None` if it is none of that id.
    pub(super) fn read(id: &str, row: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(row).ok().filter(|row| row.id == id)
    }

    pub(super) fn token(self) -> EarlierToken {
        let Self { id, created, expires, read_only, .. } = self;
        EarlierToken { id, created, expires, read_only }
    }
}

impl DeviceTokens {
    fn new() -> Result<Self, AccessError> {
        let key = secret().map_err(AccessError::random("drawing a session's key"))?;
        Ok(Self { key, earlier: Vec::new() })
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn is_key(&self, key: &str) -> bool {
        verify_slices_are_equal(self.key.as_bytes(), key.as_bytes()).is_ok()
    }
}

/// The key is a secret.
impl std::fmt::Debug for DeviceTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceTokens").field("earlier", &self.earlier).finish_non_exhaustive()
    }
}

/// How far use moves the end of a device's session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sliding {
    /// `access.token_life`: the end is this far from the last use.
    life: Millis,
    /// `access.session_max`: the end is never further than this from the last authentication.
    most: Millis,
}

impl Sliding {
    /// The end is moved by at least this: each move is a write.
    pub(super) const STEP_MS: Millis = DAY_MS;

    /// Where the end of a session in use moves now, if it moves.
    pub(super) fn end(self, session: &Session, now: Millis) -> Option<Millis> {
        let last = session.authenticated?.saturating_add(self.most) / 1000 * 1000;
        let end = (now.saturating_add(self.life) / 1000 * 1000).min(last);
        // A life of less than two days is moved in halves.
        let step = Self::STEP_MS.min(self.life / 2);
        let far_enough =
            end >= session.expires.saturating_add(step) || (end == last && end > session.expires);
        // What has ended stays ended.
        (now < session.expires && far_enough).then_some(end)
    }
}

impl Access {
    /// The settings that sessions of devices go by.
    pub(super) fn sliding(&self) -> Sliding {
        let settings = self.settings();
        let millis = |time: std::time::Duration| Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX);
        Sliding { life: millis(settings.token_life), most: millis(settings.session_max) }
    }

    /// The token that a device gets now. It may be used for as long as its session could last if the device did not come
    /// back, so that none that leaked is good for ever because the device is.
    pub(super) fn device_token(&self, session: &Session, read_only: bool, now: Millis) -> DeviceToken {
        let end = now.saturating_add(self.sliding().most).max(session.expires);
        DeviceToken { at: now, end, read_only }
    }
}

impl Row {
    /// The row of an app that enters, if its session is to be a new one.
    pub(super) fn entering(session: Session, asked: &Checked, now: Millis) -> Result<Self, AccessError> {
        if !asked.how.is_by_device() || asked.jkt.is_none() {
            return Ok(session.into());
        }
        let session = Session { authenticated: Some(now), ..session };
        Ok(Self { session, device: Some(DeviceTokens::new()?) })
    }

    /// The row of a device's session after the device authenticated again; `new` is what it would be if there was none.
    pub(super) fn renewed(&self, new: &Self, now: Millis) -> Self {
        let (before, session) = (&self.session, &new.session);
        let session = Session {
            id: before.id.clone(),
            created: before.created,
            // Of a token that was told a later end, that end holds.
            expires: session.expires.max(before.expires),
            last_used: before.last_used,
            copied: before.copied_lately(now).cloned(),
            // A session reads only as long as none of its tokens was asked for to write.
            read_only: session.read_only && before.read_only,
            ..session.clone()
        };
        let mut device = self.device.clone();
        if let Some(tokens) = &mut device {
            tokens.earlier.retain(|token| now < token.expires);
        }
        Self { session, device }
    }
}
