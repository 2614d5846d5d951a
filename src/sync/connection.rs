//! One joined connection: what it proved, what it has open, what waits to be sent to it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ephemeral::{MessageId, Presence};
use super::reply::FIXED_BYTES;
use super::wire::Body;
use crate::types::{Approval, DocKey, DocumentId, Namespace, Party, PeerId, StorageId};

/// Most error messages that wait for one connection.
const MAX_ERRORS: usize = 16;
/// Most ephemeral messages that wait for one connection; the oldest is dropped for the next.
pub const MAX_EPHEMERAL: usize = 256;
/// Most payload bytes of ephemeral messages that wait for one connection, and of one such message.
pub const MAX_EPHEMERAL_BYTES: usize = 256 * 1024;

/// What a connection has open and waits for, over all shards: limits are of connections, not of their parts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Open documents.
    documents: AtomicUsize,
    /// Requests for absent documents that wait for an answer.
    requests: AtomicUsize,
}

impl Counts {
    /// Open documents.
    pub fn documents(&self) -> usize {
        self.documents.load(Ordering::Relaxed)
    }

    /// Counts one more open document, unless there are `most`.
    pub(super) fn open(&self, most: usize) -> bool {
        let one_more = |count: usize| (count < most).then_some(count + 1);
        self.documents.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    pub(super) fn close(&self, documents: usize) {
        self.documents.fetch_sub(documents, Ordering::Relaxed);
    }

    /// Counts one more request, unless there are `most`.
    pub(super) fn request(&self, most: usize) -> bool {
        let one_more = |count: usize| (count < most).then_some(count + 1);
        self.requests.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    pub(super) fn answer(&self, requests: usize) {
        self.requests.fetch_sub(requests, Ordering::Relaxed);
    }
}

/// What a connection proved about itself before info.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The session's namespace.
    pub namespace: Namespace,
    /// The session may only read.
    pub read_only: bool,
    /// The session's `client_id`, which stands in what it writes.
    pub client: Arc<str>,
    /// The session's id, which names the device; `None` for a guest of the server itself, such as an import.
    pub session: Option<Arc<str>>,
    /// The peer id it joined with.
    pub peer: PeerId,
    /// Its storage id, if it has one and is not ephemeral.
    pub storage: Option<StorageId>,
    /// Shared by the parts of the connection in all shards.
    pub counts: Arc<Counts>,
}

/// The device behind a connection, as far as it is known.
#[derive(Debug, Clone)]
pub struct Device {
    session: Option<Arc<str>>,
    client: Arc<str>,
}

impl Device {
    /// Whether both are the same device: the same session or, where a session is not known, the same app.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.session, &other.session) {
            (Some(one), Some(two)) => one == two,
            _ => self.client == other.client,
        }
    }
}

impl ConnectionInfo {
    /// The device whose share of the server the connection uses. A guest of the server itself has no session; it is one device.
    pub fn party(&self) -> Party {
        let approval = Approval { namespace: self.namespace.clone(), client_id: self.client.clone() };
        Party { approval, session: self.session.clone().unwrap_or_else(|| "".into()) }
    }

    /// The device that joined.
    pub fn device(&self) -> Device {
        Device { session: self.session.clone(), client: self.client.clone() }
    }
}

/// What to put on the socket.
#[derive(Debug, PartialEq)]
pub enum Out {
    /// A message; `sender` is `None` for our own.
    Message {
        /// The author of a relayed ephemeral message.
        sender: Option<String>,
        /// The message.
        body: Body,
    },
    /// An `error` message.
    Error(String),
    /// Close with this code and reason.
    Close(u16, &'static str),
    /// What comes next needs more room than there is: ask again when there is more.
    NoRoom,
}

/// A connection in the shard.
#[derive(Debug)]
pub struct Connection {
    pub(super) info: ConnectionInfo,
    /// Documents it has a share in.
    pub(super) docs: BTreeSet<DocKey>,
    /// Documents it is owed a message about.
    pub(super) queue: VecDeque<DocKey>,
    /// It is in the shard's list of those with something to send.
    pub(super) ready: bool,
    pub(super) close: Option<(u16, &'static str)>,
    close_sent: bool,
    errors: VecDeque<String>,
    /// Ephemeral messages that wait, oldest first, with their payload's bytes. [`Presence`] holds the messages.
    ephemeral: VecDeque<(MessageId, usize)>,
    ephemeral_bytes: usize,
    /// The document whose snapshot the opener takes apart for it.
    pub(super) extracting: Option<DocKey>,
    /// Documents that wait for the opener.
    pub(super) waiting: Vec<DocKey>,
    /// Requests that wait for an answer.
    pub(super) requests: usize,
    /// While documents remain to be offered: the last one that was.
    pub(super) announce: Option<Option<DocumentId>>,
}

impl Connection {
    pub(super) fn new(info: ConnectionInfo, announce: bool) -> Self {
        Self {
            info,
            docs: BTreeSet::new(),
            queue: VecDeque::new(),
            ready: false,
            close: None,
            close_sent: false,
            errors: VecDeque::new(),
            ephemeral: VecDeque::new(),
            ephemeral_bytes: 0,
            extracting: None,
            waiting: Vec::new(),
            requests: 0,
            announce: announce.then_some(None),
        }
    }

    pub(super) fn push_error(&mut self, message: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push_back(message);
        }
    }

    /// Queue an ephemeral message. Returns the messages that are dropped for it.
    pub(super) fn push_ephemeral(&mut self, message: MessageId, bytes: usize) -> Vec<MessageId> {
        self.ephemeral_bytes += bytes;
        self.ephemeral.push_back((message, bytes));
        let mut dropped = Vec::new();
        while self.ephemeral.len() > MAX_EPHEMERAL || self.ephemeral_bytes > MAX_EPHEMERAL_BYTES {
            dropped.extend(self.pop_ephemeral());
        }
        dropped
    }

    /// Take the oldest ephemeral message out of the queue.
    pub(super) fn pop_ephemeral(&mut self) -> Option<MessageId> {
        let (message, bytes) = self.ephemeral.pop_front()?;
        self.ephemeral_bytes -= bytes;
        Some(message)
    }

    /// What goes before documents: errors, then the close they lead to, whatever the room, then ephemeral messages.
    pub(super) fn next_control(&mut self, presence: &mut Presence, room: usize) -> Option<Out> {
        if let Some(message) = self.errors.pop_front() {
            return Some(Out::Error(message));
        }
        if let Some((code, reason)) = self.close {
            return (!std::mem::replace(&mut self.close_sent, true)).then_some(Out::Close(code, reason));
        }
        // A message may have been evicted meanwhile, to stay within the total of all connections.
        while let Some((_, bytes)) = self.ephemeral.front() {
            if bytes + FIXED_BYTES > room {
                return Some(Out::NoRoom);
            }
            let Some(message) = self.pop_ephemeral() else { break };
            if let Some(out) = presence.take(message) {
                return Some(out);
            }
        }
        None
    }
}
