//! Key sets, and tokens whose header names a key.
#![no_main]

use groundmist_sync::atproto::Jwks;
use groundmist_sync::atproto::jwt::Jwt;
use groundmist_sync_fuzz::{signed, token};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // A token's header in the first line, the set in the rest.
    let (header, set) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(0));
    let Ok(keys) = Jwks::parse(set) else { return };
    let lines = [header, b"\n{}\n"].concat();
    if let Ok(jwt) = Jwt::parse(&token(&lines)) {
        assert!(keys.verify(&jwt).is_err(), "nobody signed it");
    }
    if let Ok(jwt) = Jwt::parse(&signed(&lines)) {
        assert!(keys.verify(&jwt).is_err() || jwt.alg() == Some("ES256"));
    }
});
