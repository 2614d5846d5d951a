//! A flood of connections that never say anything, from a few addresses: whoever comes from elsewhere is served, slow or not.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::common::authority::DOMAIN;
use crate::common::{Authority, Line, PATIENCE, Server, Start};

/// Between the connection and its first byte.
const SLOW: Duration = Duration::from_millis(300);
/// How often the slow client tries.
const TRIES: u32 = 8;
/// Where the slow client comes from.
const ELSEWHERE: u8 = 9;
/// A ClientHello's first bytes, and a request's.
const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
const HEAD: &[u8] = b"GET /sync HTTP/1.1\r\nHost: x\r\nX-Slow: ";
/// Connections that the flood keeps open.
const KEPT: usize = 2_000;

/// A connection from `127.0.0.last`.
fn connect_from(last: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&stream, &SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))?;
    connect(&stream, &SocketAddr::new(Ipv4Addr::LOCALHOST.into(), to.port()))?;
    let stream = TcpStream::from(stream);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Opens a thousand connections a second from as many addresses, until it is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn from(addresses: u8, to: SocketAddr, start: &'static [u8]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            let begun = Instant::now();
            let mut open = VecDeque::new();
            for n in 0u32.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // Half of them send something that promises more.
                if let Ok(mut stream) = connect_from(2 + (n % u32::from(addresses)) as u8, to) {
                    if n % 2 == 0 {
                        let _ = stream.write_all(start);
                    }
                    open.push_back(stream);
                }
                if open.len() > KEPT {
                    open.pop_front();
                }
                let due = begun + Duration::from_millis(u64::from(n));
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        };
        let flood = Self { stop, thread: Some(thread::spawn(run)) };
        // By then it has all the places that it can get.
        thread::sleep(Duration::from_secs(1));
        flood
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Asks, slowly, for `/healthz`: the answer's first line.
fn ask_slowly(server: &Server, to: SocketAddr, is_encrypted: bool) -> std::io::Result<String> {
    let stream = connect_from(ELSEWHERE, to)?;
    thread::sleep(SLOW);
    let mut line = match &server.tls {
        Some(config) if is_encrypted => Line::encrypted_on(stream, config, DOMAIN)?,
        _ => Line::plain_on(stream)?,
    };
    line.write_all(b"GET /healthz HTTP/1.1\r\nHost: sync.example.org\r\nConnection: close\r\n\r\n")?;
    Ok(line.read_all()?.lines().next().unwrap_or_default().to_owned())
}

fn served(server: &Server, to: SocketAddr, is_encrypted: bool, addresses: u8, status: &str, reason: &str) {
    let flood = Flood::from(addresses, to, if is_encrypted { HELLO } else { HEAD });
    for n in 1..=TRIES {
        let answer = ask_slowly(server, to, is_encrypted);
        assert!(answer.as_ref().is_ok_and(|line| line.contains(status)), "try {n} of {TRIES}: {answer:?}");
    }
    drop(flood);
    let (_, metrics) = server.admin_get("/metrics");
    let gave_way = format!("groundmist_evicted_connections_total{{reason=\"{reason}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&gave_way)).map(str::parse::<u64>);
    assert!(matches!(count, Some(Ok(1..))), "there was no flood: {metrics}");
}

#[test]
fn a_slow_client_shakes_hands_while_four_addresses_flood() {
    let authority = Authority::new();
    let server = authority.start().run();
    served(&server, server.address, true, 4, " 200 ", "tls_handshakes");
}

#[test]
fn a_slow_client_is_sent_on_while_port_80_is_flooded() {
    let authority = Authority::new();
    let server = authority.start().run();
    served(&server, server.socket("http"), false, 4, " 308 ", "redirects");
}

#[test]
fn a_slow_client_is_served_without_tls_while_one_address_floods() {
    let server = Start::default().run();
    served(&server, server.address, false, 1, " 200 ", "http_requests");
}

#[test]
fn a_trusted_proxy_is_served_while_its_neighbour_floods() {
    let proxy = format!("127.0.0.{ELSEWHERE}");
    let server = Start::default().set("LISTEN__TRUSTED_PROXIES", &proxy).run();
    // The proxy keeps more connections than any one flooding address can have when many flood.
    let pool: Vec<_> = (0..100).map(|_| connect_from(ELSEWHERE, server.address).unwrap()).collect();
    served(&server, server.address, false, 4, " 200 ", "http_requests");
    for stream in pool {
        let mut line = Line::plain_on(stream).unwrap();
        line.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        assert!(line.read_all().unwrap().contains(" 200 "), "a connection of the proxy's pool was dropped");
    }
}
