//! Reads a backup, and makes a store of it.

use std::ffi::OsStr;
use std::io::Read;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Database, WriteTransaction};

use super::check::Check;
use super::read::RecordReader;
use super::record::Kind;
use super::{BackupError, Manifest, Totals};
use crate::directory::Directory;
use crate::store::open::{Before, create_tables};
use crate::store::schema;
use crate::store::{RecordKind, Store, StoreError, StoreOptions, changes, migrate, write};

const BUILD: &str = "building the restored store";
/// The record (a [`RecordKind::Pin`]) in a restored store that holds the signing secret, until it is put where it belongs.
pub const RESTORED_SECRET: &[u8] = b"restored_secret";
/// Rows are inserted so many at a time, in bytes and in number, and committed with an fsync after so many bytes.
const INSERT_BYTES: usize = 2 << 20;
const INSERT_ROWS: usize = 16_384;
const COMMIT_BYTES: usize = 32 << 20;

/// Reads a backup to its end and checks all of it; `progress` hears how many bytes of records were read.
/// # Errors
/// What is wrong with it.
pub fn check(
    source: impl Read,
    max_value_bytes: usize,
    progress: &mut dyn FnMut(&Manifest, u64),
) -> Result<(Manifest, Totals), BackupError> {
    let (reader, manifest) = RecordReader::begin(source, max_value_bytes)?;
    read(reader, manifest, progress, &mut |_, _, _| Ok(()))
}

/// Makes a new store `name` in `directory`, where there must be none, of a backup that is checked meanwhile: what is there after an
/// error is not a store, and may be removed. An older schema is migrated.
/// # Errors
/// What is wrong with the backup, or what the disk says.
pub fn build(
    (directory, name): (&Arc<Directory>, &OsStr),
    source: impl Read,
    max_value_bytes: usize,
    options: &StoreOptions,
    progress: &mut dyn FnMut(&Manifest, u64),
) -> Result<(Manifest, Totals), BackupError> {
    let (reader, manifest) = RecordReader::begin(source, max_value_bytes)?;
    let path = directory.path_of(name).display().to_string();
    let new = directory.create(name).map_err(|source| StoreError::from_io(BUILD, &path, source))?;
    let failed = |source: redb::Error| StoreError::from_redb(BUILD, &path, source);
    let file = FileBackend::new(new).map_err(|source| failed(source.into()))?;
    let mut builder = Database::builder();
    let database = builder
        .set_cache_size(options.cache_bytes)
        .create_with_backend(file)
        .map_err(|source| failed(source.into()))?;
    let mut batch = Batch {
        database: &database,
        name: &path,
        transaction: None,
        written: 0,
        rows: Vec::new(),
        waiting: 0,
        secret_bytes: 0,
        more_bytes: 0,
    };
    let (manifest, totals) =
        read(reader, manifest, progress, &mut |kind, key, value| batch.add(kind, key, value))?;
    batch.insert()?;
    batch.commit()?;
    let live_bytes = (totals.bytes + batch.secret_bytes).saturating_add_signed(batch.more_bytes);
    // Last: before this it is no store.
    let rows: [(&str, &[u8]); 4] = [
        (schema::META_SCHEMA, &manifest.schema.to_be_bytes()),
        (schema::META_NEEDS, &manifest.needs_schema.to_be_bytes()),
        (schema::META_STORAGE_ID, manifest.storage_id.as_bytes()),
        (schema::META_LIVE_BYTES, &live_bytes.to_be_bytes()),
    ];
    let transaction = database.begin_write().map_err(|source| failed(source.into()))?;
    create_tables(&transaction).map_err(|source| failed(source.into()))?;
    migrate::put_meta(&transaction, &rows)?;
    transaction.commit().map_err(|source| failed(source.into()))?;
    drop(database);
    // As the server will: it must open, and be what was announced. Of an older schema the backup is the copy.
    let store = Store::open_keeping(directory, name, options, Before::Nothing)?;
    if store.storage_id().as_str() != manifest.storage_id || store.stats()?.documents != totals.documents {
        return Err(BackupError::Unfit("what was built of it is not what it says".into()));
    }
    Ok((manifest, totals))
}

/// Takes each record.
type Each<'a> = &'a mut dyn FnMut(Kind, &[u8], &[u8]) -> Result<(), BackupError>;

fn read(
    mut reader: RecordReader<impl Read>,
    manifest: Manifest,
    progress: &mut dyn FnMut(&Manifest, u64),
    each: Each<'_>,
) -> Result<(Manifest, Totals), BackupError> {
    let (mut check, mut bytes) = (Check::default(), 0);
    while let Some((kind, key, value)) = reader.next()? {
        check.record(kind, key, value).map_err(BackupError::Unfit)?;
        each(kind, key, value)?;
        bytes += (key.len() + value.len()) as u64;
        progress(&manifest, bytes);
    }
    let totals = check.finish().map_err(BackupError::Unfit)?;
    if totals != reader.totals() {
        return Err(BackupError::Unfit(
            "it holds other numbers of documents, changes or records than it says".into(),
        ));
    }
    Ok((manifest, totals))
}

/// Rows on their way into the new store.
struct Batch<'a> {
    database: &'a Database,
    name: &'a str,
    transaction: Option<WriteTransaction>,
    /// Written into the transaction so far, in bytes.
    written: usize,
    rows: Vec<(Kind, Vec<u8>, Vec<u8>)>,
    /// What they have, in bytes.
    waiting: usize,
    /// What the record of the signing secret takes, in bytes.
    secret_bytes: u64,
    /// By how many bytes what was written is more than the backup's rows.
    more_bytes: i64,
}

impl Batch<'_> {
    fn add(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Result<(), BackupError> {
        let row = match kind {
            Kind::Secret => {
                self.secret_bytes = (RESTORED_SECRET.len() + value.len()) as u64;
                (Kind::Record(RecordKind::Pin), RESTORED_SECRET.to_vec(), value.to_vec())
            }
            Kind::Record(RecordKind::Pin) if key == RESTORED_SECRET => {
                return Err(BackupError::Unfit(
                    "it was made of a store that was restored and never started".into(),
                ));
            }
            kind => (kind, key.to_vec(), value.to_vec()),
        };
        self.waiting += row.1.len() + row.2.len();
        self.rows.push(row);
        if self.waiting >= INSERT_BYTES || self.rows.len() >= INSERT_ROWS {
            self.insert()?;
            if self.written >= COMMIT_BYTES {
                self.commit()?;
            }
        }
        Ok(())
    }

    fn insert(&mut self) -> Result<(), StoreError> {
        let transaction = match self.transaction.take() {
            Some(transaction) => transaction,
            None => self.database.begin_write().map_err(|source| self.failed(source.into()))?,
        };
        insert(&transaction, &self.rows).map_err(|source| self.failed(source))?;
        self.more_bytes += insert_changes(&transaction, &self.rows, self.name)?;
        self.transaction = Some(transaction);
        self.written += self.waiting;
        self.waiting = 0;
        self.rows.clear();
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.written = 0;
        match self.transaction.take() {
            Some(transaction) => transaction.commit().map_err(|source| self.failed(source.into())),
            None => Ok(()),
        }
    }

    fn failed(&self, source: redb::Error) -> StoreError {
        StoreError::from_redb(BUILD, self.name, source)
    }
}

/// Inserts what is neither a change nor the secret.
fn insert(transaction: &WriteTransaction, rows: &[(Kind, Vec<u8>, Vec<u8>)]) -> Result<(), redb::Error> {
    let mut namespaces = transaction.open_table(schema::NAMESPACES)?;
    let mut heads = transaction.open_table(schema::HEADS)?;
    let mut bin = transaction.open_table(schema::BIN)?;
    let mut tombstones = transaction.open_table(schema::TOMBSTONES)?;
    let mut snapshots = transaction.open_table(schema::SNAPSHOTS)?;
    let mut indexes = transaction.open_table(schema::INDEXES)?;
    let mut sync_states = transaction.open_table(schema::SYNC_STATES)?;
    for (kind, key, value) in rows {
        // Lengths and texts were checked when the row was read.
        let misfit = || redb::Error::Corrupted(format!("a {} does not fit its table", kind.name()));
        match kind {
            Kind::Namespace => {
                let name = std::str::from_utf8(key).map_err(|_| misfit())?;
                let number = value[..].try_into().map(u32::from_be_bytes).map_err(|_| misfit())?;
                namespaces.insert(name, number)?;
            }
            Kind::Head | Kind::Binned | Kind::Tombstone => {
                let key: &schema::DocPrefix = key[..].try_into().map_err(|_| misfit())?;
                let table = match kind {
                    Kind::Head => &mut heads,
                    Kind::Binned => &mut bin,
                    _ => &mut tombstones,
                };
                table.insert(key, &value[..])?;
            }
            Kind::Snapshot => {
                let key: &schema::PartKey = key[..].try_into().map_err(|_| misfit())?;
                snapshots.insert(key, &value[..])?;
            }
            Kind::Index => {
                let key: &schema::PartKey = key[..].try_into().map_err(|_| misfit())?;
                indexes.insert(key, &value[..])?;
            }
            Kind::SyncState => {
                sync_states.insert(&key[..], &value[..])?;
            }
            Kind::Record(kind) => {
                transaction.open_table(schema::records(*kind))?.insert(&key[..], &value[..])?;
            }
            Kind::Change | Kind::Secret => {}
        }
    }
    Ok(())
}

/// Inserts the changes; by how many bytes what was written is more than their rows.
fn insert_changes(
    transaction: &WriteTransaction,
    rows: &[(Kind, Vec<u8>, Vec<u8>)],
    name: &str,
) -> Result<i64, StoreError> {
    let mut table = write::open(transaction, schema::CHANGES)?;
    let mut more = 0;
    for (_, key, value) in rows.iter().filter(|(kind, ..)| *kind == Kind::Change) {
        let misfit =
            || StoreError::Corrupt { object: name.into(), detail: "a change does not fit its table".into() };
        let place: &schema::RowKey = key[..].try_into().map_err(|_| misfit())?;
        let grown = changes::insert(transaction, &mut table, place, value, &|| name.into())?;
        more += grown.ok_or_else(misfit)? - (key.len() + value.len()) as i64;
    }
    Ok(more)
}
