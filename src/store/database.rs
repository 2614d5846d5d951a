//! The open redb database: shared by readers and the writer, and reopened after an I/O error.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::{Builder, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction};

use super::StoreError;
use super::backend::{Header, RollbackBackend};

/// Opens the file below redb; called again after an I/O error.
pub(super) type Factory = Box<dyn Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync>;

/// The right to write and to reopen; one at a time.
pub(super) type WriteRight<'a> = MutexGuard<'a, ()>;

pub(super) struct Database {
    /// `None` while it could not be reopened.
    slot: RwLock<Slot>,
    writer: Mutex<()>,
    factory: Factory,
    cache_bytes: usize,
    header: Arc<Header>,
    /// Set while the file does not say which of its pages are free.
    unsettled: Arc<AtomicBool>,
    /// How errors call the file.
    name: String,
}

struct Slot {
    database: Option<redb::Database>,
    /// How often it was opened; tells whether someone else has reopened it already.
    opened: u64,
}

impl Database {
    pub(super) fn open(factory: Factory, cache_bytes: usize, name: String) -> Result<Self, StoreError> {
        let database = Self {
            slot: RwLock::new(Slot { database: None, opened: 0 }),
            writer: Mutex::new(()),
            factory,
            cache_bytes,
            header: Arc::default(),
            unsettled: Arc::default(),
            name,
        };
        database.reopen(&database.write_right(), 0)?;
        Ok(database)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Length of the file in bytes.
    pub(super) fn file_bytes(&self) -> u64 {
        self.header.file_bytes()
    }

    /// Runs `read` in a read transaction, and once more if the file had to be reopened below it.
    /// `read` returns `Reopening` only while running it again from its start is harmless.
    pub(super) fn read<T>(
        &self,
        operation: &'static str,
        mut read: impl FnMut(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (opened, first) = self.try_read(operation, &mut read);
        match first {
            Err(error) if error.breaks_database() => {
                self.reopen(&self.write_right(), opened)?;
                self.try_read(operation, &mut read).1
            }
            done => done,
        }
    }

    /// Runs `read` in a read transaction, and never again: for what cannot begin anew.
    pub(super) fn read_once<T>(
        &self,
        operation: &'static str,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut read = Some(read);
        let once = &mut |transaction: &ReadTransaction| match read.take() {
            Some(read) => read(transaction),
            None => Err(self.reopening(operation)),
        };
        self.try_read(operation, once).1
    }

    fn try_read<T>(
        &self,
        operation: &'static str,
        read: &mut impl FnMut(&ReadTransaction) -> Result<T, StoreError>,
    ) -> (u64, Result<T, StoreError>) {
        let (opened, transaction) = {
            let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
            let Some(database) = &slot.database else {
                return (slot.opened, Err(self.reopening(operation)));
            };
            (slot.opened, database.begin_read())
        };
        let result = match transaction {
            Ok(transaction) => self.shielded(|| read(&transaction)).unwrap_or_else(Err),
            Err(source) => Err(StoreError::from_redb(operation, &self.name, source)),
        };
        (opened, result)
    }

    pub(super) fn write_right(&self) -> WriteRight<'_> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `write` in a write transaction and commits it with an fsync; on any error nothing of it stays.
    /// After an I/O error the file is reopened, so that reading goes on.
    pub(super) fn write<T>(
        &self,
        right: &WriteRight<'_>,
        operation: &'static str,
        write: impl FnOnce(&mut WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut opened = self.opened();
        let mut transaction = self.begin_write(operation);
        if let Err(error) = &transaction
            && error.breaks_database()
        {
            opened = self.reopen(right, opened)?;
            transaction = self.begin_write(operation);
        }
        let mut transaction = transaction?;
        let run = || match write(&mut transaction) {
            Ok(value) => match transaction.commit() {
                Ok(()) => {
                    self.unsettled.store(true, Ordering::Relaxed);
                    (Ok(value), false)
                }
                // redb takes no more writes after any failed commit.
                Err(source) => (Err(StoreError::from_redb(operation, &self.name, source)), true),
            },
            Err(error) => {
                let aborted = transaction.abort().is_ok();
                let broken = error.breaks_database() || !aborted;
                (Err(error), broken)
            }
        };
        let (result, broken) = self.shielded(run).unwrap_or_else(|error| (Err(error), true));
        if broken && let Err(error) = self.reopen(right, opened) {
            tracing::warn!(%error, "the store could not be reopened; the next operation tries again");
        }
        result
    }

    /// Records the free pages in the file, if there was a commit since that was last done.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let right = self.write_right();
        if self.unsettled.load(Ordering::Relaxed) {
            self.write(&right, "recording free pages", |transaction| {
                transaction.set_quick_repair(true);
                Ok(())
            })?;
            self.unsettled.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Moves what is live to the front of the file and cuts off the rest; true if anything moved.
    pub(super) fn compact(&mut self, operation: &'static str) -> Result<bool, StoreError> {
        let name = &self.name;
        let slot = self.slot.get_mut().unwrap_or_else(PoisonError::into_inner);
        let opened = slot.opened;
        let result = match &mut slot.database {
            Some(database) => catch_unwind(AssertUnwindSafe(|| database.compact()))
                .map_err(|_| damaged(name))
                .and_then(|moved| moved.map_err(|source| StoreError::from_redb(operation, name, source))),
            None => Err(StoreError::Reopening { operation, object: name.clone() }),
        };
        // A commit would make the file grow again; closing records the free pages without that.
        self.reopen(&self.write_right(), opened)?;
        result
    }

    /// As [`Database::compact`], beside readers: they wait meanwhile, and one at work makes it fail without harm.
    pub(super) fn compact_now(&self, operation: &'static str) -> Result<bool, StoreError> {
        let _right = self.write_right();
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &mut slot.database else { return Err(self.reopening(operation)) };
        self.unsettled.store(true, Ordering::Relaxed);
        catch_unwind(AssertUnwindSafe(|| database.compact()))
            .map_err(|_| damaged(&self.name))?
            .map_err(|source| StoreError::from_redb(operation, &self.name, source))
    }

    /// Turns a panic of redb, which a page changed from outside can cause, into an error.
    fn shielded<T>(&self, run: impl FnOnce() -> T) -> Result<T, StoreError> {
        catch_unwind(AssertUnwindSafe(run)).map_err(|_| damaged(&self.name))
    }

    fn opened(&self) -> u64 {
        self.slot.read().unwrap_or_else(PoisonError::into_inner).opened
    }

    fn begin_write(&self, operation: &'static str) -> Result<WriteTransaction, StoreError> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &slot.database else { return Err(self.reopening(operation)) };
        database.begin_write().map_err(|source| StoreError::from_redb(operation, &self.name, source))
    }

    fn reopening(&self, operation: &'static str) -> StoreError {
        StoreError::Reopening { operation, object: self.name.clone() }
    }

    /// Closes and opens the file again unless that has happened since `seen`; returns the new count.
    /// The write right keeps a write transaction from being open, which would hold the file's lock.
    fn reopen(&self, _right: &WriteRight<'_>, seen: u64) -> Result<u64, StoreError> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if slot.opened != seen && slot.database.is_some() {
            return Ok(slot.opened);
        }
        // Read transactions still running fail with `Reopening` from here on.
        let old = slot.database.take();
        let _ = self.shielded(|| drop(old));
        slot.database = Some(self.open_redb()?);
        slot.opened += 1;
        Ok(slot.opened)
    }

    fn open_redb(&self) -> Result<redb::Database, StoreError> {
        const OPEN: &str = "opening";
        let name = &self.name;
        let file = (self.factory)().map_err(|source| StoreError::from_io(OPEN, name, source))?;
        let backend = RollbackBackend::new(file, self.header.clone());
        let (unsettled, repaired) = (self.unsettled.clone(), name.clone());
        // After a clean close the free pages are recorded; a repair finds them by walking the file.
        unsettled.store(false, Ordering::Relaxed);
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes).set_repair_callback(move |_| {
            if !unsettled.swap(true, Ordering::Relaxed) {
                tracing::info!(store = %repaired, "the store was not closed cleanly; looking through it");
            }
        });
        // redb promises an error for a torn file, but not for one that was changed from outside.
        let opened = self.shielded(|| builder.create_with_backend(backend))?;
        opened.map_err(|source| match source {
            redb::DatabaseError::Storage(redb::StorageError::Io(source))
                if source.kind() == io::ErrorKind::InvalidData =>
            {
                StoreError::NotAStore { object: name.clone() }
            }
            source => StoreError::from_redb(OPEN, name, source),
        })
    }
}

fn damaged(name: &str) -> StoreError {
    StoreError::Corrupt {
        object: name.to_owned(),
        detail: "redb cannot make sense of one of its pages".into(),
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let slot = self.slot.get_mut().unwrap_or_else(PoisonError::into_inner);
        let database = slot.database.take();
        // Closing writes, and can fail or panic like any write; the file is then repaired when it is opened.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }
}
