//! A cache with one budget in bytes that apps share fairly.
//!
//! [`FairCache`] owns entries and their sizes; each entry is charged to the approval of the app that caused it. When the
//! budget is exceeded, the oldest entry of the approval with the most bytes is evicted. An app that fills the cache
//! therefore loses its own entries, and other apps keep theirs up to an equal share.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use crate::types::Approval;

/// Bytes that an entry is charged besides its content: map nodes, keys and allocator overhead.
const ENTRY_BYTES: usize = 256;

/// Entries within one budget.
#[derive(Debug)]
pub struct FairCache<K, V> {
    budget_bytes: usize,
    bytes: usize,
    next_order: u64,
    entries: HashMap<K, Entry<V>>,
    holdings: BTreeMap<Approval, Holding<K>>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    order: u64,
    approval: Approval,
}

/// The entries of one approval, oldest first.
#[derive(Debug)]
struct Holding<K> {
    bytes: usize,
    by_age: BTreeMap<u64, K>,
}

impl<K: Clone + Eq + Hash, V> FairCache<K, V> {
    /// An empty cache.
    pub fn new(budget_bytes: usize) -> Self {
        Self { budget_bytes, bytes: 0, next_order: 0, entries: HashMap::new(), holdings: BTreeMap::new() }
    }

    /// The entry's value.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The entry's value, to be changed without changing its size or age.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Bytes charged now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Insert or replace an entry as the newest of `approval`. Returns the keys that were evicted for it, which may
    /// include the entry itself.
    pub fn insert(&mut self, approval: &Approval, key: K, value: V, content_bytes: usize) -> Vec<K> {
        self.remove(&key);
        let (bytes, order) = (content_bytes + ENTRY_BYTES, self.next_order);
        self.next_order += 1;
        self.bytes += bytes;
        if !self.holdings.contains_key(approval) {
            self.holdings.insert(approval.clone(), Holding { bytes: 0, by_age: BTreeMap::new() });
        }
        if let Some(holding) = self.holdings.get_mut(approval) {
            holding.bytes += bytes;
            holding.by_age.insert(order, key.clone());
        }
        self.entries.insert(key, Entry { value, bytes, order, approval: approval.clone() });
        let mut evicted = Vec::new();
        while self.bytes > self.budget_bytes {
            let Some(oldest) = self.oldest_of_largest() else { break };
            self.remove(&oldest);
            evicted.push(oldest);
        }
        evicted
    }

    /// Remove an entry.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.bytes -= entry.bytes;
        if let Some(holding) = self.holdings.get_mut(&entry.approval) {
            holding.bytes -= entry.bytes;
            holding.by_age.remove(&entry.order);
            if holding.by_age.is_empty() {
                self.holdings.remove(&entry.approval);
            }
        }
        Some(entry.value)
    }

    /// Approvals are few (the owner grants each one), so the largest is found by comparing them.
    fn oldest_of_largest(&self) -> Option<K> {
        let largest = self.holdings.values().max_by_key(|holding| holding.bytes)?;
        largest.by_age.values().next().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval(client: &str) -> Approval {
        Approval { namespace: "xyz.one".parse().unwrap(), client_id: client.into() }
    }

    #[test]
    fn an_app_that_fills_the_cache_evicts_its_own_entries_only() {
        let mut cache = FairCache::new(10 * ENTRY_BYTES);
        for key in 0..4 {
            assert!(cache.insert(&approval("small"), key, (), 0).is_empty());
        }
        let evicted: Vec<u32> =
            (100..200).flat_map(|key| cache.insert(&approval("greedy"), key, (), 0)).collect();
        assert_eq!(evicted, (100..194).collect::<Vec<_>>(), "oldest first");
        assert!((0..4).all(|key| cache.get(&key).is_some()));
        assert_eq!(cache.bytes(), 10 * ENTRY_BYTES);
    }

    #[test]
    fn every_byte_is_given_back() {
        let mut cache = FairCache::new(100 * ENTRY_BYTES);
        for round in 0..3 {
            for key in 0..20 {
                cache.insert(&approval(&format!("app-{}", (key + round) % 3)), key, round, 10 * round);
            }
        }
        assert_eq!(cache.bytes(), 20 * (ENTRY_BYTES + 20), "a replaced entry counts once");
        (0..20).for_each(|key| assert_eq!(cache.remove(&key), Some(2)));
        assert_eq!((cache.bytes(), cache.holdings.len(), cache.remove(&0)), (0, 0, None));
    }

    #[test]
    fn an_entry_larger_than_the_budget_does_not_stay() {
        let mut cache = FairCache::new(ENTRY_BYTES);
        assert_eq!(cache.insert(&approval("app"), 1, (), 1), [1]);
        assert_eq!(cache.bytes(), 0);
    }
}
