//! What the protocol reads of the store. The engine gives the real one, tests one in memory.

use std::ops::Range;

use bytes::Bytes;

use crate::store::{Head, Row, StoreError, Whole};
use crate::types::{ChangeHash, DocKey, DocumentId, Namespace, StorageId};

/// Reads of the last commit. The same names and promises as [`crate::store::Store`]'s.
pub trait Storage {
    /// A document's head row.
    /// # Errors
    /// Reading failed.
    fn head(&self, key: &DocKey) -> Result<Option<Head>, StoreError>;
    /// Rows of the tail, ascending, until `each` says no.
    /// # Errors
    /// Reading failed.
    fn tail(
        &self,
        key: &DocKey,
        rows: Range<u64>,
        each: &mut dyn FnMut(Row) -> bool,
    ) -> Result<(), StoreError>;
    /// The snapshot's automerge document chunk.
    /// # Errors
    /// Reading failed.
    fn snapshot(&self, key: &DocKey) -> Result<Option<Bytes>, StoreError>;
    /// The snapshot's index.
    /// # Errors
    /// Reading failed.
    fn snapshot_index(&self, key: &DocKey) -> Result<Option<Bytes>, StoreError>;
    /// Head, snapshot and tail as of one moment.
    /// # Errors
    /// Reading failed.
    fn whole(&self, key: &DocKey) -> Result<Option<Whole>, StoreError>;
    /// What a peer's storage was last known to have.
    /// # Errors
    /// Reading failed.
    fn sync_state(&self, key: &DocKey, storage: &StorageId) -> Result<Option<Vec<ChangeHash>>, StoreError>;
    /// Documents of a namespace in id order.
    /// # Errors
    /// Reading failed.
    fn documents(
        &self,
        namespace: &Namespace,
        after: Option<DocumentId>,
        limit: usize,
    ) -> Result<Vec<(DocumentId, Head)>, StoreError>;
}

impl Storage for crate::store::Store {
    fn head(&self, key: &DocKey) -> Result<Option<Head>, StoreError> {
        self.head(key)
    }
    fn tail(
        &self,
        key: &DocKey,
        rows: Range<u64>,
        each: &mut dyn FnMut(Row) -> bool,
    ) -> Result<(), StoreError> {
        self.tail(key, rows, each)
    }
    fn snapshot(&self, key: &DocKey) -> Result<Option<Bytes>, StoreError> {
        self.snapshot(key)
    }
    fn snapshot_index(&self, key: &DocKey) -> Result<Option<Bytes>, StoreError> {
        self.snapshot_index(key)
    }
    fn whole(&self, key: &DocKey) -> Result<Option<Whole>, StoreError> {
        self.whole(key)
    }
    fn sync_state(&self, key: &DocKey, storage: &StorageId) -> Result<Option<Vec<ChangeHash>>, StoreError> {
        self.sync_state(key, storage)
    }
    fn documents(
        &self,
        namespace: &Namespace,
        after: Option<DocumentId>,
        limit: usize,
    ) -> Result<Vec<(DocumentId, Head)>, StoreError> {
        self.documents(namespace, after, limit)
    }
}
