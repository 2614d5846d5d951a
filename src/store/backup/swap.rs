//! Puts a restored store in the old one's place: at any moment there is one or the other, never none.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::{BackupError, stamp};
use crate::directory::Directory;
use crate::store::{RecordKind, Store, StoreError, StoreOptions};
use crate::types::Millis;

/// What the names of stores that were replaced begin with, behind the store's own.
const KEPT: &str = "before-restore-";
/// What the name of a store that is being built ends in, behind the one that it is to have.
const NEW: &str = "restoring";

/// A data directory's store, held so that no server starts on it meanwhile.
pub struct Place {
    directory: Arc<Directory>,
    store: OsString,
    new: OsString,
    old: Option<Result<Store, StoreError>>,
    /// Keeps a second restore out.
    _lock: File,
}

/// What is there that somebody could miss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Documents, also deleted ones that can be restored.
    pub documents: u64,
    /// Apps that were decided on, and sessions.
    pub people: u64,
    /// When a document last changed, or was deleted or restored.
    pub last_change: Option<Millis>,
}

impl Contents {
    /// Nothing would be missed.
    pub fn is_empty(&self) -> bool {
        self.documents + self.people == 0
    }
}

impl Place {
    /// Takes hold of the store `name`, or of the place where there is none, and clears away what an earlier restore left.
    /// # Errors
    /// [`StoreError::Locked`] while a server, or another restore, uses it; or what the system says.
    pub fn take(directory: Arc<Directory>, name: &str, options: &StoreOptions) -> Result<Self, BackupError> {
        let failed = |operation, source| file(operation, &directory, None, source);
        let lock = directory.readable().map_err(|source| failed("opening", source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let object = directory.path_of(name).display().to_string();
                return Err(StoreError::Locked { object }.into());
            }
            Err(TryLockError::Error(source)) => return Err(failed("locking", source)),
        }
        let old = match Store::open_existing(&directory, name, options) {
            Err(error @ (StoreError::Locked { .. } | StoreError::Permission { .. })) => {
                return Err(error.into());
            }
            Ok(None) => None,
            Ok(Some(store)) => Some(Ok(store)),
            // It cannot be used, and that may be why this is restored.
            Err(error) => Some(Err(error)),
        };
        let (store, new) = (OsString::from(name), beside(name.as_ref(), NEW));
        directory.remove(&new).map_err(|source| file("removing", &directory, Some(&new), source))?;
        Ok(Self { directory, store, new, old, _lock: lock })
    }

    /// What is there now.
    /// # Errors
    /// It cannot be read: damaged, newer than this program, or something else.
    pub fn contents(&self) -> Result<Contents, &StoreError> {
        match &self.old {
            None => Ok(Contents::default()),
            Some(Ok(store)) => {
                Ok(contents(store).unwrap_or(Contents { documents: 1, ..Contents::default() }))
            }
            Some(Err(error)) => Err(error),
        }
    }

    /// Where the new store is built: the directory, and the name there.
    pub fn new_store(&self) -> (&Arc<Directory>, &OsStr) {
        (&self.directory, &self.new)
    }

    /// Puts what was built in place. Where the old store is kept.
    /// # Errors
    /// The old store is still in place then.
    pub fn swap(self, now: Millis) -> Result<Option<PathBuf>, BackupError> {
        let Self { directory, store, new, old, _lock } = &self;
        let failed = |operation, name: &OsStr, source| file(operation, directory, Some(name), source);
        let kept = match old {
            None => {
                // Fails if somebody made a store there meanwhile.
                directory
                    .rename_new(new, store)
                    .map_err(|source| failed("putting the restored store at", store, source))?;
                None
            }
            Some(_) => {
                let kept = beside(store, &format!("{KEPT}{}", stamp(now)));
                // A second name first: the rename then takes away only the first.
                directory
                    .link(store, &kept)
                    .map_err(|source| failed("keeping the old store as", &kept, source))?;
                directory
                    .rename(new, store)
                    .map_err(|source| failed("putting the restored store at", store, source))?;
                Some(directory.path_of(kept))
            }
        };
        directory.sync().map_err(|source| failed("syncing the directory of", store, source))?;
        Ok(kept)
    }

    /// Removes what was built.
    pub fn give_up(self) {
        let _ = self.directory.remove(&self.new);
    }
}

fn contents(store: &Store) -> Result<Contents, StoreError> {
    let mut contents = Contents::default();
    for kind in [RecordKind::Grant, RecordKind::Session] {
        contents.people += store.records(kind)?.len() as u64;
    }
    // What is in the bin would be missed too.
    for (_, totals) in store.totals()? {
        contents.documents += totals.documents + totals.deleted;
        contents.last_change = contents.last_change.max(Some(totals.modified).filter(|at| *at > 0));
    }
    Ok(contents)
}

/// Takes away the second name that a restore gives the old store, and that stays if it is killed before its next step. The
/// owner would take the store that is in use for an old one, and root opens no file with two names.
pub(in crate::store) fn forget_second_names(directory: &Directory, store: &OsStr) -> io::Result<()> {
    let in_use = match directory.stat(store) {
        Ok(in_use) if in_use.st_nlink > 1 => in_use,
        _ => return Ok(()),
    };
    let begins = beside(store, KEPT);
    for entry in directory.entries()? {
        let (name, _) = entry?;
        if !name.as_encoded_bytes().starts_with(begins.as_encoded_bytes()) {
            continue;
        }
        let other = directory.stat(&name)?;
        if (other.st_dev, other.st_ino) == (in_use.st_dev, in_use.st_ino) {
            directory.remove(&name)?;
        }
    }
    Ok(())
}

fn beside(name: &OsStr, suffix: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(".");
    name.push(suffix);
    name
}

fn file(
    operation: &'static str,
    directory: &Directory,
    name: Option<&OsStr>,
    source: io::Error,
) -> BackupError {
    let path = name.map_or_else(|| directory.path().to_owned(), |name| directory.path_of(name));
    BackupError::File { operation, path: path.display().to_string(), source }
}
