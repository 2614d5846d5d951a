//! One document's change graph: the changes since its last snapshot, with what lies in the snapshot as one block.
//!
//! Rows number the changes in order of arrival. A change's dependencies have lower rows, and rows below `base` are
//! in the snapshot, so "is in the snapshot" is a comparison.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;

use super::chunk::Change;
use super::snapshot::Index;
use crate::types::{ChangeHash, ConnectionId};

mod ancestry;
mod fit;
mod parking;
mod recent;
#[cfg(test)]
mod tests;

pub use fit::{Added, MAX_HEADS, Misfit};
pub use parking::Parking;

/// What a graph costs in memory besides its changes, about: itself and the least that each of its lists takes.
const GRAPH_MEMORY: usize = 1000;
/// What one change costs in memory besides its bytes, about: the entry, the map from hash to row.
const ENTRY_MEMORY: usize = 144;

#[derive(Debug)]
enum Deps {
    One(u64),
    Many(Box<[u64]>),
}

impl Deps {
    fn rows(&self) -> &[u64] {
        match self {
            Self::One(row) => std::slice::from_ref(row),
            Self::Many(rows) => rows,
        }
    }
}

#[derive(Debug)]
struct Entry {
    hash: ChangeHash,
    max_op: u64,
    deps: Deps,
}

/// True when the change is in the snapshot with these heads, sorted, and this index.
fn is_inside(heads: &[ChangeHash], index: Option<&Index>, hash: &ChangeHash) -> bool {
    heads.binary_search(hash).is_ok() || index.is_some_and(|index| index.knows(hash))
}

/// The graph.
#[derive(Debug, Default)]
pub struct Graph {
    base: u64,
    entries: VecDeque<Entry>,
    rows: HashMap<ChangeHash, u64>,
    /// Dependencies inside the snapshot, of the rows that have such.
    into_snapshot: HashMap<u64, Vec<ChangeHash>>,
    /// Last sequence number of each actor with changes in the tail.
    actors: HashMap<Bytes, u64>,
    heads: Vec<ChangeHash>,
    snapshot_heads: Vec<ChangeHash>,
    index: Option<Index>,
    /// The bytes of the last rows.
    recent: VecDeque<Bytes>,
    recent_bytes: usize,
    parking: Parking,
    /// Bytes of actor ids, of dependencies beyond the first and of those inside the snapshot, about: what a client can make
    /// long.
    long_bytes: usize,
}

impl Graph {
    /// A graph whose rows start at `base`, upon a snapshot with these heads (none: there is no snapshot).
    pub fn new(base: u64, snapshot_heads: Vec<ChangeHash>) -> Self {
        Self { base, heads: snapshot_heads.clone(), snapshot_heads, ..Self::default() }
    }

    /// Heads of all changes, sorted.
    pub fn heads(&self) -> &[ChangeHash] {
        &self.heads
    }

    /// First row of the tail.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Row of the next change.
    pub fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// True when questions about the snapshot need its index first.
    pub fn lacks_index(&self) -> bool {
        self.index.is_none() && !self.snapshot_heads.is_empty()
    }

    /// Give it the snapshot's index.
    pub fn set_index(&mut self, index: Index) {
        self.index = Some(index);
    }

    /// Row of a change in the tail.
    pub fn row(&self, hash: &ChangeHash) -> Option<u64> {
        self.rows.get(hash).copied()
    }

    /// The change at `row` of the tail.
    pub fn hash(&self, row: u64) -> Option<ChangeHash> {
        self.entry(row).map(|entry| entry.hash)
    }

    fn entry(&self, row: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(row.checked_sub(self.base)?).ok()?)
    }

    /// True when the change is in the tail or (almost surely, see [`Index`]) in the snapshot.
    pub fn knows(&self, hash: &ChangeHash) -> bool {
        self.rows.contains_key(hash) || self.in_snapshot(hash)
    }

    /// True when the change is in the snapshot.
    pub fn in_snapshot(&self, hash: &ChangeHash) -> bool {
        is_inside(&self.snapshot_heads, self.index.as_ref(), hash)
    }

    /// Take in a change that a connection brought; those parked that it frees follow it. Appended rows are `end()` before to `end()` after.
    /// # Errors
    /// When it contradicts the graph; nothing is taken then.
    pub fn add(&mut self, change: Change, by: ConnectionId) -> Result<Added, Misfit> {
        let hash = change.hash;
        let added = self.add_one(change, || vec![by])?;
        if let Added::At(_) = added {
            let mut freed = self.parking.freed_by(&hash);
            while let Some(next) = freed.pop() {
                let hash = next.change.hash;
                // A parked change that turns out not to fit is dropped: whoever sent it is long answered.
                if let Ok(Added::At(_)) = self.add_one(next.change, || next.by) {
                    freed.append(&mut self.parking.freed_by(&hash));
                }
            }
        }
        Ok(added)
    }

    fn last_seq(&self, actor: &Bytes) -> u64 {
        let in_snapshot = || self.index.as_ref().and_then(|index| index.actors.get(actor));
        self.actors.get(actor).or_else(in_snapshot).copied().unwrap_or(0)
    }

    /// `by`: the connections that brought it, in case it has to wait.
    fn add_one(&mut self, change: Change, by: impl FnOnce() -> Vec<ConnectionId>) -> Result<Added, Misfit> {
        if let Some(row) = self.row(&change.hash) {
            return Ok(Added::Known(Some(row)));
        }
        let last_seq = self.last_seq(&change.actor);
        if change.seq <= last_seq {
            let known = self.in_snapshot(&change.hash);
            return if known { Ok(Added::Known(None)) } else { Err(Misfit::Sequence) };
        }
        if let Some(missing) = change.deps.iter().find(|dep| !self.knows(dep)).copied() {
            let knows = |hash: &ChangeHash| {
                self.rows.contains_key(hash) || is_inside(&self.snapshot_heads, self.index.as_ref(), hash)
            };
            return self.parking.park(change, by(), missing, knows).map(|()| Added::Parked);
        }
        if change.seq != last_seq + 1 {
            return Err(Misfit::Sequence);
        }
        let merges = || change.deps.iter().any(|dep| self.heads.binary_search(dep).is_ok());
        if self.heads.len() >= MAX_HEADS && !merges() {
            return Err(Misfit::Heads);
        }
        let mut rows = Vec::with_capacity(change.deps.len());
        let mut into_snapshot = Vec::new();
        for dep in &change.deps {
            match self.row(dep) {
                Some(row) => {
                    if self.entry(row).is_some_and(|entry| entry.max_op >= change.start_op) {
                        return Err(Misfit::StartOp);
                    }
                    rows.push(row);
                }
                None => into_snapshot.push(*dep),
            }
        }
        let on_whole_snapshot = !self.snapshot_heads.is_empty() && self.covers_snapshot(&into_snapshot);
        if on_whole_snapshot && self.index.as_ref().is_some_and(|index| index.max_op >= change.start_op) {
            return Err(Misfit::StartOp);
        }
        let row = self.end();
        self.push(row, &change, rows, into_snapshot);
        self.recent_bytes += change.bytes.len();
        self.recent.push_back(change.bytes);
        Ok(Added::At(row))
    }

    fn push(&mut self, row: u64, change: &Change, rows: Vec<u64>, into_snapshot: Vec<ChangeHash>) {
        match &change.deps[..] {
            [dep] => {
                if let Ok(at) = self.heads.binary_search(dep) {
                    self.heads.remove(at);
                }
            }
            deps => {
                let deps: HashSet<&ChangeHash> = deps.iter().collect();
                self.heads.retain(|head| !deps.contains(head));
            }
        }
        let at = self.heads.partition_point(|head| *head < change.hash);
        self.heads.insert(at, change.hash);
        self.long_bytes += into_snapshot.len() * 32 + rows.len() * 8;
        if !into_snapshot.is_empty() {
            self.into_snapshot.insert(row, into_snapshot);
        }
        match self.actors.get_mut(&change.actor) {
            Some(seq) => *seq = change.seq,
            None => {
                self.long_bytes += change.actor.len();
                self.actors.insert(change.actor.clone(), change.seq);
            }
        }
        let deps = if let [one] = rows[..] { Deps::One(one) } else { Deps::Many(rows.into()) };
        self.entries.push_back(Entry { hash: change.hash, max_op: change.max_op, deps });
        self.rows.insert(change.hash, row);
    }

    /// Append a row that the store gave back; it was checked when it came. False when it does not follow the last.
    pub fn restore(&mut self, row: u64, change: &Change) -> bool {
        if row != self.end() {
            return false;
        }
        let rows: Vec<u64> = change.deps.iter().filter_map(|dep| self.row(dep)).collect();
        let into_snapshot = change.deps.iter().filter(|dep| self.row(dep).is_none()).copied().collect();
        self.push(row, change, rows, into_snapshot);
        true
    }

    /// Heads of the snapshot, sorted; empty when there is none.
    pub fn snapshot_heads(&self) -> &[ChangeHash] {
        &self.snapshot_heads
    }

    /// The rows below `below` are in the snapshot now, whose heads these are.
    pub fn rebase(&mut self, below: u64, snapshot_heads: Vec<ChangeHash>) {
        let dropped: Vec<ChangeHash> =
            (self.base..below.min(self.end())).filter_map(|row| self.hash(row)).collect();
        for row in below..self.end() {
            let Some(entry) = self.entry(row) else { continue };
            let down = entry.deps.rows().iter().filter(|dep| (self.base..below).contains(*dep));
            let hashes: Vec<ChangeHash> = down.map(|dep| dropped[(dep - self.base) as usize]).collect();
            if !hashes.is_empty() {
                self.into_snapshot.entry(row).or_default().extend(hashes);
            }
        }
        for hash in &dropped {
            self.rows.remove(hash);
        }
        self.entries.drain(..dropped.len());
        self.into_snapshot.retain(|row, _| *row >= below);
        self.base = below;
        self.snapshot_heads = snapshot_heads;
        // Actors stay: their numbers are right, wherever the change is now. The index belongs to the old snapshot.
        self.index = None;
        while self.recent.len() > self.entries.len() {
            let Some(bytes) = self.recent.pop_front() else { break };
            self.recent_bytes -= bytes.len();
        }
        // The tail is short now. The room that a long one had is megabytes.
        self.entries.shrink_to_fit();
        self.rows.shrink_to_fit();
        self.recent.shrink_to_fit();
    }

    /// Bytes of [`Graph::memory`] that the changes from `row` on take, about, with what is at hand of those before them.
    pub fn memory_from(&self, row: u64) -> usize {
        self.end().saturating_sub(row) as usize * ENTRY_MEMORY + self.recent_bytes
    }

    /// Bytes of memory in use, about, without what waits for its dependencies.
    pub fn memory(&self) -> usize {
        GRAPH_MEMORY
            + self.entries.len() * ENTRY_MEMORY
            + self.recent_bytes
            + self.recent.len() * 32
            + self.actors.len() * 96
            + self.index.as_ref().map_or(0, Index::memory)
            + (self.heads.len() + self.snapshot_heads.len()) * 32
            + self.long_bytes
    }
}
