//! An app comes in: what was proved, what it asks for, and why it may not.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::root_document::is_document_url;
use super::session::{MAX_NAME_BYTES, MAX_USER_AGENT_BYTES, Session};
use super::used::MAX_USED_LIFE_MS;
use super::{AccessError, App, UsedToken};
use crate::atproto::ClientId;
use crate::types::{Millis, Namespace, clean};

/// Longest DID in bytes that enters: it stands twice in every sync token.
const MAX_DID_BYTES: usize = 256;
/// Longest key thumbprint in bytes (base64url of a SHA-256 has 43).
const MAX_JKT_BYTES: usize = 64;
/// Most tokens that one entry uses up.
const MAX_USED_AT_ONCE: usize = 8;

/// How it was proved whose app is at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The PDS told a genuine access token from altered ones.
    Probe,
    /// The PDS itself answered for the access token.
    Relay,
    /// A published key of the authorization server verified the access token.
    IssuerKey,
    /// A service-auth token by the owner's key, with the app's attestation.
    ServiceAuth,
    /// The owner's own word on the consent page, and the code or refresh token that came of it.
    Consent,
}

impl Proof {
    /// The app proved by DPoP at `/authenticate` that it holds a key, which stays the same for a device.
    pub(super) fn is_by_device(self) -> bool {
        matches!(self, Self::Probe | Self::Relay | Self::IssuerKey)
    }
}

/// A verified app that asks for a session. Everything in it that is called proved was proved by the caller; the
/// rest is taken as a stranger's word: bounded, cleaned, or refused.
#[derive(Debug, Clone)]
pub struct Entering {
    /// On whose behalf: proved, and the owner's.
    pub did: String,
    /// Which app: proved.
    pub client_id: String,
    /// What it wants to see.
    pub namespace: Namespace,
    /// It only wants to read.
    pub read_only_wanted: bool,
    /// Thumbprint of the key that it holds (RFC 7638): proved.
    pub jkt: Option<String>,
    /// What the device calls itself.
    pub name: Option<String>,
    /// The document that it starts from; counts if it is the first.
    pub root_doc_url: Option<String>,
    /// From where it asks.
    pub address: Option<IpAddr>,
    /// What it calls itself.
    pub user_agent: Option<String>,
    /// Tokens that may not be used again, now or later.
    pub used: Vec<UsedToken>,
    /// How all that was proved.
    pub how: Proof,
}

/// An app has a session.
#[derive(Clone)]
pub struct Entered {
    /// The sync token; it cannot be had a second time.
    pub token: String,
    /// What it stands for.
    pub session: Session,
    /// The document that the app's devices start from, if one was ever given.
    pub root_doc_url: Option<String>,
}

/// Why an app gets no session: told to the app, so it says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// Remembered as pending.
    #[error(
        "this app is not approved for {0} on this server: its owner can approve it on the server's page, or with `groundmist-sync apps pending`; then try again"
    )]
    NotApproved(Namespace),
    /// The owner said no.
    #[error(
        "this server's owner refuses this app for {0}: only she can change that, with `groundmist-sync apps approve`"
    )]
    Denied(Namespace),
    /// Any program on her machine could claim to be it.
    #[error(
        "apps on localhost cannot be told apart: the owner must set access.allow_loopback_clients and approve this client_id; or publish the app's client metadata at an https address"
    )]
    Loopback,
    /// A token came twice.
    #[error("this token was used before: get a new one from the PDS for each request")]
    Replayed,
    /// Something in the request cannot be used.
    #[error("{0}")]
    Invalid(&'static str),
    /// A limit is reached.
    #[error("{0}")]
    TooMany(&'static str),
    /// The store, or a fault of ours.
    #[error(transparent)]
    Access(#[from] AccessError),
}

impl EnterError {
    /// The `error` code in JSON answers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotApproved(_) => "app_not_approved",
            Self::Denied(_) => "app_denied",
            Self::Loopback => "loopback_client",
            Self::Replayed => "token_replayed",
            Self::Invalid(_) => "bad_request",
            Self::TooMany(_) => "too_many",
            Self::Access(error) => error.code(),
        }
    }
}

/// [`Entering`] with everything bounded.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) app: App,
    /// Any program on the owner's machine can claim to be this app.
    pub(super) is_loopback: bool,
    pub(super) did: String,
    pub(super) read_only_wanted: bool,
    pub(super) jkt: Option<String>,
    pub(super) name: String,
    pub(super) root_doc_url: Option<String>,
    pub(super) address: Option<IpAddr>,
    pub(super) user_agent: Option<String>,
    pub(super) used: Vec<UsedToken>,
    pub(super) how: Proof,
}

impl Entering {
    pub(super) fn checked(self, now: Millis) -> Result<Checked, EnterError> {
        let Ok(client_id) = self.client_id.parse::<ClientId>() else {
            return Err(EnterError::Invalid(
                "the app's client_id is none that an app can have: the https:// address of its client metadata, at most 1024 plain characters",
            ));
        };
        let plain = |text: &str, max: usize| text.len() <= max && text.bytes().all(|b| b.is_ascii_graphic());
        if !self.did.starts_with("did:") || !plain(&self.did, MAX_DID_BYTES) {
            return Err(EnterError::Invalid("the DID is longer than 256 bytes or none at all"));
        }
        if self.jkt.as_deref().is_some_and(|jkt| !plain(jkt, MAX_JKT_BYTES)) {
            return Err(EnterError::Invalid("the key's thumbprint is not one"));
        }
        if self.root_doc_url.as_deref().is_some_and(|url| !is_document_url(url)) {
            return Err(EnterError::Invalid(
                "rootDocUrl is not a document's URL: send \"automerge:\" and the document id, without heads",
            ));
        }
        if self.used.len() > MAX_USED_AT_ONCE {
            return Err(EnterError::Invalid("too many tokens at once"));
        }
        for token in &self.used {
            if token.expires <= now || token.expires - now > MAX_USED_LIFE_MS {
                return Err(EnterError::Invalid(
                    "the token has expired or lives longer than 24 hours: get one that lives for a minute",
                ));
            }
        }
        let short = |text: Option<String>, max| text.and_then(|text| clean(&text, max));
        let name = short(self.name, MAX_NAME_BYTES).or_else(|| short(Some(client_id.host()), MAX_NAME_BYTES));
        Ok(Checked {
            app: App { client_id: self.client_id, namespace: self.namespace },
            is_loopback: client_id.is_loopback(),
            did: self.did,
            read_only_wanted: self.read_only_wanted,
            jkt: self.jkt,
            name: name.unwrap_or_else(|| "app".into()),
            root_doc_url: self.root_doc_url,
            address: self.address,
            user_agent: short(self.user_agent, MAX_USER_AGENT_BYTES),
            used: self.used,
            how: self.how,
        })
    }
}
