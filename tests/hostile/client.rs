//! A WebSocket connection as foes and victims alike use it: asynchronous, and an error wherever a foe may be refused.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use minicbor::Encoder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};

use crate::common::peer::field;
use crate::common::websocket::{BINARY, PING, PONG, head};

/// Where and as whom to join.
#[derive(Clone)]
pub struct Joining<'a> {
    pub address: SocketAddr,
    pub token: &'a str,
    pub peer: &'a str,
    pub storage: Option<&'a str>,
    /// The address that it comes from.
    pub from: Ipv4Addr,
    /// Wait so long in the middle of the request, as over a slow line.
    pub slow: Duration,
}

impl<'a> Joining<'a> {
    /// At once, without a storage.
    pub fn new(address: SocketAddr, token: &'a str, peer: &'a str) -> Self {
        Self { address, token, peer, storage: None, from: Ipv4Addr::LOCALHOST, slow: Duration::ZERO }
    }
}

/// Connects from an address of this machine.
pub async fn connect(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// One joined connection.
pub struct Client {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    buffer: BytesMut,
    /// The server's peer id.
    pub server: String,
}

fn refused(why: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::ConnectionRefused, why.into())
}

impl Client {
    /// Connects, upgrades and joins.
    pub async fn join(joining: &Joining<'_>) -> io::Result<Self> {
        let stream = connect(joining.from, joining.address).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let mut client = Self { read, write, buffer: BytesMut::new(), server: String::new() };
        client.upgrade(joining).await?;
        client.send(&join_message(joining.peer, joining.storage)).await?;
        let answer = client.receive().await?;
        if field(&answer, "type").as_deref() != Some("peer") {
            return Err(refused(field(&answer, "message").unwrap_or_default()));
        }
        client.server = field(&answer, "senderId").unwrap_or_default();
        Ok(client)
    }

    async fn upgrade(&mut self, joining: &Joining<'_>) -> io::Result<()> {
        let request = format!(
            "GET /?token={} HTTP/1.1\r\nHost: sync.example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            joining.token
        );
        if joining.slow.is_zero() {
            self.write.write_all(request.as_bytes()).await?;
        } else {
            let (first, rest) = request.as_bytes().split_at(40);
            self.write.write_all(first).await?;
            tokio::time::sleep(joining.slow).await;
            self.write.write_all(rest).await?;
        }
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer.split_to(end)).into_owned();
        if head.starts_with("HTTP/1.1 101") {
            Ok(())
        } else {
            Err(refused(head.lines().next().unwrap_or("?")))
        }
    }

    /// Any bytes.
    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await
    }

    /// One binary message.
    pub async fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        self.raw(&frame(BINARY, payload)).await
    }

    /// The next binary message; an error when the connection ends.
    pub async fn receive(&mut self) -> io::Result<Bytes> {
        loop {
            while let Some((first, payload)) = self.take_frame() {
                match first {
                    BINARY => return Ok(payload),
                    PING => self.raw(&frame(PONG, &payload)).await?,
                    PONG => {}
                    _ => {
                        let reason =
                            String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                        return Err(io::Error::new(
                            ErrorKind::ConnectionAborted,
                            format!("closed: {reason}"),
                        ));
                    }
                }
            }
            self.fill().await?;
        }
    }

    /// Writes some of the bytes, which may be none, or receives a message: how many were written, or the message.
    pub async fn write_or_receive(&mut self, bytes: &[u8]) -> io::Result<Result<usize, Bytes>> {
        loop {
            if let Some((first, payload)) = self.take_frame() {
                match first {
                    BINARY => return Ok(Err(payload)),
                    _ => continue,
                }
            }
            tokio::select! {
                biased;
                read = self.read.read_buf(&mut self.buffer) => match read? {
                    0 => return Err(ErrorKind::UnexpectedEof.into()),
                    _ => continue,
                },
                written = self.write.write(bytes), if !bytes.is_empty() => return Ok(Ok(written?)),
            }
        }
    }

    /// Reads on, so that the server can write, and looks at nothing, until the connection ends.
    pub async fn drain(mut read: OwnedReadHalf) {
        let mut bytes = vec![0; 64 * 1024];
        while read.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    }

    /// The two halves.
    pub fn split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        (self.read, self.write)
    }

    fn take_frame(&mut self) -> Option<(u8, Bytes)> {
        let &[first, second, ..] = &self.buffer[..] else { return None };
        let (head, length) = match second {
            126 => (4, u64::from(u16::from_be_bytes(self.buffer.get(2..4)?.try_into().unwrap()))),
            127 => (10, u64::from_be_bytes(self.buffer.get(2..10)?.try_into().unwrap())),
            short => (2, u64::from(short)),
        };
        if self.buffer.len() < head + length as usize {
            return None;
        }
        self.buffer.advance(head);
        Some((first, self.buffer.split_to(length as usize).freeze()))
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.read.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// A client frame whose mask is zeros: the payload as it is, which costs a foe nothing.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&frame_head(first, payload.len()), payload].concat()
}

/// Its head alone; as many bytes are to follow.
pub fn frame_head(first: u8, length: usize) -> Vec<u8> {
    [head(first, 0x80, length as u64), vec![0; 4]].concat()
}

fn join_message(peer: &str, storage: Option<&str>) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new());
    e.map(4).unwrap().str("type").unwrap().str("join").unwrap().str("senderId").unwrap().str(peer).unwrap();
    e.str("peerMetadata").unwrap().map(1 + u64::from(storage.is_some())).unwrap();
    e.str("isEphemeral").unwrap().bool(storage.is_none()).unwrap();
    if let Some(storage) = storage {
        e.str("storageId").unwrap().str(storage).unwrap();
    }
    e.str("supportedProtocolVersions").unwrap().array(1).unwrap().str("1").unwrap();
    e.into_writer()
}
