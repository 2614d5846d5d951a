//! Port 80: whatever is asked, the answer leads to the configured name.

use std::io::Write as _;
use std::net::SocketAddr;

use crate::common::authority::DOMAIN;
use crate::common::{Authority, Line};

/// The answer to bytes of any kind.
fn answer(address: SocketAddr, request: &[u8]) -> String {
    let mut line = Line::plain(address).unwrap();
    line.write_all(request).unwrap();
    line.read_all().unwrap()
}

/// Status, and where it leads.
fn leads(answer: &str) -> (u16, Option<&str>) {
    let status = answer.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    let mut lines = answer.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("location").then_some(value)
    });
    let location = lines.next();
    assert!(lines.next().is_none() && !answer.to_lowercase().contains("\nset-cookie"), "{answer}");
    (status, location)
}

#[test]
fn every_request_leads_to_the_configured_name() {
    let server = Authority::new().server();
    let address = server.socket("http");
    let ours = |path: &str| format!("https://{DOMAIN}{path}");
    let host = |host: &str| format!("GET /a?b=c HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let long = "x".repeat(7_000);
    for (request, path) in [
        (host(DOMAIN), "/a?b=c"),
        (host("evil.example"), "/a?b=c"),
        (host("evil.example:8080"), "/a?b=c"),
        (host(&long), "/a?b=c"),
        ("GET /a HTTP/1.0\r\n\r\n".into(), "/a"),
        ("GET http://evil.example/a HTTP/1.1\r\nHost: evil.example\r\n\r\n".into(), "/a"),
        ("GET http://user@evil.example HTTP/1.1\r\nHost: x\r\n\r\n".into(), "/"),
        ("GET //evil.example/a HTTP/1.1\r\nHost: x\r\n\r\n".into(), "//evil.example/a"),
        ("GET /%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: x\r\n\r\n".into(), "/%0d%0aSet-Cookie:%20a=b"),
        ("GET /\"{}\" HTTP/1.1\r\nHost: x\r\n\r\n".into(), "/%22%7B%7D%22"),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".into(), "/"),
        ("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n".into(), "/a"),
        ("POST /authenticate HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".into(), "/authenticate"),
    ] {
        let answer = answer(address, request.as_bytes());
        assert_eq!(leads(&answer), (308, Some(ours(path).as_str())), "{request}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[test]
fn what_is_no_request_leads_nowhere() {
    let server = Authority::new().server();
    let address = server.socket("http");
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(9_000));
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(65));
    for (request, status) in [
        (&b"GET /\r\nLocation: http://evil.example HTTP/1.1\r\n\r\n"[..], 400),
        (b"GET / HTTP/1.1\r\nHost: x\nY\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: \r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: user:password@evil.example\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nHost: evil.example\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"\r\n \r\n\r\n", 400),
        (endless.as_bytes(), 431),
        (headers.as_bytes(), 431),
    ] {
        let answer = answer(address, request);
        assert_eq!(leads(&answer), (status, None), "{:?}", String::from_utf8_lossy(request));
    }
}

#[test]
fn a_body_that_nobody_wants_does_not_cost_the_answer() {
    let server = Authority::new().server();
    let mut line = Line::plain(server.socket("http")).unwrap();
    line.write_all(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n").unwrap();
    line.write_all(&[b'x'; 60_000]).unwrap();
    assert_eq!(leads(&line.read_all().unwrap()).0, 308);
}

#[test]
fn silent_and_slow_ones_go_and_newcomers_are_answered_meanwhile() {
    let server = Authority::new().start().set("LIMITS__HANDSHAKE_TIMEOUT", "5s").run();
    let address = server.socket("http");
    let mut open: Vec<Line> = (0..500).map(|_| Line::plain(address).unwrap()).collect();
    for line in open.iter_mut().step_by(2) {
        // Those dropped for others may be gone already.
        let _ = line.write_all(b"GET / HTTP/1.1\r\nX-Slow: ");
    }
    assert_eq!(leads(&answer(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).0, 308);
    for mut line in open {
        assert!(!line.read_all().unwrap_or_default().contains("308"));
    }
}
