//! Applies the steps of one commit inside a write transaction.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use redb::{ReadableTable, Table, WriteTransaction};

use super::schema::{self, DocPrefix, RowKey, doc_prefix, row_key};
use super::{Head, Op, RecordKind, Row, SnapshotInfo, StoreError, blob, codec};
use crate::types::{ChangeHash, DocKey, Millis, Namespace};

const COMMIT: &str = "writing a commit";

/// Namespaces that a commit numbered; valid once it is durable.
pub(super) type NewNamespaces = Vec<(Namespace, u32)>;

/// # Errors
/// [`StoreError::Order`] when a step does not fit what is stored, or what the disk says; drop the transaction then.
pub(super) fn apply(
    transaction: &WriteTransaction,
    known: &BTreeMap<Namespace, u32>,
    ops: &[Op],
) -> Result<NewNamespaces, StoreError> {
    let mut batch = Batch {
        heads: open(transaction, schema::HEADS)?,
        changes: open(transaction, schema::CHANGES)?,
        transaction,
        known,
        added: Vec::new(),
        documents: BTreeMap::new(),
        grown: 0,
    };
    for op in ops {
        batch.step(op)?;
    }
    batch.finish()
}

/// Opens a table for writing; the name says which one failed.
fn open<'txn, K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &'txn WriteTransaction,
    table: redb::TableDefinition<'_, K, V>,
) -> Result<Table<'txn, K, V>, StoreError> {
    let name = redb::TableHandle::name(&table).to_owned();
    transaction
        .open_table(table)
        .map_err(|source| StoreError::from_redb(COMMIT, format!("table {name}"), source))
}

struct Batch<'txn> {
    transaction: &'txn WriteTransaction,
    heads: Table<'txn, &'static DocPrefix, &'static [u8]>,
    changes: Table<'txn, &'static RowKey, &'static [u8]>,
    known: &'txn BTreeMap<Namespace, u32>,
    added: NewNamespaces,
    /// Documents that the commit has touched; written back at its end, once each.
    documents: BTreeMap<DocPrefix, Document>,
    /// By how many bytes keys and values grew.
    grown: i64,
}

struct Document {
    head: Head,
    /// Bytes of its stored head row with key, 0 for a new document.
    stored: usize,
}

impl Batch<'_> {
    fn step(&mut self, op: &Op) -> Result<(), StoreError> {
        match op {
            Op::Append { key, rows, heads, now } => self.append(key, rows, heads, *now),
            Op::Snapshot { key, below_row, info, document, index, heads, modified } => {
                self.snapshot(key, *below_row, info, document, index, heads, *modified)
            }
            Op::SyncState { key, storage, shared_heads } => {
                let prefix = self.prefix(key)?;
                let row = schema::sync_state_key(&prefix, storage.as_str());
                let value = codec::encode_hashes(shared_heads);
                let mut table = open(self.transaction, schema::SYNC_STATES)?;
                let old = table.insert(&row[..], &value[..]).map_err(|source| failed(key, source))?;
                self.grown += match old {
                    Some(old) => value.len() as i64 - old.value().len() as i64,
                    None => (row.len() + value.len()) as i64,
                };
                Ok(())
            }
            Op::Quarantine { key, reason } => {
                let prefix = self.prefix(key)?;
                match self.document(key, prefix)? {
                    Some(document) => document.head.quarantined = Some(reason.clone()),
                    None => return Err(refused(key, "a document that is not stored cannot be quarantined")),
                }
                Ok(())
            }
            Op::Record { kind, key, row } => self.record(*kind, key, row.as_deref()),
        }
    }

    fn append(
        &mut self,
        key: &DocKey,
        rows: &[Row],
        heads: &[ChangeHash],
        now: Millis,
    ) -> Result<(), StoreError> {
        let Some(first) = rows.first() else { return Err(refused(key, "an append without changes")) };
        let prefix = self.prefix(key)?;
        let expected = self.document(key, prefix)?.map_or(0, |document| document.head.next_row);
        if first.row != expected {
            return Err(refused(
                key,
                format!("the first row is {}, the next free one {expected}", first.row),
            ));
        }
        if rows.windows(2).any(|pair| pair[0].row.checked_add(1) != Some(pair[1].row)) {
            return Err(refused(key, "its rows are not contiguous"));
        }
        let Some(next_row) = expected.checked_add(rows.len() as u64) else {
            return Err(refused(key, "row numbers have run out"));
        };
        let mut tail_bytes = 0;
        for row in rows {
            if row.bytes.is_empty() {
                return Err(refused(key, "a change without bytes"));
            }
            let place = row_key(&prefix, row.row);
            let value = codec::encode_change(row);
            let old = self.changes.insert(&place, &value[..]).map_err(|source| failed(key, source))?;
            if old.is_some() {
                return Err(corrupt(key, "changes", "a row is stored at or above the next free one"));
            }
            tail_bytes += row.bytes.len() as u64;
            self.grown += (place.len() + value.len()) as i64;
        }
        let document =
            self.documents.entry(prefix).or_insert_with(|| Document { head: Head::new(now), stored: 0 });
        document.head.next_row = next_row;
        document.head.tail_changes += rows.len() as u64;
        document.head.tail_bytes += tail_bytes;
        document.head.modified = now;
        document.head.heads = sorted(heads);
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // the fields of one operation
    fn snapshot(
        &mut self,
        key: &DocKey,
        below_row: u64,
        info: &SnapshotInfo,
        document: &[u8],
        index: &[u8],
        heads: &[ChangeHash],
        modified: Option<Millis>,
    ) -> Result<(), StoreError> {
        let prefix = self.prefix(key)?;
        let stored = self.document(key, prefix)?.map(|document| document.head.clone());
        let mut head = match (stored, modified) {
            (Some(head), _) if below_row > head.next_row => {
                let next_row = head.next_row;
                let detail =
                    format!("the snapshot holds rows below {below_row}, but only {next_row} are stored");
                return Err(refused(key, detail));
            }
            (Some(head), _) => head,
            (None, Some(now)) => Head { next_row: below_row, ..Head::new(now) },
            (None, None) => return Err(refused(key, "a document that is not stored cannot be compacted")),
        };
        let (changes, bytes) = self.remove_rows(key, &prefix, below_row)?;
        let (Some(tail_changes), Some(tail_bytes)) =
            (head.tail_changes.checked_sub(changes), head.tail_bytes.checked_sub(bytes))
        else {
            return Err(corrupt(key, "heads", "it counts fewer changes than are stored"));
        };
        let object = || format!("document {} in {}", key.document, key.namespace);
        for (table, content) in [(schema::SNAPSHOTS, document), (schema::INDEXES, index)] {
            self.grown += blob::write(&mut open(self.transaction, table)?, &prefix, content, &object)?;
        }
        head.tail_changes = tail_changes;
        head.tail_bytes = tail_bytes;
        head.heads = sorted(heads);
        head.modified = modified.unwrap_or(head.modified);
        head.snapshot = Some(SnapshotInfo {
            heads: sorted(&info.heads),
            changes: info.changes,
            bytes: document.len() as u64,
        });
        match self.documents.entry(prefix) {
            Entry::Occupied(mut entry) => entry.get_mut().head = head,
            Entry::Vacant(entry) => {
                entry.insert(Document { head, stored: 0 });
            }
        }
        Ok(())
    }

    /// Deletes the rows below `below_row`; returns how many changes and change bytes they held.
    fn remove_rows(
        &mut self,
        key: &DocKey,
        prefix: &DocPrefix,
        below_row: u64,
    ) -> Result<(u64, u64), StoreError> {
        let (start, end) = (row_key(prefix, 0), row_key(prefix, below_row));
        let (mut changes, mut bytes, mut freed, mut malformed) = (0, 0, 0i64, None);
        self.changes
            .retain_in::<&RowKey, _>(&start..&end, |row, value| {
                match codec::change_bytes(value) {
                    Ok(length) => bytes += length as u64,
                    Err(error) => malformed = Some(error),
                }
                changes += 1;
                freed += (row.len() + value.len()) as i64;
                false
            })
            .map_err(|source| failed(key, source))?;
        self.grown -= freed;
        match malformed {
            None => Ok((changes, bytes)),
            Some(codec::Malformed(detail)) => Err(corrupt(key, "changes", detail)),
        }
    }

    fn record(&mut self, kind: RecordKind, key: &[u8], row: Option<&[u8]>) -> Result<(), StoreError> {
        // A key may be a secret of who writes it, so errors name the table only.
        let definition = schema::records(kind);
        let failed = |source: redb::StorageError| {
            let name = redb::TableHandle::name(&definition);
            StoreError::from_redb(COMMIT, format!("table {name}"), source)
        };
        let mut table = open(self.transaction, definition)?;
        let (old, new) = match row {
            Some(row) => (table.insert(key, row).map_err(failed)?, Some(row)),
            None => (table.remove(key).map_err(failed)?, None),
        };
        let size = |row: &[u8]| (key.len() + row.len()) as i64;
        self.grown += new.map_or(0, size) - old.map_or(0, |old| size(old.value()));
        Ok(())
    }

    /// The namespace's number, a new one if it has none, and the document.
    fn prefix(&mut self, key: &DocKey) -> Result<DocPrefix, StoreError> {
        let added = || self.added.iter().find(|(name, _)| *name == key.namespace).map(|(_, number)| *number);
        if let Some(number) = self.known.get(&key.namespace).copied().or_else(added) {
            return Ok(doc_prefix(number, key.document));
        }
        let highest = self.known.values().copied().chain(self.added.iter().map(|(_, number)| *number)).max();
        let Some(number) = highest.map_or(Some(0), |highest| highest.checked_add(1)) else {
            return Err(refused(key, "namespace numbers have run out"));
        };
        let mut table = open(self.transaction, schema::NAMESPACES)?;
        table.insert(key.namespace.as_str(), number).map_err(|source| failed(key, source))?;
        self.added.push((key.namespace.clone(), number));
        Ok(doc_prefix(number, key.document))
    }

    /// The document as this commit has it so far.
    fn document(&mut self, key: &DocKey, prefix: DocPrefix) -> Result<Option<&mut Document>, StoreError> {
        match self.documents.entry(prefix) {
            Entry::Occupied(entry) => Ok(Some(entry.into_mut())),
            Entry::Vacant(entry) => {
                let Some(row) = self.heads.get(&prefix).map_err(|source| failed(key, source))? else {
                    return Ok(None);
                };
                let head = codec::decode_head(row.value())
                    .map_err(|codec::Malformed(detail)| corrupt(key, "heads", detail))?;
                Ok(Some(entry.insert(Document { head, stored: prefix.len() + row.value().len() })))
            }
        }
    }

    fn finish(mut self) -> Result<NewNamespaces, StoreError> {
        for (prefix, document) in &self.documents {
            let row = codec::encode_head(&document.head);
            self.heads
                .insert(prefix, &row[..])
                .map_err(|source| StoreError::from_redb(COMMIT, "table heads", source))?;
            self.grown += (prefix.len() + row.len()) as i64 - document.stored as i64;
        }
        if self.grown != 0 {
            add_live_bytes(self.transaction, self.grown)?;
        }
        Ok(self.added)
    }
}

fn add_live_bytes(transaction: &WriteTransaction, grown: i64) -> Result<(), StoreError> {
    let failed = |source: redb::StorageError| StoreError::from_redb(COMMIT, "table meta", source);
    let mut meta = open(transaction, schema::META)?;
    let old = meta
        .get(schema::META_LIVE_BYTES)
        .map_err(failed)?
        .map(|row| row.value().try_into().map(u64::from_be_bytes));
    let Some(Ok(old)) = old else {
        return Err(StoreError::Corrupt {
            object: "table meta".into(),
            detail: "no count of live bytes".into(),
        });
    };
    let new = old.saturating_add_signed(grown);
    meta.insert(schema::META_LIVE_BYTES, &new.to_be_bytes()[..]).map_err(failed)?;
    Ok(())
}

fn sorted(heads: &[ChangeHash]) -> Vec<ChangeHash> {
    let mut heads = heads.to_vec();
    heads.sort_unstable();
    heads.dedup();
    heads
}

fn failed(key: &DocKey, source: redb::StorageError) -> StoreError {
    StoreError::from_redb(COMMIT, format!("document {} in {}", key.document, key.namespace), source)
}

fn refused(key: &DocKey, detail: impl Into<String>) -> StoreError {
    let object = format!("document {} in {}", key.document, key.namespace);
    StoreError::Order { object, detail: detail.into() }
}

fn corrupt(key: &DocKey, table: &str, detail: &str) -> StoreError {
    let object = format!("document {} in {} (table {table})", key.document, key.namespace);
    StoreError::Corrupt { object, detail: detail.into() }
}
