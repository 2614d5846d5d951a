//! What several targets need: tokens made of readable parts, and a key that signs them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A compact JWS of up to three lines (header, payload, signature), so that mutations reach the JSON inside.
pub fn token(lines: &[u8]) -> String {
    let mut parts: Vec<String> = lines.splitn(3, |byte| *byte == b'\n').map(b64).collect();
    parts.resize(3, String::new());
    parts.join(".")
}

/// The same of the first two lines, signed by [`key`].
pub fn signed(lines: &[u8]) -> String {
    let token = token(lines);
    let input = token.rsplit_once('.').map(|(input, _)| input).unwrap_or_default();
    let signature = key().sign(&SystemRandom::new(), input.as_bytes()).unwrap();
    format!("{input}.{}", b64(signature.as_ref()))
}

/// Base64url without padding.
pub fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key of RFC 7515, appendix A.3: anyone may sign with it.
fn key() -> EcdsaKeyPair {
    let decode = |text| URL_SAFE_NO_PAD.decode(text).unwrap();
    let x = decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
    let y = decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    let d = decode("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI");
    let public = [&[4][..], &x, &y].concat();
    EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &d, &public).unwrap()
}
