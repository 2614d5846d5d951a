//! Little that claims to be much: run lengths, deflated data, document chunks.

use bytes::Bytes;

use crate::foes::{Script, Slot, Step, Then, Writer};
use crate::forge::{self, Forged, Sync};
use crate::row::{Attack, May, Scene};
use crate::stage::neighbour;

const INFLATED: usize = 120 << 20;

pub const ATTACKS: &[Attack] = &[
    Attack { name: "run-lengths", may: May::Read, sockets: [1, 100], script: run_lengths },
    Attack { name: "inflation", may: May::Read, sockets: [1, 100], script: inflation },
    Attack { name: "document-inflation", may: May::Read, sockets: [1, 100], script: document_inflation },
    Attack { name: "document-operations", may: May::Write, sockets: [1, 100], script: document_operations },
    Attack { name: "many-small-documents", may: May::Write, sockets: [1, 100], script: many_small_documents },
    Attack { name: "compaction", may: May::Write, sockets: [1, 0], script: compaction },
];

/// The message again and again.
fn over_and_over(scene: &Scene<'_>, slot: Slot, message: &Bytes) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    writer.sync(neighbour(), message);
    Script { steps: writer.steps(), then: Then::Again, ..Script::default() }
}

fn in_a_message(chunks: &[Vec<u8>]) -> Bytes {
    Sync { chunks, ..Sync::default() }.encode().into()
}

/// Changes of 69 bytes that claim 16,777,216 operations each.
fn run_lengths(scene: &Scene<'_>, slot: Slot) -> Script {
    let bomb = |n: u8| Forged { operations: 16 << 20, ..Forged::first(&[n; 4]) }.plain().0;
    over_and_over(scene, slot, &in_a_message(&[1, 2, 3, 4].map(bomb)))
}

/// Changes that inflate to 120 MiB each.
fn inflation(scene: &Scene<'_>, slot: Slot) -> Script {
    static BOMB: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
    let bomb = || Forged { value: &vec![0; INFLATED], ..Forged::first(&[1; 16]) }.deflated();
    let message = BOMB.get_or_init(|| in_a_message(&vec![bomb(); 3]));
    over_and_over(scene, slot, message)
}

/// Document chunks with a column that inflates to 120 MiB.
fn document_inflation(scene: &Scene<'_>, slot: Slot) -> Script {
    static BOMB: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
    let message = BOMB.get_or_init(|| in_a_message(&vec![forge::inflating_document(INFLATED); 3]));
    over_and_over(scene, slot, message)
}

/// Document chunks of 100 bytes that claim millions of operations.
fn document_operations(scene: &Scene<'_>, slot: Slot) -> Script {
    over_and_over(scene, slot, &in_a_message(&[forge::document_bomb(4 << 20)]))
}

/// Document chunks by the ten thousand, each to be opened.
fn many_small_documents(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut document = automerge::AutoCommit::new();
    automerge::transaction::Transactable::put(&mut document, automerge::ROOT, "k", 1).unwrap();
    over_and_over(scene, slot, &in_a_message(&vec![document.save(); 10_000]))
}

/// A change of a million operations, then enough small ones for a compaction, which opens them all.
fn compaction(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let document = neighbour();
    let actor = [9; 16];
    let (bomb, root) = Forged { operations: 1 << 20, ..Forged::first(&[8; 16]) }.plain();
    let mut changes = vec![bomb];
    let mut last = root;
    for n in 0..17_000 {
        let start_op = (1 << 20) + 1 + n;
        let (bytes, hash) = Forged { deps: &[last], seq: n + 1, start_op, ..Forged::first(&actor) }.plain();
        changes.push(bytes);
        last = hash;
    }
    for chunks in changes.chunks(1000) {
        writer.sync(document, &in_a_message(chunks));
    }
    writer.step(Step::Pause(std::time::Duration::from_secs(2)));
    Script { steps: writer.steps(), ..Script::default() }
}
