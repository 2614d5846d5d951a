//! Applies the steps of one commit inside a write transaction.

use std::collections::BTreeMap;

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::schema::{self, DocPrefix, RowKey, change_part_key, doc_prefix, part_key, row_key};
use super::tally::Delta;
use super::{Head, Op, RecordKind, Row, SnapshotInfo, StoreError, blob, changes, codec};
use crate::types::{ChangeHash, DocKey, Millis, Namespace};

type Bytes = &'static [u8];
type Heads = TableDefinition<'static, &'static DocPrefix, Bytes>;

pub(super) const COMMIT: &str = "writing a commit";

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
        deltas: BTreeMap::new(),
        grown: 0,
    };
    for op in ops {
        batch.step(op)?;
    }
    batch.finish()
}

/// Opens a table for writing; the name says which one failed.
pub(super) fn open<'txn, K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &'txn WriteTransaction,
    table: redb::TableDefinition<'_, K, V>,
) -> Result<Table<'txn, K, V>, StoreError> {
    let name = redb::TableHandle::name(&table).to_owned();
    transaction
        .open_table(table)
        .map_err(|source| StoreError::from_redb(COMMIT, format!("table {name}"), source))
}

pub(super) struct Batch<'txn> {
    pub(super) transaction: &'txn WriteTransaction,
    pub(super) heads: Table<'txn, &'static DocPrefix, &'static [u8]>,
    pub(super) changes: Table<'txn, &'static RowKey, &'static [u8]>,
    known: &'txn BTreeMap<Namespace, u32>,
    added: NewNamespaces,
    /// Documents that the commit has touched; written back at its end, once each.
    documents: BTreeMap<DocPrefix, Document>,
    /// By how much what namespaces hold changes.
    deltas: BTreeMap<u32, Delta>,
    /// By how many bytes keys and values grew.
    pub(super) grown: i64,
}

pub(super) struct Document {
    pub(super) head: Head,
    /// Where its head row is stored, and how many bytes it has with its key; none of a new document.
    stored: Option<(Heads, usize)>,
}

impl Document {
    /// Where its head row belongs.
    fn table(&self) -> Heads {
        match (self.head.deleted, self.head.purged) {
            (None, _) => schema::HEADS,
            (Some(_), false) => schema::BIN,
            (Some(_), true) => schema::TOMBSTONES,
        }
    }
}

impl Batch<'_> {
    fn step(&mut self, op: &Op) -> Result<(), StoreError> {
        match op {
            Op::Append { key, rows, heads, by, now } => {
                self.append(key, rows, heads, *now)?;
                self.written(key, by.as_ref())
            }
            Op::Snapshot { key, below_row, info, document, index, heads, by, modified } => {
                self.snapshot(key, *below_row, info, document, index, heads, *modified)?;
                self.written(key, by.as_ref())
            }
            Op::Dispose { key, what, now } => self.dispose(key, *what, *now),
            Op::SyncState { key, storage, shared_heads } => self.sync_state(key, storage, shared_heads),
            Op::Quarantine { key, reason } => {
                let prefix = self.prefix(key)?;
                match self.document(key, prefix)? {
                    Some(document) => document.head.quarantined = Some(reason.clone()),
                    None => return Err(refused(key, "a document that is not stored cannot be quarantined")),
                }
                Ok(())
            }
            Op::Record { kind, .. } if kind.is_of_store() => Err(StoreError::Order {
                object: format!("table {}", redb::TableHandle::name(&schema::records(*kind))),
                detail: "the store itself keeps it".into(),
            }),
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
        let expected = self.kept(key, prefix)?.map_or(0, |document| document.head.next_row);
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
            let object = || object(key, "changes");
            let grown = changes::insert(self.transaction, &mut self.changes, &place, &value, &object)?;
            let occupied = || corrupt(key, "changes", "a row is stored at or above the next free one");
            self.grown += grown.ok_or_else(occupied)?;
            tail_bytes += row.bytes.len() as u64;
        }
        let document =
            self.documents.entry(prefix).or_insert_with(|| Document { head: Head::new(now), stored: None });
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
        let stored = self.kept(key, prefix)?.map(|document| document.head.clone());
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
        let key_of = |part| part_key(&prefix, part);
        for (table, content) in [(schema::SNAPSHOTS, document), (schema::INDEXES, index)] {
            self.grown += blob::write(&mut open(self.transaction, table)?, &key_of, content, &object)?;
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
        match self.documents.get_mut(&prefix) {
            Some(document) => document.head = head,
            None => drop(self.documents.insert(prefix, Document { head, stored: None })),
        }
        Ok(())
    }

    /// Who changed a document last, if that is known and new.
    fn written(&mut self, key: &DocKey, by: Option<&std::sync::Arc<str>>) -> Result<(), StoreError> {
        let Some(by) = by else { return Ok(()) };
        let prefix = self.prefix(key)?;
        if let Some(document) = self.documents.get_mut(&prefix) {
            document.head.written_by = Some(by.clone());
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
        let (mut changes, mut large, mut bytes, mut freed, mut malformed) = (0, 0, 0, 0i64, None);
        self.changes
            .retain_in::<&RowKey, _>(&start..&end, |row, value| {
                match codec::split_change(value) {
                    Ok((_, [])) => large += 1,
                    Ok((_, change)) => bytes += change.len() as u64,
                    Err(error) => malformed = Some(error),
                }
                changes += 1;
                freed += (row.len() + value.len()) as i64;
                false
            })
            .map_err(|source| failed(key, source))?;
        self.grown -= freed;
        if let Some(codec::Malformed(detail)) = malformed {
            return Err(corrupt(key, "changes", detail));
        }
        let parts = change_part_key(&start, 0)..change_part_key(&end, 0);
        let removed = changes::remove_large(self.transaction, parts, &|| object(key, "large_changes"))?;
        if removed.changes != large {
            return Err(corrupt(
                key,
                "large_changes",
                "the number of large changes is not that of the rows that name them",
            ));
        }
        self.grown -= removed.freed;
        Ok((changes, bytes + removed.bytes))
    }

    pub(super) fn record(
        &mut self,
        kind: RecordKind,
        key: &[u8],
        row: Option<&[u8]>,
    ) -> Result<(), StoreError> {
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
    pub(super) fn prefix(&mut self, key: &DocKey) -> Result<DocPrefix, StoreError> {
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

    /// As [`Batch::document`]; a deleted one takes nothing more, whoever brings it.
    fn kept(&mut self, key: &DocKey, prefix: DocPrefix) -> Result<Option<&mut Document>, StoreError> {
        match self.document(key, prefix)? {
            Some(document) if document.head.deleted.is_some() => Err(refused(key, "it is deleted")),
            document => Ok(document),
        }
    }

    pub(super) fn delta(&mut self, prefix: &DocPrefix) -> &mut Delta {
        self.deltas.entry(schema::namespace_of(prefix).unwrap_or_default()).or_default()
    }

    /// The document as this commit has it so far.
    pub(super) fn document(
        &mut self,
        key: &DocKey,
        prefix: DocPrefix,
    ) -> Result<Option<&mut Document>, StoreError> {
        if !self.documents.contains_key(&prefix)
            && let Some(document) = self.stored(key, &prefix)?
        {
            self.delta(&prefix).count(&document.head, -1);
            self.documents.insert(prefix, document);
        }
        Ok(self.documents.get_mut(&prefix))
    }

    fn stored(&self, key: &DocKey, prefix: &DocPrefix) -> Result<Option<Document>, StoreError> {
        let read = |table: Heads, row: &[u8]| {
            let head = decode_head(table, row);
            let head = head.map_err(|codec::Malformed(detail)| corrupt(key, "heads", detail))?;
            Ok(Some(Document { head, stored: Some((table, prefix.len() + row.len())) }))
        };
        if let Some(row) = self.heads.get(prefix).map_err(|source| failed(key, source))? {
            return read(schema::HEADS, row.value());
        }
        for table in [schema::BIN, schema::TOMBSTONES] {
            let deleted = open(self.transaction, table)?;
            if let Some(row) = deleted.get(prefix).map_err(|source| failed(key, source))? {
                return read(table, row.value());
            }
        }
        Ok(None)
    }

    fn finish(mut self) -> Result<NewNamespaces, StoreError> {
        for (prefix, document) in std::mem::take(&mut self.documents) {
            self.delta(&prefix).count(&document.head, 1);
            self.put(&prefix, &document)
                .map_err(|source| StoreError::from_redb(COMMIT, "table heads", source))?;
        }
        for (namespace, delta) in std::mem::take(&mut self.deltas) {
            self.tally(namespace, &delta)?;
        }
        if self.grown != 0 {
            add_live_bytes(self.transaction, self.grown)?;
        }
        Ok(self.added)
    }

    /// Writes a head row where it belongs now.
    fn put(&mut self, prefix: &DocPrefix, document: &Document) -> Result<(), redb::Error> {
        let table = document.table();
        let is_heads =
            |table: Heads| redb::TableHandle::name(&table) == redb::TableHandle::name(&schema::HEADS);
        if let Some((old, bytes)) = document.stored {
            self.grown -= bytes as i64;
            if redb::TableHandle::name(&old) != redb::TableHandle::name(&table) {
                match is_heads(old) {
                    true => drop(self.heads.remove(prefix)?),
                    false => drop(self.transaction.open_table(old)?.remove(prefix)?),
                }
            }
        }
        let row = match document.head.deleted.filter(|_| document.head.purged) {
            Some(deleted) => codec::encode_tombstone(deleted),
            None => codec::encode_head(&document.head),
        };
        self.grown += (prefix.len() + row.len()) as i64;
        match is_heads(table) {
            true => drop(self.heads.insert(prefix, &row[..])?),
            false => drop(self.transaction.open_table(table)?.insert(prefix, &row[..])?),
        }
        Ok(())
    }
}

/// A row of one of the tables that have a row for each document.
pub(super) fn decode_head(table: Heads, row: &[u8]) -> Result<Head, codec::Malformed> {
    if redb::TableHandle::name(&table) == redb::TableHandle::name(&schema::TOMBSTONES) {
        codec::decode_tombstone(row)
    } else {
        codec::decode_head(row)
    }
}

pub(super) fn add_live_bytes(transaction: &WriteTransaction, grown: i64) -> Result<(), StoreError> {
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

pub(super) fn failed(key: &DocKey, source: redb::StorageError) -> StoreError {
    StoreError::from_redb(COMMIT, format!("document {} in {}", key.document, key.namespace), source)
}

pub(super) fn refused(key: &DocKey, detail: impl Into<String>) -> StoreError {
    let object = format!("document {} in {}", key.document, key.namespace);
    StoreError::Order { object, detail: detail.into() }
}

pub(super) fn object(key: &DocKey, table: &str) -> String {
    format!("document {} in {} (table {table})", key.document, key.namespace)
}

fn corrupt(key: &DocKey, table: &str, detail: &str) -> StoreError {
    StoreError::Corrupt { object: object(key, table), detail: detail.into() }
}
