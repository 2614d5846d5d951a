//! Honest messages, far too many of them, and readers that do not read.

use bytes::Bytes;

use crate::client::frame;
use crate::common::peer::new_document;
use crate::common::websocket::PING;
use crate::foes::{Script, Slot, Then, Writer};
use crate::forge::{self, Forged, Sync};
use crate::row::{Attack, May, Scene};
use crate::victims::DEVICE;

pub const ATTACKS: &[Attack] = &[
    Attack { name: "ephemeral", may: May::Read, sockets: [2, 100], script: ephemeral },
    Attack { name: "ephemeral-sessions", may: May::Read, sockets: [1, 100], script: ephemeral_sessions },
    Attack { name: "presence-of-another", may: May::Read, sockets: [1, 100], script: presence_of_another },
    Attack { name: "tiny-messages", may: May::Read, sockets: [1, 100], script: tiny_messages },
    Attack { name: "pings", may: May::Read, sockets: [1, 100], script: pings },
    Attack { name: "unavailable", may: May::Write, sockets: [1, 100], script: unavailable },
    Attack { name: "deaf-readers", may: May::Read, sockets: [20, 100], script: deaf_readers },
    Attack { name: "deaf-to-a-writer", may: May::Write, sockets: [20, 100], script: deaf_to_a_writer },
    Attack { name: "extraction", may: May::Read, sockets: [1, 100], script: extraction },
    Attack { name: "new-documents", may: May::Write, sockets: [1, 100], script: new_documents },
];

fn say(writer: &mut Writer, document: &str, sender: &str, session: &str, count: u64, data: &[u8]) {
    let server = writer.server().to_owned();
    let mut e = minicbor::Encoder::new(Vec::new());
    e.map(7)
        .unwrap()
        .str("type")
        .unwrap()
        .str("ephemeral")
        .unwrap()
        .str("senderId")
        .unwrap()
        .str(sender)
        .unwrap();
    e.str("targetId").unwrap().str(&server).unwrap().str("documentId").unwrap().str(document).unwrap();
    e.str("sessionId").unwrap().str(session).unwrap().str("count").unwrap().u64(count).unwrap();
    e.str("data").unwrap().bytes(data).unwrap();
    writer.raw(&frame(crate::common::websocket::BINARY, &e.into_writer()));
}

/// What everybody who opens the long document sends: nothing yet.
fn empty() -> Bytes {
    Sync::default().encode().into()
}

/// Presence of 1 kB to everybody who has the shared document open, and hardly anybody reads it.
fn ephemeral(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let document = scene.stage.documents.snapshot;
    writer.shared("request", document, &empty());
    for count in 0..20_000 / slot.of as u64 {
        say(&mut writer, &document.to_string(), &slot.peer(), &slot.peer(), count, &[0x40; 1000]);
    }
    Script { steps: writer.steps(), deaf: slot.at.is_multiple_of(2), ..Script::default() }
}

/// A session of its own, with a long name, for each message.
fn ephemeral_sessions(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let document = scene.stage.documents.snapshot;
    writer.shared("request", document, &empty());
    for n in 0..50_000 / slot.of {
        let session = format!("{n:0>200}-{}", slot.at);
        say(&mut writer, &document.to_string(), &slot.peer(), &session, 1, b"\x01");
    }
    Script { steps: writer.steps(), ..Script::default() }
}

/// Speaks in the name of a connected device of the app, in the document that it has open.
fn presence_of_another(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let document = scene.device_document;
    writer.shared("request", document, &empty());
    for count in 1..200 {
        say(&mut writer, &document.to_string(), DEVICE, &slot.peer(), count, b"\x01");
    }
    Script { steps: writer.steps(), ..Script::default() }
}

/// The same few bytes as fast as they are taken.
fn tiny_messages(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let document = scene.stage.documents.snapshot;
    let anew = Sync { reset: true, ..Sync::default() }.encode().into();
    (0..1000).for_each(|_| writer.sync(document, &anew));
    Script { steps: writer.steps(), then: Then::Again, ..Script::default() }
}

fn pings(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    writer.raw(&frame(PING, &[7; 125]).repeat(1000));
    Script { steps: writer.steps(), then: Then::Again, deaf: true, ..Script::default() }
}

/// Asks for what nobody has and says at once that it does not have it either.
fn unavailable(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let documents: Vec<_> = (0..500).map(|_| new_document()).collect();
    for _ in 0..10 {
        for document in &documents {
            writer.shared("request", *document, &empty());
            writer.other("doc-unavailable", 1, |e| {
                e.str("documentId").unwrap().str(&document.to_string()).unwrap();
            });
        }
    }
    Script { steps: writer.steps(), then: Then::Again, ..Script::default() }
}

/// Asks for a large document and does not read it.
fn deaf_readers(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    writer.shared("request", scene.stage.documents.large, &empty());
    Script { steps: writer.steps(), deaf: true, ..Script::default() }
}

/// One of them writes large changes to a document that the others have open and do not read.
fn deaf_to_a_writer(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let document = scene.stage.documents.shared;
    if slot.at > 0 {
        writer.shared("request", document, &empty());
        return Script { steps: writer.steps(), deaf: true, ..Script::default() };
    }
    for n in 0..15u8 {
        let (bytes, hash) = Forged { value: &vec![n; 4 << 20], ..Forged::first(&[n; 8]) }.plain();
        writer.sync(document, &Sync { heads: &[hash], chunks: &[bytes], ..Sync::default() }.encode().into());
    }
    Script { steps: writer.steps(), ..Script::default() }
}

/// An old client that has unknown heads: the snapshot is opened for it, each time anew.
fn extraction(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let mut message =
        Sync { heads: &[forge::hash_of(5)], have: vec![(&[], Vec::new())], ..Sync::default() }.encode();
    message.truncate(message.len() - 3); // no capabilities: version 1
    writer.sync(scene.stage.documents.snapshot, &message.into());
    writer.step(crate::foes::Step::Pause(std::time::Duration::from_millis(5)));
    Script { steps: writer.steps(), then: Then::Again, ..Script::default() }
}

/// New documents as fast as they are taken.
fn new_documents(scene: &Scene<'_>, slot: Slot) -> Script {
    let mut writer = Writer::new(slot, &scene.server);
    let (bytes, hash) = Forged::first(&[11; 16]).plain();
    let message = Sync { heads: &[hash], chunks: &[bytes], ..Sync::default() }.encode().into();
    (0..30_000 / slot.of).for_each(|_| writer.sync(new_document(), &message));
    Script { steps: writer.steps(), ..Script::default() }
}
