//! What is known of the heads that other storages have.
//!
//! [`Gossip`] holds hashes, not text, within one budget that apps share fairly; the oldest entries go first. The callers
//! decide what is worth knowing: only storages that somebody in the namespace subscribes to.

use std::collections::{BTreeSet, HashMap};

use crate::sync::fair::FairCache;
use crate::sync::wire::MAX_HEADS;
use crate::types::{Approval, ChangeHash, DocKey, Millis, StorageId};

/// Bytes of gossip remembered in one shard.
const BUDGET_BYTES: usize = 1 << 20;
/// How far a timestamp in gossip may lie ahead of our clock, in milliseconds. Clients take heads only if their timestamp is
/// newer than the last one, so an entry from the far future would pin its heads for ever.
const MAX_AHEAD_MS: Millis = 5 * 60_000;

/// Who says what heads a storage has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The storage's own connection.
    Itself,
    /// A session that may write, about another storage.
    Writer,
    /// A read-only session, about another storage.
    Reader,
}

/// Heads of one storage.
#[derive(Debug)]
pub struct Known {
    /// Its heads.
    pub heads: Box<[ChangeHash]>,
    /// When they were observed.
    pub timestamp: Millis,
    /// Said by the storage itself or a session that may write: a read-only session cannot replace it.
    firm: bool,
}

/// Known heads by document and storage.
#[derive(Debug)]
pub struct Gossip {
    known: FairCache<(DocKey, StorageId), Known>,
    by_document: HashMap<DocKey, BTreeSet<StorageId>>,
}

impl Default for Gossip {
    fn default() -> Self {
        Self { known: FairCache::new(BUDGET_BYTES), by_document: HashMap::new() }
    }
}

/// A timestamp from a client, if it can be one: milliseconds since the epoch, not far in the future.
pub fn timestamp(claimed: f64, now: Millis) -> Option<Millis> {
    let most = now.saturating_add(MAX_AHEAD_MS);
    (claimed >= 0.0 && claimed <= most as f64).then_some(claimed as Millis)
}

impl Gossip {
    /// Take in what `source` says; true if it is news.
    pub fn learn(
        &mut self,
        approval: &Approval,
        key: &DocKey,
        storage: &StorageId,
        heads: &[ChangeHash],
        mut timestamp: Millis,
        source: Source,
    ) -> bool {
        if heads.is_empty() || heads.len() > MAX_HEADS {
            return false;
        }
        let firm = source != Source::Reader;
        let place = (key.clone(), storage.clone());
        if let Some(last) = self.known.get_mut(&place) {
            let outranked = last.firm && !firm;
            if *last.heads == *heads {
                last.firm |= firm;
                return false;
            } else if source == Source::Itself {
                // Clients compare timestamps, and gossip may have been a little ahead of our clock.
                timestamp = timestamp.max(last.timestamp + 1);
            } else if outranked || timestamp <= last.timestamp {
                return false;
            }
        }
        self.by_document.entry(key.clone()).or_default().insert(storage.clone());
        let bytes = size_of_val(heads) + storage.as_str().len();
        let known = Known { heads: heads.into(), timestamp, firm };
        let evicted = self.known.insert(approval, place.clone(), known, bytes);
        evicted.iter().for_each(|place| self.remove_from_document(place));
        self.known.get(&place).is_some()
    }

    /// What is known of a storage.
    pub fn get(&self, key: &DocKey, storage: &StorageId) -> Option<&Known> {
        self.known.get(&(key.clone(), storage.clone()))
    }

    /// Storages of which something is known in this document.
    pub fn storages(&self, key: &DocKey) -> impl Iterator<Item = &StorageId> {
        self.by_document.get(key).into_iter().flatten()
    }

    /// The document is not in use any more.
    pub fn forget(&mut self, key: &DocKey) {
        for storage in self.by_document.remove(key).into_iter().flatten() {
            self.known.remove(&(key.clone(), storage));
        }
    }

    fn remove_from_document(&mut self, (key, storage): &(DocKey, StorageId)) {
        if let Some(storages) = self.by_document.get_mut(key) {
            storages.remove(storage);
            if storages.is_empty() {
                self.by_document.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DocumentId;

    fn key(n: u8) -> DocKey {
        DocKey { namespace: "xyz.one".parse().unwrap(), document: DocumentId([n; 16]) }
    }

    fn approval(client: &str) -> Approval {
        Approval { namespace: "xyz.one".parse().unwrap(), client_id: client.into() }
    }

    fn heads(n: u8) -> Vec<ChangeHash> {
        vec![ChangeHash([n; 32])]
    }

    #[test]
    fn only_a_later_word_of_equal_weight_replaces_and_a_storages_own_always_does() {
        let mut gossip = Gossip::default();
        let phone: StorageId = "phone".parse().unwrap();
        let mut learn = |n, timestamp, source| {
            gossip.learn(&approval("app"), &key(1), &phone, &heads(n), timestamp, source)
        };
        assert!(learn(1, 10, Source::Reader));
        assert!(!learn(2, 10, Source::Reader) && !learn(1, 20, Source::Reader));
        assert!(learn(2, 20, Source::Writer));
        assert!(!learn(3, 30, Source::Reader), "a reader does not replace a writer's word");
        assert!(learn(3, 15, Source::Itself), "by its own connection");
        assert!(!learn(4, 21, Source::Writer), "told with a timestamp that clients take for newer");
        assert!(learn(4, 22, Source::Writer));
        assert_eq!(gossip.get(&key(1), &phone).unwrap().timestamp, 22);
    }

    #[test]
    fn a_timestamp_that_would_pin_heads_for_ever_is_no_timestamp() {
        let now = 1_700_000_000_000;
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1.0, (now + MAX_AHEAD_MS + 1) as f64]
        {
            assert_eq!(timestamp(bad, now), None, "{bad}");
        }
        assert_eq!(timestamp((now + MAX_AHEAD_MS) as f64, now), Some(now + MAX_AHEAD_MS));
        assert_eq!(timestamp(0.5, now), Some(0));
    }

    #[test]
    fn one_apps_gossip_stays_within_the_budget_and_leaves_anothers() {
        let mut gossip = Gossip::default();
        let phone: StorageId = "phone".parse().unwrap();
        gossip.learn(&approval("victim"), &key(1), &phone, &heads(1), 1, Source::Reader);
        let many: Vec<ChangeHash> = (0..MAX_HEADS as u8).map(|n| ChangeHash([n; 32])).collect();
        for n in 0..1000 {
            let storage = format!("storage-{n}").parse().unwrap();
            assert!(gossip.learn(&approval("greedy"), &key(2), &storage, &many, 1, Source::Writer));
        }
        assert!(gossip.known.bytes() <= BUDGET_BYTES);
        assert!(gossip.get(&key(1), &phone).is_some());
        assert!(gossip.get(&key(2), &"storage-0".parse().unwrap()).is_none(), "the oldest is gone");
        assert!(gossip.storages(&key(2)).count() < 1000);
        [1, 2].into_iter().for_each(|n| gossip.forget(&key(n)));
        assert_eq!((gossip.known.bytes(), gossip.by_document.len()), (0, 0));
        let more: Vec<ChangeHash> = (0..=MAX_HEADS as u8).map(|n| ChangeHash([n; 32])).collect();
        assert!(!gossip.learn(&approval("app"), &key(1), &phone, &more, 1, Source::Itself));
    }
}
