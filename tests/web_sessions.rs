//! Who gets a WebSocket, and when it is taken away.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::peer::{join_message, new_document};
use common::server::random_text;
use common::{Peer, Refused, Server, WebSocket, wait_for};

/// Status and JSON `error` code of a refusal.
fn code(refused: Result<WebSocket, Refused>) -> (u16, String) {
    let refused = refused.err().expect("refused");
    let body = refused.answer.split("\r\n\r\n").nth(1).unwrap();
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    (refused.status, json["error"].as_str().unwrap().to_owned())
}

#[test]
fn a_token_in_three_places() {
    let server = Server::start();
    let token = server.token.as_str();
    let bearer = format!("Bearer {token}");
    let protocols = format!("groundmist-sync-v1, {token}");
    let query = format!("?token={token}");
    for (path, headers) in [
        (format!("/{query}"), vec![]),
        (format!("/sync{query}"), vec![("Origin", "https://app.example")]),
        ("/sync".into(), vec![("Authorization", bearer.as_str())]),
        ("/".into(), vec![("Sec-WebSocket-Protocol", protocols.as_str())]),
        (
            format!("/{query}"),
            vec![("Authorization", bearer.as_str()), ("Sec-WebSocket-Protocol", protocols.as_str())],
        ),
    ] {
        let mut socket = WebSocket::upgrade(server.address, &path, &headers).unwrap();
        let upgrade = socket.upgrade.to_lowercase();
        let echoed = upgrade.contains("sec-websocket-protocol: groundmist-sync-v1\r\n");
        assert_eq!(echoed, headers.iter().any(|(name, _)| name.contains("Protocol")), "{upgrade}");
        assert!(!upgrade.contains(&token.to_lowercase()));
        socket.send(&join_message("peer", "1"));
        assert!(socket.receive().is_some());
    }
}

#[test]
fn refusals_say_why() {
    let server = Server::start();
    let connect = |token: &str| code(WebSocket::connect(server.address, token));
    assert_eq!(connect(""), (401, "token_missing".into()));
    assert_eq!(connect("garbage"), (401, "token_invalid".into()));
    assert_eq!(connect(&server.token[..server.token.len() - 4]), (401, "token_invalid".into()));
    assert_eq!(connect(&"x".repeat(10_000)), (401, "token_invalid".into()));
    let other = Server::start();
    assert_eq!(connect(&other.token), (401, "token_invalid".into()));
    let two = format!("/?token={}", server.token);
    let different = WebSocket::upgrade(server.address, &two, &[("Authorization", "Bearer other")]);
    assert_eq!(code(different), (400, "token_conflict".into()));
    let refused = WebSocket::upgrade(server.address, "/sync", &[]).err().unwrap();
    assert!(refused.answer.to_lowercase().contains("\r\nwww-authenticate: bearer"), "{}", refused.answer);
}

#[test]
fn revoked_is_out_within_a_second() {
    // The invariant itself. Who is slow is slow each time; a machine that stands still does so once.
    let quickest = (0..3).map(|_| revoke_and_wait()).min().unwrap();
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
}

/// From the command's end until the sockets are closed.
fn revoke_and_wait() -> Duration {
    let server = Server::start();
    let token = server.new_token("laptop", "xyz.example", &[]);
    let mut out = Peer::join_with(&server, &token, "out").unwrap();
    let document = new_document();
    out.store(document, "key", "value");
    let mut stays = Peer::join(&server, "stays");
    let mut joining = WebSocket::connect(server.address, &token).unwrap();
    server.revoke("laptop");
    let revoked = Instant::now();
    let (code_, reason) = out.socket.closed().unwrap();
    assert_eq!((code_, reason.as_str()), (1008, "sync token revoked"));
    assert_eq!(joining.closed().unwrap().0, 1008);
    let took = revoked.elapsed();
    assert_eq!(code(WebSocket::connect(server.address, &token)), (401, "token_revoked".into()));
    stays.store(new_document(), "key", "value");
    took
}

#[test]
fn revoked_is_out_even_when_it_does_not_read() {
    let server = Server::start();
    let token = server.new_token("deaf", "xyz.example", &[]);
    let document = new_document();
    let writer_token = server.new_token("writer", "xyz.example", &[]);
    let mut deaf = Peer::join_with(&server, &token, "deaf").unwrap();
    let mut writer = Peer::join_with(&server, &writer_token, "writer").unwrap();
    writer.store(document, "key", "value");
    deaf.find(document, "key");
    // More than the socket's buffers hold, so that the server is in the middle of a write.
    for n in 0..16 {
        writer.store(document, &format!("key{n}"), &random_text(1 << 20));
    }
    server.revoke("deaf");
    wait_for("the connection to go", || {
        let status = server.command(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        (status["engine"]["connections"] == 1).then_some(())
    });
}

#[test]
fn expired_is_out() {
    let server = Server::start();
    let token = server.new_token("short", "xyz.example", &["--expires", "5s"]);
    let mut peer = Peer::join_with(&server, &token, "peer").unwrap();
    assert_eq!(peer.socket.closed().unwrap(), (1008, "sync token expired".into()));
    assert_eq!(code(WebSocket::connect(server.address, &token)), (401, "token_expired".into()));
}

#[test]
fn read_only_reads() {
    let server = Server::start();
    let token = server.new_token("screen", "xyz.example", &["--read-only"]);
    let writer_token = server.new_token("writer", "xyz.example", &[]);
    let document = new_document();
    let mut writer = Peer::join_with(&server, &writer_token, "writer").unwrap();
    writer.store(document, "key", "value");
    let mut screen = Peer::join_with(&server, &token, "screen").unwrap();
    assert_eq!(screen.find(document, "key"), "value");
    screen.put(document, "key", "changed by the screen");
    writer.store(document, "more", "later");
    screen.until("the later change", |peer| peer.get(document, "more").is_some());
    let mut newcomer = Peer::join_with(&server, &writer_token, "newcomer").unwrap();
    newcomer.request(document);
    newcomer.until("the document", |peer| peer.get(document, "more").is_some());
    assert_eq!(newcomer.get(document, "key").as_deref(), Some("value"));
}

#[test]
fn a_namespace_is_a_wall() {
    let server = Server::start();
    let ours = server.new_token("ours", "xyz.example", &[]);
    let theirs = server.new_token("theirs", "org.other", &[]);
    let document = new_document();
    Peer::join_with(&server, &ours, "a").unwrap().store(document, "key", "secret");
    let mut other = Peer::join_with(&server, &theirs, "b").unwrap();
    other.request(document);
    other.until("an answer", |peer| peer.unavailable.contains(&document));
    assert_eq!(other.get(document, "key"), None);
}

#[test]
fn a_peer_id_in_use_moves_to_the_new_connection() {
    let server = Server::start();
    let mut old = Peer::join(&server, "same");
    let mut new = Peer::join(&server, "same");
    assert!(old.socket.closed().is_some());
    new.store(new_document(), "key", "value");
    // In another namespace the same id is somebody else.
    let token = server.new_token("elsewhere", "xyz.example", &[]);
    let _elsewhere = Peer::join_with(&server, &token, "same").unwrap();
    new.store(new_document(), "key", "value");
}

#[test]
fn no_token_in_the_log() {
    let mut server = common::Start::default().set("LOG__LEVEL", "trace").run();
    let mut peer = Peer::join(&server, "peer");
    peer.store(new_document(), "key", "value");
    let _ = WebSocket::connect(server.address, "eyJhbGciOiJIUzI1NiJ9.forged.token");
    server.terminate();
    let log = server.log();
    assert!(log.contains("client joined"), "{log}");
    for secret in [server.token.as_str(), &server.token[server.token.len() - 20..], "forged", "token="] {
        assert!(!log.contains(secret), "{secret:?} is in the log");
    }
}
