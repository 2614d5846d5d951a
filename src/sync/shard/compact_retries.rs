//! When documents that are not in use may be compacted again, after a compaction that failed.
//!
//! A document leaves memory with its last connection, and a compaction that fails may cost minutes of a processor. So a
//! device that connects and leaves again and again must not cause an attempt each time.

use std::collections::BTreeMap;

use crate::types::{DocKey, Steady};

/// Documents that are remembered, at some 100 bytes each. Beyond it the one whose retry is due first is forgotten.
const MAX_DOCUMENTS: usize = 1000;

/// The documents and their times.
#[derive(Debug, Default)]
pub struct CompactRetries(BTreeMap<DocKey, Steady>);

impl CompactRetries {
    /// A document leaves memory, and is not to be compacted before `retry`.
    pub fn remember(&mut self, key: DocKey, retry: Steady) {
        self.0.insert(key, retry);
        if self.0.len() > MAX_DOCUMENTS
            && let Some(first) = self.0.iter().min_by_key(|(_, retry)| **retry).map(|(key, _)| key.clone())
        {
            self.0.remove(&first);
        }
    }

    /// Takes out the time before which the document is not to be compacted.
    pub fn take(&mut self, key: &DocKey) -> Option<Steady> {
        self.0.remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DocumentId;

    #[test]
    fn the_number_of_documents_is_bounded_and_the_longest_waits_stay() {
        let key = |n: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_le_bytes());
            DocKey { namespace: "xyz.one".parse().unwrap(), document: DocumentId(id) }
        };
        let mut retries = CompactRetries::default();
        (0..2 * MAX_DOCUMENTS).for_each(|n| retries.remember(key(n), Steady::default() + n as u64));
        assert_eq!(retries.0.len(), MAX_DOCUMENTS);
        assert_eq!(retries.take(&key(MAX_DOCUMENTS - 1)), None);
        assert_eq!(retries.take(&key(MAX_DOCUMENTS)), Some(Steady::default() + MAX_DOCUMENTS as u64));
        assert_eq!(retries.take(&key(MAX_DOCUMENTS)), None);
    }
}
