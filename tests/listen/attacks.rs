//! Who only wants to be in the way: newcomers are served all the same, and memory comes back.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use crate::common::Line;
use crate::common::scene::{MARGIN, Scene};

/// A ClientHello's first bytes: a record, a handshake message in it, and nothing of what they promise.
const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

fn tcp(scene: &Scene) -> TcpStream {
    TcpStream::connect(scene.server.address).unwrap()
}

#[test]
fn slow_handshakes_and_slow_heads_come_to_an_end() {
    let mut scene = Scene::encrypted(|start| start.set("LIMITS__HANDSHAKE_TIMEOUT", "5s"));
    let mut silent: Vec<Line> = (0..100).map(|_| Line::plain(scene.server.address).unwrap()).collect();
    for line in silent.iter_mut().step_by(2) {
        line.write_all(HELLO).unwrap();
    }
    let mut slow: Vec<Line> = (0..50).map(|_| scene.server.line().unwrap()).collect();
    for line in &mut slow {
        line.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
    }
    scene.newcomer_syncs();
    for mut line in silent {
        let mut said = Vec::new();
        // Cut off, whether with a goodbye or without.
        let _ = line.read_to_end(&mut said);
        assert!(said.len() < 10, "{said:?}");
    }
    for mut line in slow {
        let mut said = Vec::new();
        let _ = line.read_to_end(&mut said);
        assert!(!said.starts_with(b"HTTP/1.1 200"));
    }
    scene.unharmed();
}

#[test]
fn thousands_of_half_open_connections() {
    // So long that nothing ends by itself.
    let mut scene = Scene::encrypted(|start| start.set("LIMITS__HANDSHAKE_TIMEOUT", "5m"));
    let mut open = Vec::new();
    for n in 0..3_000 {
        let mut stream = tcp(&scene);
        // Those dropped for others to come may be gone already.
        let _ = stream.write_all(if n % 2 == 0 { b"" } else { HELLO });
        open.push(stream);
        if n % 1_000 == 999 {
            scene.newcomer_syncs();
        }
    }
    let growth = scene.growth();
    assert!(growth < MARGIN, "3,000 half-open connections cost {growth} bytes");
    drop(open);
    // And those that shake hands, and then say nothing.
    let mut open: Vec<Line> = (0..400).map(|_| scene.server.line().unwrap()).collect();
    scene.newcomer_syncs();
    let end = open[0].read(&mut [0]).map_err(|error| error.kind());
    assert!(!matches!(end, Ok(1) | Err(ErrorKind::WouldBlock)), "the oldest did not give way: {end:?}");
    let growth = scene.growth();
    assert!(growth < MARGIN, "400 silent connections cost {growth} bytes");
    drop(open);
    scene.unharmed();
}

#[test]
fn ten_thousand_connections_opened_and_dropped() {
    let mut scene = Scene::encrypted(|start| start);
    for n in 0..10_000 {
        match n % 50 {
            0 => drop(scene.server.line().unwrap()),
            1 => drop(scene.server.connect(&scene.server.token).unwrap()),
            n => {
                let mut stream = tcp(&scene);
                let _ = stream.write_all([b"", HELLO, &b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 100]][n % 4]);
            }
        }
        if n % 2_500 == 2_499 {
            scene.newcomer_syncs();
        }
    }
    scene.unharmed();
}

#[test]
fn what_is_not_tls() {
    let mut scene = Scene::encrypted(|start| start);
    let mut random = vec![0; 100_000];
    getrandom::fill(&mut random).unwrap();
    // A ClientHello of 2^24 - 1 bytes, in records of 16 KiB.
    let record = [&[0x16, 3, 1, 0x40, 0][..], &[1, 0xff, 0xff, 0xff], &[0; 0x4000 - 4]].concat();
    let next = [&[0x16, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat();
    let endless = [record, next.repeat(64)].concat();
    let one_byte_records = [&[0x16, 3, 1, 0, 1, 1][..], &[0x16, 3, 1, 0, 1, 0].repeat(100_000)].concat();
    let application_data = b"\x17\x03\x03\x00\x05hello".to_vec();
    let alerts = b"\x15\x03\x01\x00\x02\x01\x00".repeat(100_000);
    for (what, bytes) in [
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: sync.example.org\r\n\r\n".to_vec()),
        ("random", random),
        ("zeros", vec![0; 100_000]),
        ("an endless ClientHello", endless),
        ("records of a byte", one_byte_records),
        ("data before a handshake", application_data),
        ("alerts", alerts),
        ("SSL 2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec()),
    ] {
        let mut stream = tcp(&scene);
        // The server may hang up while we still write.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        // At most an alert, which is a record of two bytes.
        assert!(said.len() <= 7 && (said.is_empty() || said[0] == 0x15), "{what}: {said:?}");
        scene.newcomer_syncs();
    }
    scene.unharmed();
}
