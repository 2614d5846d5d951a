//! Client attestations: a confidential app's word, signed with a key that it publishes, that a request is its own.

use super::jwks::{Jwks, JwksError};
use super::jwt::{CLOCK_SKEW, Jwt, JwtError, MAX_JTI_BYTES, Seconds};

/// Longest time in seconds that an attestation may last, from `iat` to `exp`: it is made for one request.
pub const LONGEST_LIFE: Seconds = 3_600;

/// Why an attestation was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttestationError {
    /// It is no usable token.
    #[error("the client attestation cannot be used: {0}")]
    Jwt(#[from] JwtError),
    /// `iss` and `sub` are not both the app.
    #[error("the client attestation's \"iss\" and \"sub\" must both be the app's client_id")]
    Client,
    /// Meant for another server.
    #[error("the client attestation is for another server: its \"aud\" must be this server's DID or URL")]
    Audience,
    /// It was made too long before it expires.
    #[error("the client attestation lasts more than {LONGEST_LIFE} s: make one for each request")]
    TooLasting,
    /// The app did not sign it.
    #[error("the client attestation is not the app's: {0}")]
    Keys(#[from] JwksError),
}

/// What the attestation must be for.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The app whose published keys are given.
    pub client_id: &'a str,
    /// Our DID and URLs; exact texts.
    pub audiences: &'a [&'a str],
    /// Our clock.
    pub now: Seconds,
}

/// What a good attestation says. Left to the caller: whether `jti` was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// The app.
    pub client_id: String,
    /// Unique among the app's attestations; at most [`MAX_JTI_BYTES`].
    pub jti: String,
    /// The first second in which it is over: until then `jti` must be remembered.
    pub exp: Seconds,
}

/// Which app must have signed the attestation, as it claims itself: to look up its keys, and for nothing else.
///
/// # Errors
/// It is no JWT, or its "sub" is not text.
pub fn claimed_client(token: &str) -> Result<String, AttestationError> {
    Ok(Jwt::parse(token)?.text("sub")?.to_owned())
}

/// Verifies an attestation with the keys that its app publishes.
///
/// # Errors
/// It is malformed, not by one of `keys`, or for another app, server or time.
pub fn verify(token: &str, keys: &Jwks, expected: &Expected<'_>) -> Result<Attestation, AttestationError> {
    let jwt = Jwt::parse(token)?;
    jwt.expect_type("atproto-client-attestation+jwt")?;
    if jwt.text("iss")? != expected.client_id || jwt.text("sub")? != expected.client_id {
        return Err(AttestationError::Client);
    }
    if !expected.audiences.contains(&jwt.text("aud")?) {
        return Err(AttestationError::Audience);
    }
    let exp = jwt.expect_current(expected.now, None)?;
    let iat = jwt.time("iat")?.ok_or(JwtError::Claim("iat"))?;
    if exp.saturating_sub(iat) > LONGEST_LIFE + CLOCK_SKEW {
        return Err(AttestationError::TooLasting);
    }
    let jti = jwt.id("jti", MAX_JTI_BYTES)?.to_owned();
    keys.verify(&jwt)?;
    Ok(Attestation { client_id: expected.client_id.to_owned(), jti, exp })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::key::Curve;
    use super::super::testing::{CURVES, TestKey, with};
    use super::*;

    const NOW: Seconds = 1_800_000_000;
    const CLIENT: &str = "https://app.example/client-metadata.json";
    const US: &str = "did:web:sync.example";

    fn check(token: &str, keys: &Value) -> Result<Attestation, AttestationError> {
        let keys = Jwks::from_keys(keys).unwrap();
        verify(
            token,
            &keys,
            &Expected { client_id: CLIENT, audiences: &[US, "https://sync.example"], now: NOW },
        )
    }

    fn header(key: &TestKey) -> Value {
        json!({ "typ": "atproto-client-attestation+jwt", "alg": key.curve.alg(), "kid": "k1" })
    }

    fn claims() -> Value {
        json!({ "iss": CLIENT, "sub": CLIENT, "aud": US, "iat": NOW, "exp": NOW + 60, "jti": "one" })
    }

    fn published(key: &TestKey) -> Value {
        json!([with(&json!(key.jwk()), &json!({ "kid": "k1", "use": "sig" }))])
    }

    #[test]
    fn the_apps_own_word_passes() {
        for curve in CURVES {
            let key = TestKey::new(curve);
            for changes in
                [json!({}), json!({ "aud": "https://sync.example" }), json!({ "exp": NOW + 3_600 })]
            {
                let claims = with(&claims(), &changes);
                let token = key.jws(&header(&key), &claims);
                let exp = claims["exp"].as_u64().unwrap();
                assert_eq!(claimed_client(&token).as_deref(), Ok(CLIENT));
                let good = Attestation { client_id: CLIENT.into(), jti: "one".into(), exp };
                assert_eq!(check(&token, &published(&key)), Ok(good));
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        use AttestationError::{Audience, Client, Jwt, TooLasting};
        let key = TestKey::new(Curve::P256);
        let claim = |name| Jwt(JwtError::Claim(name));
        for (changes, refused) in [
            (json!({ "iss": "https://other.example/" }), Client),
            (json!({ "sub": "https://other.example/" }), Client),
            (json!({ "sub": null }), claim("sub")),
            (json!({ "aud": "did:web:other.example" }), Audience),
            (json!({ "aud": [US] }), claim("aud")),
            (json!({ "exp": NOW }), Jwt(JwtError::Expired)),
            (json!({ "exp": NOW + 3_631 }), TooLasting),
            (json!({ "iat": NOW - 3_571 }), TooLasting),
            (json!({ "iat": NOW + 31 }), Jwt(JwtError::Early("iat"))),
            (json!({ "iat": null }), claim("iat")),
            (json!({ "exp": null }), claim("exp")),
            (json!({ "jti": null }), claim("jti")),
        ] {
            let token = key.jws(&header(&key), &with(&claims(), &changes));
            assert_eq!(check(&token, &published(&key)), Err(refused), "{changes}");
        }
        let keys = AttestationError::Keys;
        for (changes, refused) in [
            (json!({ "typ": "JWT" }), Jwt(JwtError::Type("atproto-client-attestation+jwt"))),
            (json!({ "kid": "k2" }), keys(JwksError::NoKey)),
            (json!({ "alg": "none" }), keys(JwksError::NoKey)),
            (json!({ "alg": "HS256" }), keys(JwksError::NoKey)),
        ] {
            let token = key.jws(&with(&header(&key), &changes), &claims());
            assert_eq!(check(&token, &published(&key)), Err(refused), "{changes}");
        }
        let token = key.jws(&header(&key), &claims());
        assert_eq!(check(&token, &published(&TestKey::new(Curve::P256))), Err(keys(JwksError::Signature)));
        assert_eq!(check(&token, &json!([])), Err(keys(JwksError::NoKey)));
        let symmetric = json!([{ "kty": "oct", "k": "AAAA", "kid": "k1" }]);
        assert_eq!(check(&token, &symmetric), Err(keys(JwksError::NoKey)));
        assert_eq!(claimed_client("x"), Err(Jwt(JwtError::Form)));
    }
}
