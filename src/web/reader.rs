//! Reads WebSocket messages with every size checked before it is believed.
//!
//! fastwebsockets does the handshake, the masks and the frame heads. Its reader is not used: it reserves what a
//! frame head claims, collects fragments without a limit, keeps 8 kB for every idle connection, accepts unmasked
//! frames, and hands out slices that keep a whole receive buffer alive for as long as one change is kept.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::ready;

use bytes::{BufMut, Bytes};
use fastwebsockets::{OpCode, unmask};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::frame::{Head, Violation, close_code, parse_head};
use super::liveness::Liveness;
use super::receive::pace::{self, Pace, TooSlow};
use super::receive::{GaveWay, Hold};

/// Bytes read from a socket at once.
const READ_BYTES: usize = 32 * 1024;
/// Messages up to this size need no share of the receive budget.
pub const SMALL_MESSAGE: usize = 4 * 1024;
/// Up to this size a message's buffer grows by doubling, then by a quarter: little is claimed ahead of what has arrived.
const DOUBLE_BYTES: usize = 128 * 1024;

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
            fragmented: false,
            limit,
            hold,
            pace: Pace::new(slowest),
            liveness,
        }
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
        self.message = Vec::new();
        self.claimed = 0;
        self.hold.release();
        self.pace.restart();
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
        let Some(end) = usize::try_from(head.length)
            .ok()
            .and_then(|length| start.checked_add(length))
            .filter(|end| *end <= self.limit)
        else {
            return Err(ReadError::TooBig(self.limit));
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
        }
        unmask(&mut self.message[start..], head.mask);
        Ok(())
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
    use crate::types::Party;
    use crate::web::receive::ReceiveBudget;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::io::{AsyncWriteExt, DuplexStream};

    const LIMIT: usize = 100_000;

    /// A reader of a device's connection.
    fn reader<'a>(
        io: DuplexStream,
        budget: &Arc<ReceiveBudget>,
        session: &str,
        liveness: &'a Liveness,
    ) -> MessageReader<'a, DuplexStream> {
        let slowest = pace::Slowest::new(1_000, Duration::from_secs(600), Duration::from_secs(30));
        let party = Party::new("xyz.example".parse().unwrap(), session, session);
        MessageReader::new(io, LIMIT, slowest, budget.hold(party), liveness)
    }

    async fn is_pending<F: Future>(future: &mut Pin<Box<F>>) -> bool {
        poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

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
        let mut reader = reader(server, &ReceiveBudget::new(LIMIT, Arc::default()), "device", &liveness);
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
    async fn a_claim_reserves_nothing_and_what_arrived_counts_until_it_was_handed_on() {
        let budget = ReceiveBudget::new(16 * LIMIT, Arc::default());
        let liveness = Liveness::default();
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut reader = reader(server, &budget, "device", &liveness);
        let whole = frame(0x82, &vec![5; 90_000]);
        client.write_all(&whole[..1_000]).await.unwrap();
        {
            let mut next = Box::pin(reader.next());
            assert!(is_pending(&mut next).await);
            assert_eq!(budget.held(), 0, "small so far");
            client.write_all(&whole[1_000..40_000]).await.unwrap();
            assert!(is_pending(&mut next).await);
            assert!((40_000..80_000).contains(&budget.held()), "{}", budget.held());
            client.write_all(&whole[40_000..]).await.unwrap();
            assert_eq!(next.await.unwrap(), message(&vec![5; 90_000]));
        }
        assert_eq!(budget.held(), 90_000);
        client.write_all(&frame(0x82, &[1; 20_000])[..1_000]).await.unwrap();
        let mut next = Box::pin(reader.next());
        assert!(is_pending(&mut next).await);
        drop(next);
        assert_eq!(budget.held(), 0);
        assert!(reader.message.capacity() <= SMALL_MESSAGE && reader.pending.capacity() == 0);
    }

    #[tokio::test]
    async fn a_message_waits_unread_for_its_share() {
        let budget = ReceiveBudget::new(LIMIT, Arc::default());
        let (one, other) = (Liveness::default(), Liveness::default());
        let whole = frame(0x82, &vec![5; 90_000]);
        let (mut client_of_one, server) = tokio::io::duplex(1 << 20);
        let mut one_reader = reader(server, &budget, "one", &one);
        let (mut client_of_other, server) = tokio::io::duplex(1 << 20);
        let mut other_reader = reader(server, &budget, "other", &other);
        client_of_one.write_all(&whole[..80_000]).await.unwrap();
        client_of_other.write_all(&whole).await.unwrap();
        {
            // The first one to need it has the large slot.
            let mut first = Box::pin(one_reader.next());
            assert!(is_pending(&mut first).await && !one.is_paused());
            client_of_one.write_all(&whole[80_000..]).await.unwrap();
        }
        let mut second = Box::pin(other_reader.next());
        assert!(is_pending(&mut second).await && other.is_paused());
        drop(one_reader);
        assert_eq!(second.await.unwrap(), message(&vec![5; 90_000]));
        assert!(!other.is_paused());
    }

    #[tokio::test(start_paused = true)]
    async fn messages_without_progress_come_to_an_end() {
        let begin = frame(0x02, &[7; 17_000]);
        let ping = frame(0x89, b"");
        for (what, begin, goes_on, seconds) in [
            ("silence", &begin[..], &b""[..], 60),
            ("empty fragments", &begin, &frame(0x00, b""), 60),
            ("fragments of a byte", &begin, &frame(0x00, b"x"), 60),
            ("pings", &begin, &ping, 60),
            ("half of a head", &begin[..3], b"", 60),
            ("half of a ping", &frame(0x89, b"ping")[..4], b"", 60),
            ("a small message", &frame(0x02, b"x"), &frame(0x00, b"x"), 60),
            ("half of the rate", &begin, &frame(0x00, &[1; 5_000]), 120),
        ] {
            let budget = ReceiveBudget::new(16 * LIMIT, Arc::default());
            let liveness = Liveness::default();
            let (mut client, server) = tokio::io::duplex(1 << 20);
            let mut reader = reader(server, &budget, "device", &liveness);
            client.write_all(begin).await.unwrap();
            let goes_on = goes_on.to_vec();
            let sending = tokio::spawn(async move {
                while !goes_on.is_empty() && client.write_all(&goes_on).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
                std::future::pending::<()>().await;
                drop(client);
            });
            let begun = tokio::time::Instant::now();
            let error = loop {
                match reader.next().await {
                    Ok(Incoming::Ping(_)) => {}
                    Ok(other) => panic!("{what}: {other:?}"),
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, ReadError::TooSlow(TooSlow::Rate(1_000))), "{what}: {error}");
            let took = begun.elapsed().as_secs();
            assert!(took.abs_diff(seconds) <= 20, "{what}: {took}");
            assert_eq!(budget.held(), 0, "{what}");
            sending.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_at_all_is_not_slow() {
        let liveness = Liveness::default();
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut reader = reader(server, &ReceiveBudget::new(LIMIT, Arc::default()), "device", &liveness);
        for pause in [0, 10_000] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            client.write_all(&frame(0x82, b"hello")).await.unwrap();
            assert_eq!(reader.next().await.unwrap(), message(b"hello"));
            let silent = tokio::time::timeout(Duration::from_secs(10_000), reader.next()).await;
            assert!(silent.is_err());
        }
    }
}
