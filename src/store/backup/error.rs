//! What can go wrong with a backup, in words that say what to do.

use std::io;

use crate::store::StoreError;

/// A backup could not be written, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It begins with other bytes.
    #[error(
        "this is not a backup of groundmist-sync: it begins with something else; was another file named?"
    )]
    NotABackup,
    /// Its format is newer than this program.
    #[error(
        "this backup has format {found}, and this version of groundmist-sync reads format {known}: upgrade groundmist-sync first"
    )]
    NewerFormat {
        /// The backup's.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The store in it is newer than this program.
    #[error(
        "this backup was made by groundmist-sync {version}, whose store needs schema {needs}, and this one knows {knows}: upgrade groundmist-sync first"
    )]
    NewerSchema {
        /// Who made it.
        version: String,
        /// Lowest schema a program must know.
        needs: u32,
        /// Highest that this one knows.
        knows: u32,
    },
    /// It ends too early.
    #[error(
        "this backup is cut short: it ends after {bytes} bytes, in the middle; it was not written or copied to its end, so take another"
    )]
    CutShort {
        /// How much of it there is.
        bytes: u64,
    },
    /// Its bytes are not what was written.
    #[error("this backup is damaged near byte {at}: {detail}; copy it again, or take another")]
    Damaged {
        /// Where, in bytes from its beginning.
        at: u64,
        /// What was found.
        detail: &'static str,
    },
    /// Its checksums are right, and yet it is not what a backup holds.
    #[error("this backup cannot be used: {0}; take another")]
    Unfit(String),
    /// A row is larger than is taken.
    #[error(
        "this backup holds a row of {bytes} bytes, more than {limit}: if it comes from a server with a larger limits.message_bytes, set that here too"
    )]
    TooLarge {
        /// The row.
        bytes: u64,
        /// What is taken.
        limit: u64,
    },
    /// Whoever gives the backup's bytes failed.
    #[error("reading the backup failed after {bytes} bytes: {source}")]
    Read {
        /// How much came.
        bytes: u64,
        /// Why no more.
        source: io::Error,
    },
    /// Whoever takes the backup's bytes failed.
    #[error("writing the backup failed: {0}")]
    Write(io::Error),
    /// It was given up for the sake of the server.
    #[error("the backup was given up: {0}")]
    GivenUp(String),
    /// Files of the data directory.
    #[error("{operation} {path} failed: {source}")]
    File {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The store that is backed up or built.
    #[error(transparent)]
    Store(#[from] StoreError),
}
