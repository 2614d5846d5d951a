//! The store's promises in memory, for simulations: what a commit leaves is what survives a crash.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use bytes::Bytes;
use groundmist_sync::store::{Disposal, Head, Op, Row, StoreError, Whole};
use groundmist_sync::sync::storage::Storage;
use groundmist_sync::types::{ChangeHash, DocKey, DocumentId, Namespace, StorageId};

#[derive(Debug, Clone, Default)]
struct Stored {
    head: Option<Head>,
    rows: BTreeMap<u64, Row>,
    snapshot: Option<(Bytes, Bytes)>,
}

/// Documents and sync states.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    docs: BTreeMap<DocKey, Stored>,
    /// Hashes of all changes ever made durable, but those of purged documents.
    durable: BTreeMap<DocKey, HashSet<ChangeHash>>,
    states: BTreeMap<(DocKey, StorageId), Vec<ChangeHash>>,
    /// Rows that were read.
    pub rows_read: Cell<usize>,
}

impl MemoryStorage {
    pub fn commit(&mut self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::Append { key, rows, heads, now, .. } => self.append(key, rows, heads, *now),
                Op::Snapshot { key, below_row, info, document, index, heads, modified, .. } => {
                    self.check_kept(key);
                    if modified.is_some() {
                        let new = automerge::Automerge::load(document).unwrap();
                        self.durable
                            .entry(key.clone())
                            .or_default()
                            .extend(new.get_changes_meta(&[]).iter().map(|change| change.hash));
                    }
                    let doc = self.docs.entry(key.clone()).or_default();
                    doc.rows.retain(|row, _| row >= below_row);
                    let head = doc.head.get_or_insert_with(|| Head::new(modified.unwrap()));
                    head.next_row = head.next_row.max(*below_row);
                    head.snapshot = Some(info.clone());
                    head.heads = heads.clone();
                    doc.snapshot = Some((document.clone(), index.clone()));
                    recount(doc);
                }
                Op::SyncState { key, storage, shared_heads } => {
                    self.states.insert((key.clone(), storage.clone()), shared_heads.clone());
                }
                Op::Quarantine { key, reason } => {
                    panic!("document {key:?} was quarantined: {reason}");
                }
                Op::Dispose { key, what, now } => self.dispose(key, *what, *now),
                Op::Record { .. } => {}
            }
        }
    }

    /// The change is in some commit.
    pub fn is_durable(&self, hash: &ChangeHash) -> bool {
        self.durable.values().any(|durable| durable.contains(hash))
    }

    /// The document's changes that were made durable and not purged.
    pub fn acknowledged(&self, key: &DocKey) -> impl Iterator<Item = &ChangeHash> {
        self.durable.get(key).into_iter().flatten()
    }

    /// The stored snapshot becomes other bytes.
    #[allow(dead_code)] // not in every test that uses this file
    pub fn damage_snapshot(&mut self, key: &DocKey, bytes: Bytes) {
        self.docs.get_mut(key).unwrap().snapshot.as_mut().unwrap().0 = bytes;
    }

    /// As the store does it.
    fn dispose(&mut self, key: &DocKey, what: Disposal, now: u64) {
        let doc = self.docs.get_mut(key).unwrap();
        let head = doc.head.as_mut().unwrap();
        match (what, head.deleted) {
            (_, Some(_)) if head.purged => {}
            (Disposal::Delete, None) => head.deleted = Some(now),
            (Disposal::Restore, Some(_)) => head.deleted = None,
            (Disposal::Purge { deleted_by }, Some(deleted)) if deleted <= deleted_by => {
                let head = Head { deleted: Some(deleted), purged: true, ..Head::new(deleted) };
                *doc = Stored { head: Some(head), ..Stored::default() };
                self.durable.remove(key);
                self.states.retain(|(of, _), _| of != key);
            }
            _ => {}
        }
    }

    /// The store refuses a commit that brings something into a deleted document; none may ask for it.
    fn check_kept(&self, key: &DocKey) {
        let deleted = |doc: &Stored| doc.head.as_ref().is_some_and(|head| head.deleted.is_some());
        assert!(!self.docs.get(key).is_some_and(deleted), "something was brought into a deleted document");
    }

    fn append(&mut self, key: &DocKey, rows: &[Row], heads: &[ChangeHash], now: u64) {
        self.check_kept(key);
        let doc = self.docs.entry(key.clone()).or_default();
        let durable = self.durable.entry(key.clone()).or_default();
        let head = doc.head.get_or_insert_with(|| Head::new(now));
        for row in rows {
            assert_eq!(row.row, head.next_row, "rows follow one another");
            head.next_row += 1;
            durable.insert(row.hash);
            doc.rows.insert(row.row, row.clone());
        }
        head.heads = heads.to_vec();
        recount(doc);
    }
}

fn recount(doc: &mut Stored) {
    if let Some(head) = &mut doc.head {
        head.tail_changes = doc.rows.len() as u64;
        head.tail_bytes = doc.rows.values().map(|row| row.bytes.len() as u64).sum();
    }
}

impl Storage for MemoryStorage {
    fn head(&self, key: &DocKey) -> Result<Option<Head>, StoreError> {
        Ok(self.docs.get(key).and_then(|doc| doc.head.clone()))
    }
    fn tail(
        &self,
        key: &DocKey,
        rows: Range<u64>,
        each: &mut dyn FnMut(Row) -> bool,
    ) -> Result<(), StoreError> {
        let Some(doc) = self.docs.get(key) else { return Ok(()) };
        for row in doc.rows.range(rows).map(|(_, row)| row) {
            self.rows_read.set(self.rows_read.get() + 1);
            if !each(row.clone()) {
                break;
            }
        }
        Ok(())
    }
    fn snapshot(&self, key: &DocKey) -> Result<Option<Bytes>, StoreError> {
        Ok(self.docs.get(key).and_then(|doc| doc.snapshot.as_ref()).map(|(document, _)| document.clone()))
    }
    fn snapshot_index(&self, key: &DocKey) -> Result<Option<Bytes>, StoreError> {
        Ok(self.docs.get(key).and_then(|doc| doc.snapshot.as_ref()).map(|(_, index)| index.clone()))
    }
    fn whole(&self, key: &DocKey) -> Result<Option<Whole>, StoreError> {
        let Some(doc) = self.docs.get(key) else { return Ok(None) };
        let Some(head) = doc.head.clone() else { return Ok(None) };
        let snapshot = doc.snapshot.as_ref().map(|(document, _)| document.clone());
        Ok(Some((head, snapshot, doc.rows.values().cloned().collect())))
    }
    fn sync_state(&self, key: &DocKey, storage: &StorageId) -> Result<Option<Vec<ChangeHash>>, StoreError> {
        Ok(self.states.get(&(key.clone(), storage.clone())).cloned())
    }
    fn documents(
        &self,
        namespace: &Namespace,
        after: Option<DocumentId>,
        limit: usize,
    ) -> Result<Vec<(DocumentId, Head)>, StoreError> {
        let keys = self.docs.iter().filter(|(key, _)| key.namespace == *namespace);
        let keys = keys.filter(|(_, doc)| doc.head.as_ref().is_some_and(|head| head.deleted.is_none()));
        let later = keys.filter(|(key, _)| after.is_none_or(|after| key.document > after));
        Ok(later.filter_map(|(key, doc)| Some((key.document, doc.head.clone()?))).take(limit).collect())
    }
}
