//! Opening a store: the file and its mode, a new store's first rows, the schema version and migrations.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{ReadTransaction, ReadableTable, StorageBackend, TableHandle, WriteTransaction};

use super::backup::forget_second_names;
use super::database::{Database, Factory};
use super::migrate::{self, Migration};
use super::schema::{self, SCHEMA};
use super::{RecordKind, StoreError};
use crate::directory::{Directory, close_to_others};
use crate::types::StorageId;

/// What a migration leaves of the older store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// A copy of it, beside it.
    Copied,
    /// Nothing: what it was made of is still there.
    Nothing,
}

/// The store's file: where it is, and the descriptor that was checked when the store was opened.
#[derive(Debug, Clone)]
pub(super) struct StoreFile {
    directory: Arc<Directory>,
    name: OsString,
    /// Holds on to the file, so that no other file can get its inode number.
    checked: Arc<File>,
}

impl StoreFile {
    /// Creates the file with its directory entry durable, or closes an existing one to others.
    fn prepare(directory: &Arc<Directory>, name: &OsStr) -> io::Result<Self> {
        let file = match directory.create(name) {
            Ok(file) => {
                directory.sync()?;
                file
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                forget_second_names(directory, name)?;
                let file = directory.open_own_to_write(name)?;
                close_to_others(&file)?;
                file
            }
            Err(error) => return Err(error),
        };
        Ok(Self { directory: directory.clone(), name: name.to_owned(), checked: Arc::new(file) })
    }

    fn path(&self) -> PathBuf {
        self.directory.path_of(&self.name)
    }

    /// Its size and blocks now.
    pub(super) fn metadata(&self) -> io::Result<std::fs::Metadata> {
        self.checked.metadata()
    }

    /// Opens the file once more for redb, which locks what it opens and unlocks it when it closes. The locks belong to the
    /// open file, not to the process, so `checked` neither has nor drops them.
    ///
    /// The name is opened relative to the directory, and what it leads to is checked anew and must be the same file. A file
    /// that vanished or was replaced below an open store is an error: an empty one must not take its place.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        let file = self.directory.open_own_to_write(&self.name)?;
        let (now, checked) = (file.metadata()?, self.checked.metadata()?);
        if (now.dev(), now.ino()) != (checked.dev(), checked.ino()) {
            return Err(io::Error::other("it was replaced by another file while it was open"));
        }
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }

    /// Copies the store to `NAME.vN-backup` beside it, whole or not at all.
    fn keep_copy(&self, version: u32) -> io::Result<()> {
        let beside = |suffix: &str| {
            let mut name = self.name.clone();
            name.push(format!(".v{version}-backup{suffix}"));
            name
        };
        let (unfinished, copy) = (beside(".unfinished"), beside(""));
        let mut target = self.directory.create_anew(&unfinished)?;
        let mut source = &*self.checked;
        let copied = source
            .rewind()
            .and_then(|()| io::copy(&mut source, &mut target))
            .and_then(|_| target.sync_all())
            .and_then(|()| self.directory.rename(&unfinished, &copy));
        if let Err(error) = copied {
            // What is left of it would only fill the disk further.
            let _ = self.directory.remove(&unfinished);
            return Err(error);
        }
        self.directory.sync()?;
        let copy = self.directory.path_of(copy);
        tracing::info!(copy = %copy.display(), version, "kept a copy of the store before migrating it");
        Ok(())
    }
}

/// Opens the file `name` in `directory`, creating it if there is none.
pub(super) fn open_file(
    directory: &Arc<Directory>,
    name: &OsStr,
    cache_bytes: usize,
    migrations: &[Migration],
    before: Before,
) -> Result<(Database, StorageId, StoreFile), StoreError> {
    let path = directory.path_of(name);
    let file = StoreFile::prepare(directory, name).map_err(|source| opening(path.clone(), source))?;
    let factory = || -> Factory {
        let file = file.clone();
        Box::new(move || file.open())
    };
    let name = file.path().display().to_string();
    let mut database = Database::open(factory(), cache_bytes, name.clone())?;
    if before == Before::Copied
        && let Some(version) = version_to_migrate(&database)?
    {
        // Closed while it is copied, so that the copy is of a store that was closed cleanly.
        drop(database);
        file.keep_copy(version)
            .map_err(|source| StoreError::from_io("copying before a migration", name.clone(), source))?;
        database = Database::open(factory(), cache_bytes, name)?;
    }
    let storage_id = initialize(&database, migrations)?;
    Ok((database, storage_id, file))
}

/// Why a store cannot be opened.
pub(super) fn opening(path: PathBuf, source: io::Error) -> StoreError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => StoreError::Permission { path, source },
        _ => StoreError::from_io("opening", path.display().to_string(), source),
    }
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
    transaction.open_table(schema::LARGE_CHANGES)?;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use super::*;
    use crate::store::{Store, StoreOptions};

    #[test]
    fn an_open_store_is_opened_again_only_as_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Arc::new(Directory::open(dir.path()).unwrap());
        let (path, aside) = (dir.path().join("store"), dir.path().join("aside"));
        let store = StoreFile::prepare(&directory, "store".as_ref()).unwrap();
        let error = || store.open().err().map(|error| error.to_string()).unwrap_or_default();
        store.open().unwrap();
        fs::rename(&path, &aside).unwrap();
        store.open().err().filter(|error| error.kind() == io::ErrorKind::NotFound).unwrap();
        assert!(!path.exists(), "an empty store took its place");
        symlink(&aside, &path).unwrap();
        assert!(error().contains("symbolic link"), "{}", error());
        fs::remove_file(&path).unwrap();
        fs::copy(&aside, &path).unwrap();
        assert!(error().contains("replaced"), "{}", error());
        fs::rename(&aside, &path).unwrap();
        store.open().unwrap();
    }

    #[test]
    fn root_opens_no_store_with_a_second_name_but_one_that_a_restore_left() {
        if !rustix::process::geteuid().is_root() {
            return println!("SKIPPED: needs root, to be careful as root");
        }
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        chown(dir.path(), Some(65_534), Some(65_534)).unwrap();
        let [path, left, other] =
            ["store", "store.before-restore-1", "other"].map(|name| dir.path().join(name));
        let open = || Store::open(&path, &StoreOptions { cache_bytes: 1 << 20 });
        drop(open().unwrap());
        assert_eq!(fs::metadata(&path).unwrap().uid(), 65_534);
        fs::hard_link(&path, &left).unwrap();
        drop(open().unwrap());
        assert!(!left.exists());
        for name in [other, elsewhere.path().join("root's")] {
            fs::hard_link(&path, &left).unwrap();
            fs::hard_link(&path, &name).unwrap();
            let refused = open().unwrap_err().to_string();
            assert!(refused.contains("2 names"), "{refused}");
            fs::remove_file(name).unwrap();
        }
        open().unwrap();
    }
}
