//! Work that grows with documents, heads, changes or dependencies, for messages that do not.

use std::time::Duration;

use automerge::ChangeHash;
use bytes::Bytes;
use groundmist_sync::types::DocumentId;

use crate::common::peer::new_document;
use crate::foes::{Script, Slot, Step, Then, Writer};
use crate::forge::{self, Forged, Sync, unsigned};
use crate::row::{Attack, May, Scene};
use crate::stage::neighbour;

pub const ATTACKS: &[Attack] = &[
    Attack { name: "subscriptions", may: May::Read, sockets: [1, 100], script: subscriptions },
    Attack { name: "subscribers", may: May::Read, sockets: [1, 100], script: subscribers },
    Attack { name: "parked-chain", may: May::Write, sockets: [1, 100], script: parked_chain },
    Attack { name: "filters", may: May::Read, sockets: [1, 100], script: filters },
    Attack { name: "wide-filters", may: May::Read, sockets: [1, 100], script: wide_filters },
    Attack { name: "needs", may: May::Read, sockets: [1, 100], script: needs },
    Attack { name: "many-heads", may: May::Write, sockets: [1, 100], script: many_heads },
    Attack { name: "many-dependencies", may: May::Write, sockets: [1, 100], script: many_dependencies },
    Attack { name: "many-actors", may: May::Write, sockets: [1, 100], script: many_actors },
    Attack { name: "long-actors", may: May::Write, sockets: [1, 100], script: long_actors },
];

/// Opens so many documents that nobody has.
fn open(writer: &mut Writer, count: usize) {
    let claim: Bytes = Sync { heads: &[forge::hash_of(1)], ..Sync::default() }.encode().into();
    (0..count).for_each(|_| writer.sync(new_document(), &claim));
}

/// Subscribes to, or unsubscribes from, 25 storages.
fn subscribe(writer: &mut Writer, field: &str, first: usize) {
    writer.other("remote-subscription-change", 1, |e| {
        e.str(field).unwrap().array(25).unwrap();
        for n in first..first + 25 {
            e.str(&format!("storage-{n}")).unwrap();
        }
    });
}

/// Many open documents, then subscriptions that each concern all of them.
fn subscriptions(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    open(&mut writer, 20_000 / slot.of);
    writer.step(Step::Again);
    for field in ["add", "remove"] {
        (0..40).for_each(|n| subscribe(&mut writer, field, n * 25));
    }
    Script { steps: writer.steps(), then: Then::Again, ..Script::default() }
}

/// As many subscriptions as there may be, then documents that are each looked at for all of them.
fn subscribers(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    (0..40).for_each(|n| subscribe(&mut writer, "add", (slot.at * 40 + n) * 25));
    open(&mut writer, 20_000 / slot.of);
    Script { steps: writer.steps(), ..Script::default() }
}

/// A chain of changes without its beginning, then messages that have it walked.
fn parked_chain(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let document = neighbour();
    let chain = forge::chain(&[4; 16], Some(forge::hash_of(2)), 60_000 / slot.of as u64);
    let tip = [chain.last().unwrap().1];
    for part in chain.chunks(2000) {
        let chunks: Vec<Vec<u8>> = part.iter().map(|(bytes, _)| bytes.clone()).collect();
        writer.sync(document, &Sync { heads: &tip, chunks: &chunks, ..Sync::default() }.encode().into());
    }
    writer.step(Step::Again);
    let walk = Sync { heads: &tip, ..Sync::default() }.encode().into();
    (0..300).for_each(|_| writer.sync(document, &walk));
    Script { steps: writer.steps(), then: Then::Again, ..Script::default() }
}

/// A filter of so many bytes in which most single bits are set, but hardly any hash is found.
fn filter(bytes: usize) -> Vec<u8> {
    let entries = (bytes * 8).div_ceil(64) as u64;
    [unsigned(entries), unsigned(64), unsigned(32), vec![0x7f; bytes]].concat()
}

/// Messages with so many filters that each change is looked up in.
fn with_filters(scene: &Scene<'_>, slot: Slot, bytes: usize) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let have: Vec<(&[ChangeHash], Vec<u8>)> = vec![(&[], filter(bytes)); 64];
    let message = Sync { heads: &[forge::hash_of(3)], have, reset: true, ..Sync::default() }.encode().into();
    (0..50).for_each(|_| writer.sync(scene.stage.documents.long_tail, &message));
    Script { steps: writer.steps(), then: Then::Again, ..Script::default() }
}

fn filters(scene: &Scene<'_>, slot: Slot) -> Script {
    with_filters(scene, slot, 8)
}

fn wide_filters(scene: &Scene<'_>, slot: Slot) -> Script {
    with_filters(scene, slot, 64 * 1024)
}

/// Asks for every change by its hash, again and again.
fn needs(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let documents = &scene.stage.documents;
    let need = documents.hashes.repeat(6);
    let tip = &documents.hashes[documents.hashes.len() - 1..];
    writer.sync(documents.long_tail, &Sync { heads: tip, need: &need, ..Sync::default() }.encode().into());
    Script { steps: writer.steps(), then: Then::Again, deaf: true, ..Script::default() }
}

/// Changes that rest on nothing, each a head, in messages of a thousand.
fn write_heads(writer: &mut Writer, document: DocumentId, mark: u16, count: u32) -> Vec<ChangeHash> {
    let actor = |n: u32| [&mark.to_be_bytes()[..], &n.to_be_bytes()].concat();
    let all: Vec<_> = (0..count).map(|n| Forged::first(&actor(n)).plain()).collect();
    for part in all.chunks(1000) {
        let chunks: Vec<Vec<u8>> = part.iter().map(|(bytes, _)| bytes.clone()).collect();
        writer.sync(
            document,
            &Sync { heads: &[part[0].1], chunks: &chunks, ..Sync::default() }.encode().into(),
        );
    }
    all.into_iter().map(|(_, hash)| hash).collect()
}

/// A document that all share and that has tens of thousands of heads goes on being edited.
fn many_heads(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let document = scene.stage.documents.shared;
    write_heads(&mut writer, document, slot.at as u16, 15_000 / slot.of as u32);
    for n in 0..1000u16 {
        let actor = [&b"edit"[..], &(slot.at as u16).to_be_bytes(), &n.to_be_bytes()].concat();
        let (bytes, hash) = Forged::first(&actor).plain();
        writer.sync(document, &Sync { heads: &[hash], chunks: &[bytes], ..Sync::default() }.encode().into());
        writer.step(Step::Pause(Duration::from_millis(2 * slot.of as u64)));
    }
    Script { steps: writer.steps(), ..Script::default() }
}

/// Thousands of heads, then changes that each depend on thousands of others.
fn many_dependencies(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let document = neighbour();
    let deps = write_heads(&mut writer, document, 0, 4000);
    let heads = write_heads(&mut writer, document, 1, 4000);
    for n in 0..100u32 {
        let actor = [&b"many"[..], &n.to_be_bytes()].concat();
        let (bytes, _) = Forged { deps: &deps, start_op: 2, ..Forged::first(&actor) }.plain();
        writer.sync(
            document,
            &Sync { heads: &heads[..1], chunks: &[bytes], ..Sync::default() }.encode().into(),
        );
    }
    Script { steps: writer.steps(), ..Script::default() }
}

/// One change each of very many actors, each resting on the last.
fn many_actors(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let document = neighbour();
    let mut last: Option<ChangeHash> = None;
    let mut chunks = Vec::new();
    for n in 0..200_000 / slot.of as u32 {
        let (deps, actor) = (Vec::from_iter(last), [[6; 60].as_slice(), &n.to_be_bytes()].concat());
        let forged = Forged { deps: &deps, start_op: u64::from(n) + 1, ..Forged::first(&actor) };
        let (bytes, hash) = forged.plain();
        chunks.push(bytes);
        last = Some(hash);
        if chunks.len() == 1000 {
            let message = Sync { heads: &[hash], chunks: &std::mem::take(&mut chunks), ..Sync::default() };
            writer.sync(document, &message.encode().into());
        }
    }
    Script { steps: writer.steps(), ..Script::default() }
}

/// Actor ids of a megabyte.
fn long_actors(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let document = neighbour();
    for n in 0..200usize.div_ceil(slot.of) {
        let (bytes, hash) = Forged::first(&vec![n as u8; 1 << 20]).plain();
        writer.sync(document, &Sync { heads: &[hash], chunks: &[bytes], ..Sync::default() }.encode().into());
    }
    Script { steps: writer.steps(), ..Script::default() }
}
