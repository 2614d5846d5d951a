//! What can go wrong, and why a token is refused.

use crate::atproto::ClientIdError;
use crate::store::{CommitError, StoreError};
use crate::types::MIN_SECRET_BYTES;

/// An operation on sessions or apps failed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A session's name is unusable.
    #[error("the name {0:?} cannot be used: give 1 to {max} bytes that can be seen, without control characters, not starting or ending in a space", max = super::MAX_NAME_BYTES)]
    Name(String),
    /// A token's life is out of range.
    #[error("a token cannot live for {0} seconds: choose between 1 second and 3650 days")]
    Life(u64),
    /// The limit is reached.
    #[error("there are already {max} sessions: revoke some that are not in use", max = super::MAX_SESSIONS)]
    TooMany,
    /// As many decisions are kept as may be.
    #[error("there are already {max} decisions about apps, and none may be forgotten", max = super::MAX_GRANTS)]
    TooManyApps,
    /// Not something that an app can be.
    #[error(transparent)]
    ClientId(#[from] ClientIdError),
    /// Nothing to revoke in an app.
    #[error(
        "nothing was ever decided about {client_id} in {namespace}, and it has no session: `groundmist-sync apps list` shows what was"
    )]
    NoApp {
        /// Which app.
        client_id: String,
        /// Where.
        namespace: String,
    },
    /// No root document to forget.
    #[error(
        "the devices of {client_id} start from no document in {namespace} that could be forgotten: `groundmist-sync apps list` shows which apps have one"
    )]
    NoRootDocument {
        /// The app's `client_id`.
        client_id: String,
        /// The namespace.
        namespace: String,
    },
    /// Revoked while it was on its way into the store.
    #[error("the session was revoked while it was being made")]
    RevokedMeanwhile,
    /// Nothing to revoke.
    #[error("no session has the id or name {0:?}: `groundmist-sync sessions list` shows them")]
    NotFound(String),
    /// A name that several sessions share.
    #[error("several sessions are named {name:?}: revoke one by its id: {ids}")]
    Ambiguous {
        /// The name.
        name: String,
        /// Ids and namespaces.
        ids: String,
    },
    /// The secret is not the server's to change.
    #[error(
        "the configuration gives the signing secret (`secret`, `secret_file`, or GROUNDMIST_SYNC_SECRET_KEY in the environment), so it cannot be changed here: put another there, at least {MIN_SECRET_BYTES} random bytes, restart the server, and end what the old one signed with `groundmist-sync sessions revoke --all`; or take the setting out, and the server makes a secret of its own at the restart"
    )]
    SecretConfigured,
    /// What the owner's handle led to is not readable any more.
    #[error(
        "what the owner's handle led to when it was first asked is damaged in the store: set `owner` to your DID instead of your handle"
    )]
    Pin,
    /// The store could not be read.
    #[error("{what} failed: {source}")]
    Read {
        /// What was being done.
        what: &'static str,
        /// Why.
        source: Box<StoreError>,
    },
    /// The store could not be written.
    #[error("{what} failed, and may not have taken effect: {source}")]
    Commit {
        /// What was being done.
        what: &'static str,
        /// Why.
        source: CommitError,
    },
    /// The random source, a signature or an encoding failed.
    #[error("{what} failed: {reason}")]
    Crypto {
        /// What was being done.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

impl AccessError {
    /// Our own plain structs always have a JSON form, so this is a fault of ours.
    pub(super) fn json(error: serde_json::Error) -> Self {
        Self::Crypto { what: "writing a row as JSON", reason: error.to_string() }
    }

    /// No random bytes for it.
    pub(super) fn random(what: &'static str) -> impl FnOnce(getrandom::Error) -> Self {
        move |error| Self::Crypto { what, reason: error.to_string() }
    }

    pub(super) fn stopping(what: &'static str) -> Self {
        Self::Commit { what, source: CommitError::Stopped }
    }

    pub(super) fn read(what: &'static str, source: StoreError) -> Self {
        Self::Read { what, source: Box::new(source) }
    }

    /// What apps and browsers are told when an operation failed by no fault of theirs: nothing about the server but that its
    /// disk is full, which its owner can do something about at once. The log has the rest.
    pub fn public_message(&self) -> &'static str {
        match self {
            Self::Commit { source: CommitError::Full { .. }, .. } => {
                "the server's disk is full, so it cannot do this now: try again once its owner has freed some space"
            }
            _ => "the server cannot do this now: try again later; its owner finds the reason in its log",
        }
    }

    /// The `error` code in JSON answers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Name(_) => "bad_name",
            Self::Life(_) => "bad_life",
            Self::TooMany => "too_many_sessions",
            Self::TooManyApps => "too_many_apps",
            Self::ClientId(_) => "bad_client_id",
            Self::NoApp { .. } | Self::NoRootDocument { .. } | Self::NotFound(_) => "not_found",
            Self::RevokedMeanwhile => "revoked_meanwhile",
            Self::Ambiguous { .. } => "ambiguous_name",
            Self::SecretConfigured => "secret_configured",
            Self::Pin | Self::Read { .. } | Self::Commit { .. } => "store_failed",
            Self::Crypto { .. } => "internal",
        }
    }
}

/// Why a sync token is refused: told to the client, so it says what to do and nothing about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not a token of this server.
    #[error("this is not a sync token of this server ({0}): get a new one")]
    Invalid(&'static str),
    /// Its time is over.
    #[error("this sync token has expired: authenticate again, or create a new token on the server")]
    Expired,
    /// The owner took it back.
    #[error("this sync token was revoked: ask the server's owner for access, then get a new one")]
    Revoked,
    /// The owner changed what its app may do; the token still holds.
    #[error("the server's owner changed what this app may do: connect again with the same token")]
    Changed,
    /// The store did not answer.
    #[error(
        "the server cannot check this sync token now: try again later; its owner finds the reason in its log"
    )]
    Unverifiable,
}

impl Refused {
    /// The `error` code in JSON answers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "token_invalid",
            Self::Expired => "token_expired",
            Self::Revoked => "token_revoked",
            Self::Changed => "access_changed",
            Self::Unverifiable => "token_unverifiable",
        }
    }

    /// The reason of a WebSocket close (at most 123 bytes).
    pub fn close_reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "sync token invalid",
            Self::Expired => "sync token expired",
            Self::Revoked => "sync token revoked",
            Self::Changed => "access changed, connect again",
            Self::Unverifiable => "sync token cannot be checked now",
        }
    }
}
