//! What the store keeps and takes: head rows, changes, and the steps of a commit.

use std::sync::Arc;

use bytes::Bytes;

use crate::types::{ChangeHash, DAY_MS, DocKey, Millis, Namespace, StorageId};

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// redb's page cache, in bytes.
    pub cache_bytes: usize,
}

/// A document's head row: what is known of it without reading its changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Heads of all durable changes, sorted.
    pub heads: Vec<ChangeHash>,
    /// The snapshot, if the document was ever compacted or taken in whole.
    pub snapshot: Option<SnapshotInfo>,
    /// Row number of the next change; rows of the tail are below it.
    pub next_row: u64,
    /// Changes in the tail (not in the snapshot).
    pub tail_changes: u64,
    /// Bytes of those changes.
    pub tail_bytes: u64,
    /// When the document was first stored.
    pub created: Millis,
    /// When a change was last stored.
    pub modified: Millis,
    /// Set when the document is quarantined: the reason, in words.
    pub quarantined: Option<String>,
    /// The `client_id` of the session that last changed it; unknown of what was stored before schema 2.
    pub written_by: Option<Arc<str>>,
    /// When it was deleted, if it was: its rows stay for [`BIN_LIFE_MS`], and nobody syncs it.
    pub deleted: Option<Millis>,
    /// Its rows are gone for good; this head is what says that its id is never taken again.
    pub purged: bool,
}

/// How long a deleted document can be restored, in milliseconds: 30 days.
pub const BIN_LIFE_MS: Millis = 30 * DAY_MS;

impl Head {
    /// Of a document first stored now, without changes so far.
    pub fn new(now: Millis) -> Self {
        Self {
            heads: Vec::new(),
            snapshot: None,
            next_row: 0,
            tail_changes: 0,
            tail_bytes: 0,
            created: now,
            modified: now,
            quarantined: None,
            written_by: None,
            deleted: None,
            purged: false,
        }
    }

    /// All changes, of tail and snapshot.
    pub fn changes(&self) -> u64 {
        self.tail_changes + self.snapshot.as_ref().map_or(0, |info| info.changes)
    }

    /// Bytes of tail and snapshot.
    pub fn bytes(&self) -> u64 {
        self.tail_bytes + self.snapshot.as_ref().map_or(0, |info| info.bytes)
    }

    /// When its rows go for good, if it is deleted.
    pub fn purge_at(&self) -> Option<Millis> {
        self.deleted.map(|deleted| deleted.saturating_add(BIN_LIFE_MS))
    }
}

/// What the head row says of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Heads of what the snapshot holds, sorted.
    pub heads: Vec<ChangeHash>,
    /// Number of changes in it.
    pub changes: u64,
    /// Bytes of the automerge document chunk.
    pub bytes: u64,
}

/// One change of the tail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Place in the order of arrival; dependencies have lower numbers or are in the snapshot.
    pub row: u64,
    /// The change's hash.
    pub hash: ChangeHash,
    /// Highest op counter in the change.
    pub max_op: u64,
    /// The change chunk as received (possibly deflated).
    pub bytes: Bytes,
}

/// One step of a commit. All steps of one [`Store::commit`] are durable together or not at all.
#[derive(Debug, Clone)]
pub enum Op {
    /// Append changes to a document's tail (creating the document) and set its heads.
    Append {
        /// The document.
        key: DocKey,
        /// Changes, `row` ascending, the first equal to the stored `next_row` (0 for a new document).
        rows: Vec<Row>,
        /// Heads of all changes including these.
        heads: Vec<ChangeHash>,
        /// Who wrote the last of them: [`Head::written_by`].
        by: Option<Arc<str>>,
        /// Now.
        now: Millis,
    },
    /// Swap in a snapshot that holds the old snapshot and all tail rows below `below_row`.
    /// Those rows and the old snapshot go; creates the document if it is new.
    Snapshot {
        /// The document.
        key: DocKey,
        /// Rows below this number are in the snapshot.
        below_row: u64,
        /// What the snapshot holds (its `bytes` is taken from `document`).
        info: SnapshotInfo,
        /// The automerge document chunk.
        document: Bytes,
        /// The snapshot's index, opaque here (see `sync::snapshot`).
        index: Bytes,
        /// Heads of the whole document after the swap.
        heads: Vec<ChangeHash>,
        /// Who brought the changes, if they are new.
        by: Option<Arc<str>>,
        /// `Some(now)` when the snapshot brings new changes, `None` for a mere compaction.
        modified: Option<Millis>,
    },
    /// Delete a document, restore or purge it. One that is not in the state for it is left as it is.
    Dispose {
        /// The document.
        key: DocKey,
        /// What.
        what: Disposal,
        /// Now.
        now: Millis,
    },
    /// Remember what a peer's storage was last known to hold. A document keeps [`MAX_SYNC_STATES`] of them.
    SyncState {
        /// The document.
        key: DocKey,
        /// The peer's storage.
        storage: StorageId,
        /// Heads both sides had.
        shared_heads: Vec<ChangeHash>,
    },
    /// Mark a document as harmful: kept and exportable, no longer synced.
    Quarantine {
        /// The document.
        key: DocKey,
        /// Why, in words.
        reason: String,
    },
    /// Write (`Some`) or delete (`None`) a record that is not about a document.
    Record {
        /// Which table.
        kind: RecordKind,
        /// Unique within its kind.
        key: Vec<u8>,
        /// What the record says; the shape belongs to who writes it.
        row: Option<Vec<u8>>,
    },
}

/// What becomes of a whole document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposal {
    /// Into the bin: nothing more is taken into it, its rows stay.
    Delete,
    /// Out of the bin, as it was.
    Restore,
    /// For good, if it was deleted at this time or before: its rows go, a tombstone stays.
    Purge {
        /// The time.
        deleted_by: Millis,
    },
}

/// What a namespace holds, kept up with each commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Documents, without deleted ones.
    pub documents: u64,
    /// Their changes.
    pub changes: u64,
    /// Bytes of their changes and snapshots.
    pub bytes: u64,
    /// When one of them last changed, or was deleted or restored.
    pub modified: Millis,
    /// Documents in the bin.
    pub deleted: u64,
}

/// What a namespace held at the end of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrowthPoint {
    /// Days since the Unix epoch, in UTC.
    pub day: u32,
    /// The namespace.
    pub namespace: Namespace,
    /// What it held.
    pub totals: Totals,
}

/// Key and row of a record.
pub type Record = (Vec<u8>, Vec<u8>);

/// Records that are not about documents, a table each. Keys and rows are opaque here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// Sessions, by id.
    Session,
    /// What the owner decided about apps.
    Grant,
    /// Apps that wait for a decision.
    Pending,
    /// Which document an app's devices start from.
    RootDocument,
    /// The audit trail.
    Audit,
    /// Tokens that were used and may not be used again.
    UsedToken,
    /// Single facts by name, such as the owner's DID.
    Pin,
    /// The server's certificates with their keys, its accounts at authorities, and its attempts to get a certificate.
    Certificate,
    /// What keeps apps connected that came by /connect, by the hash of what their refresh tokens begin with.
    RefreshToken,
    /// What each namespace holds; written by the store itself.
    Totals,
    /// The same at the end of earlier days; written by the store itself.
    Growth,
}

impl RecordKind {
    /// All kinds, in the order in which a backup has them.
    pub const ALL: [Self; 11] = [
        Self::Session,
        Self::Grant,
        Self::Pending,
        Self::RootDocument,
        Self::Audit,
        Self::UsedToken,
        Self::Pin,
        Self::Certificate,
        Self::Totals,
        Self::Growth,
        Self::RefreshToken,
    ];

    /// The store keeps it by itself, and takes none from others.
    pub fn is_of_store(self) -> bool {
        matches!(self, Self::Totals | Self::Growth)
    }
}

/// Size of the store, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoreStats {
    /// Documents in all namespaces.
    pub documents: u64,
    /// Bytes that the file takes on the disk; holes do not count.
    pub file_bytes: u64,
    /// Bytes of the file that hold no row: free pages, and the room that pages leave for more rows. The latter is
    /// about as much as the rows at worst, so reclaiming is worth it when this is well over half of the file.
    pub dead_bytes: u64,
}

/// Dead bytes that are worth the time of giving them back, if they are half of the file or more.
const RECLAIM_BYTES: u64 = 16 << 20;

impl StoreStats {
    /// Giving the dead bytes back to the disk is worth its time.
    pub fn is_worth_reclaiming(&self) -> bool {
        self.dead_bytes >= RECLAIM_BYTES && self.dead_bytes >= self.file_bytes / 2
    }
}
