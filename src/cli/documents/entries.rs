//! What is in a directory that somebody else made: by name, not too much of it, links as links.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FileType;

use crate::directory::Directory;

/// Most entries of one directory that are looked at. A tree of 100,000 documents has some 30 in each.
const MAX_ENTRIES: usize = 1_000_000;

pub(super) struct Entry {
    /// What it is in: what is at its name by then is opened relative to this.
    pub(super) directory: Arc<Directory>,
    pub(super) name: OsString,
    is_dir: bool,
}

impl Entry {
    /// `None` if it is no UTF-8.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.to_str()
    }

    /// To be shown.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path_of(&self.name)
    }

    /// True for a directory; a link to one is a link.
    pub(super) fn is_dir(&self) -> bool {
        self.is_dir
    }

    /// The entries of the entry itself, if it is a directory.
    pub(super) fn entries(&self) -> io::Result<Vec<Entry>> {
        entries(&Arc::new(self.directory.directory(&self.name)?))
    }
}

/// A directory's entries by name.
pub(super) fn entries(directory: &Arc<Directory>) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in directory.entries()? {
        let (name, told) = entry?;
        if entries.len() == MAX_ENTRIES {
            return Err(io::Error::other(format!("it has more than {MAX_ENTRIES} entries")));
        }
        let is_dir = directory.kind(&name, told)? == FileType::Directory;
        entries.push(Entry { directory: directory.clone(), name, is_dir });
    }
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}
