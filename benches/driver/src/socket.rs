//! A WebSocket to a server, opened by hand and split, with writes gathered until they are flushed.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocketRead, WebSocketWrite, after_handshake_split};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use crate::wire;

/// Bytes gathered before one write to the socket, and read at once.
const BUFFER: usize = 64 * 1024;
/// Longest message taken from a server, in bytes.
const MAX_MESSAGE: usize = 1 << 30;

/// Where a server listens. Not `Debug`: the path may carry a token.
#[derive(Clone)]
pub struct Endpoint {
    /// Loopback address.
    pub address: SocketAddr,
    /// Path and query of the upgrade request.
    pub path: String,
    /// What it is encrypted by, if it is.
    pub tls: Option<Tls>,
}

/// How to find out that the server is the right one.
#[derive(Clone)]
pub struct Tls {
    /// Whom to trust.
    pub config: Arc<ClientConfig>,
    /// The server's name.
    pub name: &'static str,
}

type ReadHalf = Box<dyn AsyncRead + Send + Sync + Unpin>;
type WriteHalf = Box<dyn AsyncWrite + Send + Sync + Unpin>;

/// The writing half; shared with whoever answers pings.
pub struct Writer(WebSocketWrite<BufWriter<WriteHalf>>);

/// A writing half that tasks share.
pub type SharedWriter = Arc<Mutex<Writer>>;

impl Writer {
    /// Gather one message; `flush` sends it.
    pub async fn put(&mut self, message: Vec<u8>) -> Result<()> {
        Ok(self.0.write_frame(Frame::binary(Payload::Owned(message))).await?)
    }

    /// Send what was gathered.
    pub async fn flush(&mut self) -> Result<()> {
        Ok(self.0.flush().await?)
    }

    /// Send one message now.
    pub async fn send(&mut self, message: Vec<u8>) -> Result<()> {
        self.put(message).await?;
        self.flush().await
    }
}

/// The reading half.
pub struct Reader {
    socket: WebSocketRead<BufReader<ReadHalf>>,
    writer: SharedWriter,
}

enum Event {
    Message(BytesMut),
    Ping(Vec<u8>),
    Nothing,
}

impl Reader {
    /// The next message.
    pub async fn next(&mut self) -> Result<BytesMut> {
        self.next_or(async { Ok(()) }).await
    }

    /// The next message; if it is not there yet, `idle` runs first. So answers are written once for all that has
    /// arrived, as a client does that is behind.
    pub async fn next_or(&mut self, idle: impl Future<Output = Result<()>>) -> Result<BytesMut> {
        let mut idle = Some(idle);
        loop {
            let event = {
                let mut event = pin!(event(&mut self.socket));
                match poll_fn(|context| Poll::Ready(event.as_mut().poll(context))).await {
                    Poll::Ready(event) => event?,
                    Poll::Pending => {
                        if let Some(idle) = idle.take() {
                            idle.await?;
                        }
                        event.await?
                    }
                }
            };
            match event {
                Event::Message(message) => return Ok(message),
                Event::Ping(payload) => {
                    let mut writer = self.writer.lock().await;
                    writer.0.write_frame(Frame::pong(Payload::Owned(payload))).await?;
                    writer.flush().await?;
                }
                Event::Nothing => {}
            }
        }
    }
}

async fn event(socket: &mut WebSocketRead<BufReader<ReadHalf>>) -> Result<Event> {
    let mut no_reply = |_| async { Ok::<_, std::io::Error>(()) };
    let frame = socket.read_frame(&mut no_reply).await.context("the server dropped the connection")?;
    match frame.opcode {
        OpCode::Binary if frame.fin => Ok(Event::Message(take(frame.payload))),
        OpCode::Binary | OpCode::Continuation => {
            let mut whole = take(frame.payload);
            loop {
                let more = socket.read_frame(&mut no_reply).await?;
                ensure!(more.opcode == OpCode::Continuation, "a control frame inside a fragmented message");
                whole.extend_from_slice(&more.payload);
                if more.fin {
                    return Ok(Event::Message(whole));
                }
            }
        }
        OpCode::Ping => Ok(Event::Ping(frame.payload.to_vec())),
        OpCode::Pong => Ok(Event::Nothing),
        OpCode::Close => bail!("the server closed: {}", String::from_utf8_lossy(&frame.payload)),
        OpCode::Text => bail!("the server sent text"),
    }
}

fn take(payload: Payload<'_>) -> BytesMut {
    match payload {
        Payload::Bytes(bytes) => bytes,
        other => BytesMut::from(&other[..]),
    }
}

/// Open a WebSocket.
pub async fn open(endpoint: &Endpoint) -> Result<(Reader, SharedWriter)> {
    let stream = TcpStream::connect(endpoint.address).await?;
    stream.set_nodelay(true)?;
    let Some(Tls { config, name }) = &endpoint.tls else {
        return upgrade(endpoint, stream, |stream| split(stream, Role::Client)).await;
    };
    let stream = TlsConnector::from(Arc::clone(config)).connect((*name).try_into()?, stream).await?;
    upgrade(endpoint, stream, |stream| {
        let (read, write) = tokio::io::split(stream);
        halves(Box::new(read), Box::new(write), Role::Client)
    })
    .await
}

async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    endpoint: &Endpoint,
    mut stream: S,
    split: impl FnOnce(S) -> (Reader, SharedWriter),
) -> Result<(Reader, SharedWriter)> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        endpoint.path, endpoint.address
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < 16_384, "the answer to the upgrade request does not end");
        head.push(stream.read_u8().await.context("no answer to the upgrade request")?);
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 101"), "upgrade refused: {status}");
    Ok(split(stream))
}

/// Reader and writer over a stream that is upgraded already.
pub fn split(stream: TcpStream, role: Role) -> (Reader, SharedWriter) {
    let (read, write) = stream.into_split();
    halves(Box::new(read), Box::new(write), role)
}

fn halves(read: ReadHalf, write: WriteHalf, role: Role) -> (Reader, SharedWriter) {
    let (read, write) = (BufReader::with_capacity(BUFFER, read), BufWriter::with_capacity(BUFFER, write));
    let (mut socket, write) = after_handshake_split(read, write, role);
    socket.set_auto_pong(false);
    socket.set_auto_close(false);
    socket.set_max_message_size(MAX_MESSAGE);
    let writer = Arc::new(Mutex::new(Writer(write)));
    (Reader { socket, writer: Arc::clone(&writer) }, writer)
}

/// A joined connection.
pub struct Session {
    /// Messages from the server.
    pub reader: Reader,
    /// Messages to it.
    pub writer: SharedWriter,
    /// Our peer id.
    pub peer: String,
    /// The server's.
    pub server: String,
}

/// Open a WebSocket and join as `peer`; with a storage id if the device keeps documents.
pub async fn join(endpoint: &Endpoint, peer: &str, storage: Option<&str>) -> Result<Session> {
    let (mut reader, writer) = open(endpoint).await?;
    writer.lock().await.send(wire::join(peer, storage)?).await?;
    loop {
        let frame = reader.next().await?;
        let incoming = wire::read(&frame)?;
        match incoming.kind {
            "peer" => {
                let server = incoming.sender.to_owned();
                return Ok(Session { reader, writer, peer: peer.to_owned(), server });
            }
            "error" => bail!("the server refused to be joined: {}", incoming.message),
            _ => {}
        }
    }
}
