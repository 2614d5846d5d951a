//! Keys that sign as accounts and apps do, and the tokens made with them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsBigEndian as _, EcPublicKeyCompressedBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P256K1_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// A curve of atproto.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// secp256k1, whose signatures are ES256K: what a PDS gives its accounts.
    K256,
    /// secp256r1, whose signatures are ES256: what browsers have.
    P256,
}

/// A private key.
pub struct Key {
    curve: Curve,
    pair: EcdsaKeyPair,
}

impl Key {
    /// A new one.
    pub fn new(curve: Curve) -> Result<Self> {
        let algorithm = match curve {
            Curve::K256 => &ECDSA_P256K1_SHA256_FIXED_SIGNING,
            Curve::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
        };
        Ok(Self { curve, pair: EcdsaKeyPair::generate(algorithm).context("make a key")? })
    }

    fn alg(&self) -> &'static str {
        match self.curve {
            Curve::K256 => "ES256K",
            Curve::P256 => "ES256",
        }
    }

    /// Its public part as a JWK, members in the order that a thumbprint wants (RFC 7638).
    pub fn jwk(&self) -> Value {
        let crv = match self.curve {
            Curve::K256 => "secp256k1",
            Curve::P256 => "P-256",
        };
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({ "crv": crv, "kty": "EC", "x": base64url(x), "y": base64url(y) })
    }

    /// Its public part as DID documents have it.
    pub fn multikey(&self) -> Result<String> {
        let prefix: &[u8] = match self.curve {
            Curve::K256 => &[0xe7, 0x01],
            Curve::P256 => &[0x80, 0x24],
        };
        let point: EcPublicKeyCompressedBin<'_> = self.pair.public_key().as_be_bytes()?;
        Ok(format!("z{}", bs58::encode([prefix, point.as_ref()].concat()).into_string()))
    }

    /// The thumbprint of its public part.
    pub fn thumbprint(&self) -> String {
        hash(&self.jwk().to_string())
    }

    /// A JWT; `alg` is put into the header.
    pub fn sign(&self, mut header: Value, claims: &Value) -> Result<String> {
        header["alg"] = self.alg().into();
        let input = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).context("sign a token")?;
        Ok(format!("{input}.{}", base64url(signature.as_ref())))
    }
}

/// The SHA-256 in base64url.
pub fn hash(text: &str) -> String {
    base64url(digest(&SHA256, text.as_bytes()))
}

/// Base64url without padding.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A `jti` that no other token has, as long as those of a PDS.
pub fn jti() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    hash(&format!("{} {}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256K1_SHA256_FIXED, UnparsedPublicKey, VerificationAlgorithm,
    };

    use super::*;

    #[test]
    fn tokens_verify() {
        let algorithms: [(_, &dyn VerificationAlgorithm); 2] =
            [(Curve::K256, &ECDSA_P256K1_SHA256_FIXED), (Curve::P256, &ECDSA_P256_SHA256_FIXED)];
        for (curve, algorithm) in algorithms {
            let key = Key::new(curve).unwrap();
            let token = key.sign(json!({ "typ": "JWT" }), &json!({ "jti": jti() })).unwrap();
            let (input, signature) = token.rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let public = UnparsedPublicKey::new(algorithm, key.pair.public_key());
            assert!(public.verify(input.as_bytes(), &signature).is_ok());
            assert!(public.verify(b"other", &signature).is_err());
        }
        assert_ne!(jti(), jti());
    }
}
