//! How access writes: through the engine's journal in the server, straight to the store in tools and tests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::engine::Engine;
use crate::store::{Op, Store};

/// Resolves when the operations are durable, or with the reason in words.
pub type CommitFuture<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Makes operations durable, all or none.
pub trait Commit: Send + Sync {
    /// See [`CommitFuture`].
    fn make_durable(&self, ops: Vec<Op>) -> CommitFuture<'_>;
}

impl Commit for Engine {
    fn make_durable(&self, ops: Vec<Op>) -> CommitFuture<'_> {
        Box::pin(Engine::commit(self, ops))
    }
}

/// Blocks the calling thread for an fsync.
impl Commit for Arc<Store> {
    fn make_durable(&self, ops: Vec<Op>) -> CommitFuture<'_> {
        Box::pin(async move { Store::commit(self, &ops).map_err(|error| error.to_string()) })
    }
}
