//! Writes a backup: one read transaction, so one moment, however long it takes.
//!
//! Commits go on meanwhile, and the pages that they let go of cannot be used again before the transaction ends: the file
//! grows. That is bounded by [`growth_allowed`]; a backup that would take it further is given up.

use std::iter::Peekable;

use bytes::Bytes;
use redb::{Key, ReadOnlyTable, ReadTransaction, ReadableTable, StorageError, TableDefinition, TableHandle};

use super::block::BlockWriter;
use super::check::Check;
use super::record::{self, Kind, OF_DOCUMENT};
use super::{BackupError, Manifest, Totals};
use crate::store::read::Reader;
use crate::store::schema::{self, ChangePartKey, DocPrefix};
use crate::store::{RecordKind, Store, StoreError, changes, codec};
use crate::types::{Millis, Secret};

const BACK_UP: &str = "backing up";
/// By so many bytes the store may always grow while it is backed up.
const LEAST_GROWTH: u64 = 256 << 20;

/// What a backup is made of.
pub struct Source<'a> {
    /// The store.
    pub store: &'a Store,
    /// What signs sync tokens: it does not lie in the store.
    pub secret: &'a Secret,
    /// Bytes that the disk has left; `None` if that is not known.
    pub free_bytes: Option<u64>,
    /// Now.
    pub now: Millis,
}

/// By how many bytes a store may grow while it is backed up: by its own size, but never so much that the disk is full.
fn growth_allowed(file_bytes: u64, free_bytes: Option<u64>) -> u64 {
    file_bytes.max(LEAST_GROWTH).min(free_bytes.map_or(u64::MAX, |free| free / 2))
}

impl Source<'_> {
    /// Writes the store as it is at this moment to `sink`, piece by piece; other threads read and commit meanwhile.
    /// # Errors
    /// The store cannot be read or is damaged, `sink` refuses, or the store has grown too much meanwhile. What was
    /// written is of no use then.
    pub fn write(
        &self,
        sink: &mut dyn FnMut(Bytes) -> Result<(), BackupError>,
    ) -> Result<(Manifest, Totals), BackupError> {
        let store = self.store;
        let started = store.file_bytes()?;
        let most = started.saturating_add(growth_allowed(started, self.free_bytes));
        let mut bounded = |piece: Bytes| {
            if store.file_bytes()? > most {
                return Err(BackupError::GivenUp(
                    "so much was stored meanwhile that the disk could have become full; write it to a file on this machine, or when less is going on".into(),
                ));
            }
            sink(piece)
        };
        store.database.read_once(BACK_UP, |transaction| Ok(self.walk(transaction, &mut bounded)))?
    }

    fn walk(
        &self,
        transaction: &ReadTransaction,
        sink: &mut dyn FnMut(Bytes) -> Result<(), BackupError>,
    ) -> Result<(Manifest, Totals), BackupError> {
        let (schema, needs_schema) = schema_of(transaction)?;
        let manifest = Manifest {
            server_version: env!("CARGO_PKG_VERSION").into(),
            schema,
            needs_schema,
            storage_id: self.store.storage_id().to_string(),
            created: self.now,
            expected_bytes: Reader { transaction }.totals()?.1,
        };
        let mut out = Out { blocks: BlockWriter::begin(sink, &manifest)?, check: Check::default() };
        out.put(Kind::Secret, &[], self.secret.as_bytes())?;
        let namespaces = open(transaction, schema::NAMESPACES)?;
        for row in ReadableTable::iter(&namespaces).map_err(|error| failed("namespaces", error))? {
            let (name, number) = row.map_err(|error| failed("namespaces", error))?;
            out.put(Kind::Namespace, name.value().as_bytes(), &number.value().to_be_bytes())?;
        }
        documents(transaction, &mut out)?;
        for kind in RecordKind::ALL {
            let Some(table) = (Reader { transaction }).open_records(schema::records(kind))? else { continue };
            for row in ReadableTable::iter(&table).map_err(|error| failed("records", error))? {
                let (key, value) = row.map_err(|error| failed("records", error))?;
                out.put(Kind::Record(kind), key.value(), value.value())?;
            }
        }
        let totals = out.check.finish().map_err(damaged)?;
        out.blocks.finish(&totals)?;
        Ok((manifest, totals))
    }
}

/// What goes out, checked as a reader will check it.
struct Out<'a> {
    blocks: BlockWriter<'a>,
    check: Check,
}

impl Out<'_> {
    fn put(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        self.check.record(kind, key, value).map_err(damaged)?;
        let head = record::head(kind, key, value).ok_or_else(|| damaged("a row is too large".into()))?;
        self.blocks.add(&head)?;
        self.blocks.add(key)?;
        self.blocks.add(value)
    }
}

/// Key and value of a row.
type Row<'t> = (Vec<u8>, redb::AccessGuard<'t, &'static [u8]>);
type Rows<'t> = Peekable<Box<dyn Iterator<Item = Result<Row<'t>, StorageError>> + 't>>;

/// All tables of documents at once, each from its front to its end: all that belongs to a document comes together.
fn documents(transaction: &ReadTransaction, out: &mut Out<'_>) -> Result<(), BackupError> {
    let heads = open(transaction, schema::HEADS)?;
    let changes = open(transaction, schema::CHANGES)?;
    let large_changes = open(transaction, schema::LARGE_CHANGES)?;
    let snapshots = open(transaction, schema::SNAPSHOTS)?;
    let indexes = open(transaction, schema::INDEXES)?;
    let sync_states = open(transaction, schema::SYNC_STATES)?;
    let bin = open(transaction, schema::BIN)?;
    let tombstones = open(transaction, schema::TOMBSTONES)?;
    // As OF_DOCUMENT has them.
    let mut tables = [
        rows(&heads)?,
        rows(&changes)?,
        rows(&snapshots)?,
        rows(&indexes)?,
        rows(&sync_states)?,
        rows(&bin)?,
        rows(&tombstones)?,
    ];
    loop {
        let mut next: Option<DocPrefix> = None;
        for table in &mut tables {
            if let Some(prefix) = prefix(table)? {
                next = Some(next.map_or(prefix, |least| least.min(prefix)));
            }
        }
        let Some(document) = next else { return Ok(()) };
        for (kind, table) in OF_DOCUMENT.into_iter().zip(&mut tables) {
            while prefix(table)? == Some(document) {
                let Some(row) = table.next() else { break };
                let (key, value) = row.map_err(|error| failed("documents", error))?;
                match whole_change(kind, &key, value.value(), &large_changes)? {
                    Some(whole) => out.put(kind, &key, &whole)?,
                    None => out.put(kind, &key, value.value())?,
                }
            }
        }
    }
}

/// The row of a large change with the change in it, as a backup has it; nothing of other rows.
fn whole_change(
    kind: Kind,
    key: &[u8],
    value: &[u8],
    parts: &ReadOnlyTable<&'static ChangePartKey, &'static [u8]>,
) -> Result<Option<Vec<u8>>, StoreError> {
    if kind != Kind::Change {
        return Ok(None);
    }
    let (known, change) = codec::split_change(value).map_err(|error| damaged(error.0.into()))?;
    if !change.is_empty() {
        return Ok(None);
    }
    let place = key.try_into().map_err(|_| damaged("a key is cut short".into()))?;
    let change = changes::large(parts, place, &|| "table large_changes".into())?;
    Ok(Some([known, &change].concat()))
}

/// The document that a table goes on with.
fn prefix(table: &mut Rows<'_>) -> Result<Option<DocPrefix>, StoreError> {
    match table.peek() {
        None => Ok(None),
        Some(Ok((key, _))) => {
            let prefix = key.first_chunk::<20>().ok_or_else(|| damaged("a key is cut short".into()))?;
            Ok(Some(*prefix))
        }
        Some(Err(_)) => match table.next() {
            Some(Err(error)) => Err(failed("documents", error)),
            _ => Ok(None),
        },
    }
}

fn rows<'t, K>(table: &'t ReadOnlyTable<K, &'static [u8]>) -> Result<Rows<'t>, StoreError>
where
    K: Key + 'static,
    for<'k> K::SelfType<'k>: AsRef<[u8]>,
{
    let rows = ReadableTable::iter(table).map_err(|error| failed("documents", error))?;
    let rows: Box<dyn Iterator<Item = _> + 't> =
        Box::new(rows.map(|row| row.map(|(key, value)| (key.value().as_ref().to_vec(), value))));
    Ok(rows.peekable())
}

fn open<K: Key + 'static, V: redb::Value + 'static>(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<ReadOnlyTable<K, V>, StoreError> {
    let name = table.name().to_owned();
    transaction
        .open_table(table)
        .map_err(|source| StoreError::from_redb(BACK_UP, format!("table {name}"), source))
}

fn schema_of(transaction: &ReadTransaction) -> Result<(u32, u32), StoreError> {
    let meta = open(transaction, schema::META)?;
    let number = |name: &str| {
        let row = ReadableTable::get(&meta, name).map_err(|error| failed("meta", error))?;
        let number = row.and_then(|row| row.value().try_into().map(u32::from_be_bytes).ok());
        number.ok_or_else(|| damaged(format!("{name} is not a number")))
    };
    Ok((number(schema::META_SCHEMA)?, number(schema::META_NEEDS)?))
}

fn failed(what: &str, source: StorageError) -> StoreError {
    StoreError::from_redb(BACK_UP, what, source)
}

fn damaged(detail: String) -> StoreError {
    StoreError::Corrupt { object: "the store".into(), detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Op, StoreOptions};

    #[test]
    fn it_is_given_up_when_the_store_grows_into_what_the_disk_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { cache_bytes: 4 << 20 };
        let store = Store::open(&dir.path().join("groundmist.redb"), &options).unwrap();
        let secret = Secret::new(&[1; 32]);
        let write = |grows: bool| {
            let source = Source { store: &store, secret: &secret, free_bytes: Some(0), now: 1 };
            source.write(&mut |piece| {
                if !grows {
                    return Ok(());
                }
                let row = Some(vec![7; 8 << 20]);
                store.commit(&[Op::Record { kind: RecordKind::Session, key: piece.to_vec(), row }])?;
                Ok(())
            })
        };
        let given_up = write(true).unwrap_err();
        assert!(matches!(&given_up, BackupError::GivenUp(why) if why.contains("disk")), "{given_up}");
        write(false).unwrap();
    }

    #[test]
    fn a_backup_never_lets_the_store_fill_the_disk() {
        const GB: u64 = 1 << 30;
        for (file, free, allowed) in [
            (1 << 20, None, 256 << 20),
            (4 * GB, Some(100 * GB), 4 * GB),
            (4 * GB, Some(GB), GB / 2),
            (1 << 20, Some(0), 0),
        ] {
            assert_eq!(growth_allowed(file, free), allowed, "{file} {free:?}");
        }
    }
}
