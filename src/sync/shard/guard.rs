//! The guard around work on a document. A panic costs the document that the work was begun for: it is not synced any more,
//! its bytes stay, and nothing else suffers. The same holds for documents that cannot be worked with because they are damaged.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Shard;
use super::budget::Category;
use crate::store::{Op, StoreError};
use crate::sync::doc::{Doc, Fault, Peer, Status};
use crate::types::{ConnectionId, DocKey};

impl Shard {
    /// Works at a document. If the program fails at it, the document starts over, and there is no result.
    pub(super) fn guarded<T>(&mut self, key: &DocKey, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(|| work(self)));
        if result.is_err() {
            self.start_over(key);
        }
        result.ok()
    }

    /// Works for a connection; `work` notes the document that it comes to. If the program fails, that document starts over;
    /// if the work was not that far, the connection is closed.
    pub(super) fn guarded_for<T>(
        &mut self,
        id: ConnectionId,
        work: impl FnOnce(&mut Self, &mut Option<DocKey>) -> T,
    ) -> Option<T> {
        let mut at = None;
        let result = catch_unwind(AssertUnwindSafe(|| work(self, &mut at)));
        if result.is_err() {
            match at.filter(|key| self.documents.contains(key)) {
                Some(key) => self.start_over(&key),
                None => self.close(id, 1011, "a fault in the server; its owner finds the reason in its log"),
            }
        }
        result.ok()
    }

    /// The program failed while it worked on a document: whatever it made of it in memory is thrown away, its peers are
    /// told that it is unavailable, and it is read anew when all of them have left. What is durable stays as it is.
    pub(super) fn start_over(&mut self, key: &DocKey) {
        tracing::error!(document = %key.document, namespace = %key.namespace, "the server failed at a document: kept as stored, not synced until all who have it open have left");
        self.counters.quarantines += 1;
        self.start_over_with(key, |doc| {
            doc.set_aside(Status::Failed);
            doc.start_over();
        });
    }

    /// Throws away what is made of a document in memory, by `restart`. Peers with the document open get `doc-unavailable`.
    pub(super) fn start_over_with(&mut self, key: &DocKey, restart: impl FnOnce(&mut Doc)) {
        self.next_commit.drop_snapshots(key);
        self.requests.forget(key);
        if let Some(doc) = self.documents.get_mut(key) {
            for peer in doc.peers() {
                let (payer, bytes) = peer.cost();
                self.budget.change(payer, Category::Documents, bytes, 0);
            }
            for (of, message) in doc.take_held(None) {
                self.budget.change(of, Category::Messages, message.bytes(), 0);
            }
            restart(doc);
        }
        self.recount(key);
        for id in self.sharers(key) {
            self.share_anew(id, key);
        }
        self.queue(key);
    }

    /// Closes the connections with a share in the document.
    pub(super) fn send_away(&mut self, key: &DocKey, code: u16, reason: &'static str) {
        for id in self.sharers(key) {
            self.close(id, code, reason);
        }
    }

    /// The connections with a share in the document, also when it has lost its peers.
    fn sharers(&self, key: &DocKey) -> Vec<ConnectionId> {
        self.connections.iter().filter(|(_, conn)| conn.has_open(key)).map(|(id, _)| *id).collect()
    }

    /// A connection's share in a document that starts over. The failure may have interrupted what was to be sent, so the
    /// connection is looked at in any case.
    fn share_anew(&mut self, id: ConnectionId, key: &DocKey) {
        let Some(conn) = self.connections.get_mut(&id) else { return };
        let writer = !conn.info().read_only;
        let waiting = conn.end_extraction(Some(key));
        self.attach_anew(id, key, writer);
        for waiting in waiting {
            self.queue(&waiting);
        }
        self.send_queue.make_ready(id);
    }

    /// Something about the document cannot be read: the one who asked starts over, or all are told it is unavailable.
    pub(super) fn faulty(&mut self, key: &DocKey, id: Option<ConnectionId>, fault: &Fault) {
        match fault {
            Fault::Moving(_) => {}
            Fault::Damaged { .. } | Fault::Store(StoreError::Corrupt { .. }) => {
                return self.quarantine(key, fault.to_string());
            }
            Fault::Store(error) => {
                tracing::error!(document = %key.document, %error, "cannot read a document")
            }
        }
        match id {
            Some(id) => self.close(id, 1011, "storage is not readable now, try again"),
            None => tracing::debug!(document = %key.document, %fault, "try again later"),
        }
    }

    /// Stops syncing a harmful or damaged document; its bytes stay.
    pub(super) fn quarantine(&mut self, key: &DocKey, reason: String) {
        tracing::error!(document = %key.document, namespace = %key.namespace, reason, "document is quarantined: kept, no longer synced");
        self.requests.forget(key);
        let Some(doc) = self.documents.get_mut(key) else { return };
        self.counters.quarantines += u64::from(doc.set_aside(Status::Quarantined(reason.clone())));
        doc.opener.end_compaction();
        doc.peers_mut().iter_mut().for_each(Peer::tell_unavailable);
        if doc.is_stored() {
            self.next_commit.write(Op::Quarantine { key: key.clone(), reason });
        }
        self.queue(key);
    }
}
