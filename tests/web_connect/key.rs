//! Codes and refresh tokens that are bound to a key.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::{Said, Scene, by_code, refresh};

/// A key, and proofs by it.
struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn proof(&self, htu: &str, nonce: Option<&str>) -> String {
        let point = self.0.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": { "kty": "EC", "crv": "P-256", "x": x, "y": y } });
        let mut jti = [0; 16];
        getrandom::fill(&mut jti).unwrap();
        let iat = groundmist_sync::types::now() / 1000;
        let mut claims = json!({ "htm": "POST", "htu": htu, "iat": iat, "jti": URL_SAFE_NO_PAD.encode(jti) });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        let input = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[test]
fn a_key_binds_what_it_comes_with() {
    let scene = Scene::begin();
    let (key, other) = (Key::new(), Key::new());
    let htu = format!("{}/oauth/token", scene.origin);
    let with_proof = |form: &str, proof: &str| {
        let answer = scene.server.http_with_body("POST", "/oauth/token", &[("DPoP", proof)], form);
        let nonce = answer.lines().find_map(|line| line.strip_prefix("dpop-nonce: ")).unwrap().to_owned();
        (Said::read(&answer), nonce)
    };
    let form = by_code(&scene.code(), &[]);
    let (said, nonce) = with_proof(&form, &key.proof(&htu, None));
    assert_eq!(said.error(), (400, "use_dpop_nonce"));
    for (proof, what) in [
        (key.proof(&format!("{}/authenticate", scene.origin), Some(&nonce)), "another address"),
        (key.proof(&htu, Some(&nonce)).replace("ey", "ex"), "altered"),
        ("nonsense".to_owned(), "nonsense"),
    ] {
        assert_eq!(with_proof(&form, &proof).0.error(), (400, "invalid_dpop_proof"), "{what}");
    }
    let proof = key.proof(&htu, Some(&nonce));
    let (given, _) = with_proof(&form, &proof);
    assert_eq!(given.status, 200, "none of that used the code up: {}", given.body);
    assert!(scene.opens(&given.text("access_token")));
    let form = refresh(&given.text("refresh_token"));
    assert_eq!(with_proof(&form, &proof).0.error(), (400, "invalid_dpop_proof"), "used before");
    assert_eq!(scene.token(&form).error(), (400, "invalid_grant"), "without the key");
    assert_eq!(with_proof(&form, &other.proof(&htu, Some(&nonce))).0.error(), (400, "invalid_grant"));
    let (next, _) = with_proof(&form, &key.proof(&htu, Some(&nonce)));
    assert_eq!(next.status, 200, "{}", next.body);
    let twice = [("DPoP", "a.b.c"), ("DPoP", "a.b.c")];
    assert_eq!(scene.post("/oauth/token", &twice, &form).error(), (400, "invalid_dpop_proof"));
}
