//! The first WebSocket message.
#![no_main]

use groundmist_sync::types::MAX_ID_BYTES;
use groundmist_sync::web::handshake::decode_join;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match decode_join(data) {
        Ok(join) => assert!(join.peer.as_str().len() <= MAX_ID_BYTES),
        Err((why, _)) => assert!(!why.is_empty() && why.len() < 1_000),
    }
});
