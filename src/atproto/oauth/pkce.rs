//! Secrets drawn for one sign-in, and what is shown of them beforehand (PKCE, RFC 7636).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::OauthError;

/// Random bytes of a secret; as base64url it is a code verifier of 43 characters (RFC 7636, 4.1).
const SECRET_BYTES: usize = 32;

/// A text that nobody guesses: for `state`, code verifiers, the ids of proofs and cookies.
///
/// # Errors
/// The system has no randomness.
pub fn secret() -> Result<String, OauthError> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| OauthError::Crypto)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The `S256` challenge of a verifier (RFC 7636, 4.2).
pub(super) fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7636, appendix B.
    #[test]
    fn the_challenge_of_the_rfc() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn secrets_differ_and_are_verifiers() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 43);
    }
}
