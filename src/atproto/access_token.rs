//! OAuth access tokens as PDSes issue them: whose account, for which app, bound to which key.
//!
//! Most are signed with a secret of the PDS, so what is read here is only what the token claims, until a published key
//! ([`AccessToken::verify_with`]) or the PDS itself vouches for it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::client_id::{ClientId, ClientIdError};
use super::jwks::{Jwks, JwksError};
use super::jwt::{Jwt, JwtError, Seconds};
use crate::types::Did;

/// Longest issuer or audience in bytes.
const MAX_URL_BYTES: usize = 512;
/// Characters of a SHA-256 in base64url.
const THUMBPRINT_CHARS: usize = 43;

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessTokenError {
    /// Only its issuer can read it.
    #[error(
        "the access token is opaque: only its issuer can say whose it is. Send a service-auth token with \"clientAttestation\" instead, or send the user to /connect"
    )]
    Opaque,
    /// It is a JWT, but no usable one.
    #[error("the access token cannot be used: {0}")]
    Jwt(#[from] JwtError),
    /// A password session's token, or another that whoever holds it may use.
    #[error(
        "the access token is not bound to a key (\"cnf.jkt\"): use an OAuth session, not an app password"
    )]
    Unbound,
    /// It does not say which app it was issued to.
    #[error("the access token names no app (\"client_id\"): use an OAuth session, not an app password")]
    NoClient,
    /// The app that it names is none.
    #[error("the access token was issued to no app: {0}")]
    ClientId(#[from] ClientIdError),
    /// Somebody else's.
    #[error("the access token is another account's than this server's owner")]
    Owner,
    /// Another authorization server's.
    #[error("the access token was issued by another server than that of the owner's PDS")]
    Issuer,
    /// For another PDS.
    #[error("the access token is for another server than the owner's PDS")]
    Audience,
    /// Bound to another key than that of the proof.
    #[error("the access token is bound to another key than that of the DPoP proof")]
    Key,
}

/// What the token must say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// `sub`.
    pub owner: &'a Did,
    /// `iss`: the authorization server of the owner's PDS, exactly as its metadata has it.
    pub issuer: &'a str,
    /// `aud`: the PDS's DID and its URLs; exact texts.
    pub audiences: &'a [&'a str],
    /// `cnf.jkt`: the thumbprint of the proof's key.
    pub jkt: &'a str,
    /// Our clock.
    pub now: Seconds,
}

/// A token's claims, well-formed but not yet to be believed.
pub struct AccessToken {
    text: String,
    sub: Did,
    iss: String,
    aud: String,
    jkt: String,
    client_id: ClientId,
    exp: Seconds,
}

impl AccessToken {
    /// Reads a token.
    ///
    /// # Errors
    /// It is opaque, malformed, not bound to a key, or names no app.
    pub fn read(token: &str) -> Result<Self, AccessTokenError> {
        let jwt = match Jwt::parse(token) {
            Err(JwtError::Form | JwtError::Json("header")) => return Err(AccessTokenError::Opaque),
            parsed => parsed?,
        };
        jwt.expect_type("at+jwt")?;
        if jwt.signature().is_empty() {
            return Err(JwtError::Signature.into());
        }
        let cnf = jwt.claims().get("cnf").and_then(|cnf| cnf.get("jkt")).and_then(Value::as_str);
        let jkt = cnf.filter(|jkt| jkt.len() == THUMBPRINT_CHARS).ok_or(AccessTokenError::Unbound)?;
        let client_id = jwt.text("client_id").map_err(|_| AccessTokenError::NoClient)?;
        let owned = |claim, max| jwt.id(claim, max).map(str::to_owned);
        Ok(Self {
            sub: jwt.text("sub")?.parse().map_err(|_| JwtError::Claim("sub"))?,
            iss: owned("iss", MAX_URL_BYTES)?,
            aud: owned("aud", MAX_URL_BYTES)?,
            exp: jwt.time("exp")?.ok_or(JwtError::Claim("exp"))?,
            jkt: jkt.to_owned(),
            client_id: client_id.parse()?,
            text: token.to_owned(),
        })
    }

    /// Checks what it says. Cheap, and worth nothing until the token is proved genuine.
    ///
    /// # Errors
    /// It says something else than expected, or is not current.
    pub fn check(&self, expected: &Expected<'_>) -> Result<(), AccessTokenError> {
        if self.sub != *expected.owner {
            return Err(AccessTokenError::Owner);
        }
        if self.iss != expected.issuer {
            return Err(AccessTokenError::Issuer);
        }
        if !expected.audiences.contains(&self.aud.as_str()) {
            return Err(AccessTokenError::Audience);
        }
        if self.jkt != expected.jkt {
            return Err(AccessTokenError::Key);
        }
        Jwt::parse(&self.text)?.expect_current(expected.now, None)?;
        Ok(())
    }

    /// Proves it genuine by the keys that its issuer publishes: asymmetric ones only.
    ///
    /// # Errors
    /// No key fits, or none signed it.
    pub fn verify_with(&self, keys: &Jwks) -> Result<(), JwksError> {
        keys.verify(&Jwt::parse(&self.text)?)
    }

    /// A copy whose signature differs in one bit: what tells a PDS that checks signatures from one that does not.
    pub fn with_altered_signature(&self) -> String {
        let (signed, signature) = self.text.rsplit_once('.').unwrap_or_default();
        // Invariant: `read` decoded it and found it not empty.
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        if let Some(first) = bytes.first_mut() {
            *first ^= 1;
        }
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// A copy that expires a second later, with the same header and signature.
    pub fn with_altered_payload(&self) -> String {
        let mut parts = self.text.split('.');
        let (header, payload, signature) = (parts.next(), parts.next(), parts.next());
        // Invariant: `read` found three parts, and an object in the second.
        let payload = URL_SAFE_NO_PAD.decode(payload.unwrap_or_default()).unwrap_or_default();
        let mut claims: Value = serde_json::from_slice(&payload).unwrap_or_default();
        claims["exp"] = self.exp.checked_add(1).unwrap_or_else(|| self.exp - 1).into();
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        format!("{}.{payload}.{}", header.unwrap_or_default(), signature.unwrap_or_default())
    }

    /// The token as it came: a secret.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whose account it claims to be for.
    pub fn sub(&self) -> &Did {
        &self.sub
    }

    /// Which app it claims to have been issued to; a well-formed id.
    pub fn client_id(&self) -> &ClientId {
        &self.client_id
    }

    /// When it claims to expire.
    pub fn exp(&self) -> Seconds {
        self.exp
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken({} {})", self.sub, self.client_id)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use serde_json::json;

    use super::super::key::Curve;
    use super::super::testing::{CURVES, TestKey, signing_input, with};
    use super::*;

    const NOW: Seconds = 1_800_000_000;
    const OWNER: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
    const ISSUER: &str = "https://pds.example";
    const CLIENT: &str = "https://app.example/client-metadata.json";
    const JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

    fn claims() -> Value {
        json!({
            "jti": "tok-1", "sub": OWNER, "iat": NOW, "exp": NOW + 3_600, "aud": "did:web:pds.example",
            "cnf": { "jkt": JKT }, "client_id": CLIENT, "iss": ISSUER,
        })
    }

    /// As the reference PDS signs: with a secret of its own.
    fn mac(header: &Value, claims: &Value) -> String {
        let input = signing_input(header, claims);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"the secret of the PDS"), input.as_bytes());
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    fn issued(changes: &Value) -> String {
        mac(&json!({ "typ": "at+jwt", "alg": "HS256" }), &with(&claims(), changes))
    }

    fn check(token: &str) -> Result<(), AccessTokenError> {
        let owner = OWNER.parse().unwrap();
        let audiences = ["did:web:pds.example", "https://pds.example"];
        let expected = Expected { owner: &owner, issuer: ISSUER, audiences: &audiences, jkt: JKT, now: NOW };
        AccessToken::read(token)?.check(&expected)
    }

    #[test]
    fn a_token_as_issued_is_read() {
        let token = issued(&json!({}));
        let read = AccessToken::read(&token).unwrap();
        assert_eq!(
            (read.sub().as_str(), read.client_id().as_str(), read.exp()),
            (OWNER, CLIENT, NOW + 3_600)
        );
        assert_eq!(read.as_str(), token);
        assert!(!format!("{read:?}").contains(&token[..20]));
        assert_eq!(check(&token), Ok(()));
        assert_eq!(check(&issued(&json!({ "aud": "https://pds.example" }))), Ok(()));
        assert_eq!(check(&issued(&json!({ "scope": "atproto" }))), Ok(()));
    }

    #[test]
    fn what_is_not_the_owners_for_her_pds_and_this_key_is_refused() {
        use AccessTokenError::{Audience, ClientId, Issuer, Jwt, Key, NoClient, Owner, Unbound};
        let claim = |name| Jwt(JwtError::Claim(name));
        for (changes, refused) in [
            (json!({ "sub": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" }), Owner),
            (json!({ "sub": "alice.example" }), claim("sub")),
            (json!({ "sub": null }), claim("sub")),
            (json!({ "iss": "https://pds.example/" }), Issuer),
            (json!({ "iss": "https://evil.example" }), Issuer),
            (json!({ "iss": null }), claim("iss")),
            (json!({ "aud": "did:web:sync.example" }), Audience),
            (json!({ "aud": ["did:web:pds.example"] }), claim("aud")),
            (json!({ "aud": null }), claim("aud")),
            (json!({ "exp": NOW }), Jwt(JwtError::Expired)),
            (json!({ "exp": null }), claim("exp")),
            (json!({ "iat": NOW + 31 }), Jwt(JwtError::Early("iat"))),
            (json!({ "nbf": NOW + 31 }), Jwt(JwtError::Early("nbf"))),
            (json!({ "cnf": { "jkt": JKT.replace('0', "1") } }), Key),
            (json!({ "cnf": { "jkt": "" } }), Unbound),
            (json!({ "cnf": { "x5t#S256": JKT } }), Unbound),
            (json!({ "cnf": JKT }), Unbound),
            (json!({ "cnf": null }), Unbound),
            (json!({ "client_id": null }), NoClient),
            (json!({ "client_id": 7 }), NoClient),
        ] {
            assert_eq!(check(&issued(&changes)), Err(refused), "{changes}");
        }
        for none in [
            "",
            "https://app.example/\n",
            "https://app.example",
            &format!("https://app.example/{}", "c".repeat(1_024)),
        ] {
            let refused = check(&issued(&json!({ "client_id": none })));
            assert!(matches!(refused, Err(ClientId(_))), "{none:.40}");
        }
    }

    #[test]
    fn tokens_of_other_kinds_are_refused() {
        let password_session = mac(
            &json!({ "typ": "at+jwt", "alg": "HS256" }),
            &json!({ "scope": "com.atproto.access", "sub": OWNER, "iat": NOW, "exp": NOW + 7_200, "aud": "did:web:pds.example" }),
        );
        assert_eq!(check(&password_session), Err(AccessTokenError::Unbound));
        for typ in [json!("JWT"), json!("refresh+jwt"), json!("dpop+jwt"), Value::Null] {
            let token = mac(&json!({ "typ": typ, "alg": "HS256" }), &claims());
            assert_eq!(check(&token), Err(AccessTokenError::Jwt(JwtError::Type("at+jwt"))), "{typ}");
        }
        for opaque in ["", "tok-5e0f", "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU", "abcd.efgh.ijkl"] {
            assert_eq!(check(opaque), Err(AccessTokenError::Opaque), "{opaque}");
        }
        let unsigned = format!("{}.", signing_input(&json!({ "typ": "at+jwt", "alg": "none" }), &claims()));
        assert_eq!(check(&unsigned), Err(AccessTokenError::Jwt(JwtError::Signature)));
        let long = issued(&json!({ "padding": "p".repeat(8_192) }));
        assert_eq!(check(&long), Err(AccessTokenError::Jwt(JwtError::TooLong)));
    }

    #[test]
    fn published_keys_prove_it_and_nothing_else_does() {
        for curve in CURVES {
            let key = TestKey::new(curve);
            let keys = |key: &TestKey| Jwks::from_keys(&json!([key.jwk()])).unwrap();
            let header = json!({ "typ": "at+jwt", "alg": curve.alg() });
            let token = AccessToken::read(&key.jws(&header, &claims())).unwrap();
            assert_eq!(token.verify_with(&keys(&key)), Ok(()));
            assert_eq!(token.verify_with(&keys(&TestKey::new(curve))), Err(JwksError::Signature));
            for altered in [token.with_altered_signature(), token.with_altered_payload()] {
                let altered = AccessToken::read(&altered).unwrap();
                assert_eq!(altered.verify_with(&keys(&key)), Err(JwksError::Signature));
            }
            let symmetric = AccessToken::read(&issued(&json!({}))).unwrap();
            assert_eq!(symmetric.verify_with(&keys(&key)), Err(JwksError::NoKey));
            let shared = json!([{ "kty": "oct", "k": URL_SAFE_NO_PAD.encode("the secret of the PDS") }]);
            assert_eq!(symmetric.verify_with(&Jwks::from_keys(&shared).unwrap()), Err(JwksError::NoKey));
        }
    }

    #[test]
    fn any_time_of_expiry_can_be_altered() {
        for exp in [0, 1, u64::MAX] {
            let read = AccessToken::read(&issued(&json!({ "exp": exp }))).unwrap();
            assert_eq!(
                AccessToken::read(&read.with_altered_payload()).unwrap().exp().abs_diff(exp),
                1,
                "{exp}"
            );
        }
    }

    #[test]
    fn altered_copies_differ_in_one_part_and_still_pass_every_cheap_check() {
        let es256 = TestKey::new(Curve::P256).jws(&json!({ "typ": "at+jwt", "alg": "ES256" }), &claims());
        for token in [issued(&json!({})), es256] {
            let read = AccessToken::read(&token).unwrap();
            let differing = |copy: &str| {
                let parts = token.split('.').zip(copy.split('.'));
                parts.map(|(ours, theirs)| ours != theirs).collect::<Vec<_>>()
            };
            let (signature, payload) = (read.with_altered_signature(), read.with_altered_payload());
            assert_eq!(differing(&signature), [false, false, true]);
            assert_eq!(differing(&payload), [false, true, false]);
            assert_eq!((check(&signature), check(&payload)), (Ok(()), Ok(())));
            assert_eq!(signature.len(), token.len());
            let jwt = Jwt::parse(&payload).unwrap();
            assert_eq!(json!(jwt.claims()), with(&claims(), &json!({ "exp": NOW + 3_601 })));
        }
    }
}
