//! What is in a directory that somebody else made: by name, not too much of it, links as links.

use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

/// Most entries of one directory that are looked at. A tree of 100,000 documents has some 30 in each.
const MAX_ENTRIES: usize = 1_000_000;

pub(super) struct Entry {
    pub(super) path: PathBuf,
    /// Of itself: a link is a link.
    pub(super) kind: FileType,
}

impl Entry {
    /// `None` if it is no UTF-8.
    pub(super) fn name(&self) -> Option<&str> {
        self.path.file_name().and_then(std::ffi::OsStr::to_str)
    }
}

/// A directory's entries by name.
pub(super) fn entries(path: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entries.len() == MAX_ENTRIES {
            return Err(io::Error::other(format!("it has more than {MAX_ENTRIES} entries")));
        }
        entries.push(Entry { path: entry.path(), kind: entry.file_type()? });
    }
    entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(entries)
}
