//! Runs the sync core on threads: connections, shards, journal, eviction, the document opener.

use std::sync::Arc;

use bytes::Bytes;

use crate::store::Store;
use crate::types::{Namespace, PeerId, StorageId};

/// How the engine runs. Every limit has a unit and a default (see `config`).
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Shard threads; documents are spread over them.
    pub shards: usize,
    /// Bytes that change graphs and recent changes may use before the least recently used go.
    pub memory_budget: usize,
    /// Bytes queued for one connection before its documents are only marked as behind.
    pub outbox_bytes: usize,
    /// Bytes received from one connection and not yet worked off before its reading pauses.
    pub inbox_bytes: usize,
    /// Documents one connection may have open.
    pub max_documents: usize,
    /// Requests for unknown documents one connection may have pending.
    pub max_requests: usize,
    /// Bytes one change or document may inflate to.
    pub max_inflated_bytes: usize,
    /// Milliseconds after which a peer asked for a document counts as "no".
    pub request_timeout_ms: u64,
    /// Offer every document of the namespace to a new peer.
    pub announce: bool,
    /// Milliseconds a document's tail stays as rows before it may be compacted.
    pub compact_grace_ms: u64,
    /// Changes a tail needs before it is compacted.
    pub compact_floor: u64,
}

/// What a connection proved about itself before joining.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The session's namespace.
    pub namespace: Namespace,
    /// The session may only read.
    pub read_only: bool,
    /// The peer id it joined with.
    pub peer: PeerId,
    /// Its storage id, if it has one and is not ephemeral.
    pub storage: Option<StorageId>,
}

/// What to put on the socket.
#[derive(Debug)]
pub enum Outgoing {
    /// One binary WebSocket message.
    Message(Bytes),
    /// Close with this code and reason, then drop the connection.
    Close(u16, &'static str),
}

/// The client broke the protocol: send `message` in an `error` message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejected {
    /// What to tell the client.
    pub message: String,
    /// Whether the connection must be closed too.
    pub fatal: bool,
}

/// Handle to the running engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {}

/// The receiving half of a joined connection. Dropping both halves leaves.
pub struct Inbound {}

/// The sending half of a joined connection.
pub struct Outbound {}

/// Counters for `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EngineStatus {
    /// Joined connections.
    pub connections: u64,
    /// Documents whose graph is in memory.
    pub documents_loaded: u64,
    /// Bytes of the memory budget in use.
    pub memory_bytes: u64,
    /// Changes made durable since start.
    pub changes_in: u64,
    /// Changes sent to peers since start.
    pub changes_out: u64,
    /// Commits (fsyncs) since start.
    pub commits: u64,
    /// The last journal error in words, until a commit succeeds again.
    pub journal_error: Option<String>,
}

#[allow(clippy::todo, unused_variables)]
impl Engine {
    /// Start shards, journal and opener.
    pub fn start(store: Arc<Store>, options: EngineOptions) -> Result<Self, std::io::Error> {
        todo!()
    }
    /// Our peer id, sent as `senderId`: stable for a store.
    pub fn peer_id(&self) -> &PeerId {
        todo!()
    }
    /// Our storage id, sent in `peerMetadata`.
    pub fn storage_id(&self) -> &StorageId {
        todo!()
    }
    /// Join; an older connection of the same peer id in the namespace is closed. `peer` has not been answered yet:
    /// the caller sends the `peer` message first.
    pub fn join(&self, joining: Joining) -> (Inbound, Outbound) {
        todo!()
    }
    /// Write to the store through the journal (durable when it returns).
    pub async fn commit(&self, ops: Vec<crate::store::Op>) -> Result<(), String> {
        todo!()
    }
    /// True while shards and journal answer in time (heartbeat).
    pub fn is_alive(&self) -> bool {
        todo!()
    }
    /// Counters.
    pub fn status(&self) -> EngineStatus {
        todo!()
    }
    /// Commit what waits, close all connections with 1001, stop the threads.
    pub async fn shutdown(&self) {
        todo!()
    }
}

#[allow(clippy::todo, unused_variables)]
impl Inbound {
    /// One binary WebSocket message after `join`: decode, check, hand to its shard. Waits while the inbox is full.
    /// # Errors
    /// What the client did wrong.
    pub async fn receive(&mut self, frame: Bytes) -> Result<(), Rejected> {
        todo!()
    }
}

#[allow(clippy::todo, unused_variables)]
impl Outbound {
    /// The next thing to send; `None` when the engine has let go of this connection.
    pub async fn next(&mut self) -> Option<Outgoing> {
        todo!()
    }
    /// The bytes last handed out are on the socket: makes room in the outbox.
    pub fn sent(&mut self, bytes: usize) {
        todo!()
    }
}
