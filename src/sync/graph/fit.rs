//! What becomes of a change, and why one does not fit.

/// Most heads of one document. Each device that edits apart from the others adds one, and the next change that knows
/// them all merges them, so honest documents have a few. Every commit and every message of a document names all its heads.
pub const MAX_HEADS: usize = 1024;

/// Why a change does not fit the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Another change with this actor and sequence number is here already, or a number was left out.
    #[error("a change's sequence number does not follow its actor's last one")]
    Sequence,
    /// Its operations start before those that it depends on end.
    #[error("a change's operations start before those it depends on end")]
    StartOp,
    /// The document would have more heads than it may.
    #[error(
        "the document has {MAX_HEADS} heads, which is the most it may have: a change must build on some of them"
    )]
    Heads,
    /// Too many changes wait for dependencies that have not come.
    #[error(
        "too many changes came before their dependencies (limit: {} changes or {} bytes of one document)",
        super::parking::MAX_PARKED,
        super::parking::MAX_PARKED_BYTES
    )]
    Parked,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// New, at this row.
    At(u64),
    /// It was here: at this row, or in the snapshot.
    Known(Option<u64>),
    /// It waits for dependencies.
    Parked,
}
