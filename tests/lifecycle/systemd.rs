//! What systemd hears of the server on its notification socket (sd_notify(3)).

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::common::{PATIENCE, Peer, Server, Start};

/// In place of systemd.
struct Systemd {
    socket: UnixDatagram,
    dir: tempfile::TempDir,
}

impl Systemd {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, dir }
    }

    fn start(&self) -> Start {
        Start::default().variable("NOTIFY_SOCKET", self.path().to_str().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("notify")
    }

    /// The next message, in lines.
    fn hears(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).unwrap();
        std::str::from_utf8(&bytes[..length]).unwrap().lines().map(str::to_owned).collect()
    }

    /// Hears on until a message has such a line: all of it.
    fn hears_until(&self, line: impl Fn(&str) -> bool) -> Vec<String> {
        loop {
            let message = self.hears();
            if message.iter().any(|found| line(found)) {
                return message;
            }
        }
    }

    /// Nothing more has come.
    fn is_silent(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        self.socket.recv(&mut [0; 16]).is_err()
    }
}

#[test]
fn it_is_ready_when_it_serves_and_stopping_when_told() {
    let systemd = Systemd::new();
    let mut server = systemd.start().run();
    assert_eq!(systemd.hears(), ["READY=1"], "the first that is heard");
    assert_eq!(systemd.hears(), ["STATUS=0 connections, 0 documents in memory"]);
    let mut peer = Peer::join(&server, "peer");
    server.signal("TERM");
    assert_eq!(systemd.hears_until(|line| !line.starts_with("STATUS=")), ["STOPPING=1"]);
    assert_eq!(peer.socket.closed().unwrap().0, 1001);
    drop(peer);
    assert_eq!(server.wait().code(), Some(0));
    assert!(systemd.is_silent());
}

#[test]
fn the_watchdog_is_fed_and_the_status_kept() {
    let systemd = Systemd::new();
    let server = systemd.start().variable("WATCHDOG_USEC", "300000").run();
    assert_eq!(systemd.hears(), ["READY=1"]);
    for _ in 0..3 {
        systemd.hears_until(|line| line == "WATCHDOG=1");
    }
    let _peer = Peer::join(&server, "peer");
    systemd.hears_until(|line| line == "STATUS=1 connection, 0 documents in memory");
    systemd.hears_until(|line| line == "WATCHDOG=1");
}

#[test]
fn one_that_cannot_start_is_never_ready() {
    let systemd = Systemd::new();
    let first = Server::start();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_groundmist-sync"))
        .args(["serve", "--dev", "--port", "0", "--data-dir"])
        .arg(&first.data_dir)
        .env("NOTIFY_SOCKET", systemd.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(systemd.is_silent());
}

#[test]
fn a_reload_is_told_with_its_time_and_its_end() {
    let systemd = Systemd::new();
    let server = systemd.start().run();
    assert_eq!(systemd.hears(), ["READY=1"]);
    for by_signal in [true, false] {
        if by_signal {
            server.signal("HUP");
        } else {
            assert!(server.command(&["reload"]).status.success());
        }
        let begun = systemd.hears_until(|line| line == "RELOADING=1");
        let at: u64 = begun[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(at <= uptime_us(), "{begun:?}");
        assert_eq!(systemd.hears_until(|line| !line.starts_with("STATUS=")), ["READY=1"]);
    }
}

/// What CLOCK_MONOTONIC shows at most.
fn uptime_us() -> u64 {
    let text = std::fs::read_to_string(Path::new("/proc/uptime")).unwrap();
    let seconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
    (seconds * 1e6) as u64 + 1_000_000
}
