//! What goes to the journal, and what follows when it is durable or failed.

use super::Shard;
use super::next_commit::InFlight;
use crate::store::{CommitError, Op, SnapshotInfo};
use crate::sync::doc::Peer;
use crate::sync::storage::Storage;
use crate::types::{ConnectionId, DocKey, Now};

impl Shard {
    /// Puts the next commit together.
    pub(super) fn gather_ops(&mut self, now: Now) -> Vec<Op> {
        for key in self.next_commit.whole() {
            self.append(&key, now, true);
        }
        while let Some(key) = self.next_commit.next_dirty() {
            self.append(&key, now, false);
        }
        let documents = &self.documents;
        self.next_commit.take(now, |key| documents.get(key).map(|doc| doc.latest_heads().map(<[_]>::to_vec)))
    }

    /// Adds the step that stores a document's new changes, if it has some. One that was thrown away meanwhile has none.
    fn append(&mut self, key: &DocKey, now: Now, is_whole: bool) {
        self.guarded(key, |shard| {
            if let Some(op) = shard.documents.get_mut(key).and_then(|doc| doc.take_op(now.wall)) {
                shard.next_commit.append(op, now, is_whole);
            }
        });
    }

    /// A step is durable.
    pub(super) fn made_durable(&mut self, step: InFlight, storage: &dyn Storage, now: Now) {
        match step {
            InFlight::Append { key, changes, end, bytes, heads, now: taken_at } => {
                self.counters.changes_in += changes;
                let Some(doc) = self.documents.get_mut(&key) else { return };
                let new = !doc.is_stored();
                doc.appended(end, bytes, heads, taken_at.wall);
                if new {
                    doc.opener.compact_after(taken_at.steady + self.options.compact_grace_ms);
                }
                self.note_if_came_singly(&key);
                self.now_durable(&key, new, taken_at);
                self.compact_if_due(&key, storage, taken_at);
            }
            InFlight::Snapshot { key, below, info, connection } => {
                self.snapshot_durable(&key, below, &info, connection, storage, now);
            }
            InFlight::Dispose { key, what } => self.disposed(&key, what, storage, now),
        }
    }

    fn snapshot_durable(
        &mut self,
        key: &DocKey,
        below: u64,
        info: &SnapshotInfo,
        bringer: Option<ConnectionId>,
        storage: &dyn Storage,
        now: Now,
    ) {
        let head = match storage.head(key) {
            Ok(head) => head,
            Err(error) => {
                tracing::error!(document = %key.document, %error, "cannot read a document's head");
                self.start_over(key);
                self.send_away(key, 1011, "storage is not readable now, try again");
                return self.forget_if_idle(key);
            }
        };
        let Some(doc) = self.documents.get_mut(key) else { return };
        doc.snapshotted(below, info, head);
        if let Some(connection) = bringer {
            self.counters.changes_in += info.changes;
            doc.recheck(connection);
            doc.opener.compact_after(now.steady + self.options.compact_grace_ms);
            self.now_durable(key, true, now);
            self.intake_over(key, storage, now);
        }
        self.recount(key);
        self.queue(key);
        self.forget_if_idle(key);
    }

    fn now_durable(&mut self, key: &DocKey, new: bool, now: Now) {
        if new {
            self.arrived(key);
        }
        self.heads_durable(key, now);
        self.note_saved(key);
        self.recount(key);
        self.queue(key);
        self.forget_if_idle(key);
    }

    /// The commit with a step failed.
    pub(super) fn not_durable(
        &mut self,
        step: InFlight,
        error: &CommitError,
        storage: &dyn Storage,
        now: Now,
    ) {
        let (key, is_intake) = match step {
            InFlight::Append { key, .. } => (key, false),
            InFlight::Snapshot { key, connection, .. } => (key, connection.is_some()),
            // Nothing was done towards it.
            InFlight::Dispose { .. } => return,
        };
        let Some(doc) = self.documents.get_mut(&key) else { return };
        // With the graph goes what a compaction relies on: its result is not taken.
        self.next_commit.drop_compaction(&key);
        let affected = doc.commit_failed();
        // Readers that wait for a new one get it when it comes again.
        if !doc.is_stored() {
            let requests = &self.requests;
            let is_told = |peer: &&mut Peer| {
                peer.is_subscribed() && !peer.is_writer() && !requests.waits(peer.connection(), &key)
            };
            doc.peers_mut().iter_mut().filter(is_told).for_each(Peer::tell_unavailable);
        }
        for id in affected {
            self.close(id, 1013, close_reason(error));
        }
        if is_intake {
            self.intake_over(&key, storage, now);
        }
        self.recount(&key);
        self.queue(&key);
        self.forget_if_idle(&key);
    }
}

/// The reason of a WebSocket close (at most 123 bytes). It says nothing of the server but that its disk is full, which is
/// the one failure that the user can tell the owner of.
fn close_reason(error: &CommitError) -> &'static str {
    match error {
        CommitError::Full { .. } => {
            "the server's disk is full, so it could not store your changes: try again later"
        }
        CommitError::Refused(_) | CommitError::Storage(_) | CommitError::Stopped => {
            "the server could not store your changes, try again"
        }
    }
}
