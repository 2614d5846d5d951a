//! What can go wrong in the store.

/// An operation on the store failed; the text carries operation and object.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// redb or the disk refused.
    #[error("{operation} failed for {object}: {source}")]
    Redb {
        /// What was being done.
        operation: &'static str,
        /// To what.
        object: String,
        /// redb's own error.
        source: redb::Error,
    },
}
