//! Public keys of the two curves of atproto (cryptography spec), in every spelling that occurs.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256K1_SHA256_FIXED, EcdsaVerificationAlgorithm, ParsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::types::fingerprint;

/// Bytes of a coordinate, and of a signature's halves.
const FIELD_BYTES: usize = 32;
/// Bytes of a point as `04 x y` (SEC 1, 2.3.3).
const UNCOMPRESSED_BYTES: usize = 1 + 2 * FIELD_BYTES;
/// Bytes of a point as `02 x` or `03 x`.
const COMPRESSED_BYTES: usize = 1 + FIELD_BYTES;
/// Longest multibase text that is decoded, in bytes: an uncompressed point has about 90.
const MAX_MULTIBASE_BYTES: usize = 128;

/// Why a key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not `z` and base58btc.
    #[error("the key is not multibase text in base58btc (z…)")]
    Multibase,
    /// A multikey of another kind.
    #[error("the key is neither P-256 nor secp256k1, the curves of atproto")]
    Curve,
    /// A wrong length, or not a point of the curve.
    #[error("the key is not a point of its curve")]
    Point,
    /// A JWK lacks a member, or has one of the wrong form.
    #[error("the JWK's member {0:?} is missing or not of its form")]
    Jwk(&'static str),
    /// A JWK that says of itself that it is for something else than signatures.
    #[error("the JWK's \"use\" or \"key_ops\" says that it is not for verifying signatures")]
    Use,
    /// A JWK with a private or symmetric part: whoever sends it lost it.
    #[error("the JWK holds a secret: it must be a public key")]
    Secret,
}

/// The signature is not by this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not by this key")]
pub struct BadSignature;

/// A curve of atproto; each has exactly one JWS algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// secp256r1.
    P256,
    /// secp256k1.
    K256,
}

impl Curve {
    /// The JWS `alg` of its signatures (RFC 7518, RFC 8812).
    pub fn alg(self) -> &'static str {
        match self {
            Self::P256 => "ES256",
            Self::K256 => "ES256K",
        }
    }

    /// The JWK `crv`.
    pub fn crv(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::K256 => "secp256k1",
        }
    }

    fn verification(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::K256 => &ECDSA_P256K1_SHA256_FIXED,
        }
    }
}

/// A point that has been checked to lie on its curve.
#[derive(Clone)]
pub struct PublicKey {
    curve: Curve,
    /// `04 x y`.
    point: [u8; UNCOMPRESSED_BYTES],
    parsed: Arc<ParsedPublicKey>,
}

impl PublicKey {
    /// From a point as SEC 1 writes it, compressed or not.
    ///
    /// # Errors
    /// [`KeyError::Point`].
    pub fn from_point(curve: Curve, bytes: &[u8]) -> Result<Self, KeyError> {
        // The library also reads other encodings; here a point is a point.
        match (bytes.first(), bytes.len()) {
            (Some(2 | 3), COMPRESSED_BYTES) | (Some(4), UNCOMPRESSED_BYTES) => {}
            _ => return Err(KeyError::Point),
        }
        let parsed = ParsedPublicKey::new(curve.verification(), bytes).map_err(|_| KeyError::Point)?;
        let point = match <[u8; UNCOMPRESSED_BYTES]>::try_from(bytes) {
            Ok(point) => point,
            Err(_) => decompressed(&parsed).ok_or(KeyError::Point)?,
        };
        Ok(Self { curve, point, parsed: Arc::new(parsed) })
    }

    /// From a `publicKeyMultibase` of type `Multikey`: a multicodec prefix says the curve.
    ///
    /// # Errors
    /// It is none, of another kind of key, or no point.
    pub fn from_multikey(text: &str) -> Result<Self, KeyError> {
        let bytes = multibase(text)?;
        match bytes.as_slice() {
            // The prefixes p256-pub (0x1200) and secp256k1-pub (0xe7) of the multicodec table, as varints.
            [0x80, 0x24, point @ ..] => Self::from_point(Curve::P256, point),
            [0xe7, 0x01, point @ ..] => Self::from_point(Curve::K256, point),
            _ => Err(KeyError::Curve),
        }
    }

    /// From a `publicKeyMultibase` of the legacy types, which is the bare point; the type says the curve.
    ///
    /// # Errors
    /// It is no multibase text or no point.
    pub fn from_legacy_multibase(curve: Curve, text: &str) -> Result<Self, KeyError> {
        Self::from_point(curve, &multibase(text)?)
    }

    /// From a JWK (RFC 7517); `kid`, `alg` and unknown members are not looked at.
    ///
    /// # Errors
    /// It is not a public elliptic-curve key of a curve known here, not exactly of its form, or not for verifying.
    pub fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, KeyError> {
        if ["d", "k", "p", "q", "oth"].iter().any(|secret| jwk.contains_key(*secret)) {
            return Err(KeyError::Secret);
        }
        let member = |name: &'static str| jwk.get(name).and_then(Value::as_str).ok_or(KeyError::Jwk(name));
        if member("kty")? != "EC" {
            return Err(KeyError::Jwk("kty"));
        }
        if !is_for_verifying(jwk) {
            return Err(KeyError::Use);
        }
        let curve = match member("crv")? {
            "P-256" => Curve::P256,
            "secp256k1" => Curve::K256,
            _ => return Err(KeyError::Curve),
        };
        let mut point = vec![4];
        for name in ["x", "y"] {
            let coordinate = URL_SAFE_NO_PAD.decode(member(name)?).map_err(|_| KeyError::Jwk(name))?;
            if coordinate.len() != FIELD_BYTES {
                return Err(KeyError::Jwk(name));
            }
            point.extend(coordinate);
        }
        Self::from_point(curve, &point)
    }

    /// Its curve.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// The members that RFC 7517 requires, and no others.
    pub fn to_jwk(&self) -> Value {
        let [x, y] = self.coordinates();
        json!({ "crv": self.curve.crv(), "kty": "EC", "x": x, "y": y })
    }

    /// The SHA-256 thumbprint (RFC 7638), in base64url: what `cnf.jkt` holds.
    pub fn thumbprint(&self) -> String {
        let [x, y] = self.coordinates();
        let canonical = format!(r#"{{"crv":"{}","kty":"EC","x":"{x}","y":"{y}"}}"#, self.curve.crv());
        fingerprint(&canonical)
    }

    /// Verifies a JWS signature (`r s`, 64 bytes) over SHA-256 of `message`. High-S signatures pass: half of all
    /// ES256K proofs from browsers and node are such, and nothing here takes a signature for an identifier.
    ///
    /// # Errors
    /// It is not this key's.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        self.parsed.verify_sig(message, signature).map_err(|_| BadSignature)
    }

    fn coordinates(&self) -> [String; 2] {
        let (x, y) = self.point[1..].split_at(FIELD_BYTES);
        [URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y)]
    }
}

/// Whether a JWK leaves itself open to verifying signatures: `use` (RFC 7517, 4.2) is `sig`, and `key_ops` (4.3) lists `verify`,
/// each operation once. Both are optional, and what is not of its form says no.
pub(super) fn is_for_verifying(jwk: &Map<String, Value>) -> bool {
    let listed_once = |ops: &[Value]| {
        ops.iter().enumerate().all(|(n, op)| op.is_string() && !ops[..n].contains(op))
            && ops.iter().any(|op| op == "verify")
    };
    jwk.get("use").is_none_or(|usage| usage == "sig")
        && jwk.get("key_ops").is_none_or(|ops| ops.as_array().is_some_and(|ops| listed_once(ops)))
}

/// `04 x y` of a compressed point: a SubjectPublicKeyInfo ends in it (RFC 5480).
fn decompressed(parsed: &ParsedPublicKey) -> Option<[u8; UNCOMPRESSED_BYTES]> {
    let info = parsed.as_der().ok()?;
    info.as_ref().last_chunk().copied().filter(|point: &[u8; UNCOMPRESSED_BYTES]| point[0] == 4)
}

fn multibase(text: &str) -> Result<Vec<u8>, KeyError> {
    if text.len() > MAX_MULTIBASE_BYTES {
        return Err(KeyError::Multibase);
    }
    let digits = text.strip_prefix('z').ok_or(KeyError::Multibase)?;
    bs58::decode(digits).into_vec().map_err(|_| KeyError::Multibase)
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.curve == other.curve && self.point == other.point
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.curve.crv(), self.thumbprint())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{CURVES, TestKey, multibase, with};
    use super::*;

    fn jwk(value: &Value) -> Result<PublicKey, KeyError> {
        PublicKey::from_jwk(value.as_object().unwrap())
    }

    #[test]
    fn every_spelling_is_the_same_key_and_verifies() {
        for curve in CURVES {
            for _ in 0..8 {
                let signer = TestKey::new(curve);
                let other = TestKey::new(curve).public();
                let keys = [
                    PublicKey::from_point(curve, signer.uncompressed()).unwrap(),
                    PublicKey::from_point(curve, &signer.compressed()).unwrap(),
                    PublicKey::from_multikey(&signer.multikey()).unwrap(),
                    PublicKey::from_legacy_multibase(curve, &multibase(signer.uncompressed())).unwrap(),
                    PublicKey::from_legacy_multibase(curve, &multibase(&signer.compressed())).unwrap(),
                    jwk(&signer.public().to_jwk()).unwrap(),
                ];
                let message = b"a message";
                let mut altered = signer.sign(message);
                altered[40] ^= 1;
                for key in &keys {
                    assert_eq!((key, key.thumbprint()), (&keys[0], keys[0].thumbprint()));
                    for signature in signer.sign_both(message) {
                        assert_eq!(key.verify(message, &signature), Ok(()));
                        assert_eq!(key.verify(b"another", &signature), Err(BadSignature));
                        assert_eq!(other.verify(message, &signature), Err(BadSignature));
                        assert_eq!(key.verify(message, &signature[..63]), Err(BadSignature));
                    }
                    for bad in [&altered[..], &[0; 64], &[0xff; 64], &[]] {
                        assert_eq!(key.verify(message, bad), Err(BadSignature));
                    }
                }
            }
        }
    }

    /// Keys, message and signatures of atproto's interoperability tests, low-S and high-S.
    #[test]
    fn others_signatures_verify() {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let message = decode("oWVoZWxsb2V3b3JsZA");
        for (curve, did_key, legacy, r, low_s, high_s) in [
            (
                Curve::P256,
                "zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo",
                "zxdM8dSstjrpZaRUwBmDvjGXweKuEMVN95A9oJBFjkWMh",
                "2vZNsG3UKvvO_CDlrdvyZRISOFylinBh0Jupc6KcWo",
                "JWExHptCfduPleDbG3rko3YZnn9Lw0IjpixVmexJDegg",
                "Kp7O4VS9giSAah8k5IUbXIW00SuOrjfEqQ9HEkN9JGzw",
            ),
            (
                Curve::K256,
                "zQ3shqwJEJyMBsBXCWyCBpUBMqxcon9oHB7mCvx4sSpMdLJwc",
                "z25z9DTpsiYYJKGsWmSPJK2NFN8PcJtZig12K59UgW7q5t",
                "5WpdIuEUUfVUYaozsi8G0B3cWO09cgZbIIwg1t2YKd",
                "Un_FEznOndsz_qgiYb89zwxYCbB71f7yQK5Lr7NasfoA",
                "XYA67MYxYiTMAVfdnkDCMN9S5B3vHosRe07aORmoshoQ",
            ),
        ] {
            let key = PublicKey::from_multikey(did_key).unwrap();
            assert_eq!(PublicKey::from_legacy_multibase(curve, legacy), Ok(key.clone()));
            for s in [low_s, high_s] {
                assert_eq!(key.verify(&message, &decode(&format!("{r}{s}"))), Ok(()), "{curve:?}");
            }
        }
    }

    /// The key of RFC 9449 and its `jkt`.
    #[test]
    fn thumbprints_are_those_of_the_rfc() {
        let key = jwk(&json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "kid": "any", "unknown": [1],
            "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
            "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
        }));
        assert_eq!(key.unwrap().thumbprint(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    }

    #[test]
    fn a_jwk_is_public_and_exactly_of_its_form() {
        let good = TestKey::new(Curve::P256).public().to_jwk();
        let (x, y) = (good["x"].as_str().unwrap(), good["y"].as_str().unwrap());
        let point = |name| Err(KeyError::Jwk(name));
        for (changes, refused) in [
            (json!({ "d": x }), Err(KeyError::Secret)),
            (json!({ "kty": "oct", "k": x }), Err(KeyError::Secret)),
            (json!({ "kty": "RSA" }), point("kty")),
            (json!({ "kty": "ec" }), point("kty")),
            (json!({ "kty": null }), point("kty")),
            (json!({ "crv": "P-384" }), Err(KeyError::Curve)),
            (json!({ "crv": "secp256k1" }), Err(KeyError::Point)),
            (json!({ "crv": null }), point("crv")),
            (json!({ "x": null }), point("x")),
            (json!({ "x": 7 }), point("x")),
            (json!({ "x": format!("{x}=") }), point("x")),
            (json!({ "x": &x[..42] }), point("x")),
            (json!({ "y": format!("AAAA{y}") }), point("y")),
            (json!({ "y": x }), Err(KeyError::Point)),
            (json!({ "use": "enc" }), Err(KeyError::Use)),
            (json!({ "use": ["sig"] }), Err(KeyError::Use)),
            (json!({ "key_ops": ["sign"] }), Err(KeyError::Use)),
            (json!({ "key_ops": [] }), Err(KeyError::Use)),
            (json!({ "key_ops": "verify" }), Err(KeyError::Use)),
            (json!({ "key_ops": ["verify", 7] }), Err(KeyError::Use)),
            (json!({ "key_ops": ["verify", "verify"] }), Err(KeyError::Use)),
            (json!({ "x": "A".repeat(43), "y": "A".repeat(43) }), Err(KeyError::Point)),
        ] {
            assert_eq!(jwk(&with(&good, &changes)), refused, "{changes}");
        }
    }

    #[test]
    fn points_and_multikeys_of_other_forms_are_refused() {
        let key = TestKey::new(Curve::K256);
        let (long, short) = (key.uncompressed(), key.compressed());
        let der = key.public().parsed.as_der().unwrap();
        let hybrid = [&[6 + (long[64] & 1)], &long[1..]].concat();
        let off_curve = [&long[..64], &[long[64] ^ 1]].concat();
        for bad in
            [&[][..], &[0], &[0; 33], &[4; 65], &long[1..], &short[1..], der.as_ref(), &hybrid, &off_curve]
        {
            assert_eq!(PublicKey::from_point(Curve::K256, bad), Err(KeyError::Point), "{bad:?}");
        }
        let ed25519 = multibase(&[&[0xed, 0x01], &short[1..]].concat());
        for (bad, refused) in [
            ("", KeyError::Multibase),
            ("z", KeyError::Curve),
            ("z0OIl", KeyError::Multibase),
            (&key.multikey()[1..], KeyError::Multibase),
            (&format!("z{}", "1".repeat(MAX_MULTIBASE_BYTES)), KeyError::Multibase),
            (&multibase(&short), KeyError::Curve),
            (&multibase(&[&[0x80, 0x24], &[2; 33][..]].concat()[..34]), KeyError::Point),
            (&ed25519, KeyError::Curve),
        ] {
            assert_eq!(PublicKey::from_multikey(bad), Err(refused), "{bad:?}");
        }
    }
}
