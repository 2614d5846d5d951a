//! The sync token: a JWT that names a session.
//!
//! A session has one token, which says when the session begins and ends, unless it is a device's: each authentication of the
//! device gives another token of the same session. Such a token is bound to the session by its id and by the session's key,
//! which is random and stands nowhere but in the row and in these tokens. Both are as old as the session, so a token that
//! was given out stays good while others are given out, and none outlives a revocation, which deletes the row. What the
//! token may do stands in the token, so an authentication that asks for more changes nothing for tokens that were there.

use std::sync::{PoisonError, RwLock};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::audit::Audit;
use super::copies::TokenTag;
use super::device::EarlierToken;
use super::session::Row;
use super::{AccessError, Refused, Session};
use crate::types::{Millis, Secret, StorageId};

/// Longest token in bytes that is looked at; ours have some 600.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// What a sync token says.
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
    /// After this the token is refused, whatever becomes of its session.
    exp: u64,
    /// Only tokens of a device's session have it. Any other token may do what the row of its session says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<DeviceClaims>,
}

/// What a token of a device's session says besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceClaims {
    /// The session's key.
    key: String,
    /// The token was asked for to read only.
    read_only: bool,
    /// When the session was to end, in seconds since 1970, when the token was given out. Use moves that end ahead.
    until: u64,
}

/// What a device is given a token for.
pub(super) struct DeviceToken {
    /// When it is given out.
    pub(super) at: Millis,
    /// After this it is refused, however long its session lasts.
    pub(super) end: Millis,
    /// It may only read.
    pub(super) read_only: bool,
}

impl Claims {
    /// The end of the token's time.
    pub(super) fn expires(&self) -> Millis {
        self.exp.saturating_mul(1000)
    }

    /// What tells the token from others of its session: when it was given out.
    pub(super) fn tag(&self) -> TokenTag {
        (self.session_id.clone(), self.iat)
    }

    /// Why the token is refused when there is no session of its name.
    pub(super) fn without_session(&self, now: Millis, audit: &Audit) -> Refused {
        let over = |device: &DeviceClaims| now >= device.until.saturating_mul(1000);
        // Sessions that ended by themselves are forgotten after a while, and their tokens are not. Use may have moved the end
        // ahead of what the token says, so that the session may also have been taken back since then.
        let given = self.iat.saturating_mul(1000);
        let was_ended = || audit.has_ended(&self.session_id, (&self.client_id, &self.namespace), given);
        if self.device.as_ref().is_some_and(over) && !was_ended() {
            Refused::Expired
        } else {
            Refused::Revoked
        }
    }

    /// Whether the token may only read; `None` if something that it says is not what the row says.
    /// `earlier` is the token of the session that it names, if that has become a device's and has a row of its own.
    pub(super) fn speaks_for(&self, row: &Row, earlier: Option<&EarlierToken>) -> Option<bool> {
        let session = &row.session;
        let same = self.sub == session.did
            && self.did == session.did
            && self.client_id == session.client_id
            && self.namespace == session.namespace.as_str();
        if !same {
            return None;
        }
        let is_from = |id: &str, created: Millis, expires: Millis| {
            self.session_id == id
                && self.iat.checked_mul(1000) == Some(created)
                && self.exp.checked_mul(1000) == Some(expires)
        };
        match (&row.device, &self.device) {
            (Some(tokens), Some(device)) => {
                let known = self.session_id == session.id && tokens.is_key(&device.key);
                known.then_some(device.read_only)
            }
            (Some(tokens), None) => {
                let mut earlier = tokens.earlier.iter().chain(earlier);
                let known = earlier.find(|known| is_from(&known.id, known.created, known.expires))?;
                Some(known.read_only)
            }
            (None, None) => {
                is_from(&session.id, session.created, session.expires).then_some(session.read_only)
            }
            (None, Some(_)) => None,
        }
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

    /// The one token of a session that is no device's.
    pub(super) fn sign(&self, session: &Session) -> Result<String, AccessError> {
        self.encode(&self.claims(session, session.created, session.expires, None))
    }

    /// One more token of a session; `given` counts if the session is a device's.
    pub(super) fn sign_for(&self, row: &Row, given: &DeviceToken) -> Result<String, AccessError> {
        let Some(tokens) = &row.device else { return self.sign(&row.session) };
        let (key, until) = (tokens.key().to_owned(), row.session.expires / 1000);
        let device = DeviceClaims { key, read_only: given.read_only, until };
        self.encode(&self.claims(&row.session, given.at, given.end, Some(device)))
    }

    fn claims(
        &self,
        session: &Session,
        begins: Millis,
        ends: Millis,
        device: Option<DeviceClaims>,
    ) -> Claims {
        Claims {
            iss: self.server.clone(),
            aud: self.server.clone(),
            sub: session.did.clone(),
            did: session.did.clone(),
            client_id: session.client_id.clone(),
            session_id: session.id.clone(),
            namespace: session.namespace.as_str().to_owned(),
            iat: begins / 1000,
            exp: ends / 1000,
            device,
        }
    }

    fn encode(&self, claims: &Claims) -> Result<String, AccessError> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &keys.encoding).map_err(|error| {
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
