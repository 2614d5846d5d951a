//! Changes that came before their dependencies. Honest peers send such, because their Bloom filters err.
//!
//! [`Parking`] keeps the frontier of what is lacking up to date with each change, so the question what must still come
//! costs nothing to answer. Walking the parked changes for each message would let a peer that parked a long chain make
//! everybody wait with one small message after the other.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Graph, Misfit};
use crate::sync::chunk::Change;
use crate::types::{ChangeHash, ConnectionId};

/// Most changes of one document that may wait.
pub const MAX_PARKED: usize = 100_000;
/// Most bytes of one document that may wait.
pub const MAX_PARKED_BYTES: usize = 32 << 20;
/// Most hashes asked for at once.
const MAX_MISSING: usize = 1000;
/// What a waiting change costs besides its bytes, about.
const OVERHEAD: usize = 400;
/// What one dependency of a waiting change costs, about, in bytes: in the change, among those counted, among what is lacking.
const DEPENDENCY_BYTES: usize = 160;
/// What it costs in bytes, about, that anything waits: the least that each of the lists takes. Each connection that brought
/// something pays it.
const LISTS_BYTES: usize = 1400;

/// A change that waits.
#[derive(Debug)]
pub struct Waiting {
    /// The change.
    pub change: Change,
    /// The connections that brought it, each once.
    pub by: Vec<ConnectionId>,
    /// The dependency that it waits for.
    dependency: ChangeHash,
}

/// What one connection brought of what waits.
#[derive(Debug, Default)]
struct Brought {
    changes: HashSet<ChangeHash>,
    bytes: usize,
}

/// The waiting changes of one document.
///
/// Invariants: a change is here while one of the connections that brought it has the document open. `brought` has each change
/// once for each of `by`, with its cost. `lacking` is the part of `wanted` that is not among the changes, but for changes that were
/// refused meanwhile.
#[derive(Debug, Default)]
pub struct Parking {
    /// In boxes, because the least table has room for four.
    changes: HashMap<ChangeHash, Box<Waiting>>,
    brought: HashMap<ConnectionId, Brought>,
    /// For a missing hash, who waits for it. A change waits for one missing dependency at a time.
    waiting: HashMap<ChangeHash, Vec<ChangeHash>>,
    /// Dependencies of parked changes that were not known when those were parked, and have not come; of how many changes each.
    wanted: HashMap<ChangeHash, usize>,
    /// Dependencies of parked changes that are neither known nor parked.
    lacking: BTreeSet<ChangeHash>,
    bytes: usize,
}

fn cost(change: &Change) -> usize {
    change.bytes.len() + OVERHEAD + change.deps.len() * DEPENDENCY_BYTES
}

impl Parking {
    /// Lets `change`, which `by` brought, wait for `missing`, which is one of its dependencies. `knows` tells what is in the
    /// graph.
    /// # Errors
    /// The document has as many waiting changes as it may.
    pub fn park(
        &mut self,
        change: Change,
        by: Vec<ConnectionId>,
        missing: ChangeHash,
        knows: impl Fn(&ChangeHash) -> bool,
    ) -> Result<(), Misfit> {
        let (hash, cost) = (change.hash, cost(&change));
        if let Some(waiting) = self.changes.get_mut(&hash) {
            for id in by {
                if !waiting.by.contains(&id) {
                    waiting.by.push(id);
                    self.brought.entry(id).or_default().insert(hash, cost);
                }
            }
            return Ok(());
        }
        if self.changes.len() >= MAX_PARKED || self.bytes + cost > MAX_PARKED_BYTES {
            return Err(Misfit::Parked);
        }
        self.lacking.remove(&hash);
        for dep in change.deps.iter().filter(|dep| !knows(dep)) {
            *self.wanted.entry(*dep).or_default() += 1;
            if !self.changes.contains_key(dep) {
                self.lacking.insert(*dep);
            }
        }
        self.bytes += cost;
        for id in &by {
            self.brought.entry(*id).or_default().insert(hash, cost);
        }
        self.waiting.entry(missing).or_default().push(hash);
        self.changes.insert(hash, Box::new(Waiting { change, by, dependency: missing }));
        Ok(())
    }

    /// Takes out the changes that waited for `hash`, which is in the graph now; they may have to wait for another next.
    pub fn freed_by(&mut self, hash: &ChangeHash) -> Vec<Waiting> {
        self.lacking.remove(hash);
        self.wanted.remove(hash);
        let waiting = self.waiting.remove(hash).unwrap_or_default();
        waiting.iter().filter_map(|hash| self.take(hash)).collect()
    }

    /// A connection has the document open no more: what only it brought does not wait any longer. Whoever brought it sends it again
    /// on a new connection. Looks at `most` changes at most; true when there are no more.
    pub fn drop_brought_by(&mut self, id: ConnectionId, most: usize) -> bool {
        let Some(brought) = self.brought.get_mut(&id) else { return true };
        let some: Vec<ChangeHash> = brought.changes.iter().take(most).copied().collect();
        let mut dependencies = HashSet::new();
        for hash in &some {
            let Some(waiting) = self.changes.get_mut(hash) else { continue };
            let cost = cost(&waiting.change);
            if let Some(brought) = self.brought.get_mut(&id) {
                brought.changes.remove(hash);
                brought.bytes -= cost;
            }
            waiting.by.retain(|by| *by != id);
            if !waiting.by.is_empty() {
                continue;
            }
            dependencies.insert(waiting.dependency);
            self.take(hash);
            if self.wanted.contains_key(hash) {
                self.lacking.insert(*hash);
            }
        }
        // Once for each of them: many changes may wait for the same.
        for dependency in dependencies {
            if let Some(waiting) = self.waiting.get_mut(&dependency) {
                waiting.retain(|hash| self.changes.contains_key(hash));
                if waiting.is_empty() {
                    self.waiting.remove(&dependency);
                }
            }
        }
        let is_done = self.brought.get(&id).is_none_or(|brought| brought.changes.is_empty());
        if is_done {
            self.brought.remove(&id);
        }
        is_done
    }

    /// Takes out one change, but not its place among those that wait for its dependency.
    fn take(&mut self, hash: &ChangeHash) -> Option<Waiting> {
        let waiting = *self.changes.remove(hash)?;
        let cost = cost(&waiting.change);
        self.bytes -= cost;
        for id in &waiting.by {
            let Some(brought) = self.brought.get_mut(id) else { continue };
            brought.changes.remove(hash);
            brought.bytes -= cost;
            if brought.changes.is_empty() {
                self.brought.remove(id);
            }
        }
        for dep in &waiting.change.deps {
            let Some(count) = self.wanted.get_mut(dep) else { continue };
            *count -= 1;
            if *count == 0 {
                self.wanted.remove(dep);
                self.lacking.remove(dep);
            }
        }
        Some(waiting)
    }

    /// Hashes that are neither known nor parked and that must come before `wanted` can be here, sorted; at most
    /// [`MAX_MISSING`] and those of `wanted` themselves. If any of `wanted` is parked, these are all dependencies that any
    /// parked change lacks: a peer ignores requests for what it does not have.
    pub fn missing(&self, wanted: &[ChangeHash], knows: impl Fn(&ChangeHash) -> bool) -> Vec<ChangeHash> {
        let mut missing = Vec::new();
        let mut parked = false;
        for hash in wanted {
            if self.changes.contains_key(hash) {
                parked = true;
            } else if !knows(hash) {
                missing.push(*hash);
            }
        }
        if parked {
            missing.extend(self.lacking.iter().take(MAX_MISSING));
        }
        missing.sort_unstable();
        missing.dedup();
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

    /// Bytes of what a connection brought, about. What others brought too counts in full for each of them.
    pub fn bytes_brought_by(&self, id: ConnectionId) -> usize {
        self.brought.get(&id).map_or(0, |brought| LISTS_BYTES + brought.bytes)
    }
}

impl Graph {
    /// What must still come before `wanted` can all be here: unknown hashes, looking through what is parked.
    pub fn missing(&self, wanted: &[ChangeHash]) -> Vec<ChangeHash> {
        self.parking.missing(wanted, |hash| self.knows(hash))
    }

    /// True when changes wait for dependencies.
    pub fn has_parked(&self) -> bool {
        !self.parking.is_empty()
    }

    /// Takes out what waits for its dependencies.
    pub fn take_parking(&mut self) -> Parking {
        std::mem::take(&mut self.parking)
    }

    /// Puts back what [`Self::take_parking`] gave.
    pub fn set_parking(&mut self, parking: Parking) {
        self.parking = parking;
    }

    /// What waits for its dependencies.
    pub fn parking(&self) -> &Parking {
        &self.parking
    }

    /// See [`Parking::drop_brought_by`].
    pub fn drop_brought_by(&mut self, id: ConnectionId, most: usize) -> bool {
        self.parking.drop_brought_by(id, most)
    }
}

impl Brought {
    fn insert(&mut self, hash: ChangeHash, cost: usize) {
        self.changes.insert(hash);
        self.bytes += cost;
    }
}

#[cfg(test)]
mod tests;
