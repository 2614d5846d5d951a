//! What a client can make the server remember: heads, gossip, documents that nobody has, storage ids.

use std::time::Duration;

use bytes::Bytes;

use crate::common::peer::new_document;
use crate::foes::{Script, Slot, Step, Then, Writer};
use crate::forge::{self, Forged, Sync};
use crate::row::{Attack, May, Scene};

/// Most heads that a message may name, about.
const HEADS: u32 = 99_000;

pub const ATTACKS: &[Attack] = &[
    Attack { name: "claimed-heads", may: May::Read, sockets: [1, 100], script: claimed_heads },
    Attack { name: "claimed-heads-writing", may: May::Write, sockets: [1, 100], script: claimed_heads },
    Attack { name: "gossip", may: May::Read, sockets: [1, 100], script: gossip },
    Attack { name: "unknown-documents", may: May::Read, sockets: [20, 100], script: unknown_documents },
    Attack { name: "parked-documents", may: May::Write, sockets: [1, 100], script: parked_documents },
    Attack { name: "parked-bytes", may: May::Write, sockets: [1, 100], script: parked_bytes },
    Attack { name: "requests", may: May::Write, sockets: [10, 100], script: requests },
    Attack { name: "storage-ids", may: May::Read, sockets: [1, 100], script: storage_ids },
    Attack { name: "last-sync", may: May::Read, sockets: [1, 100], script: last_sync },
];

/// So many heads for each of many documents that nobody has.
fn claimed_heads(scene: &Scene<'_>, slot: Slot) -> Script {
    static CLAIM: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
    let heads = || Sync { heads: &forge::unknown_hashes(HEADS), ..Sync::default() }.encode().into();
    let mut writer = Writer::new(slot, &scene.server);
    for _ in 0..200usize.div_ceil(slot.of) {
        writer.sync(new_document(), CLAIM.get_or_init(heads));
    }
    Script { steps: writer.steps(), ..Script::default() }
}

/// Heads of storages that nobody asked about: 256 with 1,000 short ones each, for many documents.
fn gossip(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let claim: Bytes = Sync { heads: &[forge::hash_of(1)], ..Sync::default() }.encode().into();
    for _ in 0..60usize.div_ceil(slot.of) {
        let document = new_document();
        writer.sync(document, &claim);
        writer.other("remote-heads-changed", 2, |e| {
            e.str("documentId").unwrap().str(&document.to_string()).unwrap();
            e.str("newHeads").unwrap().map(256).unwrap();
            for n in 0..256 {
                e.str(&format!("s{n}")).unwrap().map(2).unwrap().str("heads").unwrap().array(1000).unwrap();
                for _ in 0..1000 {
                    e.str("h").unwrap();
                }
                e.str("timestamp").unwrap().f64(1.7e12).unwrap();
            }
        });
    }
    Script { steps: writer.steps(), ..Script::default() }
}

/// As many documents that nobody has as a connection may have open.
fn unknown_documents(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let claim: Bytes = Sync { heads: &[forge::hash_of(1)], ..Sync::default() }.encode().into();
    for _ in 0..300_000 / slot.of {
        writer.sync(new_document(), &claim);
    }
    Script { steps: writer.steps(), ..Script::default() }
}

/// Documents with one change each whose dependency never comes.
fn parked_documents(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let orphan =
        Forged { deps: &[forge::hash_of(1)], seq: 2, start_op: 2, ..Forged::first(&[3; 16]) }.plain();
    let parked = Sync { heads: &[orphan.1], chunks: &[orphan.0], ..Sync::default() }.encode().into();
    for _ in 0..80_000usize.div_ceil(slot.of) {
        writer.sync(new_document(), &parked);
    }
    Script { steps: writer.steps(), ..Script::default() }
}

/// Large changes whose dependency never comes, in several documents.
fn parked_bytes(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    for n in 0..200usize.div_ceil(slot.of) {
        let actor = [slot.at as u8, n as u8, 3];
        let value = vec![n as u8; 1 << 20];
        let deps = [forge::hash_of(1)];
        let orphan =
            Forged { deps: &deps, seq: 2, start_op: 2, value: &value, ..Forged::first(&actor) }.plain();
        let parked = Sync { heads: &[orphan.1], chunks: &[orphan.0], ..Sync::default() }.encode().into();
        writer.sync(new_document(), &parked);
    }
    Script { steps: writer.steps(), ..Script::default() }
}

/// Requests for documents that nobody has; nobody answers when asked for the others'.
fn requests(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let empty: Bytes = Sync::default().encode().into();
    for _ in 0..1000 {
        writer.shared("request", new_document(), &empty);
    }
    // Longer than the time that a document has to turn up by itself.
    writer.step(Step::Pause(Duration::from_secs(2)));
    Script { steps: writer.steps(), ..Script::default() }
}

/// Joins with a storage id that nobody knows, says that it has one change, then 30,001, and leaves.
fn storage_ids(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let documents = &scene.stage.documents;
    for heads in [&documents.hashes[..1], &forge::unknown_hashes(30_001)] {
        writer.sync(documents.long_tail, &Sync { heads, ..Sync::default() }.encode().into());
    }
    // Not before the server has read it all.
    writer.step(Step::Pause(Duration::from_millis(20)));
    Script { steps: writer.steps(), then: Then::Leave, storage: true, ..Script::default() }
}

/// Ten times as many hashes as both are said to have.
fn last_sync(scene: &Scene<'_>, slot: Slot) -> Script {
    static CLAIM: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
    let claim = || {
        let (hashes, heads) = (forge::unknown_hashes(HEADS), [forge::hash_of(1)]);
        let have = vec![(&hashes[..], Vec::new()); 10];
        Sync { heads: &heads, have, reset: true, ..Sync::default() }.encode().into()
    };
    let mut writer = Writer::new(slot, &scene.server);
    writer.sync(scene.stage.documents.long_tail, CLAIM.get_or_init(claim));
    Script { steps: writer.steps(), then: Then::Again, ..Script::default() }
}
