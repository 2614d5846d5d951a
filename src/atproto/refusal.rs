//! Why nobody was proved: what the app is told, and what it may try next.

use super::access_token::AccessTokenError;
use super::attestation::AttestationError;
use super::auth_server::AuthServerError;
use super::client::ClientError;
use super::client_id::ClientIdError;
use super::document::DocumentError;
use super::dpop::DpopError;
use super::pds::GET_SESSION;
use super::replay::ReplayError;
use super::resolve::ResolveError;
use super::service_auth::ServiceAuthError;
use super::xrpc::PdsError;
use crate::net::HttpError;

/// Nobody is proved. The texts are for the app's developer, except those of [`Refusal::is_ours`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The proof has no nonce of ours, or an old one: the client library tries again by itself (RFC 9449, section 8).
    #[error("the DPoP proof needs this server's nonce: make it again with the one in DPoP-Nonce")]
    UseNonce,
    /// No proof, or several.
    #[error(
        "a token in \"Authorization: DPoP\" needs one DPoP proof beside it, by the key that it is bound to: send it in the header DPoP"
    )]
    NoProof,
    /// The proof is refused.
    #[error(transparent)]
    Proof(#[from] DpopError),
    /// The proof was used before.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The access token is refused for what it says.
    #[error(transparent)]
    Token(#[from] AccessTokenError),
    /// Another account is proved, or claimed.
    #[error(
        "this is the sync server of another account: an app finds its user's own by her record xyz.groundmist.sync"
    )]
    NotOwner,
    /// Nothing vouches for the access token. Holds the URL that a `pdsProof` must be for.
    #[error(
        "nothing here can tell whether this access token is genuine: send \"pdsProof\", a DPoP proof for GET {0}"
    )]
    Unverifiable(String),
    /// The PDS does not know the token.
    #[error("the owner's PDS does not know this access token: refresh the session and try again")]
    NotGenuine,
    /// The `pdsProof` is refused.
    #[error("the pdsProof cannot be used: {0}")]
    PdsProof(DpopError),
    /// The `pdsProof` is by another key.
    #[error("the pdsProof is by another key than the DPoP proof: make both with the session's own")]
    PdsProofKey,
    /// The PDS wants this nonce in the `pdsProof`.
    #[error("the owner's PDS wants its nonce in the pdsProof: make it again with the one in \"nonce\"")]
    UsePdsNonce(String),
    /// The PDS refuses token or proof.
    #[error("the owner's PDS refuses this access token or pdsProof ({0}): refresh the session and try again")]
    PdsRefused(String),
    /// The service-auth token is refused.
    #[error(transparent)]
    Service(#[from] ServiceAuthError),
    /// The owner is proved, the app is not.
    #[error(
        "this proves the account, not the app: send \"clientAttestation\", signed by a key in the app's published JWKS, or send the user to /connect"
    )]
    AppUnproven,
    /// The attestation is refused.
    #[error(transparent)]
    Attestation(#[from] AttestationError),
    /// The attestation names no app.
    #[error("the client attestation cannot be used: {0}")]
    ClientId(#[from] ClientIdError),
    /// The app's metadata or keys are not to be had.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Too many tokens or attestations could not be proved lately.
    #[error("too many requests could not be proved lately: try again in a minute")]
    TooManyUnproven,
    /// The owner's DID document is not to be had.
    #[error("looking up the owner failed: {0}")]
    Resolve(#[from] ResolveError),
    /// The owner's DID document has no usable key.
    #[error("the owner's DID document cannot be used: {0}")]
    Document(#[from] DocumentError),
    /// The owner's DID document names no PDS.
    #[error("the owner's DID document names no PDS")]
    NoPds,
    /// The owner's authorization server is not known.
    #[error("looking up who issues the owner's tokens failed: {0}")]
    AuthServer(#[from] AuthServerError),
    /// The owner's PDS cannot be asked.
    #[error("asking the owner's PDS failed: {0}")]
    Pds(#[from] PdsError),
    /// The owner's PDS answers neither yes nor no.
    #[error("the owner's PDS answers {call} oddly: {0}", call = GET_SESSION)]
    Odd(String),
}

impl Refusal {
    /// The `error` code in JSON answers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UseNonce => "use_dpop_nonce",
            Self::NoProof | Self::Proof(_) | Self::PdsProof(_) | Self::PdsProofKey => "invalid_dpop_proof",
            Self::Replay(ReplayError::Seen) => "proof_replayed",
            Self::Replay(ReplayError::Full) | Self::TooManyUnproven => "too_many_requests",
            Self::Token(AccessTokenError::Opaque) | Self::Unverifiable(_) => "unverifiable_token",
            Self::Token(AccessTokenError::Owner)
            | Self::Service(ServiceAuthError::Owner)
            | Self::NotOwner => "not_owner",
            Self::Token(_) | Self::NotGenuine | Self::PdsRefused(_) => "invalid_access_token",
            Self::UsePdsNonce(_) => "use_pds_nonce",
            Self::Service(_) => "invalid_service_token",
            Self::AppUnproven => "app_unproven",
            Self::Attestation(_) | Self::ClientId(_) | Self::Client(ClientError::Loopback(_)) => {
                "invalid_client_attestation"
            }
            Self::Client(_) => "invalid_client_metadata",
            Self::Resolve(_)
            | Self::Document(_)
            | Self::NoPds
            | Self::AuthServer(_)
            | Self::Pds(_)
            | Self::Odd(_) => "pds_unreachable",
        }
    }

    /// What the app is told: its mistake and what to do, but not what a name leads to from here.
    pub fn for_app(&self) -> String {
        use HttpError::{Redirect, Status, TooLarge, Url};
        match self {
            Self::Client(ClientError::Fetch { client_id, source })
                if !matches!(source, Redirect { .. } | Status { .. } | TooLarge { .. } | Url { .. }) =>
            {
                format!(
                    "what the app {client_id} says of itself cannot be had: its server cannot be reached from here"
                )
            }
            other => other.to_string(),
        }
    }

    /// Not the app's doing: its text is for the owner's log, and others get told to come later.
    pub fn is_ours(&self) -> bool {
        self.code() == "pds_unreachable"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_learns_its_mistake_and_nothing_of_our_network() {
        let url = "https://app.example/c".to_owned();
        let told = |source| {
            let client_id = url.parse().unwrap();
            Refusal::Client(ClientError::Fetch { client_id, source }).for_app()
        };
        let private = told(HttpError::Private { url: url.clone(), address: "10.1.2.3".parse().unwrap() });
        assert!(private.contains(&url) && !private.contains("10.1.2.3"), "{private}");
        let unreachable = told(HttpError::Unreachable { url: url.clone(), reason: "refused".into() });
        assert_eq!(unreachable, private);
        assert!(told(HttpError::Status { url: url.clone(), status: 404 }).contains("404"));
    }
}
