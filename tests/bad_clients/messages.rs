//! What is WebSocket but not the sync protocol.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use groundmist_sync::sync::wire::{self, Body};
use minicbor::Encoder;

use crate::common::peer::{field, join_message, new_document};
use crate::{MIB, Scene, told_off};

fn leb(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The first message that a connection gets to send, and what it is told.
fn first_message(scene: &Scene, message: &[u8]) -> String {
    let mut socket = scene.connect();
    socket.send(message);
    let answer = socket.receive().unwrap();
    assert_eq!(field(&answer.payload, "type").as_deref(), Some("error"), "{answer:?}");
    assert_eq!(socket.closed().unwrap().0, 1002);
    field(&answer.payload, "message").unwrap()
}

#[test]
fn a_first_message_that_is_no_join() {
    let scene = Scene::new();
    let sync = Body::Sync { document: new_document(), data: Bytes::from_static(&[0x42, 0, 0, 0, 0]) };
    assert!(first_message(&scene, &wire::encode("bad", "server", &sync)).contains("join"));
    assert!(first_message(&scene, &join_message("bad", "2")).contains("version"));
    assert!(first_message(&scene, &join_message("", "1")).contains("senderId"));
    assert!(first_message(&scene, &join_message(&"x".repeat(300), "1")).contains("senderId"));
    for garbage in hostile_cbor() {
        first_message(&scene, &garbage);
    }
    scene.unharmed();
}

/// CBOR that promises more than it has, or is nested beyond any stack.
fn hostile_cbor() -> Vec<Vec<u8>> {
    let text = |text: &str| minicbor::to_vec(text).unwrap();
    let nested = [vec![0xa1], text("x"), vec![0x81; 1_000_000], vec![0x00]].concat();
    let nested_maps = [vec![0xa1], text("x"), [vec![0xa1], text("x")].concat().repeat(300_000)].concat();
    let endless = [vec![0xbf], [text("x"), vec![0x00]].concat().repeat(100_000)].concat();
    let long_text = [vec![0xa1], text("type"), vec![0x7b, 0, 0, 1, 0, 0, 0, 0, 0]].concat();
    vec![
        vec![],
        vec![0xf6],
        vec![0x9b, 0, 0, 0, 1, 0, 0, 0, 0],
        vec![0xbb, 0, 0, 0, 1, 0, 0, 0, 0],
        vec![0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        b"not cbor at all".to_vec(),
        vec![0xff; 1_000],
        nested,
        nested_maps,
        endless,
        long_text,
    ]
}

#[test]
fn garbage_after_the_join() {
    let scene = Scene::new();
    for garbage in hostile_cbor() {
        let mut peer = scene.join();
        peer.socket.send(&garbage);
        told_off(&mut peer);
        assert_eq!(peer.socket.closed().unwrap().0, 1002, "{:?}", &garbage[..garbage.len().min(20)]);
    }
    scene.unharmed();
}

#[test]
fn nobody_speaks_for_another() {
    let scene = Scene::new();
    let sync = Body::Sync { document: scene.document, data: Bytes::from_static(&[0x42, 0, 0, 0, 0]) };
    for (sender, target) in [("newcomer-1", None), ("bad", Some("somebody"))] {
        let mut peer = scene.join();
        let target = target.unwrap_or(&peer.server).to_owned();
        peer.socket.send(&wire::encode(sender, &target, &sync));
        told_off(&mut peer);
        assert_eq!(peer.socket.closed().unwrap().0, 1002);
    }
    scene.unharmed();
}

#[test]
fn names_outside_their_grammar() {
    let scene = Scene::new();
    for id in ["../../etc/passwd", "", "0OIl", "3yZe7d", &"z".repeat(10_000)] {
        let mut peer = scene.join();
        let mut e = Encoder::new(Vec::new());
        e.map(5)
            .unwrap()
            .str("type")
            .unwrap()
            .str("request")
            .unwrap()
            .str("senderId")
            .unwrap()
            .str("bad")
            .unwrap();
        e.str("targetId").unwrap().str(&peer.server).unwrap().str("documentId").unwrap().str(id).unwrap();
        e.str("data").unwrap().bytes(&[0x42, 0, 0, 0, 0]).unwrap();
        let message = e.into_writer();
        peer.socket.send(&message);
        told_off(&mut peer);
    }
    scene.unharmed();
}

#[test]
fn hostile_sync_payloads() {
    let scene = Scene::new();
    let mut random = vec![0; 100_000];
    getrandom::fill(&mut random).unwrap();
    let bloom = |entries: u64, bits: u64, probes: u64, filter: &[u8]| {
        let bloom = [leb(entries), leb(bits), leb(probes), filter.to_vec()].concat();
        // V1, no heads, no need, one have without last sync, no changes.
        [vec![0x42, 0, 0, 1, 0], leb(bloom.len() as u64), bloom, vec![0]].concat()
    };
    for payload in [
        vec![],
        vec![0x42],
        random,
        [vec![0x42], leb(1 << 40), vec![0; 64]].concat(),
        [vec![0x42, 0, 0, 0], leb(u64::MAX)].concat(),
        [vec![0x42, 0, 0, 0, 1], leb(1 << 40), vec![0; 64]].concat(),
        [vec![0x43, 0, 0, 0, 1], leb(20), vec![0xff; 20]].concat(),
        bloom(u64::from(u32::MAX), 10, 7, &[0; 16]),
        bloom(1 << 50, 1 << 50, 7, &[0; 16]),
        bloom(1, 10, 1 << 40, &[0, 0]),
        bloom(1, 0, 7, &[]),
    ] {
        let mut peer = scene.join();
        peer.send(&Body::Sync { document: scene.document, data: payload.into() });
        told_off(&mut peer);
    }
    scene.unharmed();
}

/// 500 kB that inflate to 512 MB: a change chunk of type 2.
fn deflate_bomb() -> Vec<u8> {
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::best());
    let zeros = vec![0; MIB as usize];
    for _ in 0..512 {
        deflated.write_all(&zeros).unwrap();
    }
    let deflated = deflated.finish().unwrap();
    assert!(deflated.len() < 600_000);
    [&[0x85, 0x6f, 0x4a, 0x83, 1, 2, 3, 4, 2][..], &leb(deflated.len() as u64), &deflated].concat()
}

#[test]
fn deflate_bombs() {
    // The limit may be used once at a time: it is what a real change is allowed.
    const INFLATED: u64 = 16 * MIB;
    let scene = Scene::with(crate::Start::default().set("LIMITS__INFLATED_BYTES", "16 MiB"));
    let bomb = deflate_bomb();
    let in_a_message = |version: u8, bombs: usize| {
        let chunks = [leb(bomb.len() as u64), bomb.clone()].concat().repeat(bombs);
        [vec![version, 0, 0, 0], leb(bombs as u64), chunks].concat()
    };
    for payload in [in_a_message(0x42, 1), in_a_message(0x43, 1), in_a_message(0x42, 20)] {
        let mut peer = scene.join();
        peer.send(&Body::Sync { document: new_document(), data: payload.into() });
        told_off(&mut peer);
    }
    let peak = scene.server.peak_rss().saturating_sub(scene.before);
    // Besides the inflated bytes: the message of 10 MB as it is read, and as it is worked on.
    assert!(peak < INFLATED + 32 * MIB, "bombs cost {peak} bytes");
    scene.unharmed();
}
