//! How durable writes are asked for: of the engine's journal in the server, of the store itself in tools and tests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Op, Store};

/// Resolves when the operations are durable, or with the reason in words. They are committed without being polled.
pub type CommitFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

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
        let committed = Store::commit(self, &ops).map_err(|error| error.to_string());
        Box::pin(std::future::ready(committed))
    }
}
