//! Everything durable, in one redb file. Blocking calls, safe from any thread.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use crate::directory::Directory;
use crate::types::{ChangeHash, DocKey, DocumentId, Millis, Namespace, StorageId};

mod backend;
pub mod backup;
mod blob;
mod changes;
mod codec;
mod commit;
mod database;
mod dispose;
mod error;
mod migrate;
mod model;
mod open;
mod read;
mod schema;
mod sync_state;
mod tally;
mod write;

pub use backup::{BackupError, LastBackup};
pub use commit::{Commit, CommitError, CommitFuture};
pub use error::StoreError;
pub use model::{
    BIN_LIFE_MS, Disposal, GrowthPoint, Head, Op, Record, RecordKind, Row, SnapshotInfo, StoreOptions,
    StoreStats, Totals,
};
pub use read::Whole;
pub use sync_state::MAX_SYNC_STATES;
pub use tally::GROWTH_DAYS;

use database::Database;
use read::Reader;
use schema::{DocPrefix, doc_prefix};

/// The open store. Reads see the last commit; writes go through [`Store::commit`].
///
/// After an I/O error the file is reopened by the call that met it or by the next one; reading goes on while the
/// disk is full, and commits succeed again as soon as there is room.
pub struct Store {
    database: Database,
    /// `None` on other backends.
    file: Option<open::StoreFile>,
    storage_id: StorageId,
    /// The numbers of durable namespaces: there are few, and every key needs one.
    namespaces: RwLock<BTreeMap<Namespace, u32>>,
}

/// So many live bytes are moved in well under a second on a slow card.
const QUICK_RECLAIM_BYTES: u64 = 4 << 20;

impl Store {
    /// Opens the store at `path` as [`Store::open_in`] does.
    /// # Errors
    /// Its directory cannot be opened, or as there.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let (directory, name) =
            Directory::of_file(path).map_err(|source| open::opening(path.to_owned(), source))?;
        Self::open_in(&Arc::new(directory), name, options)
    }

    /// Opens the store that is the file `name` in `directory`, creating it with mode 0600. An older schema is migrated
    /// after a copy is kept beside the file as `NAME.vN-backup`.
    /// # Errors
    /// When the file is locked, damaged, newer than this program, something else, or not accessible.
    pub fn open_in(
        directory: &Arc<Directory>,
        name: impl AsRef<OsStr>,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        Self::open_keeping(directory, name.as_ref(), options, open::Before::Copied)
    }

    fn open_keeping(
        directory: &Arc<Directory>,
        name: &OsStr,
        options: &StoreOptions,
        before: open::Before,
    ) -> Result<Self, StoreError> {
        let (database, storage_id, file) =
            open::open_file(directory, name, options.cache_bytes, migrate::MIGRATIONS, before)?;
        Self::opened((database, storage_id), Some(file))
    }

    /// As [`Store::open_in`], but makes nothing: `None` if there is no file.
    /// # Errors
    /// When the file is there and cannot be opened, as described there.
    pub fn open_existing(
        directory: &Arc<Directory>,
        name: impl AsRef<OsStr>,
        options: &StoreOptions,
    ) -> Result<Option<Self>, StoreError> {
        match directory.contains(&name) {
            Ok(false) => Ok(None),
            _ => Self::open_in(directory, name, options).map(Some),
        }
    }

    /// On given backends, for tests that break them. `backend` is called again after an I/O error and must give
    /// access to the same bytes; the backend before it is closed by then.
    /// # Errors
    /// As [`Store::open`].
    pub fn open_backend(
        backend: impl Fn() -> io::Result<Box<dyn redb::StorageBackend>> + Send + Sync + 'static,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        let opened = open::open_backend(Box::new(backend), options.cache_bytes, migrate::MIGRATIONS)?;
        Self::opened(opened, None)
    }

    fn opened(
        (database, storage_id): (Database, StorageId),
        file: Option<open::StoreFile>,
    ) -> Result<Self, StoreError> {
        let namespaces =
            database.read("reading the namespaces", |transaction| Reader { transaction }.namespaces())?;
        Ok(Self { database, file, storage_id, namespaces: RwLock::new(namespaces.into_iter().collect()) })
    }

    /// This store's stable storage id, made when the file was created.
    pub fn storage_id(&self) -> &StorageId {
        &self.storage_id
    }

    /// Writes all steps in one transaction and returns after its one fsync.
    /// # Errors
    /// [`StoreError::Order`] when a step does not fit what is stored, or what the disk says. Nothing of `ops` is
    /// stored then.
    pub fn commit(&self, ops: &[Op]) -> Result<(), StoreError> {
        if ops.is_empty() {
            return Ok(());
        }
        let right = self.database.write_right();
        let added = {
            let known = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
            self.database.write(&right, "commit", |transaction| write::apply(transaction, &known, ops))?
        };
        if !added.is_empty() {
            self.namespaces.write().unwrap_or_else(PoisonError::into_inner).extend(added);
        }
        Ok(())
    }

    /// Records in the file which of its pages are free, so that the next start need not walk all of it to find out
    /// after a crash. Costs two fsyncs, nothing if there was no commit since; meant for when the server turns idle.
    /// A clean close does it too.
    /// # Errors
    /// What the disk says; no commit is lost by it.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.database.settle()
    }

    /// A document's head row; also of one that is deleted or purged, as it says.
    /// # Errors
    /// When the row is damaged or cannot be read; so for all that read.
    pub fn head(&self, key: &DocKey) -> Result<Option<Head>, StoreError> {
        self.of_document(key, |reader, prefix| reader.head(key, prefix))
    }

    /// Tail rows in `rows`, ascending: one at a time, so that a caller need not hold all, until `each` says no.
    /// # Errors
    /// As [`Store::head`]; `each` may have been called for some rows.
    pub fn tail(
        &self,
        key: &DocKey,
        rows: Range<u64>,
        each: &mut dyn FnMut(Row) -> bool,
    ) -> Result<(), StoreError> {
        // Goes on behind the last row handed out if the file is reopened meanwhile.
        let mut rest = rows;
        // A panic of the caller's is not damage, which is what one below redb is taken for.
        let mut panic = None;
        let result = self.of_document(key, |reader, prefix| {
            reader.tail(key, prefix, rest.clone(), &mut |row| {
                rest.start = row.row + 1;
                catch_unwind(AssertUnwindSafe(|| each(row))).unwrap_or_else(|caught| {
                    panic = Some(caught);
                    false
                })
            })
        });
        match panic {
            Some(panic) => resume_unwind(panic),
            None => result,
        }
    }

    /// The snapshot's automerge document chunk.
    /// # Errors
    /// As [`Store::head`].
    pub fn snapshot(&self, key: &DocKey) -> Result<Option<Bytes>, StoreError> {
        self.of_document(key, |reader, prefix| reader.snapshot(key, prefix))
    }

    /// The snapshot's index, opaque here.
    /// # Errors
    /// As [`Store::head`].
    pub fn snapshot_index(&self, key: &DocKey) -> Result<Option<Bytes>, StoreError> {
        self.of_document(key, |reader, prefix| reader.snapshot_index(key, prefix))
    }

    /// One consistent view (one read transaction) of a whole document: head, snapshot, tail rows.
    /// # Errors
    /// As [`Store::head`].
    pub fn whole(&self, key: &DocKey) -> Result<Option<Whole>, StoreError> {
        self.of_document(key, |reader, prefix| reader.whole(key, prefix))
    }

    /// Documents of a namespace in id order after `after`, at most `limit`, without deleted ones.
    /// # Errors
    /// As [`Store::head`].
    pub fn documents(
        &self,
        namespace: &Namespace,
        after: Option<DocumentId>,
        limit: usize,
    ) -> Result<Vec<(DocumentId, Head)>, StoreError> {
        let Some(number) = self.number(namespace) else { return Ok(Vec::new()) };
        self.read(|reader| reader.documents(schema::HEADS, namespace, number, after, limit))
    }

    /// The same of those that are deleted and can be restored.
    /// # Errors
    /// As [`Store::head`].
    pub fn deleted(
        &self,
        namespace: &Namespace,
        after: Option<DocumentId>,
        limit: usize,
    ) -> Result<Vec<(DocumentId, Head)>, StoreError> {
        let Some(number) = self.number(namespace) else { return Ok(Vec::new()) };
        self.read(|reader| reader.documents(schema::BIN, namespace, number, after, limit))
    }

    /// The `limit` documents that rank highest, of one namespace or all, kept or deleted. Reads every head row.
    /// # Errors
    /// As [`Store::head`].
    pub fn ranked(
        &self,
        namespace: Option<&Namespace>,
        deleted: bool,
        rank: fn(&Head) -> u64,
        limit: usize,
    ) -> Result<Vec<(DocKey, Head)>, StoreError> {
        let namespaces: Vec<_> = {
            let known = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
            let wanted = known.iter().filter(|(name, _)| namespace.is_none_or(|only| only == *name));
            wanted.map(|(name, number)| (name.clone(), *number)).collect()
        };
        let table = if deleted { schema::BIN } else { schema::HEADS };
        self.read(|reader| reader.ranked(table, &namespaces, rank, limit))
    }

    /// What each namespace holds. Nothing is counted for it.
    /// # Errors
    /// As [`Store::head`].
    pub fn totals(&self) -> Result<Vec<(Namespace, Totals)>, StoreError> {
        let known = self.namespaces.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.read(|reader| {
            let of =
                |(name, number): (&Namespace, &u32)| Ok((name.clone(), reader.namespace_totals(*number)?.0));
            known.iter().map(of).collect()
        })
    }

    /// What each namespace held at the end of the last `days` days (at most [`GROWTH_DAYS`]), by namespace and day. A day
    /// without changes has no point; the first point tells what there was when the time began.
    /// # Errors
    /// As [`Store::head`].
    pub fn growth(&self, days: u32, now: Millis) -> Result<Vec<GrowthPoint>, StoreError> {
        let known = self.namespaces.read().unwrap_or_else(PoisonError::into_inner).clone();
        let today = tally::day_of(now);
        let from = today.saturating_sub(days.clamp(1, GROWTH_DAYS) - 1);
        self.read(|reader| {
            let of = |(name, number): (&Namespace, &u32)| reader.growth(name, *number, (from, today));
            let points: Vec<_> = known.iter().map(of).collect::<Result<_, _>>()?;
            Ok(points.concat())
        })
    }

    /// All namespaces that anything was ever stored in, sorted.
    /// # Errors
    /// None today; the signature leaves room for reading them.
    pub fn namespaces(&self) -> Result<Vec<Namespace>, StoreError> {
        Ok(self.namespaces.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect())
    }

    /// The heads that a peer's storage was last known to share.
    /// # Errors
    /// As [`Store::head`].
    pub fn sync_state(
        &self,
        key: &DocKey,
        storage: &StorageId,
    ) -> Result<Option<Vec<ChangeHash>>, StoreError> {
        self.of_document(key, |reader, prefix| reader.sync_state(key, prefix, storage))
    }

    /// One record's row.
    /// # Errors
    /// As [`Store::head`].
    pub fn record(&self, kind: RecordKind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|reader| reader.record(kind, key))
    }

    /// All records of a kind, key and row, by key. Who writes them bounds their number.
    /// # Errors
    /// As [`Store::head`].
    pub fn records(&self, kind: RecordKind) -> Result<Vec<Record>, StoreError> {
        self.read(|reader| reader.records(kind))
    }

    /// Sizes; cheap at any number of documents. Deleted ones do not count as documents, but their bytes are live.
    /// # Errors
    /// As [`Store::head`].
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let (documents, live_bytes) = self.read(|reader| reader.totals())?;
        let file_bytes = self.file_bytes()?;
        Ok(StoreStats { documents, file_bytes, dead_bytes: file_bytes.saturating_sub(live_bytes) })
    }

    /// Gives dead space back to the file system (blocking; no other transaction may be open). True if anything moved.
    /// # Errors
    /// When a transaction is open, or what the disk says; no commit is lost by it.
    pub fn reclaim(&mut self) -> Result<bool, StoreError> {
        self.database.compact("reclaiming space")
    }

    /// [`Store::reclaim`] while others use the store, if it is worth it and what is live is so little that nobody waits
    /// long. True if anything moved.
    /// # Errors
    /// As there; also when a read is under way: try again later.
    pub fn reclaim_if_quick(&self) -> Result<bool, StoreError> {
        let stats = self.stats()?;
        let live_bytes = stats.file_bytes - stats.dead_bytes;
        if !stats.is_worth_reclaiming() || live_bytes > QUICK_RECLAIM_BYTES {
            return Ok(false);
        }
        let moved = self.database.compact_now("reclaiming space")?;
        self.settle()?;
        Ok(moved)
    }

    /// What the file takes on the disk: redb doubles a file that is full, and the new half is a hole until it is used.
    fn file_bytes(&self) -> Result<u64, StoreError> {
        const BLOCK_BYTES: u64 = 512; // the unit of st_blocks, whatever the file system's own
        match &self.file {
            None => Ok(self.database.file_bytes()),
            Some(file) => file
                .metadata()
                .map(|metadata| metadata.len().min(metadata.blocks() * BLOCK_BYTES))
                .map_err(|source| StoreError::from_io("measuring", self.database.name(), source)),
        }
    }

    fn number(&self, namespace: &Namespace) -> Option<u32> {
        self.namespaces.read().unwrap_or_else(PoisonError::into_inner).get(namespace).copied()
    }

    fn read<T>(&self, mut run: impl FnMut(&Reader<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.database.read("reading", |transaction| run(&Reader { transaction }))
    }

    /// Reads of a document; one in a namespace that nothing was stored in has nothing.
    fn of_document<T: Default>(
        &self,
        key: &DocKey,
        mut run: impl FnMut(&Reader<'_>, &DocPrefix) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(number) = self.number(&key.namespace) else { return Ok(T::default()) };
        let prefix = doc_prefix(number, key.document);
        self.read(|reader| run(reader, &prefix)).map_err(|error| match error {
            StoreError::Corrupt { object, detail } if object == self.database.name() => StoreError::Corrupt {
                object: format!("document {} in {}", key.document, key.namespace),
                detail,
            },
            error => error,
        })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("file", &self.database.name()).finish_non_exhaustive()
    }
}
