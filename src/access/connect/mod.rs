//! Lets apps in by the owner's own word: the authorization code flow of OAuth 2.1, without its HTTP.
//!
//! The owner's yes on the consent page is a decision like any other, and gives the app a code (`codes`). The code gives
//! a session and a refresh token, which gives the next session and the next refresh token (`families`, `exchange`).
//! Sessions come and go as all others do, through [`Access::enter`]'s checks.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Access, AccessError, App, Decision, EnterError, Entered, now};
use crate::types::{Namespace, secret};

mod codes;
mod exchange;
mod families;
mod give_back;

pub use codes::{CODE_LIFE_MS, MAX_CODES};
pub use families::{MAX_REFRESH_TOKENS, MAX_REFRESH_TOKENS_PER_APP, REFRESH_GRACE_MS, REFRESH_LIFE_MS};

pub(super) use codes::Codes;
pub(super) use exchange::Joining;
pub(super) use families::Families;

/// What the owner says yes to. That it is her, and what the app may ask for, was checked by the caller.
#[derive(Clone)]
pub struct Consent {
    /// The owner.
    pub did: String,
    /// Which app.
    pub client_id: String,
    /// What it is to see.
    pub namespace: Namespace,
    /// It asks to write too.
    pub writes: bool,
    /// The owner lets it only read, though it asks to write.
    pub read_only: bool,
    /// Where the code is sent; must be sent again with it.
    pub redirect_uri: String,
    /// SHA-256 of the app's `code_verifier`, in base64url (RFC 7636, 4.2).
    pub code_challenge: String,
}

/// What comes with a code or refresh token.
#[derive(Debug, Clone, Default)]
pub struct Exchange {
    /// The owner as of now.
    pub owner: String,
    /// Which app says it is.
    pub client_id: String,
    /// Thumbprint of the key that it proved to hold, if it did.
    pub jkt: Option<String>,
    /// What the device calls itself.
    pub name: Option<String>,
    /// The document that it starts from; counts if it is the first.
    pub root_doc_url: Option<String>,
    /// From where it asks.
    pub address: Option<IpAddr>,
    /// What it calls itself.
    pub user_agent: Option<String>,
}

/// An app has a session and a refresh token.
pub struct Exchanged {
    /// The session and its token.
    pub entered: Entered,
    /// Good for one use; it cannot be had a second time.
    pub refresh_token: String,
}

/// Why a code or refresh token gives nothing: told to the app, so it says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Never given out, used, or too old.
    #[error("this code is not known, was used, or is over a minute old: send the user to /connect again")]
    Code,
    /// Given to another app.
    #[error("this code or refresh token was given to another client_id")]
    Client,
    /// Not the one that the code was sent to.
    #[error("redirect_uri must be exactly the one that the code was asked for with")]
    RedirectUri,
    /// Not the one whose hash came first.
    #[error("code_verifier is not the one whose SHA-256 was sent as code_challenge (RFC 7636)")]
    Verifier,
    /// Never given out, revoked, or too long out of use.
    #[error(
        "this refresh token is not known, was revoked, or was not used for 180 days: send the user to /connect again"
    )]
    Refresh,
    /// Used before: somebody may have copied it.
    #[error(
        "this refresh token was used before, so all that it stood for has ended: keep the newest only, refresh one at a time, and send the user to /connect again"
    )]
    Reused,
    /// The key that it is bound to was not proved.
    #[error("this refresh token is bound to a key: send a DPoP proof by that key")]
    Key,
    /// A token that only reads was given back, and its session also has tokens that write.
    #[error(
        "this token only reads, and its session has others that write, which it may not end: give back one of those"
    )]
    Reader,
    /// As for every other app.
    #[error(transparent)]
    Enter(#[from] EnterError),
}

impl From<AccessError> for ExchangeError {
    fn from(error: AccessError) -> Self {
        Self::Enter(error.into())
    }
}

impl Access {
    /// Whether it was given out by us and may be good: whoever has one is no stranger.
    pub fn knows_grant(&self, code: Option<&str>, refresh_token: Option<&str>) -> bool {
        let state = self.state();
        code.is_some_and(|code| state.codes.knows(code))
            || refresh_token.and_then(families::parse).is_some_and(|(key, secret)| {
                state.families.get(&key).is_some_and(|family| family.holds(&secret))
            })
    }

    /// Takes the owner's yes: decides about the app if that is new, and gives a code for it, good once within
    /// [`CODE_LIFE_MS`].
    ///
    /// # Errors
    /// As [`Access::decide`].
    pub async fn consent(self: &Arc<Self>, consent: Consent) -> Result<String, AccessError> {
        let app = App { client_id: consent.client_id.clone(), namespace: consent.namespace.clone() };
        let before = self.state().grants.get(&app);
        let wanted = match (consent.writes, consent.read_only) {
            (true, false) => Decision::ReadWrite,
            // One that asks for less than it has loses nothing on its other devices.
            (false, _) if before == Some(Decision::ReadWrite) => Decision::ReadWrite,
            _ => Decision::ReadOnly,
        };
        if before != Some(wanted) {
            self.decide(&app, wanted).await?;
        }
        let code = secret().map_err(AccessError::random("drawing an authorization code"))?;
        self.state().codes.issue(&code, app, consent, now());
        Ok(code)
    }
}
