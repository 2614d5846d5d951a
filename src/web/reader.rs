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

use super::frame::{Head, Violation, close_code, parse_head};
use super::liveness::Liveness;
use super::receive::pace::{self, Pace, TooSlow};
use super::receive::{GaveWay, Hold};
use crate::config::MOST_MESSAGE_BYTES;
use crate::engine::AppShare;
use skipped::Skipped;

mod skipped;

/// Bytes read from a socket at once.
const READ_BYTES: usize = 32 * 1024;
/// Messages up to this size need no share of the receive budget.
pub const SMALL_MESSAGE: usize = 4 * 1024;
/// Bytes of a message that are read in one turn.
const TURN_BYTES: usize = 64 * 1024;
/// Up to this size a message's buffer grows by doubling, then by a quarter: little is claimed ahead of what has arrived.
const DOUBLE_BYTES: usize = 128 * 1024;
/// A message of more bytes is not even skipped: nobody can allow it.
const MOST_SKIPPED: u64 = MOST_MESSAGE_BYTES;

thread_local! {
    // One per worker thread instead of one per connection.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole binary message.
    Message(Bytes),
    /// A binary message above the limit has streamed by.
    TooLarge(Skipped),
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
    /// A message above the limit, before the client joined or above what is skipped.
    #[error("message is larger than the limit of {0} bytes (limits.message_bytes)")]
    TooLarge(usize),
    /// A message above the limit that does not say in its beginning what it is about.
    #[error(
        "message is larger than the limit of {0} bytes (limits.message_bytes), and it cannot be told what it is about"
    )]
    Unclear(usize),
    /// A message came too slowly.
    #[error(transparent)]
    TooSlow(#[from] TooSlow),
    /// A half-received message gave way to those of others.
    #[error(transparent)]
    GaveWay(#[from] GaveWay),
}

/// Collects messages from the reading half of an upgraded connection.
///
/// Holds no buffer while nothing is under way. Messages above [`SMALL_MESSAGE`] take their memory from a budget that all
/// connections share ([`super::receive`]), and every message has to arrive at a minimum pace.
pub struct MessageReader<'a, R> {
    io: R,
    /// Read and not yet parsed, from `at`.
    pending: Vec<u8>,
    at: usize,
    /// Payload of the message under way.
    message: Vec<u8>,
    /// Bytes of `message` that the budget knows of.
    claimed: usize,
    /// What is kept of the message under way, if it is above the limit.
    skipped: Option<Skipped>,
    /// The app whose connection it is, once it has joined.
    app: Option<Arc<AppShare>>,
    /// Bytes of payload read in this turn.
    turn: usize,
    fragmented: bool,
    limit: usize,
    hold: Hold,
    pace: Pace,
    liveness: &'a Liveness,
}

impl<'a, R: AsyncRead + Unpin> MessageReader<'a, R> {
    /// Reads messages of at most `limit` bytes, which arrive no slower than `slowest`. Those above [`SMALL_MESSAGE`] take
    /// their memory from `hold`.
    pub fn new(io: R, limit: usize, slowest: pace::Slowest, hold: Hold, liveness: &'a Liveness) -> Self {
        Self {
            io,
            pending: Vec::new(),
            at: 0,
            message: Vec::new(),
            claimed: 0,
            skipped: None,
            app: None,
            turn: 0,
            fragmented: false,
            limit,
            hold,
            pace: Pace::new(slowest),
            liveness,
        }
    }

    /// The client has joined as that app. From now on the ends of messages above the limit are kept while the rest streams by,
    /// and large messages are read in the app's turns.
    pub fn joined(&mut self, app: Arc<AppShare>) {
        self.app = Some(app);
    }

    /// The next message or control frame. The memory of the last message counts until this is called again: by then
    /// it has been handed on. Not cancel safe: a dropped call may lose half a frame.
    /// # Errors
    /// The connection is of no more use.
    pub async fn next(&mut self) -> Result<Incoming, ReadError> {
        if !self.fragmented {
            self.forget_message();
        }
        let read = self.read().await;
        if read.is_err() {
            self.forget_message();
        }
        read
    }

    async fn read(&mut self) -> Result<Incoming, ReadError> {
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
                if let Some(skipped) = self.skipped.take() {
                    return Ok(Incoming::TooLarge(skipped));
                }
                self.hold.complete();
                return Ok(Incoming::Message(std::mem::take(&mut self.message).into()));
            }
        }
    }

    /// The socket's reading half, to read what is left of it raw.
    pub fn into_inner(self) -> R {
        self.io
    }

    /// Gives back what the last message held.
    fn forget_message(&mut self) {
        self.forget_payload();
        self.skipped = None;
        self.pace.restart();
    }

    fn forget_payload(&mut self) {
        self.message = Vec::new();
        self.claimed = 0;
        self.hold.release();
    }

    async fn head(&mut self) -> Result<Head, ReadError> {
        loop {
            let unparsed = &self.pending[self.at..];
            if let Some((head, size)) = parse_head(unparsed)? {
                self.at += size;
                return Ok(head);
            }
            let idle = unparsed.is_empty() && !self.fragmented;
            if !self.fill(idle).await? {
                return Err(if idle { ReadError::HungUp } else { cut_off() });
            }
        }
    }

    async fn control(&mut self, head: &Head) -> Result<Incoming, ReadError> {
        let length = head.length as usize; // a control frame's is small, see parse_head
        while self.pending.len() - self.at < length {
            if !self.fill(false).await? {
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
        let end = usize::try_from(head.length).ok().and_then(|length| start.checked_add(length));
        let Some(end) = end.filter(|end| self.skipped.is_none() && *end <= self.limit) else {
            return self.skip(head).await;
        };
        // Of a fragmented message only the parts that came are known.
        let most = if head.fin { end } else { self.limit };
        while self.message.len() < end {
            if self.message.len() == self.message.capacity() {
                self.grow(end, most).await?;
            }
            let room = (end - self.message.len()).min(self.message.capacity() - self.message.len());
            let ready = &self.pending[self.at..];
            let arrived = if ready.is_empty() {
                self.fill_message(room).await?
            } else {
                let take = ready.len().min(room);
                self.message.extend_from_slice(&ready[..take]);
                self.at += take;
                take
            };
            self.pace.progress(arrived);
            self.hold.arrived(arrived);
            self.take_turns(arrived).await;
        }
        unmask(&mut self.message[start..], head.mask);
        Ok(())
    }

    /// Reads a frame without keeping it, because its message is above the limit: closing the connection would have the client
    /// send all of it again when it comes back, and its other documents would not get their turn.
    async fn skip(&mut self, head: &Head) -> Result<(), ReadError> {
        let before = self.skipped.as_ref().map_or(self.message.len() as u64, Skipped::bytes);
        if self.app.is_none() || before.saturating_add(head.length) > MOST_SKIPPED {
            return Err(ReadError::TooLarge(self.limit));
        }
        if self.skipped.is_none() {
            self.skipped = Some(Skipped::after(&self.message));
            self.forget_payload();
            self.pace.may_take_long();
        }
        let mut at = 0;
        while at < head.length {
            if self.at == self.pending.len() && !self.fill(false).await? {
                return Err(cut_off());
            }
            let ready = &self.pending[self.at..];
            let take = usize::try_from(head.length - at).map_or(ready.len(), |left| left.min(ready.len()));
            if let Some(skipped) = &mut self.skipped {
                skipped.take(&ready[..take], head.mask, at);
            }
            if self.skipped.as_ref().is_some_and(|skipped| !skipped.is_clear()) {
                return Err(ReadError::Unclear(self.limit));
            }
            self.at += take;
            at += take as u64;
            self.pace.progress(take);
            self.take_turns(take).await;
        }
        Ok(())
    }

    /// Lets others have their turn after some bytes of a message, which may have a gigabyte of them: other connections of the
    /// thread, and other apps if this one has used up its time.
    async fn take_turns(&mut self, arrived: usize) {
        self.turn += arrived;
        let Some(app) = self.app.as_ref().filter(|_| self.turn >= TURN_BYTES) else { return };
        self.turn = 0;
        tokio::task::yield_now().await;
        let _not_reading = self.liveness.pause();
        app.may_receive().await;
    }

    /// Makes room in proportion to what has arrived, never to what was claimed. `end` is where the frame ends, and `most`
    /// is as large as the message can get.
    async fn grow(&mut self, end: usize, most: usize) -> Result<(), ReadError> {
        let length = self.message.len();
        let step = match length {
            0..SMALL_MESSAGE => SMALL_MESSAGE - length,
            SMALL_MESSAGE..DOUBLE_BYTES => length,
            _ => length / 4,
        };
        // What was read already moves at once.
        let ready = (self.pending.len() - self.at).min(end - length);
        let capacity = (length + step.max(ready)).min(most);
        if capacity > SMALL_MESSAGE {
            self.hold.grow(capacity - self.claimed, self.liveness).await?;
            self.claimed = capacity;
        }
        self.message.reserve_exact(capacity - length);
        Ok(())
    }

    /// Reads up to `room` bytes of payload from the socket to where they stay.
    async fn fill_message(&mut self, room: usize) -> Result<usize, ReadError> {
        // Nothing of it is needed any more, and the client may take its time.
        self.pending = Vec::new();
        self.at = 0;
        self.hold.read_ahead(0);
        let mut buffer = (&mut self.message).limit(room);
        let read = tokio::select! {
            read = self.pace.wait(self.io.read_buf(&mut buffer)) => read??,
            () = self.hold.gave_way() => return Err(GaveWay.into()),
        };
        if read == 0 {
            return Err(cut_off());
        }
        self.liveness.heard();
        Ok(read)
    }

    /// Reads more into `pending`; false at the end of the stream. While nothing is under way (`idle`) the client may take
    /// as long as it likes.
    async fn fill(&mut self, idle: bool) -> Result<bool, ReadError> {
        if self.at == self.pending.len() {
            self.pending = Vec::new();
        } else {
            self.pending.drain(..self.at);
        }
        self.at = 0;
        // What stands here is not claimed yet, so it is little while memory is scarce.
        let most = if self.hold.is_tight() { SMALL_MESSAGE } else { READ_BYTES };
        let (io, pending) = (&mut self.io, &mut self.pending);
        let reading = poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(&mut scratch[..most]);
                ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer))?;
                pending.extend_from_slice(buffer.filled());
                std::task::Poll::Ready(Ok::<_, std::io::Error>(buffer.filled().len()))
            })
        });
        let read = if idle {
            reading.await?
        } else {
            tokio::select! {
                read = self.pace.wait(reading) => read??,
                () = self.hold.gave_way() => return Err(GaveWay.into()),
            }
        };
        self.hold.read_ahead(self.pending.len());
        self.liveness.heard();
        Ok(read > 0)
    }
}

fn cut_off() -> ReadError {
    ReadError::Io(std::io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests;
