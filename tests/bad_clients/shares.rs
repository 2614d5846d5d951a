//! One app, or one device, that takes all it can get: others get their share at once.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::common::peer::new_document;
use crate::common::server::random_text;
use crate::common::websocket::{BINARY, head, masked};
use crate::common::{Refused, Server, wait_for};
use crate::{MIB, Peer, Scene, Start, WebSocket};

const OTHER: &str = "org.victim";

/// How a connection that holds on to a message ended, while it sends an empty part every now and then.
fn hold_on(mut socket: WebSocket, pause: Duration) -> Option<(u16, String)> {
    let part = masked(0x00, b"");
    wait_for("the connection to end", || {
        if socket.raw(&part).is_err() {
            return Some(socket.closed());
        }
        let frame = socket.receive_until(std::time::Instant::now() + pause)?;
        (frame.first == 0x88).then(|| {
            let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            Some((code, String::from_utf8_lossy(&frame.payload[2..]).into_owned()))
        })
    })
}

/// Two connections that each leave a message of 17 kB unfinished, and go on as [`hold_on`] does.
fn two_half_sent(server: &Server) -> Vec<JoinHandle<Option<(u16, String)>>> {
    let start = masked(0x02, &vec![7; 17_000]);
    let hold = |n| {
        let mut peer = Peer::join(server, &format!("hostile-{n}"));
        peer.socket.raw(&start).unwrap();
        thread::spawn(move || hold_on(peer.socket, Duration::from_millis(500)))
    };
    (0..2).map(hold).collect()
}

#[test]
fn half_sent_messages_keep_nobody_else_waiting() {
    let scene = Scene::with(Start::default().set("LIMITS__PING_INTERVAL", "5m"));
    let (victim, device) =
        (scene.server.new_token("victim", OTHER, &[]), scene.server.new_token("device", "dev.local", &[]));
    let held = two_half_sent(&scene.server);
    for (token, name) in [(&victim, "victim"), (&device, "device")] {
        for bytes in [20_000, MIB as usize, 12 * MIB as usize] {
            let mut peer = Peer::join_with(&scene.server, token, name).unwrap();
            peer.store(new_document(), "key", &random_text(bytes));
        }
    }
    scene.server.revoke("serve --dev");
    for ended in held {
        assert_eq!(ended.join().unwrap().unwrap().0, 1008, "they were there all the time");
    }
}

#[test]
fn empty_parts_of_a_message_are_no_progress() {
    let scene = Scene::with(Start::default().set("LIMITS__PING_INTERVAL", "2s"));
    for ended in two_half_sent(&scene.server) {
        let (code, reason) = ended.join().unwrap().expect("a close frame");
        assert!(code == 1008 && reason.contains("limits.receive_rate"), "{code} {reason}");
    }
    let (_, metrics) = scene.server.admin_get("/metrics");
    assert!(metrics.contains("groundmist_evicted_connections_total{reason=\"receive_rate\"} 2"), "{metrics}");
    scene.unharmed();
}

#[test]
fn half_sent_messages_of_many_sessions_stay_within_the_budget() {
    let scene = Scene::new();
    let victim = scene.server.new_token("victim", OTHER, &[]);
    let tokens: Vec<_> =
        (0..10).map(|n| scene.server.new_token(&format!("hostile-{n}"), "dev.local", &[])).collect();
    // Each promises 30 MiB and sends one; 300 MiB would come if all were read.
    let start = [head(BINARY, 0x80, 30 * MIB), vec![0; 4 + MIB as usize]].concat();
    let mut held = Vec::new();
    for n in 0..300 {
        let mut peer = Peer::join_with(&scene.server, &tokens[n % 10], &format!("hostile-{n}")).unwrap();
        peer.socket.stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        let _ = peer.socket.raw(&start);
        held.push(peer);
    }
    for bytes in [20_000, MIB as usize, 5 * MIB as usize] {
        let mut peer = Peer::join_with(&scene.server, &victim, "victim").unwrap();
        peer.store(new_document(), "key", &random_text(bytes));
    }
    let growth = scene.growth();
    assert!(growth < 48 * MIB, "300 half-sent messages cost {growth} bytes");
    drop(held);
    scene.unharmed();
}

fn refused(connected: Result<WebSocket, Refused>) -> (u16, String) {
    connected.map(|_| ()).map_err(|refused| (refused.status, refused.answer)).unwrap_err()
}

#[test]
fn one_session_has_so_many_connections() {
    let scene = Scene::new();
    let token = scene.server.new_token("many", "dev.local", &[]);
    let open: Vec<_> = (0..64).map(|_| scene.server.connect(&token).unwrap()).collect();
    let (status, answer) = refused(scene.server.connect(&token));
    assert!(status == 429 && answer.contains("limits.connections_per_session"), "{answer}");
    assert!(answer.contains("too_many_connections_of_session"), "{answer}");
    let other = scene.server.new_token("other", "dev.local", &[]);
    Peer::join_with(&scene.server, &other, "other").unwrap().store(new_document(), "key", "value");
    drop(open);
    scene.unharmed();
}

/// Connects one by one, each after the last has joined.
fn connect_all(server: &Server, tokens: &[String], count: usize) -> Vec<Peer> {
    let join = |n: usize| Peer::join_with(server, &tokens[n % tokens.len()], &format!("many-{n}")).unwrap();
    (0..count).map(join).collect()
}

#[test]
fn connections_of_one_app_keep_no_other_app_out() {
    for sessions in [1, 20] {
        let start = Start::default().set("LIMITS__CONNECTIONS", "40").set("LIMITS__PING_INTERVAL", "5m");
        let server = start.run();
        let token = |name: &str, namespace: &str| server.new_token(name, namespace, &["--read-only"]);
        let tokens: Vec<_> = (0..sessions).map(|n| token(&format!("many-{n}"), "xyz.many")).collect();
        let (device, victim) = (token("device", "xyz.many"), token("victim", OTHER));
        let mut many = connect_all(&server, &tokens, 40);
        // Another app gets as many as the first is left with, and another device of the first app gets in as well.
        let _device = Peer::join_with(&server, &device, "device").unwrap();
        let _others = connect_all(&server, std::slice::from_ref(&victim), 20);
        let (status, answer) = refused(server.connect(&victim));
        assert!(status == 503 && answer.contains("limits.connections"), "{sessions}: {answer}");
        let mut closed = 0;
        for peer in &mut many {
            let soon = std::time::Instant::now() + Duration::from_millis(50);
            if let Some(frame) = peer.socket.receive_until(soon) {
                assert_eq!(frame.payload[..2], 1013u16.to_be_bytes(), "{frame:?}");
                assert!(String::from_utf8_lossy(&frame.payload).contains("limits.connections"), "{frame:?}");
                closed += 1;
            }
        }
        // Its device's connection counts too, and may be the one that went.
        assert!((20..=21).contains(&closed), "{sessions} sessions: {closed} were closed");
        let (_, metrics) = server.admin_get("/metrics");
        let count = "groundmist_evicted_connections_total{reason=\"connections\"} 21";
        assert!(metrics.contains(count), "{metrics}");
    }
}
