//! What the running server answers over HTTP, and how it starts and stops.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use common::peer::{join_message, new_document};
use common::server::random_text;
use common::{PATIENCE, Peer, Server, Start, WebSocket, wait_for};

/// Status and JSON `error` code of an answer.
fn code(answer: &str) -> (u16, String) {
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    assert!(status == 200 || json["message"].as_str().is_some_and(|text| text.len() > 5), "{answer}");
    (status, json["error"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn paths_and_methods() {
    let server = Server::start();
    let home = server.http("GET", "/", &[]);
    assert!(home.starts_with("HTTP/1.1 200") && home.contains("groundmist-sync"), "{home}");
    let health = server.http("GET", "/healthz", &[]);
    assert!(health.starts_with("HTTP/1.1 200") && health.ends_with("ok\n"), "{health}");
    assert!(server.http("HEAD", "/healthz", &[]).ends_with("\r\n\r\n"));
    for path in ["/nothing", "/healthz/", "/api", "/apis/x", "//", "/..%2fsecret.key", "/sync/x"] {
        assert_eq!(code(&server.http("GET", path, &[])), (404, "not_found".into()), "{path}");
    }
    for (method, path) in [("POST", "/"), ("DELETE", "/healthz"), ("PUT", "/sync"), ("HEAD", "/sync")] {
        let answer = server.http(method, path, &[]);
        assert!(
            answer.starts_with("HTTP/1.1 405") && answer.to_lowercase().contains("\r\nallow: get"),
            "{answer}"
        );
    }
    assert_eq!(code(&server.http("GET", "/sync", &[])), (426, "upgrade_required".into()));
    let huge = "x".repeat(20_000);
    assert!(server.http("GET", "/", &[("X-Huge", &huge)]).starts_with("HTTP/1.1 431"));
}

/// RFC 9112, section 3.2.
#[test]
fn a_request_has_one_host() {
    let server = Server::start();
    let ask = |address, head: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("GET {head}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for head in [
        "/healthz HTTP/1.1",
        "/healthz HTTP/1.1\r\nHost: a\r\nHost: a",
        "/healthz HTTP/1.0\r\nHost: a\r\nHost: b",
        "/healthz HTTP/1.1\r\nHost:",
        "/healthz HTTP/1.1\r\nHost: a b",
        "/healthz HTTP/1.1\r\nHost: evil@a",
        "/api/status HTTP/1.1",
        "/connect HTTP/1.1",
        "http://a/healthz HTTP/1.1",
    ] {
        assert_eq!(code(&ask(server.address, head)), (400, "bad_host".into()), "{head}");
    }
    for head in ["/healthz HTTP/1.0", "/healthz HTTP/1.1\r\nHost: a", "http://a/healthz HTTP/1.1\r\nHost: b"]
    {
        let answer = ask(server.address, head);
        assert!(answer.contains(" 200 OK"), "{head}: {answer}");
    }
}

#[test]
fn a_bad_upgrade_is_refused_after_the_token() {
    let server = Server::start();
    let path = format!("/sync?token={}", server.token);
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    assert_eq!(code(&server.http("GET", &path, &upgrade)), (400, "bad_upgrade".into()));
    let old = [upgrade.as_slice(), &[("Sec-WebSocket-Version", "8"), ("Sec-WebSocket-Key", "x")]].concat();
    assert_eq!(code(&server.http("GET", &path, &old)), (400, "bad_upgrade".into()));
    assert_eq!(code(&server.http("GET", "/sync", &upgrade)), (401, "token_missing".into()));
    let post = server.http("POST", &path, &upgrade);
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
}

#[test]
fn as_many_connections_as_allowed() {
    let server = Start::default().set("LIMITS__CONNECTIONS", "2").run();
    let first = Peer::join(&server, "first");
    let _second = Peer::join(&server, "second");
    let refused = WebSocket::connect(server.address, &server.token).err().unwrap();
    assert_eq!(code(&refused.answer), (503, "too_many_connections".into()));
    assert!(refused.answer.to_lowercase().contains("\r\nretry-after: "));
    drop(first);
    wait_for("a free place", || WebSocket::connect(server.address, &server.token).ok());
}

#[test]
fn join_must_come_in_time() {
    let server = Start::default().set("LIMITS__HANDSHAKE_TIMEOUT", "3s").run();
    let mut silent = WebSocket::connect(server.address, &server.token).unwrap();
    let (code, reason) = silent.closed().unwrap();
    assert!(code == 1002 && reason.contains("join"), "{code} {reason}");
    let mut slow = TcpStream::connect(server.address).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn a_client_that_stops_answering_pings_is_dropped() {
    let server = Start::default().set("LIMITS__PING_INTERVAL", "3s").run();
    let mut dead = Peer::join(&server, "dead");
    dead.socket.pongs = false;
    let mut living = Peer::join(&server, "living");
    let dead = std::thread::spawn(move || dead.socket.closed().unwrap());
    // Meanwhile, and for an interval more, it does nothing but answer pings.
    let mut until = Instant::now() + PATIENCE;
    while living.step(Instant::now() + Duration::from_millis(100)) || Instant::now() < until {
        if dead.is_finished() {
            until = until.min(Instant::now() + Duration::from_secs(3));
        }
    }
    living.store(new_document(), "key", "value");
    let (code, reason) = dead.join().unwrap();
    assert!(code == 1001 && reason.contains("ping"), "{code} {reason}");
}

#[test]
fn sigterm_closes_with_1001_and_exits_0() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Start::default().data_dir(dir.path()).run();
    let document = new_document();
    let mut peer = Peer::join(&server, "peer");
    peer.store(document, "key", "kept");
    let mut joining = WebSocket::connect(server.address, &server.token).unwrap();
    let _idle = TcpStream::connect(server.address).unwrap();
    server.signal("TERM");
    assert_eq!(peer.socket.closed().unwrap().0, 1001);
    assert_eq!(joining.closed().unwrap().0, 1001);
    drop((peer, joining));
    assert_eq!(server.wait().code(), Some(0));
    assert!(!dir.path().join("admin.sock").exists());
    let again = Start::default().data_dir(dir.path()).run();
    assert_eq!(Peer::join(&again, "later").find(document, "key"), "kept");
}

#[test]
fn sigint_stops_too_and_a_client_that_stays_does_not_hold_it_up() {
    let mut server = Server::start();
    let mut deaf = Peer::join(&server, "deaf");
    deaf.socket.stream.set_nodelay(true).unwrap();
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(deaf.socket.closed().map(|closed| closed.0), Some(1001));
}

/// A client that the server is in the middle of writing to, because it stopped reading.
fn stuck_client(server: &Server) -> Peer {
    let document = new_document();
    let mut writer = Peer::join(server, "writer");
    writer.store(document, "key", "value");
    let mut stuck = Peer::join(server, "stuck");
    stuck.find(document, "key");
    // More than the sockets' buffers hold.
    for n in 0..16 {
        writer.store(document, &format!("key{n}"), &random_text(1 << 20));
    }
    stuck
}

#[test]
fn a_client_that_does_not_read_does_not_hold_up_the_end() {
    let mut server = Server::start();
    let _stuck = stuck_client(&server);
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::start();
    let _stuck = stuck_client(&server);
    server.signal("TERM");
    wait_for("the server to begin stopping", || server.log().contains("stopping").then_some(()));
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(1));
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Start::default().data_dir(dir.path()).run();
    let second = first.command(&["serve", "--dev", "--port", "0"]);
    assert!(!second.status.success() && second.stdout.is_empty(), "{second:?}");
    // It must leave the first one's admin socket alone.
    first.new_token("still here", "xyz.example", &[]);
    first.kill();
    let again = Start::default().data_dir(dir.path()).run();
    again.new_token("socket file taken over", "xyz.example", &[]);
}

#[test]
fn files_are_private_and_a_temporary_directory_goes() {
    let mut server = Server::start();
    let mode =
        |name: &str| std::fs::metadata(server.data_dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("secret.key"), mode("admin.sock")), (0o700, 0o600, 0o600));
    server.terminate();
    let temporary = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_groundmist-sync"))
        .args(["serve", "--dev", "--port", "0"])
        .env_clear()
        .env("TMPDIR", temporary.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut first = [0; 17];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"For apps:   ws://");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    let status = std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(status.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_connection_speaks_once_it_joined() {
    let server = Server::start();
    let mut socket = WebSocket::connect(server.address, &server.token).unwrap();
    // A ping before `join` is answered too.
    socket.frame(common::websocket::PING, b"hello").unwrap();
    let pong = socket.receive().unwrap();
    assert_eq!((pong.first, pong.payload.as_slice()), (common::websocket::PONG, b"hello".as_slice()));
    socket.send(&join_message("peer", "1"));
    let hello = socket.receive().unwrap();
    assert_eq!(common::peer::field(&hello.payload, "selectedProtocolVersion").as_deref(), Some("1"));
    // A close is answered with the same code.
    socket.frame(common::websocket::CLOSE, &[0x0f, 0xa0, b'b', b'y', b'e']).unwrap();
    assert_eq!(socket.closed().unwrap().0, 4000);
}
