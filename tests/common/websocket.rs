//! A WebSocket client of bare bytes, so that a test can break every rule.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Line, PATIENCE};

pub const BINARY: u8 = 0x82;
pub const TEXT: u8 = 0x81;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;
const MASK: [u8; 4] = [0x5a, 0x01, 0xf0, 0x33];

/// A server frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// First byte: FIN and opcode.
    pub first: u8,
    pub payload: Vec<u8>,
}

/// The server's answer when it did not upgrade.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    /// Head and body.
    pub answer: String,
}

/// One connection.
pub struct WebSocket {
    pub stream: Line,
    /// Received and not yet looked at.
    buffer: Vec<u8>,
    /// Head of the answer to the upgrade.
    pub upgrade: String,
    /// Answer pings, as every client does.
    pub pongs: bool,
}

impl WebSocket {
    /// Upgrades at `/` with `?token=`.
    pub fn connect(address: SocketAddr, token: &str) -> Result<Self, Refused> {
        Self::upgrade(address, &format!("/?token={token}"), &[])
    }

    /// Upgrades at any path with any headers.
    pub fn upgrade(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        Self::upgrade_on(Line::plain(address).unwrap(), path, headers)
    }

    /// The same on a connection that is there.
    pub fn upgrade_on(mut stream: Line, path: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: sync.example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{request}\r\n").as_bytes()).unwrap();
        let mut socket = Self { stream, buffer: Vec::new(), upgrade: String::new(), pongs: true };
        let deadline = Instant::now() + PATIENCE;
        let end = loop {
            if let Some(at) = socket.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(socket.fill(deadline), "no answer to the upgrade: {:?}", socket.buffer);
        };
        let head = String::from_utf8(socket.buffer.drain(..end).collect()).unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status != 101 {
            let length = head.to_ascii_lowercase();
            let length = length.split("content-length: ").nth(1).map(|rest| rest.lines().next().unwrap());
            let length: usize = length.map_or(0, |text| text.parse().unwrap());
            while socket.buffer.len() < length && socket.fill(deadline) {}
            return Err(Refused { status, answer: head + &String::from_utf8_lossy(&socket.buffer) });
        }
        // The answer to the key of RFC 6455's example.
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        socket.upgrade = head;
        Ok(socket)
    }

    /// One binary message.
    pub fn send(&mut self, payload: &[u8]) {
        self.frame(BINARY, payload).unwrap();
    }

    /// One masked frame; `first` holds FIN and opcode.
    pub fn frame(&mut self, first: u8, payload: &[u8]) -> std::io::Result<()> {
        let bytes = masked(first, payload);
        self.stream.write_all(&bytes)
    }

    /// Anything.
    pub fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame that is not a ping; `None` when the connection ended or `deadline` passed.
    pub fn receive_until(&mut self, deadline: Instant) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take_frame() {
                if frame.first == PING {
                    if self.pongs {
                        self.frame(PONG, &frame.payload).ok()?;
                    }
                    continue;
                }
                return Some(frame);
            }
            if !self.fill(deadline) {
                return None;
            }
        }
    }

    /// The next frame that is not a ping.
    pub fn receive(&mut self) -> Option<Frame> {
        self.receive_until(Instant::now() + PATIENCE)
    }

    /// Reads on until the server closes: the close code and reason, or `None` if the connection just ended.
    pub fn closed(&mut self) -> Option<(u16, String)> {
        let deadline = Instant::now() + PATIENCE;
        while let Some(frame) = self.receive_until(deadline) {
            if frame.first == CLOSE {
                let code =
                    u16::from_be_bytes(frame.payload.get(..2).map_or([0, 0], |two| two.try_into().unwrap()));
                return Some((
                    code,
                    String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default()).into(),
                ));
            }
        }
        assert!(Instant::now() < deadline, "the server did not close the connection");
        None
    }

    /// The connection ends within `patience`, whatever is still sent on it.
    pub fn ends_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.receive_until(deadline).is_some() {}
        Instant::now() < deadline
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let &[first, second, ..] = &self.buffer[..] else { return None };
        assert_eq!(second & 0x80, 0, "servers do not mask");
        let (head, length) = match second {
            126 => (4, u64::from(u16::from_be_bytes(self.buffer.get(2..4)?.try_into().unwrap()))),
            127 => (10, u64::from_be_bytes(self.buffer.get(2..10)?.try_into().unwrap())),
            short => (2, u64::from(short)),
        };
        let end = head + length as usize;
        let payload = self.buffer.get(head..end)?.to_vec();
        self.buffer.drain(..end);
        Some(Frame { first, payload })
    }

    /// Waits for more bytes; false when there will be none before `deadline`.
    fn fill(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        self.stream.set_read_timeout(Some(left)).unwrap();
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&bytes[..read]);
                true
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(_) => false,
        }
    }
}

/// A masked client frame.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, 0x80, payload.len() as u64);
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A frame's head without the mask; the length may be a lie.
pub fn head(first: u8, mask_bit: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(mask_bit | length as u8),
        126..65536 => {
            bytes.push(mask_bit | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes
}
