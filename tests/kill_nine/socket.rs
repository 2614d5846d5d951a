//! automerge-repo's messages over a WebSocket, written apart from the server's own code on purpose.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, Role, WebSocket};
use http_body_util::Empty;
use hyper::Request;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use tokio::io::{Join, ReadHalf, Sink, WriteHalf, empty, join, sink, split};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

type Stream = TokioIo<Upgraded>;

const CONNECT: Duration = Duration::from_secs(10);

/// A message about a document.
#[derive(Debug)]
pub struct Message {
    /// `sync`, `doc-unavailable` and so on.
    pub kind: String,
    /// The document, if the message is about one.
    pub document: String,
    /// The automerge sync message, if there is one.
    pub data: Vec<u8>,
}

enum Incoming {
    Message(Vec<u8>),
    Ping(Vec<u8>),
}

/// A joined connection.
pub struct Socket {
    writer: WebSocket<Join<tokio::io::Empty, WriteHalf<Stream>>>,
    incoming: mpsc::UnboundedReceiver<Incoming>,
    peer: String,
    server: String,
}

struct Spawn;

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

impl Socket {
    /// Connect and join as `peer`.
    pub async fn join(port: u16, token: &str, peer: &str) -> Result<Self, String> {
        tokio::time::timeout(CONNECT, Self::connect(port, token, peer))
            .await
            .map_err(|_| format!("{peer}: no answer to join within {CONNECT:?}"))?
    }

    async fn connect(port: u16, token: &str, peer: &str) -> Result<Self, String> {
        let stream =
            TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| format!("connect: {error}"))?;
        stream.set_nodelay(true).map_err(|error| format!("connect: {error}"))?;
        let request = Request::builder()
            .uri(format!("/?token={token}"))
            .header("Host", format!("127.0.0.1:{port}"))
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", fastwebsockets::handshake::generate_key())
            .body(Empty::<Bytes>::new())
            .map_err(|error| format!("upgrade: {error}"))?;
        let (socket, _) = fastwebsockets::handshake::client(&Spawn, request, stream)
            .await
            .map_err(|error| format!("upgrade: {error}"))?;
        // Reading and writing go on at once, each on its half of the stream.
        let (read, write) = split(socket.into_inner());
        let mut writer = WebSocket::after_handshake(join(empty(), write), Role::Client);
        writer.set_auto_close(false);
        let (sender, incoming) = mpsc::unbounded_channel();
        tokio::spawn(receive(read, sender));
        let mut socket = Self { writer, incoming, peer: peer.to_owned(), server: String::new() };
        socket.write(OpCode::Binary, join_message(peer)?).await?;
        let answer = socket.frame().await?;
        let (fields, _) = decode(&answer)?;
        if fields.kind != "peer" {
            return Err(format!("{peer}: answered by {:?} instead of peer", fields.kind));
        }
        socket.server = fields.sender;
        Ok(socket)
    }

    async fn write(&mut self, opcode: OpCode, bytes: Vec<u8>) -> Result<(), String> {
        let frame = Frame::new(true, opcode, None, Payload::Owned(bytes));
        self.writer.write_frame(frame).await.map_err(|error| format!("write: {error}"))
    }

    async fn frame(&mut self) -> Result<Vec<u8>, String> {
        loop {
            match self.incoming.recv().await {
                Some(Incoming::Message(bytes)) => return Ok(bytes),
                Some(Incoming::Ping(bytes)) => self.write(OpCode::Pong, bytes).await?,
                None => return Err("the connection is closed".to_owned()),
            }
        }
    }

    /// Send a `sync` or `request` message.
    pub async fn send(&mut self, kind: &str, document: &str, data: &[u8]) -> Result<(), String> {
        let message = encode(kind, &self.peer, &self.server, document, data)?;
        self.write(OpCode::Binary, message).await
    }

    /// The next message.
    pub async fn receive(&mut self) -> Result<Message, String> {
        let bytes = self.frame().await?;
        let (fields, data) = decode(&bytes)?;
        Ok(Message { kind: fields.kind, document: fields.document, data })
    }

    /// Whether a message is waiting.
    pub fn is_behind(&self) -> bool {
        !self.incoming.is_empty()
    }
}

/// Pass on what arrives until the connection ends.
async fn receive(read: ReadHalf<Stream>, sender: mpsc::UnboundedSender<Incoming>) {
    let mut socket: WebSocket<Join<ReadHalf<Stream>, Sink>> =
        WebSocket::after_handshake(join(read, sink()), Role::Client);
    socket.set_auto_pong(false);
    socket.set_auto_close(false);
    let mut socket = FragmentCollector::new(socket);
    while let Ok(frame) = socket.read_frame().await {
        let bytes = frame.payload.to_vec();
        let passed = match frame.opcode {
            OpCode::Binary => sender.send(Incoming::Message(bytes)),
            OpCode::Ping => sender.send(Incoming::Ping(bytes)),
            OpCode::Close => return,
            OpCode::Text | OpCode::Pong | OpCode::Continuation => Ok(()),
        };
        if passed.is_err() {
            return;
        }
    }
}

#[derive(Default)]
struct Fields {
    kind: String,
    sender: String,
    document: String,
}

fn cbor<E: std::fmt::Display>(error: E) -> String {
    format!("CBOR: {error}")
}

fn join_message(peer: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut e = Encoder::new(&mut bytes);
    e.map(4).map_err(cbor)?;
    e.str("type").map_err(cbor)?.str("join").map_err(cbor)?;
    e.str("senderId").map_err(cbor)?.str(peer).map_err(cbor)?;
    e.str("peerMetadata").map_err(cbor)?.map(1).map_err(cbor)?;
    e.str("isEphemeral").map_err(cbor)?.bool(true).map_err(cbor)?;
    e.str("supportedProtocolVersions").map_err(cbor)?.array(1).map_err(cbor)?.str("1").map_err(cbor)?;
    Ok(bytes)
}

fn encode(kind: &str, sender: &str, target: &str, document: &str, data: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(data.len() + 200);
    let mut e = Encoder::new(&mut bytes);
    e.map(5).map_err(cbor)?;
    for (key, text) in [("type", kind), ("senderId", sender), ("targetId", target), ("documentId", document)]
    {
        e.str(key).map_err(cbor)?.str(text).map_err(cbor)?;
    }
    e.str("data").map_err(cbor)?.bytes(data).map_err(cbor)?;
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<(Fields, Vec<u8>), String> {
    let mut d = Decoder::new(bytes);
    let (mut fields, mut data) = (Fields::default(), Vec::new());
    let length = d.map().map_err(cbor)?.ok_or("CBOR: a map without a length")?;
    for _ in 0..length {
        let key = d.str().map_err(cbor)?;
        match (key, d.datatype().map_err(cbor)?) {
            ("type", _) => fields.kind = d.str().map_err(cbor)?.to_owned(),
            ("senderId", _) => fields.sender = d.str().map_err(cbor)?.to_owned(),
            ("documentId", _) => fields.document = d.str().map_err(cbor)?.to_owned(),
            ("data", Type::Bytes) => data = d.bytes().map_err(cbor)?.to_vec(),
            _ => d.skip().map_err(cbor)?,
        }
    }
    Ok((fields, data))
}
