//! What is not WebSocket, or too much of it.

use crate::common::websocket::{BINARY, CLOSE, PING, TEXT, head, masked};
use crate::{MIB, Scene};

/// Sends bytes on a joined connection and says with which code it was closed.
fn close_code(scene: &Scene, bytes: &[u8]) -> Option<u16> {
    let mut peer = scene.join();
    // The server may close while we still write.
    let _ = peer.socket.raw(bytes);
    peer.socket.closed().map(|closed| closed.0)
}

#[test]
fn violations_are_closed_with_their_code() {
    let scene = Scene::new();
    let unmasked = [head(BINARY, 0, 5), b"hello".to_vec()].concat();
    let masked_head = |length| [head(BINARY, 0x80, length), vec![0; 4]].concat();
    for (what, bytes, code) in [
        ("unmasked", unmasked, 1002),
        ("text", masked(TEXT, b"hello"), 1003),
        ("empty text", masked(TEXT, b""), 1003),
        ("empty message", masked(BINARY, b""), 1002),
        ("2^40 bytes", masked_head(1 << 40), 1009),
        ("2^64 - 1 bytes", masked_head(u64::MAX), 1009),
        ("a byte more than is skipped", masked_head((1 << 30) + 1), 1009),
        (
            "a byte too many, and nothing that is understood",
            masked(BINARY, &vec![0xf7; 32 * MIB as usize + 1]),
            1009,
        ),
        (
            "a gigabyte that does not say what it is about",
            [masked_head(1 << 30), vec![0xf7; 5_000]].concat(),
            1009,
        ),
        ("continuation of nothing", masked(0x80, b"x"), 1002),
        ("a message in a message", [masked(0x02, b"x"), masked(BINARY, b"y")].concat(), 1002),
        ("a compressed frame", masked(0xc2, b"x"), 1002),
        ("an unknown opcode", masked(0x83, b"x"), 1002),
        ("a long ping", masked(PING, &[0; 126]), 1002),
        ("a ping in parts", masked(0x09, b"x"), 1002),
        ("a close of one byte", masked(CLOSE, b"x"), 1002),
        ("a close with a forbidden code", masked(CLOSE, &[0x03, 0xed]), 1002),
        ("HTTP again", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 1002),
        ("random", vec![0xf7; 100_000], 1002),
    ] {
        assert_eq!(close_code(&scene, &bytes), Some(code), "{what}");
    }
    scene.unharmed();
}

#[test]
fn the_same_before_joining() {
    let scene = Scene::new();
    for (bytes, code) in [
        (masked(TEXT, b"hello"), 1003),
        (masked(BINARY, b""), 1002),
        ([head(BINARY, 0x80, 1 << 40), vec![0; 4]].concat(), 1009),
        ([head(BINARY, 0x80, 32 * MIB + 1), vec![0; 4]].concat(), 1009),
        (masked(0x80, b"x"), 1002),
    ] {
        let mut socket = scene.connect();
        socket.raw(&bytes).unwrap();
        assert_eq!(socket.closed().unwrap().0, code);
    }
    scene.unharmed();
}

#[test]
fn fragments_without_end() {
    let scene = Scene::new();
    let mut peer = scene.join();
    let fragment = masked(0x00, &vec![0; MIB as usize]);
    peer.socket.raw(&masked(0x02, b"\xa1\x64data\x5a\x7f\xff\xff\xff")).unwrap();
    // More than one message may have: skipped as it comes, and at the end it is about nothing.
    for _ in 0..64 {
        peer.socket.raw(&fragment).unwrap();
    }
    let growth = scene.growth();
    assert!(growth < 8 * MIB, "{growth} bytes for what is skipped");
    peer.socket.raw(&masked(0x80, b"end")).unwrap();
    assert!(matches!(peer.socket.closed(), Some((1009, _))));
    drop(peer);
    // Empty ones never come to an end either, but cost nothing.
    let mut peer = scene.join();
    peer.socket.raw(&masked(0x02, b"start")).unwrap();
    let empty = masked(0x00, b"").repeat(10_000);
    for _ in 0..20 {
        peer.socket.raw(&empty).unwrap();
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn many_half_sent_messages_do_not_add_up() {
    let mut scene = Scene::new();
    let start = [head(BINARY, 0x80, 30 * MIB), vec![0; 4 + MIB as usize]].concat();
    let mut peers: Vec<_> = (0..60).map(|n| crate::Peer::join(&scene.server, &format!("half-{n}"))).collect();
    for peer in &mut peers {
        // Those that have to wait for their share are not read on, so the write may not go through.
        peer.socket.stream.set_write_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
        let _ = peer.socket.raw(&start);
    }
    let growth = scene.growth();
    assert!(growth < 16 * MIB, "60 half-sent messages cost {growth} bytes");
    scene.newcomer_syncs();
    drop(peers);
    scene.unharmed();
}

#[test]
fn a_flood_of_pings_that_reads_no_pongs() {
    let mut scene = Scene::new();
    let mut peer = scene.join();
    let pings = masked(PING, &[7; 125]).repeat(1_000);
    for _ in 0..200 {
        if peer.socket.raw(&pings).is_err() {
            break;
        }
    }
    let growth = scene.growth();
    assert!(growth < 4 * MIB, "200,000 pings cost {growth} bytes");
    scene.newcomer_syncs();
    drop(peer);
    scene.unharmed();
}
