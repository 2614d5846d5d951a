//! How durable writes are asked for: of the engine's journal in the server, of the store itself in tools and tests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Op, Store, StoreError};

/// Why a commit is not durable.
///
/// One failure is reported to everyone whose operations were in the commit, so clones share the store's error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The disk has no room, or the quota of the server's user is used up. The same commit succeeds once there is room.
    #[error(
        "{operation} failed for {object}: the server's disk is full; free some space on it, no restart is needed"
    )]
    Full {
        /// What was being done.
        operation: &'static str,
        /// The file or table that was written to.
        object: Arc<str>,
    },
    /// The operations do not fit what is stored: a fault in the code that made them, so that trying again does not help.
    #[error(transparent)]
    Refused(Arc<StoreError>),
    /// The disk, the file system or the stored data is at fault.
    #[error(transparent)]
    Storage(Arc<StoreError>),
    /// The journal or the shard that should have committed has ended, because the server stops.
    #[error("nothing more is stored, because the server is stopping; try again when it runs again")]
    Stopped,
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull { operation, object } => Self::Full { operation, object: object.into() },
            StoreError::Order { .. } | StoreError::TooLarge { .. } => Self::Refused(Arc::new(error)),
            StoreError::Io { .. }
            | StoreError::Reopening { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Locked { .. }
            | StoreError::Newer { .. }
            | StoreError::NotAStore { .. }
            | StoreError::Permission { .. }
            | StoreError::Redb { .. } => Self::Storage(Arc::new(error)),
        }
    }
}

/// Resolves when the operations are durable, or with the reason why they are not. They are committed without being
/// polled.
pub type CommitFuture = Pin<Box<dyn Future<Output = Result<(), CommitError>> + Send>>;

/// Makes operations durable, all or none.
///
/// Calls are ordered: what a later call hands over is never durable before what an earlier one did. `access` relies on
/// it: it calls while it holds its state, so that a revocation comes after everything that it revokes.
pub trait Commit: Send + Sync {
    /// See [`CommitFuture`].
    fn make_durable(&self, ops: Vec<Op>) -> CommitFuture;
}

/// Blocks the calling thread for an fsync.
impl Commit for Arc<Store> {
    fn make_durable(&self, ops: Vec<Op>) -> CommitFuture {
        let committed = Store::commit(self, &ops).map_err(CommitError::from);
        Box::pin(std::future::ready(committed))
    }
}
