//! What goes into the next commit, and what is in the commit under way.

use std::sync::Arc;

use super::dirty::Dirty;
use crate::store::{Disposal, Op, SnapshotInfo};
use crate::sync::job::Snapshot;
use crate::types::{ChangeHash, ConnectionId, DocKey, Now};

/// Most documents, changes, bytes of new changes, and heads of all these documents that a shard puts into one commit, because every acknowledgement waits
/// for the commit that is under way: for 256 new documents that is some 8 ms on a quick disk. The last document is taken whole. Documents
/// with a snapshot or a deletion come on top.
const COMMIT_DOCUMENTS: u64 = 256;
const COMMIT_CHANGES: u64 = 2048;
const COMMIT_BYTES: u64 = 1 << 20;
const COMMIT_HEADS: u64 = 8192;

/// Whose new document a snapshot is.
#[derive(Debug, Clone)]
pub struct Bringer {
    /// The connection that brought it.
    pub connection: ConnectionId,
    /// Its `client_id`, if it was there when the opener was done.
    pub client: Option<Arc<str>>,
}

/// A snapshot that waits for the next commit.
#[derive(Debug)]
pub struct PendingSnapshot {
    /// The document.
    pub key: DocKey,
    /// Rows below this are in the snapshot.
    pub below: u64,
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Who brought it; `None` for a compaction.
    pub bringer: Option<Bringer>,
}

/// A step of the commit under way that something follows from.
#[derive(Debug)]
pub enum InFlight {
    /// New changes of a document.
    Append {
        /// The document.
        key: DocKey,
        /// How many changes.
        changes: u64,
        /// Rows below this are durable then.
        end: u64,
        /// Bytes of the changes.
        bytes: u64,
        /// The document's heads with them.
        heads: Vec<ChangeHash>,
        /// When the step was made.
        now: Now,
    },
    /// A document's new snapshot.
    Snapshot {
        /// The document.
        key: DocKey,
        /// Rows below this are in the snapshot.
        below: u64,
        /// What it holds.
        info: SnapshotInfo,
        /// Who brought it; `None` for a compaction.
        connection: Option<ConnectionId>,
    },
    /// A document is deleted, restored or purged.
    Dispose {
        /// The document.
        key: DocKey,
        /// Which of them.
        what: Disposal,
    },
}

impl InFlight {
    /// The document that the step is about.
    pub fn key(&self) -> &DocKey {
        match self {
            Self::Append { key, .. } | Self::Snapshot { key, .. } | Self::Dispose { key, .. } => key,
        }
    }
}

/// What waits for the next commit, what of it is being put together, and what is in flight.
///
/// Invariants: the steps of one commit are in the order in which the store must apply them: rows without effect on others,
/// then new changes, then snapshots, then disposals. `in_flight` has what follows from the last commit taken, and nothing else.
#[derive(Debug, Default)]
pub struct NextCommit {
    /// Documents with new changes.
    dirty: Dirty,
    /// Steps that nothing follows from, and the commit that is being put together.
    ops: Vec<Op>,
    snapshots: Vec<PendingSnapshot>,
    /// What is to become of whole documents; last in the commit.
    disposals: Vec<(DocKey, Disposal)>,
    in_flight: Vec<InFlight>,
    /// New changes in the commit that is being put together.
    filled: Filled,
}

#[derive(Debug, Default)]
struct Filled {
    documents: u64,
    changes: u64,
    bytes: u64,
    heads: u64,
}

impl NextCommit {
    /// A document has new changes.
    pub fn mark_dirty(&mut self, key: &DocKey) {
        self.dirty.mark(key);
    }

    /// A step that nothing follows from goes into the next commit.
    pub fn write(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// A snapshot goes into the next commit.
    pub fn write_snapshot(&mut self, snapshot: PendingSnapshot) {
        self.snapshots.push(snapshot);
    }

    /// A document is deleted, restored or purged by the next commit.
    pub fn dispose(&mut self, key: DocKey, what: Disposal) {
        self.disposals.push((key, what));
    }

    /// A document's waiting snapshots are not stored.
    pub fn drop_snapshots(&mut self, key: &DocKey) {
        self.snapshots.retain(|waiting| waiting.key != *key);
    }

    /// The result of a document's compaction is not stored.
    pub fn drop_compaction(&mut self, key: &DocKey) {
        self.snapshots.retain(|waiting| waiting.key != *key || waiting.bringer.is_some());
    }

    /// Documents whose new changes must be in this commit: a snapshot's step names the heads of the whole document, and
    /// nothing can be appended to a deleted one.
    pub fn whole(&self) -> Vec<DocKey> {
        let snapshots = self.snapshots.iter().map(|snapshot| &snapshot.key);
        snapshots.chain(self.disposals.iter().map(|(key, _)| key)).cloned().collect()
    }

    /// The next document whose new changes have room in this commit besides those of [`NextCommit::whole`].
    pub fn next_dirty(&mut self) -> Option<DocKey> {
        let Filled { documents, changes, bytes, heads } = self.filled;
        let is_full = documents >= COMMIT_DOCUMENTS
            || changes >= COMMIT_CHANGES
            || bytes >= COMMIT_BYTES
            || heads >= COMMIT_HEADS;
        if is_full { None } else { self.dirty.pop() }
    }

    /// Adds the step that stores a document's new changes. They count against what one commit takes, unless the whole
    /// document is in it.
    pub fn append(&mut self, op: Op, now: Now, is_whole: bool) {
        let Op::Append { key, rows, heads, .. } = &op else { return };
        let bytes: u64 = rows.iter().map(|row| row.bytes.len() as u64).sum();
        let end = rows.last().map_or(0, |row| row.row + 1);
        let changes = rows.len() as u64;
        if !is_whole {
            self.filled.documents += 1;
            self.filled.changes += changes;
            self.filled.bytes += bytes;
            self.filled.heads += heads.len() as u64;
        }
        let (key, heads) = (key.clone(), heads.clone());
        self.in_flight.push(InFlight::Append { key, changes, end, bytes, heads, now });
        self.ops.push(op);
    }

    /// Takes the commit that was put together. `heads` gives a document's heads with all that came, `None` if it is not in
    /// use: its snapshot is not stored then.
    pub fn take(&mut self, now: Now, heads: impl Fn(&DocKey) -> Option<Option<Vec<ChangeHash>>>) -> Vec<Op> {
        self.filled = Filled::default();
        let mut ops = std::mem::take(&mut self.ops);
        for PendingSnapshot { key, below, snapshot, bringer } in std::mem::take(&mut self.snapshots) {
            // Of the whole document: what came after the snapshot counts too.
            let Some(heads) = heads(&key) else { continue };
            let Snapshot { info, document, index } = snapshot;
            let heads = heads.unwrap_or_else(|| info.heads.clone());
            let connection = bringer.as_ref().map(|bringer| bringer.connection);
            self.in_flight.push(InFlight::Snapshot {
                key: key.clone(),
                below,
                info: info.clone(),
                connection,
            });
            let (modified, by) = (connection.map(|_| now.wall), bringer.and_then(|bringer| bringer.client));
            ops.push(Op::Snapshot { key, below_row: below, info, document, index, heads, by, modified });
        }
        // Last: what had come of the document is stored, and comes back if it is restored.
        for (key, what) in std::mem::take(&mut self.disposals) {
            self.in_flight.push(InFlight::Dispose { key: key.clone(), what });
            ops.push(Op::Dispose { key, what, now: now.wall });
        }
        ops
    }

    /// Ends the commit under way, and returns its steps.
    pub fn finish(&mut self) -> Vec<InFlight> {
        std::mem::take(&mut self.in_flight)
    }
}

#[cfg(test)]
mod tests;
