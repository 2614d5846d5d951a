//! JSON Web Key Sets (RFC 7517, section 5): the public keys that an authorization server or an app publishes.

use aws_lc_rs::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::json;
use super::jwt::{Jwt, JwtError, MAX_JTI_BYTES};
use super::key::{PublicKey, is_for_verifying};

/// Largest key set in bytes that is parsed.
pub const MAX_JWKS_BYTES: usize = 64 * 1024;
/// Most keys in a set: each may cost a verification.
pub const MAX_KEYS: usize = 32;

/// Why a key set was refused, or did not verify a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// More than [`MAX_JWKS_BYTES`].
    #[error("the key set has more than {MAX_JWKS_BYTES} bytes")]
    TooLarge,
    /// No JSON object with an array "keys".
    #[error("the key set is not a JSON object with an array \"keys\"")]
    Form,
    /// More than [`MAX_KEYS`].
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooMany,
    /// No key of the set fits the token.
    #[error("no published key has the token's \"kid\" and \"alg\"")]
    NoKey,
    /// Those that fit did not sign it.
    #[error("none of the published keys signed the token")]
    Signature,
    /// The token itself is unusable.
    #[error("the token cannot be verified: {0}")]
    Jwt(#[from] JwtError),
}

/// The usable keys of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwks(Vec<Jwk>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Jwk {
    kid: Option<String>,
    key: Key,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Ec(PublicKey),
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ed25519(Vec<u8>),
}

impl Jwks {
    /// Reads a set. Keys that cannot verify are skipped: symmetric or private ones, unknown types, those for
    /// encryption, or malformed ones.
    ///
    /// # Errors
    /// [`JwksError::TooLarge`], [`JwksError::Form`], [`JwksError::TooMany`].
    pub fn parse(bytes: &[u8]) -> Result<Self, JwksError> {
        if bytes.len() > MAX_JWKS_BYTES {
            return Err(JwksError::TooLarge);
        }
        let set = json::object(bytes).ok_or(JwksError::Form)?;
        Self::from_keys(set.get("keys").ok_or(JwksError::Form)?)
    }

    /// Reads the array `keys` of a set, as client metadata may hold it.
    ///
    /// # Errors
    /// [`JwksError::Form`], [`JwksError::TooMany`].
    pub fn from_keys(keys: &Value) -> Result<Self, JwksError> {
        let keys = keys.as_array().ok_or(JwksError::Form)?;
        if keys.len() > MAX_KEYS {
            return Err(JwksError::TooMany);
        }
        Ok(Self(keys.iter().filter_map(Value::as_object).filter_map(Jwk::read).collect()))
    }

    /// A set without keys: it verifies nothing.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether no key in it can verify anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies a token with the key it names, or with each that has its algorithm if it names none.
    ///
    /// # Errors
    /// [`JwksError::NoKey`], [`JwksError::Signature`], or a `kid` that is not text.
    pub fn verify(&self, jwt: &Jwt<'_>) -> Result<(), JwksError> {
        let kid = match jwt.header().get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().ok_or(JwtError::Claim("kid"))?),
        };
        let mut fitting = self
            .0
            .iter()
            .filter(|jwk| kid.is_none() || jwk.kid.as_deref() == kid)
            .filter(|jwk| jwt.alg() == Some(jwk.key.alg()))
            .peekable();
        if fitting.peek().is_none() {
            return Err(JwksError::NoKey);
        }
        if fitting.any(|jwk| jwk.key.signed(jwt)) { Ok(()) } else { Err(JwksError::Signature) }
    }
}

impl Jwk {
    fn read(jwk: &Map<String, Value>) -> Option<Self> {
        let member = |name| jwk.get(name).and_then(Value::as_str);
        let kid = match jwk.get("kid") {
            None => None,
            Some(kid) => Some(kid.as_str().filter(|kid| kid.len() <= MAX_JTI_BYTES)?.to_owned()),
        };
        let bytes = |name| URL_SAFE_NO_PAD.decode(member(name)?).ok();
        // A private key that everyone can read proves nothing any more.
        let key = match member("kty")? {
            _ if jwk.contains_key("d") => return None,
            "EC" => Key::Ec(PublicKey::from_jwk(jwk).ok()?),
            "RSA" => Key::Rsa { n: bytes("n")?, e: bytes("e")? },
            "OKP" if member("crv") == Some("Ed25519") => Key::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let for_its_algorithm = jwk.get("alg").is_none_or(|alg| alg == key.alg());
        (is_for_verifying(jwk) && for_its_algorithm).then_some(Self { kid, key })
    }
}

impl Key {
    /// The one algorithm that it is used with.
    fn alg(&self) -> &'static str {
        match self {
            Self::Ec(key) => key.curve().alg(),
            Self::Rsa { .. } => "RS256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn signed(&self, jwt: &Jwt<'_>) -> bool {
        let (message, signature) = (jwt.signing_input().as_bytes(), jwt.signature());
        match self {
            Self::Ec(key) => jwt.verify(key).is_ok(),
            Self::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            Self::Ed25519(x) => UnparsedPublicKey::new(&ED25519, x).verify(message, signature).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256};
    use serde_json::json;

    use super::super::key::Curve;
    use super::super::testing::{CURVES, TestKey, signing_input, with};
    use super::*;

    fn set(keys: &[Value]) -> Jwks {
        Jwks::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn verify(keys: &[Value], token: &str) -> Result<(), JwksError> {
        set(keys).verify(&Jwt::parse(token).unwrap())
    }

    #[test]
    fn the_named_key_verifies() {
        for curve in CURVES {
            let [one, two] = [TestKey::new(curve), TestKey::new(curve)];
            let jwk = |key: &TestKey, kid: &str| {
                with(&json!(key.jwk()), &json!({ "kid": kid, "key_ops": ["verify"] }))
            };
            let keys = [json!({ "kty": "future" }), json!(7), jwk(&one, "1"), jwk(&two, "2")];
            let signed = |header: Value| two.jws(&with(&json!({ "alg": curve.alg() }), &header), &json!({}));
            assert_eq!(verify(&keys, &signed(json!({ "kid": "2" }))), Ok(()));
            assert_eq!(verify(&keys, &signed(json!({}))), Ok(()));
            assert_eq!(verify(&keys, &signed(json!({ "kid": "1" }))), Err(JwksError::Signature));
            assert_eq!(verify(&keys, &signed(json!({ "kid": "3" }))), Err(JwksError::NoKey));
            assert_eq!(verify(&[json!(two.jwk())], &signed(json!({ "kid": "2" }))), Err(JwksError::NoKey));
            assert_eq!(verify(&keys[..3], &signed(json!({}))), Err(JwksError::Signature));
            let odd = verify(&keys, &signed(json!({ "kid": 2 })));
            assert_eq!(odd, Err(JwksError::Jwt(JwtError::Claim("kid"))));
            for alg in ["none", "HS256", "RS256", "EdDSA"] {
                assert_eq!(verify(&keys, &signed(json!({ "alg": alg }))), Err(JwksError::NoKey), "{alg}");
            }
        }
    }

    #[test]
    fn rsa_and_ed25519_verify_too() {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let (n, e) = (rsa.public_key().modulus(), rsa.public_key().exponent());
        let rsa_jwk = json!({
            "kty": "RSA", "n": b64(n.big_endian_without_leading_zero()), "e": b64(e.big_endian_without_leading_zero()),
        });
        let ed = Ed25519KeyPair::generate().unwrap();
        let ed_jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(ed.public_key().as_ref()) });
        let input = |alg: &str| signing_input(&json!({ "alg": alg }), &json!({ "sub": "x" }));
        let mut rsa_signature = vec![0; rsa.public_modulus_len()];
        let rsa_input = input("RS256");
        rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), rsa_input.as_bytes(), &mut rsa_signature).unwrap();
        let ed_input = input("EdDSA");
        let ed_signature = ed.sign(ed_input.as_bytes()).as_ref().to_vec();
        let keys = [rsa_jwk, ed_jwk];
        for (input, mut signature) in [(rsa_input, rsa_signature), (ed_input, ed_signature)] {
            assert_eq!(verify(&keys, &format!("{input}.{}", b64(&signature))), Ok(()));
            signature[7] ^= 1;
            assert_eq!(verify(&keys, &format!("{input}.{}", b64(&signature))), Err(JwksError::Signature));
        }
    }

    #[test]
    fn what_cannot_verify_is_skipped() {
        let good = json!(TestKey::new(Curve::P256).jwk());
        assert_eq!(set(std::slice::from_ref(&good)).0.len(), 1);
        for changes in [
            json!({ "d": "AAAA" }),
            json!({ "kty": "oct", "k": "AAAA" }),
            json!({ "kty": "RSA" }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" }),
            json!({ "kty": null }),
            json!({ "crv": "P-384" }),
            json!({ "use": "enc" }),
            json!({ "key_ops": ["sign"] }),
            json!({ "key_ops": ["encrypt", "wrapKey"] }),
            json!({ "key_ops": [] }),
            json!({ "key_ops": ["verify", "verify"] }),
            json!({ "alg": "HS256" }),
            json!({ "alg": "ES256K" }),
            json!({ "kid": 7 }),
            json!({ "kid": "k".repeat(MAX_JTI_BYTES + 1) }),
        ] {
            assert!(set(&[with(&good, &changes)]).is_empty(), "{changes}");
        }
        let ed = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([7; 32]) });
        assert!(!set(std::slice::from_ref(&ed)).is_empty());
        assert!(set(&[with(&ed, &json!({ "key_ops": ["sign"] }))]).is_empty(), "of any type");
        assert!(!set(&[with(&good, &json!({ "use": "sig", "alg": "ES256", "ext": true }))]).is_empty());
    }

    #[test]
    fn sets_are_bounded() {
        for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert_eq!(Jwks::parse(bad.as_bytes()), Err(JwksError::Form), "{bad}");
        }
        assert_eq!(Jwks::from_keys(&json!(vec![7; MAX_KEYS])), Ok(Jwks(Vec::new())));
        assert_eq!(Jwks::from_keys(&json!(vec![7; MAX_KEYS + 1])), Err(JwksError::TooMany));
        let padded = |bytes: usize| format!("{}{{\"keys\":[]}}", " ".repeat(bytes - 11));
        assert!(Jwks::parse(padded(MAX_JWKS_BYTES).as_bytes()).is_ok_and(|set| set.is_empty()));
        assert_eq!(Jwks::parse(padded(MAX_JWKS_BYTES + 1).as_bytes()), Err(JwksError::TooLarge));
    }
}
