//! Small messages that claim much: refused by their price before anything is expanded, and nobody waits for it.

use bytes::Bytes;
use groundmist_sync::sync::wire::Body;

use crate::chunks::{chunk, content, leb, message, operations, run};
use crate::common::peer::new_document;
use crate::{MIB, Peer, Scene, told_off};

/// A message with one deflated change that sets a key to so many zero bytes; it differs by `key`.
fn zeros(bytes: u64, key: u8) -> Bytes {
    let meta = run(1, &leb(bytes << 4 | 7));
    let columns = [
        (0x15, run(1, &[1, key])),
        (0x34, leb(1)),
        (0x42, run(1, &[1])),
        (0x56, meta),
        (0x57, vec![0; bytes as usize]),
        (0x70, run(1, &[0])),
    ];
    message(0x42, &[chunk(2, &content(&[0], &columns))])
}

/// 45 changes in 3 kB that each claim 16,777,216 operations.
fn claims() -> Bytes {
    let changes: Vec<Vec<u8>> =
        (0..45).map(|n| chunk(1, &content(&[0], &operations((1 << 24) - n)))).collect();
    let message = message(0x43, &changes);
    assert!(message.len() < 3_000);
    message
}

#[test]
fn claims_of_operations_are_refused_by_name_and_the_connection_stays() {
    let scene = Scene::new();
    let mut peer = scene.join();
    let claims = claims();
    for _ in 0..200 {
        peer.send(&Body::Sync { document: scene.document, data: claims.clone() });
    }
    told_off(&mut peer);
    let said = &peer.errors[0];
    for part in [&scene.document.to_string(), "limits.operations", "8388608"] {
        assert!(said.contains(part), "{said}");
    }
    peer.store(new_document(), "key", "value");
    assert!(scene.server.log().contains("limits.operations"));
    scene.unharmed();
}

#[test]
fn what_inflates_to_much_costs_no_more_than_the_decoders_memory() {
    let mut scene = Scene::new();
    let join = |n| Peer::join(&scene.server, &format!("bad-{n}"));
    let mut peers: Vec<Peer> = (0..12).map(join).collect();
    for (refused, bytes) in [(true, 120 * MIB), (false, 14 * MIB)] {
        let payload = zeros(bytes, b'k');
        for peer in &mut peers {
            peer.errors.clear();
            peer.send(&Body::Sync { document: new_document(), data: payload.clone() });
        }
        for peer in &mut peers {
            peer.store(new_document(), "key", "value");
            let expected = if refused { 1 } else { 0 };
            assert_eq!(peer.errors.len(), expected, "{:?}", peer.errors);
            assert!(peer.errors.iter().all(|error| error.contains("limits.inflated_bytes")));
        }
        scene.newcomer_syncs();
    }
    let peak = scene.server.peak_rss().saturating_sub(scene.before);
    assert!(peak < 64 * MIB + 24 * MIB, "12 messages that inflate to 120 and to 14 MiB cost {peak} bytes");
    drop(peers);
    scene.unharmed();
}

#[test]
fn changes_of_a_session_that_may_only_read_are_passed_over() {
    let scene = Scene::new();
    let token = scene.server.new_token("screen", "xyz.example", &["--read-only"]);
    let writer = scene.server.new_token("writer", "xyz.example", &[]);
    let document = new_document();
    let mut writer = Peer::join_with(&scene.server, &writer, "writer").unwrap();
    writer.store(document, "key", "value");
    let mut screen = Peer::join_with(&scene.server, &token, "screen").unwrap();
    let deflated = zeros(120 * MIB, b'k');
    let unreadable = message(0x42, &[chunk(1, b"not a change at all")]);
    for data in [claims(), deflated, unreadable] {
        screen.send(&Body::Sync { document, data });
    }
    assert_eq!(screen.find(document, "key"), "value");
    assert!(screen.errors.is_empty(), "{:?}", screen.errors);
    // What is not even framed as a message is refused all the same.
    screen.send(&Body::Sync { document, data: Bytes::from_static(&[0x42, 0, 0, 0, 1, 9, 1]) });
    told_off(&mut screen);
    drop((screen, writer));
    scene.unharmed();
}
