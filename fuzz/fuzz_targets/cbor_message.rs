//! WebSocket messages after the handshake.
#![no_main]

use bytes::Bytes;
use groundmist_sync::sync::wire::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(read) = decode(&Bytes::copy_from_slice(data)) else { return };
    let written = encode(&read.sender, read.target.as_deref().unwrap_or("us"), &read.body);
    let again = decode(&written).expect("what we write can be read");
    // As text, for a timestamp may be NaN.
    assert_eq!(format!("{:?}", again.body), format!("{:?}", read.body));
});
