//! For tests: keys that sign, and tokens made of parts.

use aws_lc_rs::encoding::{AsBigEndian as _, EcPublicKeyCompressedBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P256K1_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::key::{Curve, PublicKey};

/// Both, for tests that hold for either.
pub(super) const CURVES: [Curve; 2] = [Curve::P256, Curve::K256];

/// The order of the curve's group: SEC 2, 2.4.
fn order(curve: Curve) -> [u8; 32] {
    let hex = match curve {
        Curve::P256 => "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        Curve::K256 => "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
    };
    std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
}

/// A private key.
pub(super) struct TestKey {
    pub(super) curve: Curve,
    pair: EcdsaKeyPair,
}

impl TestKey {
    pub(super) fn new(curve: Curve) -> Self {
        let algorithm = match curve {
            Curve::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Curve::K256 => &ECDSA_P256K1_SHA256_FIXED_SIGNING,
        };
        Self { curve, pair: EcdsaKeyPair::generate(algorithm).unwrap() }
    }

    /// `04 x y`.
    pub(super) fn uncompressed(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// `02 x` or `03 x`.
    pub(super) fn compressed(&self) -> Vec<u8> {
        let point: EcPublicKeyCompressedBin<'_> = self.pair.public_key().as_be_bytes().unwrap();
        point.as_ref().to_vec()
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey::from_point(self.curve, self.uncompressed()).unwrap()
    }

    pub(super) fn jwk(&self) -> Map<String, Value> {
        self.public().to_jwk().as_object().unwrap().clone()
    }

    pub(super) fn multikey(&self) -> String {
        let prefix: &[u8] = match self.curve {
            Curve::P256 => &[0x80, 0x24],
            Curve::K256 => &[0xe7, 0x01],
        };
        multibase(&[prefix, &self.compressed()].concat())
    }

    /// As the random nonce gives it: low-S or high-S.
    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().try_into().unwrap()
    }

    /// Low-S and high-S: `s` and the group's order less `s`.
    pub(super) fn sign_both(&self, message: &[u8]) -> [[u8; 64]; 2] {
        let one = self.sign(message);
        let (mut other, mut borrow) = (one, 0);
        for (i, n) in order(self.curve).into_iter().enumerate().rev() {
            let difference = i16::from(n) - i16::from(one[32 + i]) - borrow;
            borrow = i16::from(difference < 0);
            other[32 + i] = u8::try_from(difference.rem_euclid(256)).unwrap();
        }
        if one[32..] < other[32..] { [one, other] } else { [other, one] }
    }

    /// A compact JWS of these parts, whatever they say.
    pub(super) fn jws(&self, header: &Value, claims: &Value) -> String {
        let input = signing_input(header, claims);
        let signature = self.sign(input.as_bytes());
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Multibase in base58btc.
pub(super) fn multibase(bytes: &[u8]) -> String {
    format!("z{}", bs58::encode(bytes).into_string())
}

/// Header and claims in base64url, with the dot between.
pub(super) fn signing_input(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// A copy with members put in or, where `null`, taken out.
pub(super) fn with(object: &Value, changes: &Value) -> Value {
    let mut all = object.clone();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            all.as_object_mut().unwrap().remove(name);
        } else {
            all[name] = value.clone();
        }
    }
    all
}
