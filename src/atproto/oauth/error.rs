//! Why a sign-in at the owner's PDS came to nothing.

use crate::atproto::{AuthServerError, PdsError, ResolveError};
use crate::net::HttpError;
use crate::types::Did;

/// Code for the page: the owner's PDS cannot reach this server.
pub const UNREACHABLE_FOR_PDS: &str = "unreachable_for_pds";
/// Code for the page: the owner's PDS has stopped answering. It may be slow, or wait for this server in vain.
pub const PDS_SILENT: &str = "pds_silent";

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
    /// The authorization server could not read what this server says of itself.
    #[error("the authorization server has not got this server's client metadata: {0}")]
    Metadata(PdsError),
    /// The authorization server has not answered to a pushed request, perhaps because it tried to read what this server says of
    /// itself.
    #[error("the authorization server does not answer to a pushed request: {0}")]
    Silent(HttpError),
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
    /// Why a request could not be pushed to an authorization server that has just answered. Before it answers to that it reads our
    /// client metadata, for up to 10 s in the reference server, which is as long as its own answer is waited for.
    pub(super) fn of_push(self) -> Self {
        match self {
            Self::Request(PdsError::Http(error @ HttpError::TimedOut { .. })) => Self::Silent(error),
            Self::Request(ref error @ PdsError::Refused { ref code, .. })
                if matches!(code.as_str(), "invalid_client_metadata" | "invalid_client") =>
            {
                Self::Metadata(error.clone())
            }
            other => other,
        }
    }

    /// `denied`, `not_owner`, `expired`, `pds_unreachable`, [`UNREACHABLE_FOR_PDS`], [`PDS_SILENT`], `bad_answer` or `busy`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::NotOwner(_) => "not_owner",
            Self::Late(_) => "pds_unreachable",
            Self::Metadata(_) => UNREACHABLE_FOR_PDS,
            Self::Silent(_) => PDS_SILENT,
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

    #[test]
    fn a_pds_that_does_not_reach_us_is_told_from_one_that_is_down() {
        let url = || "https://pds.example/oauth/par".to_owned();
        let pushed = |error: PdsError| OauthError::from(error).of_push().code();
        let refused =
            |code: &str| pushed(PdsError::Refused { call: url(), code: code.into(), message: String::new() });
        assert_eq!(refused("invalid_client_metadata"), UNREACHABLE_FOR_PDS);
        assert_eq!(refused("invalid_client"), UNREACHABLE_FOR_PDS);
        assert_eq!(refused("invalid_request"), "bad_answer");
        let late = HttpError::TimedOut { url: url(), after: std::time::Duration::from_secs(10) };
        assert_eq!(pushed(late.into()), PDS_SILENT);
        let down = HttpError::Unreachable { url: url(), reason: "refused".into() };
        assert_eq!(pushed(down.into()), "pds_unreachable");
    }
}
