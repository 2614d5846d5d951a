//! Service-auth tokens (atproto XRPC spec, "Inter-Service Authentication"): they prove an account, never an app.

use super::jwt::{Jwt, JwtError, MAX_JTI_BYTES, Seconds};
use super::key::PublicKey;
use crate::types::Did;

/// Longest time ahead in seconds that a token may last: what a PDS grants at most.
pub const LONGEST_LIFE: Seconds = 3_600;

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServiceAuthError {
    /// It is no usable token.
    #[error("the service-auth token cannot be used: {0}")]
    Jwt(#[from] JwtError),
    /// `iss` is no account.
    #[error("the service-auth token's \"iss\" is not a DID, alone or with #atproto")]
    Issuer,
    /// Issued by somebody else.
    #[error("the service-auth token is from another account than this server's owner")]
    Owner,
    /// Meant for another service.
    #[error("the service-auth token is for another service: its \"aud\" must be this server's DID")]
    Audience,
    /// Meant for another method.
    #[error("the service-auth token is for another method: its \"lxm\" must be the one called")]
    Method,
}

/// What the token must be for.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Whose it must be.
    pub owner: &'a Did,
    /// Our DID, alone and with our service's fragment; exact texts.
    pub audiences: &'a [&'a str],
    /// The method called.
    pub lxm: &'a str,
    /// Our clock.
    pub now: Seconds,
}

/// What a good token says. Left to the caller: whether `jti` was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceToken {
    /// The account.
    pub iss: Did,
    /// Unique among the account's tokens; at most [`MAX_JTI_BYTES`].
    pub jti: String,
    /// The first second in which it is over: until then `jti` must be remembered.
    pub exp: Seconds,
}

/// Whose key must have signed the token, as it claims itself: to look up the key, and for nothing else.
///
/// # Errors
/// It is no JWT, or names no account; another key of the account's (`#atproto_label`) is none.
pub fn claimed_issuer(token: &str) -> Result<Did, ServiceAuthError> {
    issuer(&Jwt::parse(token)?)
}

/// Verifies a token with the account's signing key. High-S signatures pass: the spec forbids them, the reference
/// implementation takes them, and nothing here rests on there being one signature only.
///
/// # Errors
/// It is malformed, not by `key`, or for another account, service, method or time.
pub fn verify(
    token: &str,
    key: &PublicKey,
    expected: &Expected<'_>,
) -> Result<ServiceToken, ServiceAuthError> {
    let jwt = Jwt::parse(token)?;
    jwt.expect_type("JWT")?;
    let iss = issuer(&jwt)?;
    if iss != *expected.owner {
        return Err(ServiceAuthError::Owner);
    }
    if !expected.audiences.contains(&jwt.text("aud")?) {
        return Err(ServiceAuthError::Audience);
    }
    if jwt.text("lxm")? != expected.lxm {
        return Err(ServiceAuthError::Method);
    }
    let exp = jwt.expect_current(expected.now, Some(LONGEST_LIFE))?;
    let jti = jwt.id("jti", MAX_JTI_BYTES)?.to_owned();
    jwt.verify(key)?;
    Ok(ServiceToken { iss, jti, exp })
}

fn issuer(jwt: &Jwt<'_>) -> Result<Did, ServiceAuthError> {
    let iss = jwt.text("iss")?;
    iss.strip_suffix("#atproto").unwrap_or(iss).parse().map_err(|_| ServiceAuthError::Issuer)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::super::key::Curve;
    use super::super::testing::{CURVES, TestKey, signing_input, with};
    use super::*;

    const NOW: Seconds = 1_800_000_000;
    const OWNER: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
    const LXM: &str = "xyz.groundmist.sync.authenticate";
    const AUDIENCES: [&str; 2] = ["did:web:sync.example#groundmist_sync", "did:web:sync.example"];

    fn check(token: &str, key: &TestKey) -> Result<ServiceToken, ServiceAuthError> {
        let owner = OWNER.parse().unwrap();
        let expected = Expected { owner: &owner, audiences: &AUDIENCES, lxm: LXM, now: NOW };
        verify(token, &key.public(), &expected)
    }

    fn header(key: &TestKey) -> Value {
        json!({ "typ": "JWT", "alg": key.curve.alg() })
    }

    fn claims() -> Value {
        json!({ "iat": NOW, "iss": OWNER, "aud": AUDIENCES[0], "exp": NOW + 60, "lxm": LXM, "jti": "one" })
    }

    #[test]
    fn the_owners_tokens_pass() {
        for curve in CURVES {
            let key = TestKey::new(curve);
            for changes in [
                json!({}),
                json!({ "aud": AUDIENCES[1] }),
                json!({ "iss": format!("{OWNER}#atproto") }),
                json!({ "exp": NOW + 3_600 }),
                json!({ "iat": null }),
            ] {
                let claims = with(&claims(), &changes);
                let token = key.jws(&header(&key), &claims);
                let exp = claims["exp"].as_u64().unwrap();
                let iss: Did = OWNER.parse().unwrap();
                assert_eq!(claimed_issuer(&token), Ok(iss.clone()));
                assert_eq!(
                    check(&token, &key),
                    Ok(ServiceToken { iss, jti: "one".into(), exp }),
                    "{changes}"
                );
            }
            let input = signing_input(&header(&key), &claims());
            for signature in key.sign_both(input.as_bytes()) {
                assert!(check(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)), &key).is_ok());
            }
        }
    }

    #[test]
    fn a_token_for_anything_else_is_refused() {
        use ServiceAuthError::{Audience, Issuer, Jwt, Method, Owner};
        let key = TestKey::new(Curve::K256);
        let claim = |name| Jwt(JwtError::Claim(name));
        for (changes, refused) in [
            (json!({ "iss": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" }), Owner),
            (json!({ "iss": format!("{OWNER}#atproto_label") }), Issuer),
            (json!({ "iss": format!("{OWNER}#atproto#atproto") }), Issuer),
            (json!({ "iss": "alice.example" }), Issuer),
            (json!({ "iss": null }), claim("iss")),
            (json!({ "aud": "did:web:sync.example#other" }), Audience),
            (json!({ "aud": "did:web:sync.example.evil" }), Audience),
            (json!({ "aud": "did:web:Sync.example" }), Audience),
            (json!({ "aud": [AUDIENCES[0], "did:web:evil.example"] }), claim("aud")),
            (json!({ "aud": null }), claim("aud")),
            (json!({ "lxm": "xyz.groundmist.sync.other" }), Method),
            (json!({ "lxm": "xyz.groundmist.sync" }), Method),
            (json!({ "lxm": "*" }), Method),
            (json!({ "lxm": null }), claim("lxm")),
            (json!({ "exp": NOW }), Jwt(JwtError::Expired)),
            (json!({ "exp": NOW + 3_631 }), Jwt(JwtError::TooLasting(3_600))),
            (json!({ "exp": null }), claim("exp")),
            (json!({ "iat": NOW + 31 }), Jwt(JwtError::Early("iat"))),
            (json!({ "nbf": NOW + 31 }), Jwt(JwtError::Early("nbf"))),
            (json!({ "jti": null }), claim("jti")),
            (json!({ "jti": "" }), claim("jti")),
            (json!({ "jti": "j".repeat(257) }), claim("jti")),
        ] {
            assert_eq!(
                check(&key.jws(&header(&key), &with(&claims(), &changes)), &key),
                Err(refused),
                "{changes}"
            );
        }
    }

    #[test]
    fn a_token_that_the_owners_key_did_not_sign_is_refused() {
        for curve in CURVES {
            let key = TestKey::new(curve);
            let token = TestKey::new(curve).jws(&header(&key), &claims());
            assert_eq!(check(&token, &key), Err(ServiceAuthError::Jwt(JwtError::Signature)));
            let token = key.jws(&header(&key), &claims());
            let other = TestKey::new(if curve == Curve::P256 { Curve::K256 } else { Curve::P256 });
            assert_eq!(check(&token, &other), Err(ServiceAuthError::Jwt(JwtError::Algorithm)));
            for typ in ["at+jwt", "dpop+jwt", "refresh+jwt"] {
                let token = key.jws(&with(&header(&key), &json!({ "typ": typ })), &claims());
                assert_eq!(check(&token, &key), Err(ServiceAuthError::Jwt(JwtError::Type("JWT"))));
            }
        }
    }

    /// The classic: everyone knows the public key, so everyone could make this MAC.
    #[test]
    fn the_public_key_is_no_shared_secret() {
        let key = TestKey::new(Curve::K256);
        let jwk = key.public().to_jwk().to_string();
        let multikey = key.multikey();
        for alg in ["HS256", "none", "ES256K"] {
            let input = signing_input(&json!({ "typ": "JWT", "alg": alg }), &claims());
            for secret in [key.uncompressed(), &key.compressed(), multikey.as_bytes(), jwk.as_bytes()] {
                let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input.as_bytes());
                let refused = check(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(mac)), &key).unwrap_err();
                let expected = if alg == "ES256K" { JwtError::Signature } else { JwtError::Algorithm };
                assert_eq!(refused, ServiceAuthError::Jwt(expected), "{alg}");
            }
        }
    }
}
