//! Durable writes through the journal, for the parts above the engine that write records of their own.

use super::Engine;
use crate::store::{Commit, CommitFuture, Op};

impl Commit for Engine {
    fn make_durable(&self, ops: Vec<Op>) -> CommitFuture {
        Box::pin(Engine::commit(self, ops))
    }
}
