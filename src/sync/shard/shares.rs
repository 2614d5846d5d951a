//! A connection's share in a document, the memory that it takes, and the documents in use.

use super::Shard;
use super::budget::Category;
use crate::store::StoreError;
use crate::sync::doc::{Doc, Fault, Peer, Status};
use crate::sync::storage::Storage;
use crate::types::{ConnectionId, DocKey, Now};

/// What an open document costs for each connection that has it open, in bytes, about, besides the lists of hashes: the
/// document, its place in the map, the peer, the allocator's overhead.
const OPEN_BYTES: usize = 1000;

impl Shard {
    /// Has a document in use.
    pub(super) fn open(&mut self, key: &DocKey, storage: &dyn Storage, now: Now) -> Result<&mut Doc, Fault> {
        self.end_failure(key);
        if !self.documents.contains(key) {
            let grace_ms = self.options.compact_grace_ms;
            match storage.head(key) {
                Ok(head) => self.documents.insert(key, head, now, grace_ms),
                // In use, so that who asks for it is answered.
                Err(error @ StoreError::Corrupt { .. }) => {
                    self.documents.insert(key, None, now, grace_ms);
                    self.quarantine(key, error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        let is_singly = self.wholes.refused(key).is_some();
        // Invariant: inserted above.
        let Some(doc) = self.documents.touch(key) else { unreachable!("document is in use") };
        if is_singly {
            doc.opener.wants_singly();
        }
        Ok(doc)
    }

    /// A document at which the program failed is read anew when all who had it open have left, also those whose departures
    /// have not come to it yet: a client that connects again at once may be among them.
    fn end_failure(&mut self, key: &DocKey) {
        let Some(doc) = self.documents.get(key).filter(|doc| *doc.status() == Status::Failed) else { return };
        let has_left = |id: &ConnectionId| self.connections.get(id).is_none_or(|conn| !conn.has_open(key));
        let peers: Vec<ConnectionId> = doc.peers().iter().map(|peer| peer.connection()).collect();
        if peers.iter().all(has_left) {
            for id in peers {
                self.detach(id, key);
            }
            self.forget_if_idle(key);
        }
    }

    /// Gives the connection a share in a document in use. False (and an error to the peer) over its limit.
    pub(super) fn share(&mut self, id: ConnectionId, key: &DocKey) -> bool {
        let Some(conn) = self.connections.get_mut(&id) else { return false };
        if conn.has_open(key) {
            return true;
        }
        let most = self.options.max_documents;
        if !conn.open(key, most) {
            self.error(id, format!("limits.documents: this connection has {most} documents open already"));
            return false;
        }
        let writer = !conn.info().read_only;
        self.attach(key, Peer::new(id, id, OPEN_BYTES, writer));
        true
    }

    /// A new peer for a connection that has the document among its own already, at its own cost. It is told that the document is
    /// unavailable.
    pub(super) fn attach_anew(&mut self, id: ConnectionId, key: &DocKey, writer: bool) {
        let mut peer = Peer::new(id, id, OPEN_BYTES, writer);
        peer.tell_unavailable();
        self.attach(key, peer);
    }

    /// A peer for a connection that has the document among its own, at the cost of the peer's payer.
    pub(super) fn attach(&mut self, key: &DocKey, peer: Peer) {
        let Some(doc) = self.documents.get_mut(key) else { return };
        let (payer, bytes) = peer.cost();
        self.budget.change(payer, Category::Documents, 0, bytes);
        doc.attach(peer);
    }

    /// Ends a peer, but not its place among the connection's own documents.
    pub(super) fn detach(&mut self, id: ConnectionId, key: &DocKey) -> Option<Peer> {
        self.requests.withdraw(id, key);
        let peer = self.documents.get_mut(key)?.detach(id)?;
        let (payer, bytes) = peer.cost();
        self.budget.change(payer, Category::Documents, bytes, 0);
        Some(peer)
    }

    /// Ends a connection's share in a document.
    pub(super) fn unshare(&mut self, id: ConnectionId, key: &DocKey) {
        self.detach(id, key);
        if let Some(conn) = self.connections.get_mut(&id) {
            conn.close_document(key);
        }
    }

    /// Counts anew what a connection makes the server hold of a document.
    pub(super) fn recount_peer(&mut self, id: ConnectionId, key: &DocKey) {
        let Some(doc) = self.documents.get_mut(key) else { return };
        let parked = doc.parked_by(id);
        let Some(peer) = doc.peer(id) else { return };
        let bytes = OPEN_BYTES + peer.lists_bytes() + parked;
        let (payer, before) = peer.cost();
        // A connection that was asked for the document pays for itself once it has spoken of it.
        let after = if peer.is_heard() { id } else { payer };
        peer.set_cost(after, bytes);
        if payer == after {
            return self.budget.change(after, Category::Documents, before, bytes);
        }
        self.budget.change(payer, Category::Documents, before, 0);
        self.budget.change(after, Category::Documents, 0, bytes);
    }

    /// Counts a document's graph anew, and drops graphs used least recently while over the budget.
    pub(super) fn recount(&mut self, key: &DocKey) {
        self.budget.graphs_changed(self.documents.recount(key));
        let most = self.budget.unfinished().most_pinned();
        self.budget.recount_unsaved(key, self.documents.get(key).map_or(0, |doc| doc.unsaved_bytes(most)));
        if let Some(bytes) = self.budget.to_evict() {
            let freed = self.documents.evict(bytes);
            self.counters.evictions += freed.graphs_before as u64;
            self.budget.evicted(freed);
        }
    }

    /// Ends the use of a document that nobody needs.
    pub(super) fn forget_if_idle(&mut self, key: &DocKey) {
        if let Some(freed) = self.documents.remove_if_idle(key) {
            self.budget.graphs_changed(freed);
            self.budget.recount_unsaved(key, 0);
            self.requests.forget(key);
            self.remote.forget(key);
        }
    }

    /// While connections hold more than they may: has the one that must give way give all back, and closes it.
    pub(super) fn enforce_budget(&mut self) {
        while let Some(id) = self.budget.excess() {
            self.give_way(id);
        }
    }

    /// Whether a connection has joined, and is not about to be closed.
    pub(super) fn is_here(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|conn| !conn.is_ending())
    }

    /// Queues an error message.
    pub(super) fn error(&mut self, id: ConnectionId, message: String) {
        if let Some(conn) = self.connections.get_mut(&id) {
            conn.push_error(message);
            self.send_queue.make_ready(id);
        }
    }
}
