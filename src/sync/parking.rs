//! Changes that came before their dependencies. Honest peers send such, for their Bloom filters err.

use std::collections::{HashMap, HashSet};

use super::chunk::Change;
use super::graph::Misfit;
use crate::types::ChangeHash;

/// Most changes of one document that may wait.
pub const MAX_PARKED: usize = 100_000;
/// Most bytes of one document that may wait.
pub const MAX_PARKED_BYTES: usize = 32 << 20;
/// Most hashes asked for at once.
const MAX_MISSING: usize = 1000;
/// What a waiting change costs besides its bytes, about.
const OVERHEAD: usize = 300;

/// The waiting changes of one document.
#[derive(Debug, Default)]
pub struct Parking {
    changes: HashMap<ChangeHash, Change>,
    /// For a missing hash, who waits for it. A change waits for one missing dependency at a time.
    waiting: HashMap<ChangeHash, Vec<ChangeHash>>,
    bytes: usize,
}

fn cost(change: &Change) -> usize {
    change.bytes.len() + OVERHEAD + change.deps.len() * 32
}

impl Parking {
    /// Let `change` wait for `missing`.
    /// # Errors
    /// When it is full.
    pub fn park(&mut self, change: Change, missing: ChangeHash) -> Result<(), Misfit> {
        if self.changes.contains_key(&change.hash) {
            return Ok(());
        }
        if self.changes.len() >= MAX_PARKED || self.bytes + cost(&change) > MAX_PARKED_BYTES {
            return Err(Misfit::Parked);
        }
        self.bytes += cost(&change);
        self.waiting.entry(missing).or_default().push(change.hash);
        self.changes.insert(change.hash, change);
        Ok(())
    }

    /// Those that waited for `hash`; they may have to wait for another next.
    pub fn freed_by(&mut self, hash: &ChangeHash) -> Vec<Change> {
        let waiting = self.waiting.remove(hash).unwrap_or_default();
        let freed: Vec<Change> = waiting.iter().filter_map(|hash| self.changes.remove(hash)).collect();
        self.bytes -= freed.iter().map(cost).sum::<usize>();
        freed
    }

    /// Hashes that are neither known nor parked, on the way down from `wanted`.
    pub fn missing(&self, wanted: &[ChangeHash], knows: impl Fn(&ChangeHash) -> bool) -> Vec<ChangeHash> {
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        let mut next: Vec<ChangeHash> = wanted.to_vec();
        while let Some(hash) = next.pop() {
            if missing.len() >= MAX_MISSING || !seen.insert(hash) {
                continue;
            }
            match self.changes.get(&hash) {
                Some(change) => next.extend(&change.deps),
                None if knows(&hash) => {}
                None => missing.push(hash),
            }
        }
        missing.sort_unstable();
        missing
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Bytes in use, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
