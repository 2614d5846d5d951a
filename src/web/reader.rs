//! Reads WebSocket messages with every size checked before it is believed.
//!
//! fastwebsockets does the handshake, the masks and the frame heads. Its reader is not used: it reserves what a
//! frame head claims, collects fragments without a limit, keeps 8 kB for every idle connection, accepts unmasked
//! frames, and hands out slices that keep a whole receive buffer alive for as long as one change is kept.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::ready;

use bytes::{BufMut, Bytes};
use fastwebsockets::{OpCode, unmask};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::frame::{Head, Violation, close_code, parse_head};
use super::liveness::Liveness;

/// Bytes read from a socket at once.
const READ_BYTES: usize = 32 * 1024;
/// Messages up to this size need no share of the receive budget.
pub const SMALL_MESSAGE: usize = 16 * 1024;

thread_local! {
    // One per worker thread instead of one per connection.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole binary message.
    Message(Bytes),
    /// Answer with a pong of the same payload.
    Ping(Bytes),
    /// An answer to our ping.
    Pong,
    /// The client closes, with this code if it gave one.
    Close(Option<u16>),
}

/// Why nothing more can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The socket failed or ended in the middle of a frame.
    #[error("reading from the client failed: {0}")]
    Io(#[from] std::io::Error),
    /// The client left without a close frame.
    #[error("the client hung up")]
    HungUp,
    /// Not WebSocket.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// Text where only binary messages are spoken.
    #[error("text message received: this protocol sends binary messages only")]
    Text,
    /// A message above the limit.
    #[error("message is larger than the limit of {0} bytes (limits.message_bytes)")]
    TooBig(usize),
}

/// Collects messages from the reading half of an upgraded connection.
///
/// Holds no buffer while nothing is under way. Large messages share a budget between all connections, so that many
/// half-sent ones cannot add up: a connection that finds it used up waits, unread, for its turn.
pub struct MessageReader<'a, R> {
    io: R,
    /// Read and not yet parsed, from `at`.
    pending: Vec<u8>,
    at: usize,
    /// Payload of the message under way.
    message: Vec<u8>,
    fragmented: bool,
    limit: usize,
    budget: Arc<Semaphore>,
    share: Option<OwnedSemaphorePermit>,
    liveness: &'a Liveness,
}

impl<'a, R: AsyncRead + Unpin> MessageReader<'a, R> {
    /// Reads messages of at most `limit` bytes; those above [`SMALL_MESSAGE`] take their size from `budget`, which must
    /// have at least `limit` permits.
    pub fn new(io: R, limit: usize, budget: Arc<Semaphore>, liveness: &'a Liveness) -> Self {
        Self {
            io,
            pending: Vec::new(),
            at: 0,
            message: Vec::new(),
            fragmented: false,
            limit,
            budget,
            share: None,
            liveness,
        }
    }

    /// The next message or control frame. Not cancel safe: a dropped call may lose half a frame.
    /// # Errors
    /// The connection is of no more use.
    pub async fn next(&mut self) -> Result<Incoming, ReadError> {
        loop {
            let head = self.head().await?;
            match head.opcode {
                OpCode::Ping | OpCode::Pong | OpCode::Close => return self.control(&head).await,
                OpCode::Text => return Err(ReadError::Text),
                OpCode::Binary if self.fragmented => {
                    return Err(Violation("a new message began before the last one had ended").into());
                }
                OpCode::Continuation if !self.fragmented => {
                    return Err(Violation("continuation frame without a message to continue").into());
                }
                OpCode::Binary | OpCode::Continuation => {}
            }
            self.payload(&head).await?;
            self.fragmented = !head.fin;
            if head.fin {
                self.share = None;
                return Ok(Incoming::Message(std::mem::take(&mut self.message).into()));
            }
        }
    }

    /// The socket's reading half, to read what is left of it raw.
    pub fn into_inner(self) -> R {
        self.io
    }

    async fn head(&mut self) -> Result<Head, ReadError> {
        loop {
            let unparsed = &self.pending[self.at..];
            if let Some((head, size)) = parse_head(unparsed)? {
                self.at += size;
                return Ok(head);
            }
            let idle = unparsed.is_empty() && !self.fragmented;
            if !self.fill().await? {
                return Err(if idle { ReadError::HungUp } else { cut_off() });
            }
        }
    }

    async fn control(&mut self, head: &Head) -> Result<Incoming, ReadError> {
        let length = head.length as usize; // a control frame's is small, see parse_head
        while self.pending.len() - self.at < length {
            if !self.fill().await? {
                return Err(cut_off());
            }
        }
        let mut payload = self.pending[self.at..self.at + length].to_vec();
        self.at += length;
        unmask(&mut payload, head.mask);
        match head.opcode {
            OpCode::Ping => Ok(Incoming::Ping(payload.into())),
            OpCode::Pong => Ok(Incoming::Pong),
            _ => Ok(Incoming::Close(close_code(&payload)?)),
        }
    }

    async fn payload(&mut self, head: &Head) -> Result<(), ReadError> {
        let start = self.message.len();
        let Some(end) = usize::try_from(head.length)
            .ok()
            .and_then(|length| start.checked_add(length))
            .filter(|end| *end <= self.limit)
        else {
            return Err(ReadError::TooBig(self.limit));
        };
        if end > SMALL_MESSAGE && self.share.is_none() {
            // Of a fragmented message only the first part is known: it takes all it may come to.
            let bytes = if head.fin { end } else { self.limit };
            self.share = Some(self.take_share(bytes).await?);
        }
        while self.message.len() < end {
            let missing = end - self.message.len();
            let ready = &self.pending[self.at..];
            if ready.is_empty() {
                self.grow(missing);
                let mut room = (&mut self.message).limit(missing);
                if self.io.read_buf(&mut room).await? == 0 {
                    return Err(cut_off());
                }
                self.liveness.heard();
            } else {
                let take = ready.len().min(missing);
                match start {
                    0 => self.message.reserve_exact(if missing <= SMALL_MESSAGE { missing } else { take }),
                    // By doubling: a message may come in millions of fragments.
                    _ => self.message.reserve(take),
                }
                self.message.extend_from_slice(&ready[..take]);
                self.at += take;
            }
        }
        unmask(&mut self.message[start..], head.mask);
        Ok(())
    }

    /// Makes room in proportion to what has arrived, never to what was claimed.
    fn grow(&mut self, missing: usize) {
        if self.message.capacity() == self.message.len() {
            self.message.reserve_exact(missing.min(self.message.len().max(READ_BYTES)));
        }
    }

    async fn take_share(&mut self, bytes: usize) -> Result<OwnedSemaphorePermit, ReadError> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let _paused = self.liveness.pause();
        self.budget.clone().acquire_many_owned(permits).await.map_err(|_| ReadError::HungUp)
    }

    /// Reads more into `pending`; false at the end of the stream.
    async fn fill(&mut self) -> Result<bool, ReadError> {
        if self.at == self.pending.len() {
            self.pending = Vec::new();
        } else {
            self.pending.drain(..self.at);
        }
        self.at = 0;
        let (io, pending) = (&mut self.io, &mut self.pending);
        let read = poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer))?;
                pending.extend_from_slice(buffer.filled());
                std::task::Poll::Ready(Ok::<_, std::io::Error>(buffer.filled().len()))
            })
        })
        .await?;
        self.liveness.heard();
        Ok(read > 0)
    }
}

fn cut_off() -> ReadError {
    ReadError::Io(std::io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    const LIMIT: usize = 100_000;

    /// A masked frame with a length of the given width in bytes.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(0x80 | length as u8),
            length @ 126..65536 => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(0x80 | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// What a reader makes of these bytes, arriving in pieces of `piece` bytes, until it errs or the bytes end.
    async fn read(bytes: &[u8], piece: usize) -> (Vec<Incoming>, ReadError) {
        let (mut client, server) = tokio::io::duplex(64);
        let bytes = bytes.to_vec();
        let sender = tokio::spawn(async move {
            for part in bytes.chunks(piece) {
                if client.write_all(part).await.is_err() {
                    return;
                }
            }
        });
        let liveness = Liveness::default();
        let mut reader = MessageReader::new(server, LIMIT, Arc::new(Semaphore::new(LIMIT)), &liveness);
        let mut got = Vec::new();
        let error = loop {
            match reader.next().await {
                Ok(incoming) => got.push(incoming),
                Err(error) => break error,
            }
        };
        drop(reader);
        sender.await.unwrap();
        (got, error)
    }

    fn message(payload: &[u8]) -> Incoming {
        Incoming::Message(Bytes::copy_from_slice(payload))
    }

    #[tokio::test]
    async fn messages_fragments_and_control_frames_in_any_cut() {
        let big: Vec<u8> = (0..70_000u32).map(|i| i as u8).collect();
        let bytes = [
            frame(0x82, b"one"),
            frame(0x02, b"fr"),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x80, b"agment"),
            frame(0x82, &[7; 300]),
            frame(0x82, &big),
            frame(0x8a, b""),
            frame(0x82, b""),
            frame(0x88, &[0x03, 0xe8, b'x']),
        ]
        .concat();
        for piece in [1, 3, 1000, usize::MAX] {
            let (got, error) = read(&bytes, piece).await;
            let wanted = [
                message(b"one"),
                Incoming::Ping(Bytes::from_static(b"ping")),
                message(b"fragment"),
                message(&[7; 300]),
                message(&big),
                Incoming::Pong,
                message(b""),
                Incoming::Close(Some(1000)),
            ];
            assert_eq!(got, wanted, "pieces of {piece}");
            assert!(matches!(error, ReadError::HungUp));
        }
    }

    #[tokio::test]
    async fn violations_are_refused() {
        let unmasked = vec![0x82, 1, b'x'];
        for bad in [
            unmasked,
            frame(0xc2, b"x"),
            frame(0x83, b"x"),
            frame(0x80, b"x"),
            [frame(0x02, b"x"), frame(0x82, b"y")].concat(),
            frame(0x09, b"x"),
            frame(0x89, &[0; 126]),
            frame(0x88, b"x"),
            frame(0x88, &[0x03, 0xed]),
            frame(0x88, &[0x03, 0xe8, 0xff]),
        ] {
            let (got, error) = read(&bad, usize::MAX).await;
            assert!(got.is_empty() && matches!(error, ReadError::Violation(_)), "{bad:?}: {error}");
        }
        assert!(matches!(read(&frame(0x81, b"text"), 9).await.1, ReadError::Text));
        assert!(matches!(read(&frame(0x82, b"cut")[..6], 9).await.1, ReadError::Io(_)));
    }

    #[tokio::test]
    async fn sizes_are_refused_on_their_claim() {
        let claims_all = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
        let endless: Vec<u8> = std::iter::once(frame(0x02, &[0; 60_000]))
            .chain(std::iter::repeat_n(frame(0x00, &[0; 60_000]), 9))
            .flatten()
            .collect();
        for bad in [claims_all, frame(0x82, &vec![0; LIMIT + 1]), endless] {
            let (got, error) = read(&bad, usize::MAX).await;
            assert!(got.is_empty() && matches!(error, ReadError::TooBig(LIMIT)), "{error}");
        }
        assert_eq!(read(&frame(0x82, &vec![1; LIMIT]), usize::MAX).await.0, [message(&vec![1; LIMIT])]);
    }

    #[tokio::test]
    async fn a_claim_reserves_nothing_and_large_messages_wait_for_their_share() {
        let budget = Arc::new(Semaphore::new(LIMIT));
        let liveness = Liveness::default();
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut reader = MessageReader::new(server, LIMIT, budget.clone(), &liveness);
        let whole = frame(0x82, &vec![5; 90_000]);
        client.write_all(&whole[..1_000]).await.unwrap();
        let taken = budget.clone().acquire_many_owned(LIMIT as u32).await.unwrap();
        {
            let mut next = Box::pin(reader.next());
            assert!(poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx).is_pending())).await);
            assert!(liveness.is_paused());
            drop(taken);
            assert!(poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx).is_pending())).await);
            assert!(!liveness.is_paused());
            assert_eq!(budget.available_permits(), LIMIT - 90_000);
            client.write_all(&whole[1_000..]).await.unwrap();
            assert_eq!(next.await.unwrap(), message(&vec![5; 90_000]));
        }
        assert_eq!(budget.available_permits(), LIMIT);
        client.write_all(&frame(0x82, &[1; 20_000])[..1_000]).await.unwrap();
        let mut next = Box::pin(reader.next());
        assert!(poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx).is_pending())).await);
        drop(next);
        assert!(reader.message.capacity() <= 1_000 + READ_BYTES);
    }
}
