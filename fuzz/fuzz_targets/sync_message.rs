//! Sync messages; and, behind a correct checksum, the content of change and document chunks.
#![no_main]

use std::panic::{catch_unwind, set_hook, take_hook};

use bytes::Bytes;
use groundmist_sync::sync::message::{Priced, SyncMessage};
use groundmist_sync::sync::price::Limits;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

/// The price limits of the server divided by 64, for instrumented code is slow: what is within them must be decoded in the
/// second and the memory that `fuzz/run` allows.
const LIMITS: Limits = Limits {
    operations: 1 << 17,
    inflated_bytes: 1 << 19,
    changes: 1 << 11,
    hashes: 1 << 8,
    bloom_bytes: 1 << 16,
};

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
        let skimmed = SyncMessage::without_changes(&message, &LIMITS);
        let Ok(Ok(priced)) = catch_unwind(|| Priced::new(&message, &LIMITS, data.len() as u64 % 1024)) else { return };
        let price = *priced.price();
        assert!(price.operations <= LIMITS.operations && price.inflated_bytes <= LIMITS.inflated_bytes);
        assert!(price.memory() <= 4 * LIMITS.inflated_bytes + (64 << 18) + 400 * price.changes + 4 * message.len() as u64);
        let skimmed = skimmed.expect("what has a price is framed");
        let Ok(Ok(read)) = catch_unwind(|| priced.decode()) else { return };
        assert!(read.bytes() <= message.len() && read.have.len() <= 8);
        assert_eq!((read.heads, read.need, read.flags), (skimmed.heads, skimmed.need, skimmed.flags));
        // An operation takes its counter, and no more were counted than are there.
        for change in read.changes {
            assert!(change.max_op + 1 - change.start_op <= price.operations);
        }
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
