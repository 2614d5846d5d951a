//! Foes at work: each socket follows a script, comes back when it is thrown out, and holds on to what it got.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use groundmist_sync::types::DocumentId;
use minicbor::Encoder;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::client::{Client, Joining, connect, frame, frame_head};
use crate::common::websocket::BINARY;
use crate::stage::SESSIONS;

/// How long a foe that was thrown out waits before it is back.
const BACK: Duration = Duration::from_millis(100);

/// Addresses that foes come from: enough for as many connections as the server takes.
const ADDRESSES: usize = 10;

/// What one socket does.
#[derive(Default)]
pub struct Script {
    pub steps: Vec<Step>,
    pub then: Then,
    /// Reads nothing.
    pub deaf: bool,
    /// Joins with this peer id rather than its own.
    pub peer: Option<String>,
    /// Joins with a storage id that nobody used before, each time.
    pub storage: bool,
    /// Does not join: only TCP.
    pub bare: bool,
}

/// One step.
#[derive(Clone)]
pub enum Step {
    /// WebSocket frames, or whatever bytes there are.
    Write(Bytes),
    Pause(Duration),
    /// Once per connection; what comes before is not done again.
    Again,
}

/// What follows the last step.
#[derive(Default, Clone, Copy, PartialEq)]
pub enum Then {
    /// Keep the connection, and all that the server holds for it.
    #[default]
    Hold,
    /// The steps behind [`Step::Again`] once more, on the same connection.
    Again,
    /// Leave, and begin anew with the next session.
    Leave,
}

/// Which socket of how many.
#[derive(Clone, Copy)]
pub struct Slot {
    pub at: usize,
    pub of: usize,
}

impl Slot {
    pub fn peer(self) -> String {
        format!("foe-{}", self.at)
    }
}

/// Writes one socket's messages.
pub struct Writer {
    peer: String,
    server: String,
    steps: Vec<Step>,
    frames: Vec<u8>,
}

impl Writer {
    pub fn new(slot: Slot, server: &str) -> Self {
        Self { peer: slot.peer(), server: server.into(), steps: Vec::new(), frames: Vec::new() }
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    /// An encoder of a message with so many fields besides its type and address.
    fn message(&self, kind: &str, fields: u64) -> Encoder<Vec<u8>> {
        let mut e = Encoder::new(Vec::new());
        e.map(3 + fields).unwrap().str("type").unwrap().str(kind).unwrap();
        e.str("senderId")
            .unwrap()
            .str(&self.peer)
            .unwrap()
            .str("targetId")
            .unwrap()
            .str(&self.server)
            .unwrap();
        e
    }

    /// A message with fields of its own.
    pub fn other(&mut self, kind: &str, fields: u64, write: impl FnOnce(&mut Encoder<Vec<u8>>)) {
        let mut e = self.message(kind, fields);
        write(&mut e);
        self.frames.extend(frame(BINARY, &e.into_writer()));
    }

    /// A message about a document whose last field is bytes; those are shared, not copied.
    pub fn shared(&mut self, kind: &str, document: DocumentId, data: &Bytes) {
        let mut e = self.message(kind, 2);
        e.str("documentId").unwrap().str(&document.to_string()).unwrap().str("data").unwrap();
        let mut message = e.into_writer();
        message.push(0x5a); // bytes with a length of 32 bits
        message.extend((data.len() as u32).to_be_bytes());
        self.frames.extend(frame_head(BINARY, message.len() + data.len()));
        self.frames.extend(message);
        if data.len() < 1024 {
            return self.frames.extend(data);
        }
        self.flush();
        self.steps.push(Step::Write(data.clone()));
    }

    pub fn sync(&mut self, document: DocumentId, data: &Bytes) {
        self.shared("sync", document, data);
    }

    pub fn step(&mut self, step: Step) {
        self.flush();
        self.steps.push(step);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.frames.extend(bytes);
    }

    fn flush(&mut self) {
        if !self.frames.is_empty() {
            self.steps.push(Step::Write(std::mem::take(&mut self.frames).into()));
        }
    }

    pub fn steps(mut self) -> Vec<Step> {
        self.flush();
        self.steps
    }
}

/// One connection that is held.
struct Held {
    write: OwnedWriteHalf,
    read: Result<JoinHandle<()>, OwnedReadHalf>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Ok(drain) = &self.read {
            drain.abort();
        }
    }
}

/// A foe: where it goes, with which tokens.
pub struct Foe<'a> {
    pub address: SocketAddr,
    pub tokens: &'a [String],
    pub slot: Slot,
}

impl Foe<'_> {
    /// The token of the socket's nth connection: 100 sockets go through 500 sessions, one alone keeps to its own.
    fn token(&self, round: usize) -> &str {
        // The last few are the victims'.
        let sessions = if self.slot.of >= 100 { SESSIONS - 10 } else { 1 };
        &self.tokens[(self.slot.at + round * self.slot.of) % sessions]
    }

    /// Where it comes from: not from where victims do, for addresses have shares too.
    fn from(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 0, 2 + (self.slot.at % ADDRESSES) as u8)
    }

    /// Follows the script until its end or `until`, and keeps what is left of the connection open until `release`.
    pub async fn run(
        &self,
        script: Script,
        until: Instant,
        done: impl FnOnce(),
        release: impl Future<Output = ()>,
    ) {
        let mut held = None;
        for round in 0.. {
            if Instant::now() >= until {
                break;
            }
            match timeout_at(until, self.connect(&script, round)).await {
                Ok(Ok(connection)) => held = Some(connection),
                _ => {
                    sleep_until(until.min(Instant::now() + BACK)).await;
                    continue;
                }
            }
            // Set above.
            let connection = held.as_mut().unwrap();
            let thrown_out = self.follow(&script, connection, until).await.is_err();
            match (thrown_out, script.then) {
                (true, _) => sleep(BACK).await,
                (false, Then::Leave) => {}
                (false, _) => break,
            }
        }
        done();
        release.await;
        drop(held);
    }

    async fn connect(&self, script: &Script, round: usize) -> std::io::Result<Held> {
        let (read, write) = if script.bare {
            connect(self.from(), self.address).await?.into_split()
        } else {
            let peer = script.peer.clone().unwrap_or_else(|| self.slot.peer());
            let storage = format!("storage-{}-{round}", self.slot.at);
            let storage = script.storage.then_some(storage.as_str());
            let from = self.from();
            let joining = Joining { storage, from, ..Joining::new(self.address, self.token(round), &peer) };
            Client::join(&joining).await?.split()
        };
        let read = if script.deaf { Err(read) } else { Ok(tokio::spawn(Client::drain(read))) };
        Ok(Held { write, read })
    }

    async fn follow(&self, script: &Script, held: &mut Held, until: Instant) -> std::io::Result<()> {
        use tokio::io::AsyncWriteExt as _;
        let again = script.steps.iter().position(|step| matches!(step, Step::Again)).unwrap_or(0);
        let mut next = 0;
        while Instant::now() < until {
            match script.steps.get(next) {
                Some(Step::Write(bytes)) => match timeout_at(until, held.write.write_all(bytes)).await {
                    Ok(written) => written?,
                    Err(_) => return Ok(()),
                },
                Some(Step::Pause(time)) => sleep_until(until.min(Instant::now() + *time)).await,
                Some(Step::Again) => {}
                None if script.then == Then::Again => {
                    next = again;
                    continue;
                }
                None => return Ok(()),
            }
            next += 1;
            if held.read.as_ref().is_ok_and(JoinHandle::is_finished) {
                return Err(std::io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(())
    }
}
