//! The secret that signs sync tokens; random texts that nobody guesses, and what is kept or shown of them.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Random bytes of a secret; as base64url it is a code verifier of 43 characters (RFC 7636, 4.1).
const SECRET_BYTES: usize = 32;

/// Shortest secret in bytes: below this, a token's signature could be guessed offline.
pub const MIN_SECRET_BYTES: usize = 16;

/// The key that signs sync tokens. Never shown: `Debug` prints no byte of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Takes over a key; the caller has checked its length ([`MIN_SECRET_BYTES`]).
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The key itself: for signing and verifying only.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A new secret: 256 random bits in base64url.
///
/// # Errors
/// The system has no randomness.
pub fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A text's SHA-256 in base64url: what is kept of a secret, which is looked up and compared by it, so that the time it takes
/// says nothing of it; also the `S256` challenge of a code verifier (RFC 7636, 4.2) and the `ath` of a token (RFC 9449, 4.2).
pub fn fingerprint(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636, appendix B.
    #[test]
    fn the_challenge_of_the_rfc() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(fingerprint(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn secrets_differ_and_are_verifiers() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 43);
        assert!(one.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
    }

    #[test]
    fn a_secret_does_not_show() {
        let secret = Secret::new(b"correct horse battery staple");
        let shown = format!("{secret:?} {secret:#?}");
        assert!(!shown.contains("horse") && !shown.contains("99"), "{shown}");
    }
}
