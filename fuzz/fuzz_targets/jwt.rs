//! Tokens of every kind, read before any signature is checked.
#![no_main]

use groundmist_sync::atproto::jwt::{Jwt, MAX_JTI_BYTES};
use groundmist_sync::atproto::{AccessToken, attestation, service_auth};
use groundmist_sync_fuzz::{b64, token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        read(text);
    }
    read(&token(data));
});

fn read(text: &str) {
    let Ok(jwt) = Jwt::parse(text) else {
        assert!(AccessToken::read(text).is_err());
        return;
    };
    assert_eq!(format!("{}.{}", jwt.signing_input(), b64(jwt.signature())), text, "one spelling only");
    let _ = (jwt.expect_type("JWT"), jwt.expect_current(1_800_000_000, Some(3_600)));
    if let Ok(jti) = jwt.id("jti", MAX_JTI_BYTES) {
        assert!((1..=MAX_JTI_BYTES).contains(&jti.len()) && jti.is_ascii());
    }
    let _ = (service_auth::claimed_issuer(text), attestation::claimed_client(text));
    if let Ok(access) = AccessToken::read(text) {
        for copy in [access.with_altered_signature(), access.with_altered_payload()] {
            assert_ne!(copy, text);
            let copy = AccessToken::read(&copy).expect("an altered copy is as well-formed");
            assert_eq!((copy.sub(), copy.client_id()), (access.sub(), access.client_id()));
        }
    }
}
