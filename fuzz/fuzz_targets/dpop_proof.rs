//! DPoP proofs: what nobody signed never passes, what somebody signed passes only if it is for this request.
#![no_main]

use groundmist_sync::atproto::dpop::{Expected, PROOF_WINDOW, Proof, token_hash, verify};
use groundmist_sync::atproto::jwt::Jwt;
use groundmist_sync_fuzz::{signed, token};
use libfuzzer_sys::fuzz_target;
use url::Url;

const NOW: u64 = 1_800_000_000;

fuzz_target!(|data: &[u8]| {
    assert!(check(&token(data)).is_none());
    let proof = signed(data);
    let Some(checked) = check(&proof) else { return };
    let jwt = Jwt::parse(&proof).unwrap();
    let claims = jwt.claims();
    assert!(claims["htm"] == "POST" && claims["ath"] == token_hash("a.b.c").as_str());
    assert!(claims["htu"].as_str().unwrap().to_lowercase().contains("sync.example"));
    assert!(checked.iat.abs_diff(NOW) <= PROOF_WINDOW && checked.over_at() > NOW);
    assert!(!checked.jti.is_empty() && jwt.alg() == Some("ES256"));
    assert_eq!(checked.jkt, "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U", "that of the key which signed");
});

fn check(proof: &str) -> Option<Proof> {
    let url = Url::parse("https://sync.example/authenticate").unwrap();
    verify(proof, &Expected { method: "POST", url: &url, access_token: Some("a.b.c"), now: NOW }).ok()
}
