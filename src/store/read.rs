//! What the store answers, each from one read transaction.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Bound, Range};

use bytes::Bytes;
use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle,
};

use super::schema::{self, DocPrefix, PartKey, doc_prefix, part_key, row_key, row_of};
use super::tally::{self, Delta};
use super::write::{decode_head, object};
use super::{GrowthPoint, Head, Record, RecordKind, Row, StoreError, Totals, blob, changes, codec};
use crate::types::{ChangeHash, DocKey, DocumentId, Namespace, StorageId};

const READ: &str = "reading";

/// A whole document: head, the snapshot's document chunk, and the tail rows ascending.
pub type Whole = (Head, Option<Bytes>, Vec<Row>);

/// A table with a row for each document: those that are kept, in the bin, or purged.
pub(super) type Heads = TableDefinition<'static, &'static DocPrefix, &'static [u8]>;
type Records = TableDefinition<'static, &'static [u8], &'static [u8]>;
type RecordTable = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// One read transaction, with the names its errors need.
pub(super) struct Reader<'t> {
    pub(super) transaction: &'t ReadTransaction,
}

impl Reader<'_> {
    fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, StoreError> {
        let name = table.name().to_owned();
        self.transaction
            .open_table(table)
            .map_err(|source| StoreError::from_redb("opening", format!("table {name}"), source))
    }

    /// A kind that this store has no table for was added since it was made: the table comes with the first record.
    pub(super) fn open_records(&self, table: Records) -> Result<Option<RecordTable>, StoreError> {
        let name = table.name().to_owned();
        match self.transaction.open_table(table) {
            Ok(table) => Ok(Some(table)),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(source) => Err(StoreError::from_redb("opening", format!("table {name}"), source)),
        }
    }

    pub(super) fn head(&self, key: &DocKey, prefix: &DocPrefix) -> Result<Option<Head>, StoreError> {
        for table in [schema::HEADS, schema::BIN, schema::TOMBSTONES] {
            let rows = self.open(table)?;
            let row =
                ReadableTable::get(&rows, prefix).map_err(|source| failed(key, table.name(), source))?;
            if let Some(row) = row {
                let head = decode_head(table, row.value());
                return head.map(Some).map_err(|error| corrupt(key, table.name(), error.0));
            }
        }
        Ok(None)
    }

    pub(super) fn tail(
        &self,
        key: &DocKey,
        prefix: &DocPrefix,
        rows: Range<u64>,
        each: &mut dyn FnMut(Row) -> bool,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let table = self.open(schema::CHANGES)?;
        let (start, end) = (row_key(prefix, rows.start), row_key(prefix, rows.end));
        let found = ReadableTable::range::<&schema::RowKey>(&table, &start..&end)
            .map_err(|source| failed(key, "changes", source))?;
        let (mut expected, mut parts) = (None, None);
        for item in found {
            let (place, value) = item.map_err(|source| failed(key, "changes", source))?;
            let number = row_of(place.value());
            // Rows are only ever removed from the front, so a gap is a lost row.
            if expected.is_some_and(|expected| expected != number) {
                return Err(corrupt(key, "changes", "a row is missing"));
            }
            expected = number.checked_add(1);
            let mut row = codec::decode_change(number, value.value())
                .map_err(|error| corrupt(key, "changes", error.0))?;
            if row.bytes.is_empty() {
                let parts = match &parts {
                    Some(parts) => parts,
                    None => &*parts.insert(self.open(schema::LARGE_CHANGES)?),
                };
                row.bytes = changes::large(parts, place.value(), &|| object(key, "large_changes"))?;
            }
            if !each(row) {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn snapshot(&self, key: &DocKey, prefix: &DocPrefix) -> Result<Option<Bytes>, StoreError> {
        self.blob(schema::SNAPSHOTS, key, prefix)
    }

    pub(super) fn snapshot_index(
        &self,
        key: &DocKey,
        prefix: &DocPrefix,
    ) -> Result<Option<Bytes>, StoreError> {
        self.blob(schema::INDEXES, key, prefix)
    }

    fn blob(
        &self,
        table: TableDefinition<'static, &'static PartKey, &'static [u8]>,
        key: &DocKey,
        prefix: &DocPrefix,
    ) -> Result<Option<Bytes>, StoreError> {
        blob::read(&self.open(table)?, &|part| part_key(prefix, part), &|| object(key, table.name()))
    }

    pub(super) fn whole(&self, key: &DocKey, prefix: &DocPrefix) -> Result<Option<Whole>, StoreError> {
        let Some(head) = self.head(key, prefix)? else { return Ok(None) };
        let snapshot = self.snapshot(key, prefix)?;
        if head.snapshot.is_some() != snapshot.is_some() {
            return Err(corrupt(key, "snapshots", "head row and snapshot disagree on whether there is one"));
        }
        let mut rows = Vec::new();
        self.tail(key, prefix, 0..head.next_row, &mut |row| {
            rows.push(row);
            true
        })?;
        if rows.len() as u64 != head.tail_changes {
            return Err(corrupt(key, "changes", "the head row counts another number of changes"));
        }
        Ok(Some((head, snapshot, rows)))
    }

    /// Of `table`.
    pub(super) fn documents(
        &self,
        table: Heads,
        namespace: &Namespace,
        number: u32,
        after: Option<DocumentId>,
        limit: usize,
    ) -> Result<Vec<(DocumentId, Head)>, StoreError> {
        let mut documents = Vec::new();
        if limit > 0 {
            self.each_document(table, namespace, number, after, &mut |document, head| {
                documents.push((document, head));
                documents.len() < limit
            })?;
        }
        Ok(documents)
    }

    /// The `limit` documents of `table` that rank highest, the highest first.
    pub(super) fn ranked(
        &self,
        table: Heads,
        namespaces: &[(Namespace, u32)],
        rank: fn(&Head) -> u64,
        limit: usize,
    ) -> Result<Vec<(DocKey, Head)>, StoreError> {
        let mut best: BinaryHeap<Reverse<(u64, usize, DocumentId)>> = BinaryHeap::new();
        for (place, (namespace, number)) in namespaces.iter().enumerate() {
            self.each_document(table, namespace, *number, None, &mut |document, head| {
                let this = Reverse((rank(&head), place, document));
                if best.len() < limit {
                    best.push(this);
                } else if let Some(mut least) = best.peek_mut()
                    && this < *least
                {
                    *least = this;
                }
                true
            })?;
        }
        let mut ranked = Vec::with_capacity(best.len());
        for Reverse((_, place, document)) in best.into_sorted_vec() {
            let Some((namespace, number)) = namespaces.get(place) else { continue };
            let key = DocKey { namespace: namespace.clone(), document };
            if let Some(head) = self.head(&key, &doc_prefix(*number, document))? {
                ranked.push((key, head));
            }
        }
        Ok(ranked)
    }

    /// Until `each` says no. A row that cannot be read is left out, so that it hides none but its own document.
    fn each_document(
        &self,
        table: Heads,
        namespace: &Namespace,
        number: u32,
        after: Option<DocumentId>,
        each: &mut dyn FnMut(DocumentId, Head) -> bool,
    ) -> Result<(), StoreError> {
        let table = self.open(table)?;
        let first = doc_prefix(number, after.unwrap_or(DocumentId([0; 16])));
        let last = doc_prefix(number, DocumentId([0xff; 16]));
        if after.is_some() && first == last {
            return Ok(());
        }
        let start = if after.is_some() { Bound::Excluded(&first) } else { Bound::Included(&first) };
        let found = ReadableTable::range::<&DocPrefix>(&table, (start, Bound::Included(&last)));
        let found = found.map_err(|source| {
            StoreError::from_redb(READ, format!("documents of {namespace} (table heads)"), source)
        })?;
        for item in found {
            let (place, value) = item.map_err(|source| {
                StoreError::from_redb(READ, format!("documents of {namespace} (table heads)"), source)
            })?;
            let document = schema::document_of(place.value());
            match codec::decode_head(value.value()) {
                Ok(head) => {
                    if !each(document, head) {
                        break;
                    }
                }
                Err(bad) => {
                    tracing::warn!(%document, %namespace, reason = bad.0, "a document whose head row is damaged is left out")
                }
            }
        }
        Ok(())
    }

    /// What a namespace holds, and the day of the last commit that changed it.
    pub(super) fn namespace_totals(&self, number: u32) -> Result<(Totals, u32), StoreError> {
        let row = self.record(RecordKind::Totals, &number.to_be_bytes())?;
        match row.map(|row| tally::decode(&row)) {
            None => Ok(Default::default()),
            Some(Ok(totals)) => Ok(totals),
            // The next commit writes it anew.
            Some(Err(_)) => {
                let mut all = Delta::default();
                for table in [schema::HEADS, schema::BIN] {
                    let counted = all.add_up(number, &self.open(table)?);
                    counted.map_err(|source| StoreError::from_redb(READ, table.name(), source))?;
                }
                let totals = all.apply(&Totals::default());
                Ok((totals, tally::day_of(totals.modified)))
            }
        }
    }

    pub(super) fn growth(
        &self,
        namespace: &Namespace,
        number: u32,
        days: (u32, u32),
    ) -> Result<Vec<GrowthPoint>, StoreError> {
        let last = self.namespace_totals(number)?;
        let Some(table) = self.open_records(schema::records(RecordKind::Growth))? else {
            return Ok(Vec::new());
        };
        tally::points(&table, (namespace, number), last, days)
    }

    pub(super) fn sync_state(
        &self,
        key: &DocKey,
        prefix: &DocPrefix,
        storage: &StorageId,
    ) -> Result<Option<Vec<ChangeHash>>, StoreError> {
        let table = self.open(schema::SYNC_STATES)?;
        let place = schema::sync_state_key(prefix, storage.as_str());
        let row =
            ReadableTable::get(&table, &place[..]).map_err(|source| failed(key, "sync_states", source))?;
        row.map(|row| codec::decode_hashes(row.value()))
            .transpose()
            .map_err(|error| corrupt(key, "sync_states", error.0))
    }

    pub(super) fn record(&self, kind: RecordKind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let definition = schema::records(kind);
        let Some(table) = self.open_records(definition)? else { return Ok(None) };
        let row = ReadableTable::get(&table, key)
            .map_err(|source| StoreError::from_redb(READ, format!("table {}", definition.name()), source))?;
        Ok(row.map(|row| row.value().to_vec()))
    }

    pub(super) fn records(&self, kind: RecordKind) -> Result<Vec<Record>, StoreError> {
        let definition = schema::records(kind);
        let failed = |source: redb::StorageError| {
            StoreError::from_redb(READ, format!("table {}", definition.name()), source)
        };
        let Some(table) = self.open_records(definition)? else { return Ok(Vec::new()) };
        let mut records = Vec::new();
        for item in ReadableTable::iter(&table).map_err(failed)? {
            let (key, row) = item.map_err(failed)?;
            records.push((key.value().to_vec(), row.value().to_vec()));
        }
        Ok(records)
    }

    pub(super) fn namespaces(&self) -> Result<Vec<(Namespace, u32)>, StoreError> {
        let failed = |source: redb::StorageError| StoreError::from_redb(READ, "table namespaces", source);
        let table = self.open(schema::NAMESPACES)?;
        let mut namespaces = Vec::new();
        for item in ReadableTable::iter(&table).map_err(failed)? {
            let (name, number) = item.map_err(failed)?;
            let namespace = name.value().parse().map_err(|_| StoreError::Corrupt {
                object: "table namespaces".into(),
                detail: format!("{:?} is not a namespace", name.value()),
            })?;
            namespaces.push((namespace, number.value()));
        }
        Ok(namespaces)
    }

    /// Number of documents, and bytes of all rows; both are kept, not counted.
    pub(super) fn totals(&self) -> Result<(u64, u64), StoreError> {
        let failed = |source: redb::StorageError| StoreError::from_redb(READ, "table meta", source);
        let documents = self.open(schema::HEADS)?.len().map_err(failed)?;
        let meta = self.open(schema::META)?;
        let row = ReadableTable::get(&meta, schema::META_LIVE_BYTES).map_err(failed)?;
        match row.map(|row| row.value().try_into().map(u64::from_be_bytes)) {
            Some(Ok(live)) => Ok((documents, live)),
            _ => Err(StoreError::Corrupt {
                object: "table meta".into(),
                detail: "no count of live bytes".into(),
            }),
        }
    }
}

fn failed(key: &DocKey, table: &str, source: redb::StorageError) -> StoreError {
    StoreError::from_redb(READ, object(key, table), source)
}

fn corrupt(key: &DocKey, table: &str, detail: &str) -> StoreError {
    StoreError::Corrupt { object: object(key, table), detail: detail.into() }
}
