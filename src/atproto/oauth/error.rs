//! Why a sign-in at the owner's PDS came to nothing.

use crate::atproto::{AuthServerError, PdsError, ResolveError};
use crate::net::HttpError;
use crate::types::Did;

/// Why a sign-in came to nothing. The texts are for the log, [`OauthError::code`] is for the page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OauthError {
    /// The owner's identity is not known for certain.
    #[error(transparent)]
    Identity(#[from] ResolveError),
    /// She has no PDS.
    #[error("the DID document of {0} names no PDS")]
    NoPds(Did),
    /// Her PDS's authorization server is not known for certain.
    #[error(transparent)]
    Server(#[from] AuthServerError),
    /// An endpoint is missing.
    #[error("the authorization server {issuer} has no {endpoint}")]
    NoEndpoint {
        /// Which server.
        issuer: String,
        /// Name of the endpoint in its metadata.
        endpoint: &'static str,
    },
    /// A request was not answered as it should be.
    #[error(transparent)]
    Request(#[from] PdsError),
    /// All of it took too long.
    #[error("finding the owner's authorization server and asking it took more than {0} s")]
    Late(u64),
    /// No randomness, or no key.
    #[error("drawing a secret or a key from the system's random source failed")]
    Crypto,
    /// She said no.
    #[error("the sign-in was declined at the PDS")]
    Denied,
    /// Not the answer to what was asked.
    #[error("the callback is not taken: {0}")]
    Callback(&'static str),
    /// The authorization server's error code.
    #[error("the authorization server sent the browser back with the error {0}")]
    Said(String),
    /// The token answer is not what was asked for.
    #[error("the token endpoint's answer is not taken: {0}")]
    Grant(&'static str),
    /// Somebody else signed in.
    #[error("{0} signed in, who is not the owner")]
    NotOwner(Did),
    /// The PDS shows another record than was written.
    #[error("the PDS took the record, and shows something else")]
    NotAsWritten,
}

impl From<getrandom::Error> for OauthError {
    fn from(_: getrandom::Error) -> Self {
        Self::Crypto
    }
}

impl From<HttpError> for OauthError {
    fn from(error: HttpError) -> Self {
        Self::Request(error.into())
    }
}

impl OauthError {
    /// `denied`, `not_owner`, `expired`, `pds_unreachable`, `bad_answer` or `busy`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotOwner(_) => "not_owner",
            Self::Late(_) => "pds_unreachable",
            Self::Identity(ResolveError::Fetch { source, .. })
            | Self::Server(
                AuthServerError::Fetch { source, .. } | AuthServerError::Did(PdsError::Http(source)),
            )
            | Self::Request(PdsError::Http(source)) => code_of(source),
            // The code was used, or took too long to come (RFC 6749, 5.2).
            Self::Request(PdsError::Refused { code, .. }) if code == "invalid_grant" => "expired",
            _ => "bad_answer",
        }
    }
}

fn code_of(error: &HttpError) -> &'static str {
    match error {
        HttpError::Busy { .. } | HttpError::Status { status: 429, .. } => "busy",
        HttpError::NoSuchName { .. }
        | HttpError::Unreachable { .. }
        | HttpError::TimedOut { .. }
        | HttpError::Status { status: 500.., .. } => "pds_unreachable",
        _ => "bad_answer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_down_is_told_from_what_answers_oddly() {
        let url = || "https://pds.example".to_owned();
        let status = |status| HttpError::Status { url: url(), status };
        for (error, code) in [
            (status(503), "pds_unreachable"),
            (status(404), "bad_answer"),
            (status(429), "busy"),
            (HttpError::Busy { url: url() }, "busy"),
            (HttpError::Unreachable { url: url(), reason: "refused".into() }, "pds_unreachable"),
            (HttpError::NoSuchName { url: url() }, "pds_unreachable"),
            (HttpError::Redirect { url: url(), status: 302 }, "bad_answer"),
        ] {
            let server = AuthServerError::Fetch { server: url(), source: error.clone() };
            let did: Did = "did:web:ada.example".parse().unwrap();
            let identity = ResolveError::Fetch { did, source: error.clone() };
            let described = AuthServerError::Did(error.clone().into());
            for error in [error.into(), server.into(), described.into(), OauthError::Identity(identity)] {
                assert_eq!(error.code(), code, "{error}");
            }
        }
        let refused =
            |code: &str| PdsError::Refused { call: url(), code: code.into(), message: String::new() };
        assert_eq!(OauthError::from(refused("invalid_grant")).code(), "expired");
        assert_eq!(OauthError::from(refused("invalid_client_metadata")).code(), "bad_answer");
    }
}
