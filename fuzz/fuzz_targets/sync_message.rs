//! Sync messages; and, behind a correct checksum, the content of change and document chunks.
#![no_main]

use std::panic::{catch_unwind, set_hook, take_hook};

use bytes::Bytes;
use groundmist_sync::sync::message::SyncMessage;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

const MAX_INFLATED: u64 = 1 << 20;

fuzz_target!(
    init: {
        // Where automerge panics, the connection is refused and all else goes on; where we do, it is a bug.
        let abort = take_hook();
        set_hook(Box::new(move |panic| {
            if !panic.location().is_some_and(|place| place.file().contains("/automerge-")) {
                abort(panic);
            }
        }));
    },
    |data: &[u8]| {
        let message = match data.split_first() {
            Some((b'd', content)) => message_of(0, content),
            Some((b'c', content)) => message_of(1, content),
            _ => Bytes::copy_from_slice(data),
        };
        let Ok(Ok(read)) = catch_unwind(|| SyncMessage::decode(&message, MAX_INFLATED)) else { return };
        assert!(read.bytes() <= message.len() && read.have.len() <= 64);
    }
);

/// A message with one chunk.
fn message_of(kind: u8, content: &[u8]) -> Bytes {
    let body = [&[kind], &leb(content.len())[..], content].concat();
    let checksum = &Sha256::digest(&body)[..4];
    let chunk = [&[0x85, 0x6f, 0x4a, 0x83], checksum, &body].concat();
    [&[0x43, 0, 0, 0, 1], &leb(chunk.len())[..], &chunk].concat().into()
}

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
