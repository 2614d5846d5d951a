//! What goes to the journal, and what follows when it is durable or failed.

use super::Shard;
use crate::store::{CommitError, Disposal, Op, SnapshotInfo};
use crate::sync::job::Snapshot;
use crate::sync::peer::Peer;
use crate::sync::storage::Storage;
use crate::types::{ChangeHash, ConnectionId, DocKey, Millis};

/// Most documents, changes and bytes of new changes that a shard puts into one commit, because every acknowledgement waits for the
/// commit that is under way. The last document is taken whole. Documents with a snapshot or a deletion come on top.
const COMMIT_DOCUMENTS: u64 = 1024;
const COMMIT_CHANGES: u64 = 8192;
const COMMIT_BYTES: u64 = 2 << 20;

/// A snapshot that waits for the next commit.
#[derive(Debug)]
pub(super) struct Snapshotting {
    pub key: DocKey,
    pub below: u64,
    pub snapshot: Snapshot,
    /// Whose new document it is; `None` for a compaction.
    pub connection: Option<ConnectionId>,
}

/// A step of the commit under way.
#[derive(Debug)]
pub(super) enum InFlight {
    Append { key: DocKey, changes: u64, end: u64, bytes: u64, heads: Vec<ChangeHash>, now: Millis },
    Snapshot { key: DocKey, below: u64, info: SnapshotInfo, connection: Option<ConnectionId> },
    Dispose { key: DocKey, what: Disposal },
}

impl Shard {
    /// Steps for the next commit; empty when there is nothing. The caller must answer with [`Shard::committed`] before
    /// it calls this again.
    pub fn take_ops(&mut self, now: Millis) -> Vec<Op> {
        let mut ops = std::mem::take(&mut self.ops);
        // A snapshot's step names the heads of the whole document, and nothing can be appended to a deleted one: what has
        // come of these is in the same commit.
        let whole = self.snapshots.iter().map(|snapshot| &snapshot.key);
        let whole: Vec<DocKey> = whole.chain(self.disposals.iter().map(|(key, _)| key)).cloned().collect();
        for key in whole {
            self.append(key, &mut ops, now);
        }
        let (mut documents, mut changes, mut bytes) = (0, 0, 0);
        while documents < COMMIT_DOCUMENTS && changes < COMMIT_CHANGES && bytes < COMMIT_BYTES {
            let Some(key) = self.dirty.pop() else { break };
            if let Some(doc) = self.docs.get_mut(&key) {
                doc.in_dirty = false;
            }
            let appended = self.append(key, &mut ops, now);
            // One that was thrown away meanwhile has nothing; a commit of nothing would be no commit, and the rest would wait.
            documents += u64::from(appended.0 > 0);
            changes += appended.0;
            bytes += appended.1;
        }
        for Snapshotting { key, below, snapshot, connection } in std::mem::take(&mut self.snapshots) {
            let Some(doc) = self.docs.get(&key) else { continue };
            // Of the whole document: what came after the snapshot counts too.
            let heads = match (&doc.graph, &doc.head) {
                (Some(graph), _) => graph.heads().to_vec(),
                (None, Some(head)) => head.heads.clone(),
                (None, None) => snapshot.info.heads.clone(),
            };
            let Snapshot { info, document, index } = snapshot;
            self.in_flight.push(InFlight::Snapshot {
                key: key.clone(),
                below,
                info: info.clone(),
                connection,
            });
            let (modified, by) =
                (connection.map(|_| now), connection.and_then(|connection| self.client(connection)));
            ops.push(Op::Snapshot { key, below_row: below, info, document, index, heads, by, modified });
        }
        // Last: what had come of the document is stored, and comes back if it is restored.
        for (key, what) in std::mem::take(&mut self.disposals) {
            self.in_flight.push(InFlight::Dispose { key: key.clone(), what });
            ops.push(Op::Dispose { key, what, now });
        }
        ops
    }

    /// Adds the step that stores a document's new changes, if it has some; how many they are, and their bytes.
    fn append(&mut self, key: DocKey, ops: &mut Vec<Op>, now: Millis) -> (u64, u64) {
        let Some(op) = self.docs.get_mut(&key).and_then(|doc| doc.take_op(now)) else { return (0, 0) };
        let Op::Append { rows, heads, .. } = &op else { return (0, 0) };
        let bytes = rows.iter().map(|row| row.bytes.len() as u64).sum();
        let end = rows.last().map_or(0, |row| row.row + 1);
        let changes = rows.len() as u64;
        self.in_flight.push(InFlight::Append { key, changes, end, bytes, heads: heads.clone(), now });
        ops.push(op);
        (changes, bytes)
    }

    /// The steps last taken are durable.
    pub fn committed(&mut self, storage: &dyn Storage, now: Millis) {
        for step in std::mem::take(&mut self.in_flight) {
            match step {
                InFlight::Append { key, changes, end, bytes, heads, now } => {
                    self.counters.changes_in += changes;
                    let Some(doc) = self.docs.get_mut(&key) else { continue };
                    let new = doc.head.is_none();
                    doc.appended(end, bytes, heads, now);
                    if new {
                        doc.compact_after = now + self.options.compact_grace_ms;
                    }
                    self.now_durable(&key, new, now);
                    self.compact_if_due(&key, storage, now);
                }
                InFlight::Snapshot { key, below, info, connection } => {
                    let head = match storage.head(&key) {
                        Ok(head) => head,
                        Err(error) => {
                            tracing::error!(document = %key.document, %error, "cannot read a document's head");
                            self.start_over(&key);
                            self.send_away(&key, 1011, "storage is not readable now, try again");
                            self.forget_if_idle(&key);
                            continue;
                        }
                    };
                    let Some(doc) = self.docs.get_mut(&key) else { continue };
                    doc.snapshotted(below, &info, head);
                    if let Some(connection) = connection {
                        self.counters.changes_in += info.changes;
                        doc.recheck(connection);
                        doc.compact_after = now + self.options.compact_grace_ms;
                        self.now_durable(&key, true, now);
                        self.intake_over(&key, storage, now);
                    }
                    self.recount(&key);
                    self.queue(&key);
                    self.forget_if_idle(&key);
                }
                InFlight::Dispose { key, what } => self.disposed(&key, what, storage, now),
            }
        }
    }

    fn now_durable(&mut self, key: &DocKey, new: bool, now: Millis) {
        if new {
            self.arrived(key);
        }
        self.heads_durable(key, now);
        self.recount(key);
        self.queue(key);
        self.forget_if_idle(key);
    }

    /// The steps last taken failed; the store has none of them. Connections that sent them are closed, with the reason as
    /// far as it concerns their users, and send their changes again when they come back.
    pub fn commit_failed(&mut self, error: &CommitError, storage: &dyn Storage, now: Millis) {
        let reason = close_reason(error);
        for step in std::mem::take(&mut self.in_flight) {
            let (key, sender) = match step {
                InFlight::Append { key, .. } => (key, None),
                InFlight::Snapshot { key, connection, .. } => (key, connection),
                // Nothing was done towards it.
                InFlight::Dispose { .. } => continue,
            };
            let Some(doc) = self.docs.get_mut(&key) else { continue };
            // With the graph goes what a compaction relies on: its result is not taken.
            doc.compacting = false;
            self.snapshots.retain(|waiting| waiting.key != key || waiting.connection.is_some());
            doc.drop_parked();
            doc.graph = None;
            doc.taken = doc.durable_end();
            let affected: Vec<ConnectionId> = doc
                .peers
                .iter()
                .filter(|peer| peer.writer && peer.subscribed)
                .map(|peer| peer.connection)
                .collect();
            // Readers that wait for a new one get it when it comes again.
            let new = doc.head.is_none();
            let waits = |peer: &&mut Peer| new && peer.subscribed && !peer.writer && !peer.wants;
            doc.peers.iter_mut().filter(waits).for_each(|reader| reader.tell_unavailable = true);
            for id in affected {
                self.close(id, 1013, reason);
            }
            if sender.is_some() {
                self.intake_over(&key, storage, now);
            }
            self.recount(&key);
            self.queue(&key);
            self.forget_if_idle(&key);
        }
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
