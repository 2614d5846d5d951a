//! DPoP proofs (RFC 9449): that whoever sends a token holds the key which it is bound to.

use serde_json::Value;
use url::Url;

use super::jwt::{Jwt, JwtError, MAX_JTI_BYTES, Seconds};
use super::key::{KeyError, PublicKey};
use crate::types::fingerprint;

/// How far in seconds a proof's `iat` may lie from our clock, before or after.
pub const PROOF_WINDOW: Seconds = 120;

/// Why a proof was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DpopError {
    /// The proof is no usable token.
    #[error("the DPoP proof cannot be used: {0}")]
    Jwt(#[from] JwtError),
    /// It brings no usable key.
    #[error("the key in the DPoP proof cannot be used: {0}")]
    Key(#[from] KeyError),
    /// Made for another request.
    #[error("the DPoP proof is for another method: its \"htm\" must be the request's")]
    Method,
    /// Made for another address.
    #[error("the DPoP proof is for another address: its \"htu\" must be the URL asked for")]
    Url,
    /// Made too long ago, or in the future.
    #[error("the DPoP proof was made more than {PROOF_WINDOW} s ago or ahead: compare the clocks")]
    Time,
    /// Made for another token.
    #[error("the DPoP proof is for another token: its \"ath\" must be the SHA-256 of the token sent")]
    Token,
}

/// The request that the proof must be for.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its URL as the app knows it: our public one.
    pub url: &'a Url,
    /// The token in its `Authorization`; none at a token endpoint.
    pub access_token: Option<&'a str>,
    /// Our clock.
    pub now: Seconds,
}

/// What a good proof says. Left to the caller: whether `nonce` is ours, whether `jti` was seen, whether the token is
/// bound to `jkt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The key's thumbprint.
    pub jkt: String,
    /// The key.
    pub key: PublicKey,
    /// Unique among the key's proofs; at most [`MAX_JTI_BYTES`].
    pub jti: String,
    /// When it was made.
    pub iat: Seconds,
    /// The nonce it was given, if any; at most [`MAX_JTI_BYTES`].
    pub nonce: Option<String>,
}

impl Proof {
    /// The first second in which its time alone refuses it: until then its `jti` must be remembered.
    pub fn over_at(&self) -> Seconds {
        self.iat.saturating_add(PROOF_WINDOW + 1)
    }
}

/// Verifies a proof as far as it can be without memory. `iss` is ignored: older clients put their `client_id` there.
///
/// # Errors
/// The proof is malformed, not by the key in it, or for another request, token or time.
pub fn verify(proof: &str, expected: &Expected<'_>) -> Result<Proof, DpopError> {
    let jwt = Jwt::parse(proof)?;
    jwt.expect_type("dpop+jwt")?;
    let jwk = jwt.header().get("jwk").and_then(Value::as_object).ok_or(JwtError::Claim("jwk"))?;
    let key = PublicKey::from_jwk(jwk)?;
    jwt.verify(&key)?;
    if jwt.text("htm")? != expected.method {
        return Err(DpopError::Method);
    }
    let htu = Url::parse(jwt.text("htu")?).map_err(|_| DpopError::Url)?;
    if without_query(htu) != without_query(expected.url.clone()) {
        return Err(DpopError::Url);
    }
    let iat = jwt.time("iat")?.ok_or(JwtError::Claim("iat"))?;
    if iat.abs_diff(expected.now) > PROOF_WINDOW {
        return Err(DpopError::Time);
    }
    if let Some(token) = expected.access_token
        && jwt.text("ath")? != token_hash(token)
    {
        return Err(DpopError::Token);
    }
    let nonce = match jwt.claims().contains_key("nonce") {
        true => Some(jwt.id("nonce", MAX_JTI_BYTES)?.to_owned()),
        false => None,
    };
    let jti = jwt.id("jti", MAX_JTI_BYTES)?.to_owned();
    Ok(Proof { jkt: key.thumbprint(), key, jti, iat, nonce })
}

/// `ath`: the token's SHA-256 in base64url (RFC 9449, 4.2).
pub fn token_hash(token: &str) -> String {
    fingerprint(token)
}

/// Query and fragment do not count (RFC 9449, 4.3); [`Url`] has normalised the rest.
fn without_query(mut url: Url) -> Url {
    url.set_query(None);
    url.set_fragment(None);
    url
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::super::key::Curve;
    use super::super::testing::{CURVES, TestKey, signing_input, with};
    use super::*;

    const NOW: Seconds = 1_800_000_000;
    const TOKEN: &str = "a.b.c";
    const URL: &str = "https://sync.example/authenticate";

    fn check(proof: &str) -> Result<Proof, DpopError> {
        let url = Url::parse(URL).unwrap();
        verify(proof, &Expected { method: "POST", url: &url, access_token: Some(TOKEN), now: NOW })
    }

    fn header(key: &TestKey) -> Value {
        json!({ "typ": "dpop+jwt", "alg": key.curve.alg(), "jwk": key.jwk() })
    }

    fn claims() -> Value {
        json!({ "iat": NOW, "jti": "one", "htm": "POST", "htu": URL, "ath": token_hash(TOKEN) })
    }

    #[test]
    fn clients_proofs_pass() {
        for curve in CURVES {
            let key = TestKey::new(curve);
            let proof = check(&key.jws(&header(&key), &claims())).unwrap();
            let jkt = key.public().thumbprint();
            assert_eq!(proof.over_at(), NOW + 121);
            assert_eq!(proof, Proof { jkt, key: key.public(), jti: "one".into(), iat: NOW, nonce: None });
            for changes in [
                json!({ "nonce": "n" }),
                json!({ "iss": "https://app.example/client-metadata.json" }),
                json!({ "htu": "https://sync.example/authenticate?a=b#c" }),
                json!({ "htu": "HTTPS://Sync.Example:443/authenticate" }),
                json!({ "iat": NOW - 120 }),
                json!({ "iat": NOW + 120 }),
                json!({ "jti": "j".repeat(256) }),
            ] {
                let checked = check(&key.jws(&header(&key), &with(&claims(), &changes)));
                let nonce = changes["nonce"].as_str().map(str::to_owned);
                assert_eq!(checked.map(|proof| proof.nonce), Ok(nonce), "{changes}");
            }
            let input = signing_input(&header(&key), &claims());
            for signature in key.sign_both(input.as_bytes()) {
                assert!(check(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))).is_ok());
            }
        }
    }

    #[test]
    fn a_token_endpoint_needs_no_hash_of_a_token_but_all_else() {
        let key = TestKey::new(Curve::P256);
        let url = Url::parse(URL).unwrap();
        let expected = Expected { method: "POST", url: &url, access_token: None, now: NOW };
        let check =
            |changes| verify(&key.jws(&header(&key), &with(&claims(), &changes)), &expected).map(|p| p.jkt);
        assert_eq!(check(json!({ "ath": null })), Ok(key.public().thumbprint()));
        assert_eq!(check(json!({ "ath": null, "htu": "https://evil.example/" })), Err(DpopError::Url));
        assert_eq!(check(json!({ "ath": null, "htm": "GET" })), Err(DpopError::Method));
    }

    /// The proof and token of RFC 9449, section 7.1.
    #[test]
    fn the_proof_of_the_rfc_passes() {
        let proof = concat!(
            "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19",
            ".eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9",
            ".2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA",
        );
        let url = Url::parse("https://resource.example.org/protectedresource").unwrap();
        let access_token = Some("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU");
        let checked = verify(proof, &Expected { method: "GET", url: &url, access_token, now: 1_562_262_618 });
        let checked = checked.unwrap();
        assert_eq!(checked.jkt, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
        assert_eq!(checked.jti, "e1j3V_bKic8-LAEB");
    }

    #[test]
    fn a_proof_for_anything_else_is_refused() {
        let key = TestKey::new(Curve::P256);
        let claim = |name| DpopError::Jwt(JwtError::Claim(name));
        for (changes, refused) in [
            (json!({ "htm": "GET" }), DpopError::Method),
            (json!({ "htm": "post" }), DpopError::Method),
            (json!({ "htm": null }), claim("htm")),
            (json!({ "htu": "https://sync.example/" }), DpopError::Url),
            (json!({ "htu": "https://sync.example/authenticate/" }), DpopError::Url),
            (json!({ "htu": "https://sync.example/Authenticate" }), DpopError::Url),
            (json!({ "htu": "http://sync.example/authenticate" }), DpopError::Url),
            (json!({ "htu": "https://sync.example:444/authenticate" }), DpopError::Url),
            (json!({ "htu": "https://sync.example.evil/authenticate" }), DpopError::Url),
            (json!({ "htu": "https://evil@sync.example/authenticate" }), DpopError::Url),
            (json!({ "htu": "/authenticate" }), DpopError::Url),
            (json!({ "htu": null }), claim("htu")),
            (json!({ "iat": NOW - 121 }), DpopError::Time),
            (json!({ "iat": NOW + 121 }), DpopError::Time),
            (json!({ "iat": NOW * 1000 }), DpopError::Time),
            (json!({ "iat": 0 }), DpopError::Time),
            (json!({ "iat": NOW.to_string() }), claim("iat")),
            (json!({ "iat": null }), claim("iat")),
            (json!({ "ath": token_hash("a.b.d") }), DpopError::Token),
            (json!({ "ath": "" }), DpopError::Token),
            (json!({ "ath": null }), claim("ath")),
            (json!({ "jti": null }), claim("jti")),
            (json!({ "jti": "" }), claim("jti")),
            (json!({ "jti": "j".repeat(257) }), claim("jti")),
            (json!({ "nonce": 7 }), claim("nonce")),
            (json!({ "nonce": "n".repeat(257) }), claim("nonce")),
        ] {
            assert_eq!(check(&key.jws(&header(&key), &with(&claims(), &changes))), Err(refused), "{changes}");
        }
    }

    #[test]
    fn a_proof_of_another_kind_or_key_is_refused() {
        let key = TestKey::new(Curve::P256);
        let other = TestKey::new(Curve::P256);
        let mut private = key.jwk();
        private.insert("d".into(), json!("AAAA"));
        let jwt = DpopError::Jwt;
        for (changes, refused) in [
            (json!({ "typ": "JWT" }), jwt(JwtError::Type("dpop+jwt"))),
            (json!({ "typ": null }), jwt(JwtError::Type("dpop+jwt"))),
            (json!({ "alg": "none" }), jwt(JwtError::Algorithm)),
            (json!({ "alg": "HS256" }), jwt(JwtError::Algorithm)),
            (json!({ "alg": "ES256K" }), jwt(JwtError::Algorithm)),
            (json!({ "alg": null }), jwt(JwtError::Algorithm)),
            (json!({ "jwk": other.jwk() }), jwt(JwtError::Signature)),
            (json!({ "jwk": TestKey::new(Curve::K256).jwk() }), jwt(JwtError::Algorithm)),
            (json!({ "jwk": private }), DpopError::Key(KeyError::Secret)),
            (json!({ "jwk": { "kty": "oct", "k": "AAAA" } }), DpopError::Key(KeyError::Secret)),
            (json!({ "jwk": null }), jwt(JwtError::Claim("jwk"))),
            (json!({ "jwk": "text" }), jwt(JwtError::Claim("jwk"))),
            (json!({ "crit": [] }), jwt(JwtError::Critical)),
        ] {
            assert_eq!(check(&key.jws(&with(&header(&key), &changes), &claims())), Err(refused), "{changes}");
        }
        let good = key.jws(&header(&key), &claims());
        let [head, _, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
        let other_claims = URL_SAFE_NO_PAD.encode(with(&claims(), &json!({ "jti": "two" })).to_string());
        assert_eq!(check(&format!("{head}.{other_claims}.{signature}")), Err(jwt(JwtError::Signature)));
        assert_eq!(check(""), Err(jwt(JwtError::Form)));
    }
}
