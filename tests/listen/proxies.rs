//! Behind a proxy: limits count its clients, if it is trusted, and nobody gets around them by what they write.

use crate::common::peer::new_document;
use crate::common::{Line, Peer, Server, Start, WebSocket, wait_for};

const FOR: &str = "X-Forwarded-For";

fn behind_a_proxy() -> Start {
    Start::default().set("LISTEN__TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8")
}

/// Status of the answer to an upgrade, and the socket.
fn connect(server: &Server, headers: &[(&str, &str)]) -> Result<WebSocket, u16> {
    let path = format!("/?token={}", server.token);
    let upgraded = WebSocket::upgrade_on(Line::plain(server.address).unwrap(), &path, headers);
    upgraded.map_err(|refused| {
        assert!(refused.answer.contains("too_many_connections_of_address"), "{}", refused.answer);
        refused.status
    })
}

#[test]
fn a_client_has_so_many_connections() {
    let server = behind_a_proxy().set("LIMITS__CONNECTIONS_PER_ADDRESS", "2").run();
    let first = connect(&server, &[(FOR, "192.0.2.1")]).unwrap();
    let _second = connect(&server, &[(FOR, "192.0.2.9, 192.0.2.1, 10.0.0.7")]).unwrap();
    for lie in ["192.0.2.1", "203.0.113.1, 192.0.2.1", "nonsense, 192.0.2.1"] {
        assert_eq!(connect(&server, &[(FOR, lie)]).err(), Some(429), "{lie}");
    }
    // Plain requests are refused as well, in a way that a page can read.
    let answer = server.http("GET", "/healthz", &[(FOR, "192.0.2.1")]);
    assert!(
        answer.starts_with("HTTP/1.1 429") && answer.contains("access-control-allow-origin: *"),
        "{answer}"
    );
    let _others =
        (connect(&server, &[(FOR, "192.0.2.2")]), connect(&server, &[("Forwarded", "for=192.0.2.3")]));
    assert!(_others.0.is_ok() && _others.1.is_ok());
    // What is not believed counts as the proxy's own, all of it together.
    let _nonsense =
        [(FOR, "nonsense"), ("Forwarded", "for=_secret")].map(|header| connect(&server, &[header]).unwrap());
    let both = [(FOR, "192.0.2.4"), ("Forwarded", "for=192.0.2.5")];
    assert_eq!(connect(&server, &both).err(), Some(429));
    // Without a header it is the proxy itself, such as a health check.
    let _own: Vec<_> = (0..5).map(|_| connect(&server, &[]).unwrap()).collect();
    drop(first);
    wait_for("a free place", || connect(&server, &[(FOR, "192.0.2.1")]).ok());
}

#[test]
fn a_client_may_ask_so_often() {
    let ask = |server: &Server, from: &str| {
        let answer = server.http_with_body("POST", "/authenticate", &[(FOR, from)], "{}");
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let server = behind_a_proxy().set("LIMITS__AUTHENTICATE_PER_ADDRESS", "2").run();
    for from in ["192.0.2.1", "2001:db8::1", "nonsense"] {
        assert_eq!([(); 3].map(|()| ask(&server, from)), ["401", "401", "429"], "{from}");
    }
    assert_eq!(ask(&server, "2001:db8::2"), "429", "the same /64");
    assert_eq!(ask(&server, "made up, 192.0.2.2"), "401");
}

#[test]
fn nobody_is_believed_who_is_not_trusted() {
    let server = Start::default()
        .set("LIMITS__CONNECTIONS_PER_ADDRESS", "1")
        .set("LIMITS__AUTHENTICATE_PER_ADDRESS", "1")
        .run();
    let _open: Vec<_> = (0..3).map(|_| connect(&server, &[(FOR, "192.0.2.1")]).unwrap()).collect();
    for _ in 0..3 {
        let answer = server.http_with_body("POST", "/authenticate", &[(FOR, "192.0.2.1")], "{}");
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    Peer::join(&server, "peer").store(new_document(), "key", "value");
}
