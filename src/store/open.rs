//! Opening a store: the file and its mode, a new store's first rows, the schema version and migrations.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{ReadTransaction, ReadableTable, StorageBackend, TableHandle, WriteTransaction};

use super::database::{Database, Factory};
use super::migrate::{self, Migration};
use super::schema::{self, SCHEMA};
use super::{RecordKind, StoreError, close_to_others, create_anew, open_own, own_like_directory};
use crate::types::StorageId;

/// Owner only: the file holds session rows and what the owner writes.
const FILE_MODE: u32 = 0o600;

/// What a migration leaves of the older store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// A copy of it, beside it.
    Copied,
    /// Nothing: what it was made of is still there.
    Nothing,
}

/// Opens the file at `path`, creating it if there is none.
pub(super) fn open_file(
    path: &Path,
    cache_bytes: usize,
    migrations: &[Migration],
    before: Before,
) -> Result<(Database, StorageId), StoreError> {
    prepare_file(path).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => StoreError::Permission { path: path.to_owned(), source },
        _ => StoreError::from_io("opening", path.display().to_string(), source),
    })?;
    let factory = {
        let path = path.to_owned();
        move || -> Factory {
            let path = path.clone();
            // Never creates: a file that vanished below a running server must not become an empty one.
            Box::new(move || {
                let file = OpenOptions::new().read(true).write(true).open(&path)?;
                let backend = FileBackend::new(file).map_err(io::Error::other)?;
                Ok(Box::new(backend) as Box<dyn StorageBackend>)
            })
        }
    };
    let name = path.display().to_string();
    let mut database = Database::open(factory(), cache_bytes, name.clone())?;
    if before == Before::Copied
        && let Some(version) = version_to_migrate(&database)?
    {
        // Closed while it is copied: closing a second handle on a file could drop redb's lock on it.
        drop(database);
        keep_copy(path, version)
            .map_err(|source| StoreError::from_io("copying before a migration", name.clone(), source))?;
        database = Database::open(factory(), cache_bytes, name)?;
    }
    let storage_id = initialize(&database, migrations)?;
    Ok((database, storage_id))
}

/// Opens a store on another backend; a migration keeps no copy there.
pub(super) fn open_backend(
    factory: Factory,
    cache_bytes: usize,
    migrations: &[Migration],
) -> Result<(Database, StorageId), StoreError> {
    let database = Database::open(factory, cache_bytes, "the store".into())?;
    let storage_id = initialize(&database, migrations)?;
    Ok((database, storage_id))
}

/// Creates the file with its directory entry durable, or narrows the mode of an existing one.
fn prepare_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path) {
        Ok(_) => sync_directory(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            close_to_others(&open_own(path)?, FILE_MODE).map(drop)
        }
        Err(error) => Err(error),
    }
}

/// Makes a file for a store where there is none, open to its owner only.
pub(super) fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Has the directory entry of `path` on the disk.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Copies the store to `NAME.vN-backup` beside it, whole or not at all.
fn keep_copy(path: &Path, version: u32) -> io::Result<()> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".v{version}-backup{suffix}"));
        PathBuf::from(name)
    };
    let (unfinished, copy) = (beside(".unfinished"), beside(""));
    let mut target = create_anew(&unfinished)?;
    let copied = io::copy(&mut File::open(path)?, &mut target)
        .and_then(|_| target.sync_all())
        .and_then(|()| own_like_directory(&unfinished));
    if let Err(error) = copied {
        // What is left of it would only fill the disk further.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    fs::rename(&unfinished, &copy)?;
    sync_directory(path)?;
    tracing::info!(copy = %copy.display(), version, "kept a copy of the store before migrating it");
    Ok(())
}

enum State {
    New,
    Version(u32),
}

fn version_to_migrate(database: &Database) -> Result<Option<u32>, StoreError> {
    match database.read("reading the schema version", |transaction| state(database, transaction))? {
        State::Version(version) if version < SCHEMA => Ok(Some(version)),
        _ => Ok(None),
    }
}

fn state(database: &Database, transaction: &ReadTransaction) -> Result<State, StoreError> {
    let object = || database.name().to_owned();
    let failed = |source: redb::Error| StoreError::from_redb("reading the schema version", object(), source);
    let tables: Vec<_> = transaction.list_tables().map_err(|source| failed(source.into()))?.collect();
    if tables.is_empty() {
        return Ok(State::New);
    }
    if !tables.iter().any(|table| table.name() == schema::META.name()) {
        return Err(StoreError::NotAStore { object: object() });
    }
    let meta = transaction.open_table(schema::META).map_err(|source| match source {
        redb::TableError::Storage(source) => failed(source.into()),
        _ => StoreError::NotAStore { object: object() },
    })?;
    let number = |name: &str| -> Result<Option<u32>, StoreError> {
        let row = ReadableTable::get(&meta, name).map_err(|source| failed(source.into()))?;
        row.map(|row| row.value().try_into().map(u32::from_be_bytes))
            .transpose()
            .map_err(|_| StoreError::Corrupt { object: object(), detail: format!("{name} is not a number") })
    };
    let Some(version) = number(schema::META_SCHEMA)? else {
        return Err(StoreError::NotAStore { object: object() });
    };
    let needs = number(schema::META_NEEDS)?.unwrap_or(version);
    if version > SCHEMA && needs > SCHEMA {
        return Err(StoreError::Newer { object: object(), needs, knows: SCHEMA });
    }
    Ok(State::Version(version))
}

/// Makes a new store, or migrates an older one, in one transaction; returns the storage id.
fn initialize(database: &Database, migrations: &[Migration]) -> Result<StorageId, StoreError> {
    const OPERATION: &str = "preparing the store";
    let state = database.read(OPERATION, |transaction| state(database, transaction))?;
    let right = database.write_right();
    match state {
        State::New => database.write(&right, OPERATION, |transaction| {
            create_tables(transaction)
                .map_err(|source| StoreError::from_redb(OPERATION, database.name(), source))?;
            let id = new_storage_id()
                .map_err(|source| StoreError::from_io("making a storage id", database.name(), source))?;
            let rows: [(&str, &[u8]); 4] = [
                (schema::META_SCHEMA, &SCHEMA.to_be_bytes()),
                (schema::META_NEEDS, &SCHEMA.to_be_bytes()),
                (schema::META_STORAGE_ID, id.as_bytes()),
                (schema::META_LIVE_BYTES, &0u64.to_be_bytes()),
            ];
            migrate::put_meta(transaction, &rows)
        })?,
        State::Version(version) if version < SCHEMA => {
            database.write(&right, OPERATION, |transaction| {
                create_tables(transaction)
                    .map_err(|source| StoreError::from_redb(OPERATION, database.name(), source))?;
                migrate::run(transaction, migrations, version)
            })?;
            tracing::info!(from = version, to = SCHEMA, "migrated the store");
        }
        State::Version(_) => {}
    }
    drop(right);
    database.read(OPERATION, |transaction| {
        let failed = |source: redb::Error| StoreError::from_redb(OPERATION, "table meta", source);
        let meta = transaction.open_table(schema::META).map_err(|source| failed(source.into()))?;
        let row =
            ReadableTable::get(&meta, schema::META_STORAGE_ID).map_err(|source| failed(source.into()))?;
        let text = row.as_ref().and_then(|row| std::str::from_utf8(row.value()).ok());
        text.and_then(|text| text.parse().ok()).ok_or_else(|| StoreError::Corrupt {
            object: "table meta".into(),
            detail: "it holds no storage id".into(),
        })
    })
}

pub(super) fn create_tables(transaction: &WriteTransaction) -> Result<(), redb::TableError> {
    transaction.open_table(schema::META)?;
    transaction.open_table(schema::NAMESPACES)?;
    transaction.open_table(schema::HEADS)?;
    transaction.open_table(schema::BIN)?;
    transaction.open_table(schema::TOMBSTONES)?;
    transaction.open_table(schema::CHANGES)?;
    transaction.open_table(schema::SNAPSHOTS)?;
    transaction.open_table(schema::INDEXES)?;
    transaction.open_table(schema::SYNC_STATES)?;
    for kind in RecordKind::ALL {
        transaction.open_table(schema::records(kind))?;
    }
    Ok(())
}

/// A random UUID (version 4), the form that automerge-repo's storage ids have.
fn new_storage_id() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
