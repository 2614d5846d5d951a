//! Changes that came before their dependencies. Honest peers send such, because their Bloom filters err.
//!
//! [`Parking`] keeps the frontier of what is lacking up to date with each change, so the question what must still come
//! costs nothing to answer. Walking the parked changes for each message would let a peer that parked a long chain make
//! everybody wait with one small message after the other.

use std::collections::{BTreeSet, HashMap};

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
/// What one dependency of a waiting change costs, about, in bytes: in the change, and among what is lacking.
const DEPENDENCY_BYTES: usize = 96;

/// The waiting changes of one document.
#[derive(Debug, Default)]
pub struct Parking {
    changes: HashMap<ChangeHash, Change>,
    /// For a missing hash, who waits for it. A change waits for one missing dependency at a time.
    waiting: HashMap<ChangeHash, Vec<ChangeHash>>,
    /// Dependencies of parked changes that are neither known nor parked.
    lacking: BTreeSet<ChangeHash>,
    bytes: usize,
}

fn cost(change: &Change) -> usize {
    change.bytes.len() + OVERHEAD + change.deps.len() * DEPENDENCY_BYTES
}

impl Parking {
    /// Lets `change` wait for `missing`, which is one of its dependencies. `knows` tells what is in the graph.
    /// # Errors
    /// The document has as many waiting changes as it may.
    pub fn park(
        &mut self,
        change: Change,
        missing: ChangeHash,
        knows: impl Fn(&ChangeHash) -> bool,
    ) -> Result<(), Misfit> {
        if self.changes.contains_key(&change.hash) {
            return Ok(());
        }
        if self.changes.len() >= MAX_PARKED || self.bytes + cost(&change) > MAX_PARKED_BYTES {
            return Err(Misfit::Parked);
        }
        self.lacking.remove(&change.hash);
        let lacking = change.deps.iter().filter(|dep| !self.changes.contains_key(dep) && !knows(dep));
        self.lacking.extend(lacking);
        self.bytes += cost(&change);
        self.waiting.entry(missing).or_default().push(change.hash);
        self.changes.insert(change.hash, change);
        Ok(())
    }

    /// Takes out the changes that waited for `hash`, which is in the graph now; they may have to wait for another next.
    pub fn freed_by(&mut self, hash: &ChangeHash) -> Vec<Change> {
        self.lacking.remove(hash);
        let waiting = self.waiting.remove(hash).unwrap_or_default();
        let freed: Vec<Change> = waiting.iter().filter_map(|hash| self.changes.remove(hash)).collect();
        self.bytes -= freed.iter().map(cost).sum::<usize>();
        freed
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
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn hash(n: u32) -> ChangeHash {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        ChangeHash(hash)
    }

    fn change(n: u32, deps: &[u32]) -> Change {
        let deps = deps.iter().map(|dep| hash(*dep)).collect();
        let (actor, bytes) = (Bytes::from_static(b"a"), Bytes::from_static(b"change"));
        Change { hash: hash(n), deps, actor, seq: 1, start_op: 1, max_op: 1, bytes }
    }

    #[test]
    fn the_frontier_follows_what_is_parked_and_what_is_freed() {
        let mut parking = Parking::default();
        let known = |at: &ChangeHash| *at == hash(7);
        parking.park(change(3, &[2, 7]), hash(2), known).unwrap();
        assert_eq!(parking.missing(&[hash(3)], known), [hash(2)], "7 is known");
        parking.park(change(2, &[1, 9]), hash(1), known).unwrap();
        assert_eq!(parking.missing(&[hash(3)], known), [hash(1), hash(9)], "2 is parked now");
        assert_eq!(parking.missing(&[hash(7)], known), [], "what is known needs nothing");
        assert_eq!(parking.missing(&[hash(50)], known), [hash(50)]);
        let freed = parking.freed_by(&hash(1));
        assert_eq!(freed.iter().map(|change| change.hash).collect::<Vec<_>>(), [hash(2)]);
        let known = |at: &ChangeHash| [hash(7), hash(1)].contains(at);
        parking.park(freed.into_iter().next().unwrap(), hash(9), known).unwrap();
        assert_eq!(parking.missing(&[hash(3)], known), [hash(9)]);
        assert_eq!(parking.freed_by(&hash(9)).len(), 1);
        assert_eq!(parking.freed_by(&hash(2)).len(), 1);
        assert!(parking.is_empty() && parking.bytes() == 0 && parking.lacking.is_empty());
    }

    #[test]
    fn a_long_chain_is_not_walked() {
        let mut parking = Parking::default();
        for n in 2..60_000 {
            parking.park(change(n, &[n - 1]), hash(n - 1), |_| false).unwrap();
        }
        // 2,000 messages, each of which names the end of the chain: a walk each would take minutes.
        for _ in 0..2_000 {
            assert_eq!(parking.missing(&[hash(59_999)], |_| false), [hash(1)]);
        }
    }
}
