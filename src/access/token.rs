//! The sync token: a JWT that names a session.

use std::sync::{PoisonError, RwLock};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::{AccessError, Refused, Session};
use crate::types::{Millis, Secret, StorageId};

/// Longest token in bytes that is looked at; ours have some 600.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// What a sync token says. Whether the session is read-only stands in its row alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    iss: String,
    aud: String,
    sub: String,
    did: String,
    client_id: String,
    pub(super) session_id: String,
    #[serde(rename = "lexiconAuthorityDomain")]
    namespace: String,
    iat: u64,
    exp: u64,
}

impl Claims {
    /// The end of the token's time.
    pub(super) fn expires(&self) -> Millis {
        self.exp.saturating_mul(1000)
    }

    /// Whether all it says is what the row says.
    pub(super) fn speaks_for(&self, session: &Session) -> bool {
        self.session_id == session.id
            && self.sub == session.did
            && self.did == session.did
            && self.client_id == session.client_id
            && self.namespace == session.namespace.as_str()
            && self.iat.checked_mul(1000) == Some(session.created)
            && self.exp.checked_mul(1000) == Some(session.expires)
    }
}

/// Signs and checks tokens with the server's secret, HS256 and nothing else.
pub(super) struct Signer {
    keys: RwLock<Keys>,
    validation: Validation,
    /// `iss` and `aud`: this server, by its storage id, for its name on the network may change.
    server: String,
}

/// The server's secret, as signing and checking want it.
struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl Keys {
    fn new(secret: &Secret) -> Self {
        Self {
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            decoding: DecodingKey::from_secret(secret.as_bytes()),
        }
    }
}

impl Signer {
    pub(super) fn new(secret: &Secret, storage: &StorageId) -> Self {
        let server = format!("urn:groundmist-sync:{storage}");
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        validation.set_issuer(&[&server]);
        validation.set_audience(&[&server]);
        validation.leeway = 0;
        // Compared with the caller's clock in `Access::verify`; `Claims` cannot be read without `exp`.
        validation.validate_exp = false;
        Self { keys: RwLock::new(Keys::new(secret)), validation, server }
    }

    /// Goes by another secret: no token that was signed before is ours any more.
    pub(super) fn replace(&self, secret: &Secret) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Keys::new(secret);
    }

    pub(super) fn sign(&self, session: &Session) -> Result<String, AccessError> {
        let claims = Claims {
            iss: self.server.clone(),
            aud: self.server.clone(),
            sub: session.did.clone(),
            did: session.did.clone(),
            client_id: session.client_id.clone(),
            session_id: session.id.clone(),
            namespace: session.namespace.as_str().to_owned(),
            iat: session.created / 1000,
            exp: session.expires / 1000,
        };
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &keys.encoding).map_err(|error| {
            AccessError::Crypto { what: "signing the sync token", reason: error.to_string() }
        })
    }

    /// Signature, shape, issuer and audience; not the time.
    pub(super) fn verify(&self, token: &str) -> Result<Claims, Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::Invalid("it is too long"));
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        match jsonwebtoken::decode::<Claims>(token, &keys.decoding, &self.validation) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(Refused::Invalid(match error.kind() {
                ErrorKind::InvalidSignature => "its signature is not ours",
                ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => {
                    "it is not signed with HS256"
                }
                ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => "it is for another server",
                ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => "a claim is missing",
                _ => "it is not a JWT as this server makes them",
            })),
        }
    }
}
