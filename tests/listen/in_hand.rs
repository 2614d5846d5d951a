//! A request that is being answered does not give way to those who only connect.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use groundmist_sync::web::MAX_HALF_OPEN;
use serde_json::{Value, json};

use crate::common::{Line, Start};

const OWNER: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";

#[test]
fn an_app_is_answered_though_hundreds_connect_meanwhile() {
    // The directory that knows the owner's keys takes its time.
    let directory = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", directory.local_addr().unwrap());
    let server = Start::default().set("OWNER", OWNER).set("IDENTITY__PLC_DIRECTORY", &url).run();
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let us = format!("did:web:127.0.0.1%3A{}#groundmist_sync", server.address.port());
    let token = format!(
        "{}.{}.{}",
        part(json!({ "typ": "JWT", "alg": "ES256K" })),
        part(json!({
            "iss": OWNER, "aud": us, "lxm": "xyz.groundmist.sync.authenticate",
            "iat": now, "exp": now + 60, "jti": "0123456789abcdef0123456789abcdef",
        })),
        URL_SAFE_NO_PAD.encode([7; 64]),
    );
    let body = r#"{"lexiconAuthorityDomain":"xyz.example"}"#;
    let mut asking = Line::plain(server.address).unwrap();
    write!(
        asking,
        "POST /authenticate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let (mut asked, _) = directory.accept().unwrap();
    let mut others: Vec<Line> =
        (0..2 * MAX_HALF_OPEN).map(|_| Line::plain(server.address).unwrap()).collect();
    assert_eq!(others[0].read(&mut [0]).unwrap(), 0, "the oldest of them gave way");
    asked.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    let answer = asking.read_all().unwrap();
    assert!(answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 503"), "{answer}");
}
