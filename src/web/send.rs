//! The writing half of a connection: the engine's messages, pings, pongs, errors and the close.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use fastwebsockets::{Frame, OpCode, Payload};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::liveness::Liveness;
use super::receive::pace::{Pace, Slowest};
use crate::engine::{Outgoing, SendHalf};

/// Messages are gathered into one write up to this many bytes.
const BATCH_BYTES: usize = 64 * 1024;
/// Messages up to this size are copied to stand together; larger ones are written from where they are.
const COPY_BYTES: usize = 16 * 1024;
/// How long messages are sent before other connections get their turn.
const TURN: Duration = Duration::from_millis(1);
/// Error messages kept for a client that does not read them; more are dropped.
const MAX_ERRORS: usize = 8;
/// Longest reason in a close frame (RFC 6455, 5.5).
const MAX_REASON: usize = 123;

/// How a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// WebSocket close code; `None` answers a close frame without one.
    pub code: Option<u16>,
    /// For the client's developer.
    pub reason: Cow<'static, str>,
}

impl Close {
    /// With a code and a reason.
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Some(code), reason: reason.into() }
    }
}

/// What reader and timers want sent. Bounded: whatever the client does, a later wish replaces an earlier one.
#[derive(Default)]
pub struct Control {
    wishes: Mutex<Wishes>,
    closing: AtomicBool,
    wake: Notify,
}

#[derive(Default)]
struct Wishes {
    ping: bool,
    /// Only the last ping needs an answer (RFC 6455, 5.5.3).
    pong: Option<Bytes>,
    errors: Vec<Bytes>,
    close: Option<Close>,
}

impl Control {
    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Send a ping.
    pub fn ping(&self) {
        self.wishes().ping = true;
        self.wake.notify_one();
    }

    /// Answer a ping.
    pub fn pong(&self, payload: Bytes) {
        self.wishes().pong = Some(payload);
        self.wake.notify_one();
    }

    /// Send an `error` message.
    pub fn error(&self, message: Bytes) {
        let mut wishes = self.wishes();
        if wishes.errors.len() < MAX_ERRORS {
            wishes.errors.push(message);
        }
        drop(wishes);
        self.wake.notify_one();
    }

    /// Whether a close frame is to be sent.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Send a close frame after what is under way; the first one wins.
    pub fn close(&self, close: Close) {
        self.wishes().close.get_or_insert(close);
        self.closing.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }
}

/// A client takes what is sent to it, but too slowly: what waits for it would keep memory from others for ever.
#[derive(Debug, thiserror::Error)]
#[error("the client takes less than {0} bytes a second (limits.send_rate)")]
pub struct TakesTooSlowly(usize);

impl TakesTooSlowly {
    /// Its name in the metrics.
    pub const CODE: &str = "send_rate";
}

/// Writes to one client.
pub struct Sender<'a, W> {
    io: W,
    slowest: Slowest,
    /// The time that the client has left. What it takes earns it more, also from one message to the next.
    pace: Pace,
    liveness: &'a Liveness,
}

impl<'a, W: AsyncWrite + Unpin> Sender<'a, W> {
    /// Writes to `io`, giving up when it goes on more slowly than `slowest`.
    pub fn new(io: W, slowest: Slowest, liveness: &'a Liveness) -> Self {
        Self { io, slowest, pace: Pace::new(slowest), liveness }
    }

    /// Sends what engine and control want until a close frame is out.
    /// # Errors
    /// The socket failed or the client stopped reading.
    pub async fn run(&mut self, outbound: &mut SendHalf, control: &Control) -> io::Result<()> {
        let mut since = Instant::now();
        loop {
            if since.elapsed() >= TURN {
                tokio::task::yield_now().await;
                since = Instant::now();
            }
            let mut next = tokio::select! {
                biased;
                () = control.wake.notified() => None,
                outgoing = outbound.next() => Some(outgoing),
            };
            let mut batch = Vec::new();
            let close = take_wishes(control, &mut batch);
            if let Some(close) = close {
                push_close(&mut batch, &close);
                return self.write(Bytes::from(batch)).await;
            }
            let mut sent = 0;
            loop {
                match next {
                    Some(Some(Outgoing::Message(message))) => {
                        sent += message.len();
                        self.push_message(&mut batch, message).await?;
                    }
                    Some(Some(Outgoing::Close(code, reason))) => {
                        push_close(&mut batch, &Close::new(code, reason));
                        return self.write(Bytes::from(batch)).await;
                    }
                    Some(None) => {
                        push_close(&mut batch, &Close::new(1001, "the server let this connection go"));
                        return self.write(Bytes::from(batch)).await;
                    }
                    None => break,
                }
                if batch.len() >= BATCH_BYTES {
                    break;
                }
                next = now(outbound.next()).await;
            }
            if !batch.is_empty() {
                self.write(Bytes::from(batch)).await?;
            }
            if sent > 0 {
                outbound.sent(sent);
            }
        }
    }

    /// Sends one message at once.
    /// # Errors
    /// As [`Sender::run`].
    pub async fn message(&mut self, message: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(message.len() + 10);
        push_frame(&mut bytes, OpCode::Binary, message);
        self.write(Bytes::from(bytes)).await
    }

    /// Answers a ping at once.
    /// # Errors
    /// As [`Sender::run`].
    pub async fn pong(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, OpCode::Pong, payload);
        self.write(Bytes::from(bytes)).await
    }

    /// Sends an `error` message, if any, and a close frame at once.
    /// # Errors
    /// As [`Sender::run`].
    pub async fn close(&mut self, error: Option<&[u8]>, close: &Close) -> io::Result<()> {
        let mut bytes = Vec::new();
        if let Some(error) = error {
            push_frame(&mut bytes, OpCode::Binary, error);
        }
        push_close(&mut bytes, close);
        self.write(Bytes::from(bytes)).await
    }

    /// Says that nothing more will come.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }

    async fn push_message(&mut self, batch: &mut Vec<u8>, message: Bytes) -> io::Result<()> {
        if message.len() <= COPY_BYTES {
            push_frame(batch, OpCode::Binary, &message);
            return Ok(());
        }
        push_head(batch, OpCode::Binary, &message);
        let head = Bytes::from(std::mem::take(batch));
        self.write(head.chain(message)).await
    }

    async fn write(&mut self, mut bytes: impl Buf) -> io::Result<()> {
        while bytes.has_remaining() {
            let mut write = pin!(self.io.write_buf(&mut bytes));
            let written = match now(&mut write).await {
                Some(written) => written?,
                None => {
                    let begun = Instant::now();
                    let Ok(written) = self.pace.wait(write).await else {
                        return Err(self.slowest.gave_up(begun.elapsed()));
                    };
                    let written = written?;
                    // Room appeared, so the client read: it cannot pong before it has read what is ahead of the ping.
                    self.liveness.heard();
                    written
                }
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.pace.progress(written);
        }
        let begun = Instant::now();
        let flushed = self.pace.wait(self.io.flush()).await;
        flushed.unwrap_or_else(|_| Err(self.slowest.gave_up(begun.elapsed())))
    }
}

impl Slowest {
    /// The client had no time left after the last `wait`, in which it took nothing.
    fn gave_up(&self, wait: Duration) -> io::Error {
        if wait >= self.stall {
            return io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading");
        }
        io::Error::new(io::ErrorKind::TimedOut, TakesTooSlowly(self.rate))
    }
}

/// What a future gives without waiting.
async fn now<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

fn take_wishes(control: &Control, batch: &mut Vec<u8>) -> Option<Close> {
    let wishes = std::mem::take(&mut *control.wishes());
    for error in &wishes.errors {
        push_frame(batch, OpCode::Binary, error);
    }
    if let Some(payload) = &wishes.pong {
        push_frame(batch, OpCode::Pong, payload);
    }
    if wishes.ping {
        push_frame(batch, OpCode::Ping, b"");
    }
    wishes.close
}

fn push_close(batch: &mut Vec<u8>, close: &Close) {
    let mut payload = Vec::new();
    if let Some(code) = close.code {
        payload.extend(code.to_be_bytes());
        payload.extend_from_slice(&close.reason.as_bytes()[..close.reason.floor_char_boundary(MAX_REASON)]);
    }
    push_frame(batch, OpCode::Close, &payload);
}

fn push_frame(batch: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    push_head(batch, opcode, payload);
    batch.extend_from_slice(payload);
}

fn push_head(batch: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let mut head = [0; 14];
    let size = Frame::new(true, opcode, None, Payload::Borrowed(payload)).fmt_head(&mut head);
    batch.extend_from_slice(&head[..size]);
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[test]
    fn wishes_are_bounded_and_the_close_comes_last() {
        let control = Control::default();
        for n in 0..100u8 {
            control.pong(Bytes::from(vec![n]));
            control.error(Bytes::from(vec![n]));
            control.ping();
        }
        control.close(Close::new(1002, "first"));
        control.close(Close::new(1008, "second"));
        let mut batch = Vec::new();
        let close = take_wishes(&control, &mut batch).unwrap();
        assert_eq!(close, Close::new(1002, "first"));
        let errors: Vec<u8> = (0..8).flat_map(|n| [0x82, 1, n]).collect();
        assert_eq!(batch, [errors, vec![0x8a, 1, 99, 0x89, 0]].concat());
        assert_eq!(take_wishes(&control, &mut batch), None);
    }

    #[test]
    fn close_reasons_are_cut_at_a_character() {
        let mut batch = Vec::new();
        push_close(&mut batch, &Close::new(1008, "é".repeat(100)));
        assert_eq!((batch[0], batch[1], batch.len()), (0x88, 124, 126));
        batch.clear();
        push_close(&mut batch, &Close { code: None, reason: "".into() });
        assert_eq!(batch, [0x88, 0]);
    }

    #[tokio::test]
    async fn a_client_that_stops_reading_is_given_up_and_one_that_reads_is_alive() {
        let liveness = Liveness::default();
        let (mut client, server) = tokio::io::duplex(1_000);
        let slowest = |stall| Slowest { rate: 1, most: Duration::MAX, stall };
        let mut sender = Sender::new(server, slowest(Duration::from_millis(20)), &liveness);
        sender.message(b"fits").await.unwrap();
        assert!(liveness.was_silent());
        let error = sender.message(&[0; 10_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        sender.pace = Pace::new(slowest(Duration::from_secs(60)));
        let reader = tokio::spawn(async move { tokio::io::copy(&mut client, &mut tokio::io::sink()).await });
        sender.message(&[0; 10_000]).await.unwrap();
        assert!(!liveness.was_silent());
        drop(sender);
        assert!(reader.await.unwrap().unwrap() > 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_little_now_and_then_is_given_up_and_a_slow_one_is_not() {
        for (bytes, most) in [(1, 40), (50, 100), (110, u64::MAX), (3_000, u64::MAX)] {
            let liveness = Liveness::default();
            let (mut client, server) = tokio::io::duplex(1_000);
            let slowest = Slowest { rate: 100, most: Duration::MAX, stall: Duration::from_secs(30) };
            let mut sender = Sender::new(server, slowest, &liveness);
            let reader = tokio::spawn(async move {
                let mut some = vec![0; bytes];
                let pause = Duration::from_secs(if bytes > 1_000 { 29 } else { 1 });
                while client.read_exact(&mut some).await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
            });
            let begun = Instant::now();
            let sent = sender.message(&[0; 100_000]).await;
            let seconds = begun.elapsed().as_secs();
            assert_eq!(sent.is_ok(), most == u64::MAX, "{bytes} bytes: {sent:?} after {seconds} s");
            assert!(sent.is_ok() || (30..most).contains(&seconds), "{bytes} bytes: {seconds} s");
            let why = sent.err().and_then(io::Error::into_inner);
            assert!(why.is_none_or(|why| why.is::<TakesTooSlowly>()), "{bytes} bytes");
            reader.abort();
        }
    }
}
