//! Sockets that were passed on as systemd does it: a restart refuses nobody.

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rustls::ClientConfig;
use tempfile::TempDir;

use crate::common::authority::DOMAIN;
use crate::common::peer::new_document;
use crate::common::{Authority, Line, Peer, Server, Start, wait_for};

/// What systemd holds while the server comes and goes.
struct Sockets {
    https: TcpListener,
    http: TcpListener,
    authority: Authority,
    data: TempDir,
}

impl Sockets {
    fn new() -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let data = tempfile::tempdir().unwrap();
        Self { https: listen(), http: listen(), authority: Authority::new(), data }
    }

    fn start(&self) -> Server {
        let start = self.authority.configure(Start::default()).pass_on(&self.https, &self.http);
        start.data_dir(self.data.path()).run()
    }
}

/// One request on a connection of its own: whether it was answered. That the connection is made at all is a must.
fn ask(address: SocketAddr, config: &Arc<ClientConfig>) -> bool {
    let mut line = match Line::encrypted(address, config, DOMAIN) {
        Ok(line) => line,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => panic!("a connection was refused"),
        // Accepted by a server that was about to end.
        Err(_) => return false,
    };
    let asked = line.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    asked.is_ok() && line.read_all().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// Ends the load, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[test]
fn they_are_used_by_name_and_others_are_closed() {
    let sockets = Sockets::new();
    let server = sockets.start();
    assert_eq!(server.socket("https"), sockets.https.local_addr().unwrap());
    assert_eq!(server.socket("http"), sockets.http.local_addr().unwrap());
    assert!(server.log().contains("socket=\"odd\""), "{}", server.log());
    let mut line = Line::plain(sockets.http.local_addr().unwrap()).unwrap();
    line.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(line.read_all().unwrap().contains(&format!("https://{DOMAIN}/a")));
    Peer::join(&server, "peer").store(new_document(), "key", "value");
}

#[test]
fn restarts_under_load_refuse_nobody_and_clients_converge() {
    let sockets = Sockets::new();
    let mut server = sockets.start();
    let (address, config) = (server.address, server.tls.clone().unwrap());
    let (running, answered) = (AtomicBool::new(true), AtomicU32::new(0));
    let document = new_document();
    let mut writer = Peer::join(&server, "writer");
    let mut reader = Peer::join(&server, "reader");
    writer.store(document, "start", "yes");
    reader.find(document, "start");
    thread::scope(|scope| {
        let stop = Stop(&running);
        let load: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while running.load(Ordering::Relaxed) {
                        answered.fetch_add(u32::from(ask(address, &config)), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let served = |what: &str| {
            let before = answered.load(Ordering::Relaxed);
            wait_for(what, || (answered.load(Ordering::Relaxed) > before + 4).then_some(()));
        };
        for round in 0..3 {
            served("the load to be served");
            let key = format!("before restart {round}");
            writer.put(document, &key, "sent, perhaps not heard");
            assert_eq!(server.terminate().code(), Some(0));
            writer.put_offline(document, &format!("during restart {round}"), "offline");
            server = sockets.start();
            assert_eq!(server.address, address);
            writer.rejoin(&server).unwrap();
            writer.until("the acknowledgement", |writer| writer.is_acknowledged(document));
            reader.rejoin(&server).unwrap();
            let during = format!("during restart {round}");
            reader.until("both changes", |reader| {
                reader.get(document, &key).is_some() && reader.get(document, &during).is_some()
            });
        }
        served("the load to be served after all restarts");
        drop(stop);
        load.into_iter().for_each(|load| load.join().expect("a connection was refused"));
    });
}
