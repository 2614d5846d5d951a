//! Puts a restored store in the old one's place: at any moment there is one or the other, never none.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{BackupError, stamp};
use crate::store::open::sync_directory;
use crate::store::{RecordKind, Store, StoreError, StoreOptions, own_like_directory};
use crate::types::Millis;

/// What the names of stores that were replaced begin with, behind the store's own.
const KEPT: &str = "before-restore-";

/// A data directory's store, held so that no server starts on it meanwhile.
pub struct Place {
    store: PathBuf,
    new: PathBuf,
    old: Option<Result<Store, StoreError>>,
    /// Keeps a second restore out.
    _directory: File,
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
    /// Takes hold of the store at `path`, or of the place where there is none, and clears away what an earlier restore left.
    /// # Errors
    /// [`StoreError::Locked`] while a server, or another restore, uses it; or what the system says.
    pub fn take(path: &Path, options: &StoreOptions) -> Result<Self, BackupError> {
        let parent = path.parent().unwrap_or(Path::new("."));
        let directory = File::open(parent).map_err(|source| file("opening", parent, source))?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { object: path.display().to_string() }.into());
            }
            Err(fs::TryLockError::Error(source)) => return Err(file("locking", parent, source)),
        }
        let old = match Store::open_existing(path, options) {
            Err(error @ (StoreError::Locked { .. } | StoreError::Permission { .. })) => {
                return Err(error.into());
            }
            Ok(None) => None,
            Ok(Some(store)) => Some(Ok(store)),
            // It cannot be used, and that may be why this is restored.
            Err(error) => Some(Err(error)),
        };
        let new = beside(path, "restoring");
        match fs::remove_file(&new) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(file("removing", &new, source));
            }
            _ => {}
        }
        forget_second_names(path).map_err(|source| file("looking at what is beside", path, source))?;
        Ok(Self { store: path.into(), new, old, _directory: directory })
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

    /// Where the new store is built.
    pub fn new_path(&self) -> &Path {
        &self.new
    }

    /// Puts what was built in place, and gives it to whoever the data directory belongs to. Where the old store is kept.
    /// # Errors
    /// The old store is still in place then.
    pub fn swap(self, now: Millis) -> Result<Option<PathBuf>, BackupError> {
        own_like_directory(&self.new).map_err(|source| file("changing the owner of", &self.new, source))?;
        let kept = match self.old {
            None => {
                // Fails if somebody made a store there meanwhile.
                fs::hard_link(&self.new, &self.store)
                    .map_err(|source| file("putting the restored store at", &self.store, source))?;
                let _ = fs::remove_file(&self.new);
                None
            }
            Some(_) => {
                let kept = beside(&self.store, &format!("{KEPT}{}", stamp(now)));
                // A second name first: the rename then takes away only the first.
                fs::hard_link(&self.store, &kept)
                    .map_err(|source| file("keeping the old store as", &kept, source))?;
                fs::rename(&self.new, &self.store)
                    .map_err(|source| file("putting the restored store at", &self.store, source))?;
                Some(kept)
            }
        };
        sync_directory(&self.store)
            .map_err(|source| file("syncing the directory of", &self.store, source))?;
        Ok(kept)
    }

    /// Removes what was built.
    pub fn give_up(self) {
        let _ = fs::remove_file(&self.new);
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

/// A restore that was killed just before it replaced the store had given it a name as if it had been replaced: the owner would
/// take the store that is in use for an old one.
fn forget_second_names(store: &Path) -> io::Result<()> {
    let (Ok(in_use), Some(directory)) = (fs::symlink_metadata(store), store.parent()) else { return Ok(()) };
    let kept = beside(store, KEPT);
    let begins = kept.file_name().unwrap_or_default().as_encoded_bytes();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Of the entry itself: it follows no link.
        let other = entry.metadata()?;
        let same = (other.dev(), other.ino()) == (in_use.dev(), in_use.ino());
        if same && entry.file_name().as_encoded_bytes().starts_with(begins) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn file(operation: &'static str, path: &Path, source: io::Error) -> BackupError {
    BackupError::File { operation, path: path.display().to_string(), source }
}
