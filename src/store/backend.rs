//! The layer between redb and the file: undoes a commit whose fsync failed.
//!
//! After a failed fsync the kernel may call pages clean that are not on the disk, so what is read back proves nothing.
//! redb writes in place nothing but the file's first page; all else goes to pages that the last commit does not
//! use. So putting back the first page as it was at the last good fsync takes the file back to the last commit
//! that was acknowledged.

use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// redb's header lies in the first page of the file.
const HEADER_BYTES: usize = 4096;
/// Length of redb's magic number, at the start of the header.
const MAGIC_BYTES: usize = 9;
/// A file larger than this has been written to since its creation.
const MAX_NEW_FILE_BYTES: u64 = 1 << 20;

/// The header page as written and as last fsynced; outlives one opening of the file.
#[derive(Debug, Default)]
pub(super) struct Header {
    pages: Mutex<Pages>,
    file_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Pages {
    current: Vec<u8>,
    synced: Vec<u8>,
}

impl Header {
    /// Length of the file now, in bytes.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a freshly opened and locked file back to its last fsync, if writes to it were left hanging.
    fn restore(&self, file: &dyn StorageBackend) -> io::Result<()> {
        let mut pages = self.pages();
        forget_unfinished_creation(file)?;
        let length = file.len()?;
        self.file_bytes.store(length, Ordering::Relaxed);
        if pages.synced.is_empty() {
            // Opened for the first time: what is there is what survived.
            let mut page = vec![0; HEADER_BYTES.min(usize::try_from(length).unwrap_or(HEADER_BYTES))];
            file.read(0, &mut page)?;
            if page.len() == HEADER_BYTES {
                pages.synced.clone_from(&page);
            }
            pages.current = page;
        } else if pages.current != pages.synced {
            file.write(0, &pages.synced)?;
            file.sync_data()?;
            pages.current = pages.synced.clone();
        }
        Ok(())
    }

    fn wrote(&self, offset: u64, data: &[u8]) {
        let Ok(start) = usize::try_from(offset) else { return };
        if start >= HEADER_BYTES {
            return;
        }
        let end = HEADER_BYTES.min(start.saturating_add(data.len()));
        let mut pages = self.pages();
        if pages.current.len() < HEADER_BYTES {
            pages.current.resize(HEADER_BYTES, 0);
        }
        pages.current[start..end].copy_from_slice(&data[..end - start]);
    }

    fn synced(&self) {
        let mut pages = self.pages();
        let Pages { current, synced } = &mut *pages;
        synced.clone_from(current);
    }
}

/// Empties a file whose creation a power cut ended: redb writes its magic number last, before any data.
fn forget_unfinished_creation(file: &dyn StorageBackend) -> io::Result<()> {
    let length = file.len()?;
    if length == 0 || length > MAX_NEW_FILE_BYTES {
        return Ok(());
    }
    let mut content = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read(0, &mut content)?;
    let is_zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
    let data = content.get(HEADER_BYTES..).unwrap_or_default();
    if is_zero(&content[..content.len().min(MAGIC_BYTES)]) && is_zero(data) {
        file.set_len(0)?;
        file.sync_data()?;
    }
    Ok(())
}

/// A backend that remembers the header page of the last fsync.
#[derive(Debug)]
pub(super) struct RollbackBackend {
    file: Box<dyn StorageBackend>,
    header: Arc<Header>,
    restored: AtomicBool,
}

impl RollbackBackend {
    /// Nothing is touched before redb has locked the file and asks for its length.
    pub(super) fn new(file: Box<dyn StorageBackend>, header: Arc<Header>) -> Self {
        Self { file, header, restored: AtomicBool::new(false) }
    }
}

impl StorageBackend for RollbackBackend {
    fn len(&self) -> io::Result<u64> {
        if !self.restored.load(Ordering::Acquire) {
            self.header.restore(&*self.file)?;
            self.restored.store(true, Ordering::Release);
        }
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.header.file_bytes.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.header.synced();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // Noted before it is tried: a failed write may have changed part of the page.
        self.header.wrote(offset, data);
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
