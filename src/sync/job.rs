//! Work for the document opener: what cannot be done without materialising a document.

use bytes::Bytes;

use super::chunk::Change;
use crate::store::SnapshotInfo;
use crate::types::{ChangeHash, ConnectionId, DocKey};

/// Bytes of changes that one [`Job::Extract`] takes out at a time, about.
pub const EXTRACT_BYTES: usize = 4 << 20;

/// A job.
#[derive(Debug)]
pub enum Job {
    /// Take in document chunks that a peer sent.
    Intake {
        /// The document.
        key: DocKey,
        /// Who sent them.
        connection: ConnectionId,
        /// The chunks.
        chunks: Vec<Bytes>,
        /// Operations (and other column values) that the chunks claim to hold.
        operations: u64,
        /// The store may have some of it: leave out what it has, and make no snapshot.
        existing: bool,
    },
    /// Take changes out of the snapshot: those that `have` does not imply, without the first `skip`,
    /// [`EXTRACT_BYTES`] of them.
    Extract {
        /// The document.
        key: DocKey,
        /// For whom.
        connection: ConnectionId,
        /// Heads of the snapshot that is meant.
        snapshot: Vec<ChangeHash>,
        /// What the peer has.
        have: Vec<ChangeHash>,
        /// Changes to leave out at the start.
        skip: u64,
    },
    /// Make a snapshot of all rows below this one and the snapshot there is.
    Compact {
        /// The document.
        key: DocKey,
        /// The first row not in it.
        below: u64,
    },
}

impl Job {
    /// What is done, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Intake { .. } => "intake",
            Self::Extract { .. } => "extraction",
            Self::Compact { .. } => "compaction",
        }
    }

    /// The connection that the job is done for; a compaction is done for nobody.
    pub fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::Intake { connection, .. } | Self::Extract { connection, .. } => Some(*connection),
            Self::Compact { .. } => None,
        }
    }

    /// The document that the job is about.
    pub fn key(&self) -> &DocKey {
        match self {
            Self::Intake { key, .. } | Self::Extract { key, .. } | Self::Compact { key, .. } => key,
        }
    }
}

/// Why a job was not run, or did not come to an end. The text is for the device; the owner is told more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Opening the document ended badly twice in a row.
    #[error(
        "opening this document ended badly twice, so it stays closed until the server's owner allows another try (groundmist-sync docs retry)"
    )]
    StaysClosed,
    /// The memory for it is not there.
    #[error(
        "opening this document takes about {need_bytes} bytes of memory, more than the {allowed_bytes} that memory.opener allows; the server's owner can raise it"
    )]
    TooLarge {
        /// Estimated bytes of memory.
        need_bytes: u64,
        /// `memory.opener`.
        allowed_bytes: u64,
    },
    /// What would come of it is more than the server holds at once.
    #[error(
        "this document holds more than the 128 MiB of changes that the server takes in at once; it takes them one by one"
    )]
    TooMuch,
    /// A document of this size is opened in a process of its own, and none can be started.
    #[error(
        "this document is too large to be opened in the server's own process, and the server could not start another; its owner finds the reason in its log"
    )]
    NoProcess,
    /// The process ended, or was ended, before it was done.
    #[error(
        "the server could not open this document; its owner finds the reason with `groundmist-sync status`"
    )]
    EndedBadly,
}

/// Why changes could not be taken out of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotExtracted {
    /// The stored bytes are not what was once stored: their checksum is another one.
    #[error("its stored snapshot is damaged: {0}")]
    Damaged(String),
    /// The stored bytes are what they were, so the failure says nothing against the document. Memory may have run out.
    #[error("its snapshot could not be opened: {0}")]
    Failed(String),
}

/// Bytes of an intake's chunks.
pub(super) fn chunks_bytes(chunks: &[Bytes]) -> usize {
    chunks.iter().map(Bytes::len).sum()
}

/// A snapshot ready to be stored.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What it holds.
    pub info: SnapshotInfo,
    /// The automerge document chunk.
    pub document: Bytes,
    /// Its index.
    pub index: Bytes,
}

impl Snapshot {
    /// Bytes of memory that it takes, about.
    pub fn bytes(&self) -> usize {
        self.document.len() + self.index.len() + self.info.heads.len() * size_of::<ChangeHash>()
    }
}

/// What an intake found.
#[derive(Debug)]
pub enum Intake {
    /// New changes, dependencies first.
    Changes(Vec<Change>),
    /// A new document large enough to be kept as it came.
    Snapshot(Snapshot),
}

/// A finished job.
#[derive(Debug)]
pub enum Done {
    /// Of [`Job::Intake`]; an error says what is wrong with the chunk.
    Intake {
        /// The document.
        key: DocKey,
        /// Who sent it.
        connection: ConnectionId,
        /// The chunks, for another try.
        chunks: Vec<Bytes>,
        /// As in the job.
        operations: u64,
        /// What was found.
        result: Result<Intake, String>,
    },
    /// Of [`Job::Extract`]: changes, and whether none are left.
    Extract {
        /// The document.
        key: DocKey,
        /// For whom.
        connection: ConnectionId,
        /// `None` when the snapshot is not the one that was meant.
        result: Result<Option<(Vec<Bytes>, bool)>, NotExtracted>,
    },
    /// Of [`Job::Compact`]; an error says why the document could not be compacted, `None` that the store could not read
    /// it.
    Compact {
        /// The document.
        key: DocKey,
        /// As in the job.
        below: u64,
        /// The snapshot.
        result: Result<Option<Snapshot>, String>,
    },
    /// The job was not run, or did not come to an end.
    Refused(Job, Refusal),
}

impl Done {
    /// The document that the job was about.
    pub fn key(&self) -> &DocKey {
        match self {
            Self::Refused(job, _) => job.key(),
            Self::Intake { key, .. } | Self::Extract { key, .. } | Self::Compact { key, .. } => key,
        }
    }
}
