//! Too much of what is allowed.

use std::io::Write as _;
use std::net::TcpStream;

use bytes::Bytes;
use groundmist_sync::sync::wire::Body;

use crate::common::peer::new_document;
use crate::common::server::random_text;
use crate::{MARGIN, MIB, Peer, Scene, Start, WebSocket};

#[test]
fn thousands_of_requests_for_unknown_documents() {
    let mut scene = Scene::new();
    let mut peer = scene.join();
    for n in 0..5_000 {
        // An empty document's first message.
        let data = Bytes::from_static(&[0x42, 0, 0, 1, 0, 0, 0]);
        peer.send(&Body::Request { document: new_document(), data });
        if n % 1_000 == 0 {
            scene.newcomer_syncs();
        }
    }
    scene.newcomer_syncs();
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_reader_that_stops_while_40_mb_are_written() {
    let mut scene = Scene::with(Start::default().set("MEMORY__BUDGET", "4 MiB"));
    let document = new_document();
    let mut writer = Peer::join(&scene.server, "writer");
    writer.store(document, "key", "value");
    let mut stopped = scene.join();
    stopped.find(document, "key");
    for n in 0..40 {
        writer.store(document, &format!("key{n}"), &random_text(MIB as usize));
        if n % 10 == 0 {
            scene.newcomer_syncs();
        }
    }
    let growth = scene.growth();
    // The budget, the store's cache, one message on its way in and out; not the 40 MB.
    assert!(growth < 32 * MIB, "a reader that stopped cost {growth} bytes");
    drop(stopped);
    drop(writer);
    // The store's cache has filled with the document meanwhile, and little else is left.
    scene.unharmed();
}

#[test]
fn thousands_of_half_open_connections() {
    let mut scene = Scene::new();
    let mut open: Vec<TcpStream> = Vec::new();
    for n in 0..3_000 {
        let mut stream = TcpStream::connect(scene.server.address).unwrap();
        // Nothing at all, half a request, a request line that never ends.
        let start: &[u8] = match n % 3 {
            0 => b"",
            1 => b"GET /sync HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            _ => b"GET /",
        };
        // Those dropped for others to come may be gone already.
        let _ = stream.write_all(start);
        open.push(stream);
    }
    let growth = scene.growth();
    assert!(growth < 16 * MIB, "3,000 half-open connections cost {growth} bytes");
    scene.newcomer_syncs();
    drop(open);
    scene.unharmed();
}

#[test]
fn connections_that_come_and_go() {
    let scene = Scene::new();
    for n in 0..1_000 {
        match n % 4 {
            0 => drop(TcpStream::connect(scene.server.address).unwrap()),
            1 => drop(scene.connect()),
            2 => drop(scene.join()),
            _ => {
                // Leaves in the middle of a message.
                let mut peer = scene.join();
                let _ = peer.socket.raw(&[0x82, 0xfe, 0x10, 0x00, 1, 2, 3, 4, 5]);
            }
        }
    }
    scene.unharmed();
}

#[test]
fn as_many_upgraded_as_allowed_that_never_join() {
    let start = Start::default().set("LIMITS__CONNECTIONS_PER_SESSION", "1000");
    let mut scene = Scene::with(start.set("LIMITS__HANDSHAKE_TIMEOUT", "6s"));
    let silent: Vec<WebSocket> = (0..900).map(|_| scene.connect()).collect();
    scene.newcomer_syncs();
    let growth = scene.growth();
    assert!(growth < 900 * 20_000 + MARGIN, "900 silent connections cost {growth} bytes");
    for mut socket in silent {
        assert_eq!(socket.closed().unwrap().0, 1002);
    }
    scene.unharmed();
}

#[test]
fn ephemeral_messages_nobody_reads() {
    let mut scene = Scene::new();
    let mut deaf = scene.join();
    deaf.find(scene.document, "key");
    let mut writer = Peer::join(&scene.server, "writer");
    writer.find(scene.document, "key");
    for count in 1..=40_000 {
        let data = Bytes::from(vec![0x40; 1_000]);
        writer.send(&Body::Ephemeral { document: scene.document, session: "s".into(), count, data });
    }
    writer.store(new_document(), "key", "value");
    let growth = scene.growth();
    assert!(growth < 16 * MIB, "40 MB of ephemeral messages cost {growth} bytes");
    scene.newcomer_syncs();
    drop((deaf, writer));
    scene.unharmed();
}
