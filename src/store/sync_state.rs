//! Sync states: what each peer's storage was last known to have of a document.

use redb::ReadableTable;

use super::schema::{self, DocPrefix};
use super::write::{Batch, failed, open};
use super::{StoreError, codec};
use crate::types::{ChangeHash, DocKey, StorageId};

/// Most sync states of one document. Clients choose storage ids, so without a limit each new id would add a row for ever.
pub const MAX_SYNC_STATES: usize = 64;
/// Most rows removed for one that is written. An older version kept any number, so a document may have thousands.
const MAX_REMOVED: usize = 64;

impl Batch<'_> {
    /// Write a sync state. One that says the same as before dirties no page. Beyond the limit, the rows that follow the new
    /// one are removed: rows carry no time, and storage ids are random, so this replaces a random one.
    pub(super) fn sync_state(
        &mut self,
        key: &DocKey,
        storage: &StorageId,
        shared_heads: &[ChangeHash],
    ) -> Result<(), StoreError> {
        let prefix = self.prefix(key)?;
        let row = schema::sync_state_key(&prefix, storage.as_str());
        let value = codec::encode_hashes(shared_heads);
        let mut table = open(self.transaction, schema::SYNC_STATES)?;
        let old = ReadableTable::get(&table, &row[..]).map_err(|source| failed(key, source))?;
        let old = old.map(|old| (old.value() == &value[..], old.value().len() as i64));
        if old.is_some_and(|(same, _)| same) {
            return Ok(());
        }
        table.insert(&row[..], &value[..]).map_err(|source| failed(key, source))?;
        self.grown += match old {
            Some((_, bytes)) => value.len() as i64 - bytes,
            None => (row.len() + value.len()) as i64,
        };
        if old.is_none() {
            let surplus = surplus(&table, &prefix, &row).map_err(|source| failed(key, source))?;
            for row in surplus {
                let removed = table.remove(&row[..]).map_err(|source| failed(key, source))?;
                self.grown -= removed.map_or(0, |value| (row.len() + value.value().len()) as i64);
            }
        }
        Ok(())
    }
}

/// The document's rows beyond the limit: those after `new`, then those from the first on.
fn surplus(
    table: &redb::Table<'_, &'static [u8], &'static [u8]>,
    prefix: &DocPrefix,
    new: &[u8],
) -> Result<Vec<Vec<u8>>, redb::StorageError> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for row in table.range::<&[u8]>(&prefix[..]..)? {
        let (place, _) = row?;
        let place = place.value();
        if !place.starts_with(prefix) || before.len() + after.len() == MAX_SYNC_STATES + MAX_REMOVED {
            break;
        }
        match place.cmp(new) {
            std::cmp::Ordering::Less => before.push(place.to_vec()),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => after.push(place.to_vec()),
        }
    }
    let others = before.len() + after.len();
    after.extend(before);
    after.truncate((others + 1).saturating_sub(MAX_SYNC_STATES));
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Op, Row, Store, StoreOptions};
    use crate::types::{ChangeHash, DocumentId};

    fn key(n: u8) -> DocKey {
        DocKey { namespace: "xyz.one".parse().unwrap(), document: DocumentId([n; 16]) }
    }

    fn storage(n: usize) -> StorageId {
        // Not in the order of their numbers.
        format!("storage-{:03}", n * 77 % 1000).parse().unwrap()
    }

    /// A store with documents 1 and 2.
    fn store(dir: &tempfile::TempDir) -> Store {
        let options = StoreOptions { cache_bytes: 1 << 20 };
        let store = Store::open(&dir.path().join("store"), &options).unwrap();
        let hash = ChangeHash([7; 32]);
        let append = |n| {
            let rows = vec![Row { row: 0, hash, max_op: 1, bytes: vec![1; 10].into() }];
            Op::Append { key: key(n), rows, heads: vec![hash], by: None, now: 1 }
        };
        store.commit(&[append(1), append(2)]).unwrap();
        store
    }

    fn remember(store: &Store, document: u8, n: usize) {
        let shared_heads = vec![ChangeHash([n as u8; 32])];
        store.commit(&[Op::SyncState { key: key(document), storage: storage(n), shared_heads }]).unwrap();
    }

    fn kept(store: &Store, document: u8) -> Vec<usize> {
        let known = |n: &usize| store.sync_state(&key(document), &storage(*n)).unwrap().is_some();
        (0..200).filter(known).collect()
    }

    #[test]
    fn a_document_keeps_a_bounded_number_and_always_the_newest() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (many, few) = (store(&one), store(&other));
        remember(&many, 2, 0);
        remember(&few, 2, 0);
        for n in 0..200 {
            remember(&many, 1, n);
            assert_eq!(kept(&many, 1).len(), MAX_SYNC_STATES.min(n + 1));
            assert_eq!(kept(&many, 1).last(), Some(&n));
        }
        assert_eq!(kept(&many, 2), [0], "another document's stay");
        // What is removed is not counted: the same as if it had never been there.
        kept(&many, 1).into_iter().for_each(|n| remember(&few, 1, n));
        let live = |store: &Store| {
            let stats = store.stats().unwrap();
            stats.file_bytes - stats.dead_bytes
        };
        assert_eq!(live(&many), live(&few));
        let before = store_bytes(&many);
        remember(&many, 1, 199);
        assert_eq!(store_bytes(&many), before, "the same again is no write");
    }

    fn store_bytes(store: &Store) -> (u64, usize) {
        (store.stats().unwrap().file_bytes, kept(store, 1).len())
    }
}
