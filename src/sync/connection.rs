//! A connection as all shards know it: what it proved before it joined, what it has open over all of them, what is sent to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::wire::Body;
use crate::types::{Approval, Namespace, Party, PeerId, StorageId};

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

    /// Requests for absent documents that wait for an answer.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
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

/// What a connection proved about itself before it joined.
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
    /// When its token was given out, in seconds since the Unix epoch: it tells two tokens of a session apart.
    pub token: u64,
    /// The peer id it joined with.
    pub peer: PeerId,
    /// The client's storage id, if it has one that is not ephemeral.
    pub storage: Option<StorageId>,
    /// Shared by the parts of the connection in all shards.
    pub counts: Arc<Counts>,
}

/// The device behind a connection, as far as it is known.
#[derive(Debug, Clone)]
pub struct Device {
    session: Option<Arc<str>>,
    token: u64,
    client: Arc<str>,
    read_only: bool,
}

impl Device {
    /// Whether both are the same device: the same session or, where a session is not known, the same app. A session may have
    /// tokens that only read and tokens that write. A reader must not take a writer's place, so they are two devices here.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.session, &other.session) {
            (Some(one), Some(two)) => one == two && self.read_only == other.read_only,
            _ => self.client == other.client,
        }
    }

    /// Whether a connection of this device takes the place of one of another with the same peer id, as its own older one. Two tabs
    /// of a device have two tokens, and may have one peer id.
    pub fn replaces(&self, other: &Self) -> bool {
        self.is_same(other) && self.token == other.token
    }
}

impl ConnectionInfo {
    /// The app's approval, under which the connection joined.
    pub fn approval(&self) -> Approval {
        Approval { namespace: self.namespace.clone(), client_id: self.client.clone() }
    }

    /// The device whose share of the server the connection uses. A guest of the server itself has no session; it is one device.
    pub fn party(&self) -> Party {
        Party { approval: self.approval(), session: self.session.clone().unwrap_or_else(|| "".into()) }
    }

    /// The device that joined.
    pub fn device(&self) -> Device {
        let (session, client) = (self.session.clone(), self.client.clone());
        Device { session, token: self.token, client, read_only: self.read_only }
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
