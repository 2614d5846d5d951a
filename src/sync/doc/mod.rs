//! One document in use: what is durable of it, its change graph when needed, and its peers.
//!
//! [`Doc`] owns these and keeps them in step: rows below `taken` are durable or in the commit under way, a peer's cursor never
//! points behind what the peer was sent, and what waits for its dependencies is in the graph if there is one. The files of this
//! folder are one module: reading from the store, what a peer says, what a peer is told, the opener.

mod load;
mod opener_state;
mod peer;
mod receive;
mod reply;
mod tail;
#[cfg(test)]
mod tests;

pub use load::Fault;
pub use opener_state::OpenerState;
pub use peer::Peer;
pub use receive::Received;
pub use reply::{FIXED_BYTES, MESSAGE_BYTES, Reply, question};
pub use tail::Tail;

use std::sync::Arc;

use super::graph::{Graph, Parking};
use super::message::SyncMessage;
use crate::store::{Head, Op, SnapshotInfo};
use crate::types::{ChangeHash, ConnectionId, DocKey, Millis, Steady};
use peer::{Base, Saved};

/// How long a peer with changes that we lack counts as uploading after each of its messages, in milliseconds.
pub const UPLOAD_GRACE_MS: Millis = 10_000;

/// Whether a document is synced, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// The document is synced.
    Synced,
    /// The owner deleted it. Its rows are in the trash or purged.
    Deleted,
    /// It is damaged or harmful, for the reason given; the store knows if it has the document.
    Quarantined(String),
    /// This program failed while it worked on the document. The next use after all peers have left tries again.
    Failed,
}

impl Status {
    fn of(head: Option<&Head>) -> Self {
        match head {
            Some(Head { deleted: Some(_), .. }) => Self::Deleted,
            Some(Head { quarantined: Some(reason), .. }) => Self::Quarantined(reason.clone()),
            _ => Self::Synced,
        }
    }
}

/// A document in use.
#[derive(Debug)]
pub struct Doc {
    /// The document's name.
    key: DocKey,
    status: Status,
    /// The durable head; `None` if the store does not have the document.
    head: Option<Head>,
    /// Loaded when changes come or peers differ.
    graph: Option<Box<Graph>>,
    /// What waits for its dependencies, while the graph is not loaded.
    parked: Option<Box<Parking>>,
    /// Connections with a share in it.
    peers: Vec<Peer>,
    /// Rows below this are durable or in the commit under way.
    taken: u64,
    /// The app that wrote the last change that is not durable yet.
    writer: Option<Arc<str>>,
    /// Messages that wait until the opener has taken in a new document.
    held: Vec<(ConnectionId, SyncMessage)>,
    /// What the opener has to do with it.
    pub opener: OpenerState,
}

impl Doc {
    /// As the store has it.
    pub fn new(key: DocKey, head: Option<Head>) -> Self {
        let taken = head.as_ref().map_or(0, |head| head.next_row);
        Self {
            key,
            status: Status::of(head.as_ref()),
            head,
            graph: None,
            parked: None,
            peers: Vec::new(),
            taken,
            writer: None,
            held: Vec::new(),
            opener: OpenerState::default(),
        }
    }

    /// The document's name.
    pub fn key(&self) -> &DocKey {
        &self.key
    }

    /// Whether it is synced.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The document is synced.
    pub fn is_synced(&self) -> bool {
        self.status == Status::Synced
    }

    /// Ends its sync for a reason other than that the owner deleted it. True if it was synced before.
    pub fn set_aside(&mut self, status: Status) -> bool {
        std::mem::replace(&mut self.status, status) == Status::Synced
    }

    /// The document's durable head, if the store has it.
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The store has the document.
    pub fn is_stored(&self) -> bool {
        self.head.is_some()
    }

    /// Durable heads.
    pub fn heads(&self) -> &[ChangeHash] {
        self.head.as_ref().map_or(&[], |head| &head.heads)
    }

    /// Heads with what is not durable yet; `None` if nothing is known of the document.
    pub fn latest_heads(&self) -> Option<&[ChangeHash]> {
        let graph = self.graph.as_ref().map(|graph| graph.heads());
        graph.or(self.head.as_ref().map(|head| &head.heads[..]))
    }

    /// Rows below this are durable.
    pub fn durable_end(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.next_row)
    }

    /// Nothing of it is known here, durable or not.
    pub fn is_unknown(&self) -> bool {
        self.head.is_none() && self.graph.is_none()
    }

    /// Changes wait to be made durable.
    pub fn is_dirty(&self) -> bool {
        self.graph.as_ref().is_some_and(|graph| graph.end() > self.taken)
    }

    /// It is here but perhaps not durable, or somebody uploads it.
    pub fn is_coming(&self, now: Steady) -> bool {
        self.head.is_some()
            || self.graph.as_ref().is_some_and(|graph| graph.end() > 0)
            || self.opener.has_intakes()
            || self.peers.iter().any(|peer| peer.uploads(now))
    }

    /// The graph is in memory and has all of these changes, and all of it is durable.
    pub fn knows_all(&self, hashes: &[ChangeHash]) -> bool {
        let graph = self.graph.as_ref().filter(|graph| graph.end() == self.durable_end());
        graph.is_some_and(|graph| hashes.iter().all(|hash| graph.knows(hash)))
    }

    /// All of these changes are durable, as far as that is known without reading.
    fn has_durably(&self, heads: &[ChangeHash]) -> bool {
        self.heads() == heads || self.knows_all(heads)
    }

    /// A message of the connection was not taken, so it has something that is not here.
    pub fn not_saved(&mut self, connection: ConnectionId) {
        let Some(at) = self.peers.iter().position(|peer| peer.connection == connection) else { return };
        let heads = &self.peers[at].their_heads;
        // What it said before may be of the message that was not taken, or of what it had before that.
        let is_past = self.has_durably(heads);
        self.peers[at].saved = if is_past { Saved::NotBy(heads.clone()) } else { Saved::Unknown };
    }

    /// Connections of which all that they claim to have has become durable since they were last asked for.
    pub fn take_saved(&mut self) -> Vec<ConnectionId> {
        let is_saved = |peer: &Peer| peer.awaits_saving() && self.has_durably(&peer.their_heads);
        let saved: Vec<usize> = (0..self.peers.len()).filter(|at| is_saved(&self.peers[*at])).collect();
        let take = |at: usize| {
            let peer = &mut self.peers[at];
            peer.saved = Saved::Yes;
            peer.connection
        };
        saved.into_iter().map(take).collect()
    }

    /// Bytes of memory that the graph takes, about.
    pub fn graph_bytes(&self) -> usize {
        self.graph.as_ref().map_or(0, |graph| graph.memory())
    }

    /// Bytes of memory that the document takes until its changes are durable, about; 0 if they are. Of the graph that they pin
    /// `most_pinned` count at most, or a long document could never be written to quickly.
    pub fn unsaved_bytes(&self, most_pinned: usize) -> usize {
        let graph = self.graph.as_ref().filter(|graph| graph.end() > self.durable_end());
        let of_graph = graph.map_or(0, |graph| {
            let new = graph.memory_from(self.durable_end());
            new + graph.memory().saturating_sub(new).min(most_pinned)
        });
        of_graph + self.opener.waiting_bytes()
    }

    /// The graph can be dropped and read again without loss.
    pub fn is_evictable(&self) -> bool {
        let clean = |graph: &Graph| graph.end() == self.durable_end();
        !self.opener.is_compacting()
            && !self.opener.has_intakes()
            && self.graph.as_ref().is_some_and(|graph| clean(graph))
    }

    /// Drops the graph, which must be evictable. What waits for its dependencies stays: whoever sent it would not send it
    /// again on the same connection.
    pub fn evict(&mut self) {
        let parking = self.graph.take().map(|mut graph| graph.take_parking());
        self.parked = parking.filter(|parking| !parking.is_empty()).map(Box::new);
    }

    /// Bytes of what a connection brought and what waits for its dependencies, about.
    pub fn parked_by(&self, connection: ConnectionId) -> usize {
        let parking = self.graph.as_ref().map(|graph| graph.parking()).or(self.parked.as_deref());
        parking.map_or(0, |parking| parking.bytes_brought_by(connection))
    }

    /// Drops what waits for its dependencies and nobody else brought. Looks at `most` changes at most; true when there are no more.
    pub fn drop_parked_by(&mut self, connection: ConnectionId, most: usize) -> bool {
        let mut is_done = self.graph.as_mut().is_none_or(|graph| graph.drop_brought_by(connection, most));
        if let Some(parked) = &mut self.parked {
            is_done &= parked.drop_brought_by(connection, most);
            if parked.is_empty() {
                self.parked = None;
            }
        }
        is_done
    }

    /// Nobody needs it in memory.
    pub fn is_idle(&self) -> bool {
        self.peers.is_empty()
            && !self.opener.is_busy()
            // What is parked goes too: who comes back sends it again.
            && self.graph.as_ref().is_none_or(|graph| graph.end() == self.durable_end())
    }

    /// Connections with a share in it.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// Connections with a share in it, to be changed.
    pub fn peers_mut(&mut self) -> &mut [Peer] {
        &mut self.peers
    }

    /// The connection's share.
    pub fn peer(&mut self, connection: ConnectionId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.connection == connection)
    }

    /// Gives a connection a share in the document.
    pub fn attach(&mut self, mut peer: Peer) {
        peer.asked_singly = self.opener.is_singly();
        // Most documents are open on one connection, and a vector's first allocation has room for four.
        if self.peers.is_empty() {
            self.peers.reserve_exact(1);
        }
        self.peers.push(peer);
    }

    /// Ends a connection's share, and with it the wait of what nobody else brought.
    pub fn detach(&mut self, connection: ConnectionId) -> Option<Peer> {
        let at = self.peers.iter().position(|peer| peer.connection == connection)?;
        self.drop_parked_by(connection, usize::MAX);
        Some(self.peers.swap_remove(at))
    }

    /// Ends all shares.
    pub fn take_peers(&mut self) -> Vec<Peer> {
        std::mem::take(&mut self.peers)
    }

    /// Makes room for so many shares.
    pub fn reserve(&mut self, peers: usize) {
        self.peers.reserve_exact(peers);
    }

    /// Keeps a message for when the opener has taken in the new document.
    pub fn hold(&mut self, connection: ConnectionId, message: SyncMessage) {
        self.held.push((connection, message));
    }

    /// Takes out the held messages, all of them or one connection's.
    pub fn take_held(&mut self, of: Option<ConnectionId>) -> Vec<(ConnectionId, SyncMessage)> {
        self.held.extract_if(.., |(connection, _)| of.is_none_or(|of| of == *connection)).collect()
    }

    /// Drops all that was made of the document in memory, also its peers: it is as its head says, or as it was set aside.
    /// Changes in the commit under way stay counted as taken.
    pub fn start_over(&mut self) {
        let mut fresh = Self::new(self.key.clone(), self.head.take());
        fresh.taken = self.taken.max(fresh.taken);
        if fresh.status == Status::Synced {
            fresh.status = self.status.clone();
        }
        fresh.opener = self.opener.restarted();
        *self = fresh;
    }

    /// The owner has deleted, restored or purged the document: starts over as `head` says, whatever its status was.
    pub fn start_over_as(&mut self, head: Option<Head>) {
        (self.head, self.status) = (head, Status::Synced);
        self.start_over();
    }

    /// Names who wrote the last change.
    pub fn written_by(&mut self, client: Option<Arc<str>>) {
        if client.is_some() {
            self.writer = client;
        }
    }

    /// The step that makes the new changes durable.
    pub fn take_op(&mut self, now: Millis) -> Option<Op> {
        let graph = self.graph.as_ref().filter(|_| self.is_dirty())?;
        let rows = graph.rows_from(self.taken);
        self.taken = graph.end();
        let heads = graph.heads().to_vec();
        Some(Op::Append { key: self.key.clone(), rows, heads, by: self.writer.take(), now })
    }

    /// An [`Op::Append`] is durable.
    pub fn appended(&mut self, end: u64, bytes: u64, heads: Vec<ChangeHash>, now: Millis) {
        let head = self.head.get_or_insert_with(|| Head::new(now));
        head.tail_changes += end - head.next_row;
        head.tail_bytes += bytes;
        head.next_row = end;
        head.heads = heads;
        head.modified = now;
        if let Some(graph) = &mut self.graph {
            graph.trim(end);
        }
    }

    /// An [`Op::Snapshot`] is durable: `head` is what the store says now.
    pub fn snapshotted(&mut self, below: u64, info: &SnapshotInfo, head: Option<Head>) {
        self.opener.end_compaction();
        self.head = head;
        match &mut self.graph {
            Some(graph) if graph.end() >= below => graph.rebase(below, info.heads.clone()),
            _ => self.evict(),
        }
        self.taken = self.taken.max(below);
        let end = self.graph.as_ref().map_or(self.durable_end(), |graph| graph.end());
        for peer in &mut self.peers {
            peer.resend.retain(|row| *row >= below);
            let behind = peer.cursor < below || !matches!(peer.base, Base::Has);
            if self.head.as_ref().is_some_and(|head| head.heads == peer.their_heads) {
                peer.has_all(end);
                peer.need = Vec::new();
            } else if peer.heard && behind {
                // What it lacked lies inside the snapshot now: start over from its heads at its next turn.
                peer.stale = true;
            }
        }
    }

    /// The commit with the document's new changes failed: drops them, and with the graph what a compaction under way relies on.
    /// Returns the connections that wrote.
    pub fn commit_failed(&mut self) -> Vec<ConnectionId> {
        self.opener.end_compaction();
        (self.graph, self.parked) = (None, None);
        self.taken = self.durable_end();
        self.peers.iter().filter(|peer| peer.writer && peer.subscribed).map(|peer| peer.connection).collect()
    }
}
