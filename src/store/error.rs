//! What can go wrong in the store, in words that say what to do.

use std::io;
use std::path::PathBuf;

/// An operation on the store failed; the text carries operation and object.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room on the file system. Nothing of the operation was kept.
    #[error("{operation} failed for {object}: the disk is full; free some space, no restart is needed")]
    DiskFull {
        /// What was being done.
        operation: &'static str,
        /// To what.
        object: String,
    },
    /// The disk or file system refused. Nothing of the operation was kept.
    #[error("{operation} failed for {object}: {source}; check the disk and the system log")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To what.
        object: String,
        /// The system's error.
        source: io::Error,
    },
    /// An earlier I/O error closed the file and it could not be read again yet; the next operation retries.
    #[error("{operation} failed for {object}: the store is being reopened after an I/O error; try again")]
    Reopening {
        /// What was being done.
        operation: &'static str,
        /// To what.
        object: String,
    },
    /// Stored bytes are not what this program wrote.
    #[error("{object} is damaged: {detail}; restore it from a backup")]
    Corrupt {
        /// The table and document, or the file.
        object: String,
        /// What was found.
        detail: String,
    },
    /// Another process has the file open.
    #[error(
        "{object} is in use by another process: is another groundmist-sync running on this data directory?"
    )]
    Locked {
        /// The file.
        object: String,
    },
    /// The file was written by a newer version.
    #[error(
        "{object} was written by a newer version of groundmist-sync: it needs one that knows at least store \
         schema {needs}, and this one knows {knows}; upgrade, or restore an older backup"
    )]
    Newer {
        /// The file.
        object: String,
        /// Lowest schema version a program must know to open the file.
        needs: u32,
        /// Highest schema version this program knows.
        knows: u32,
    },
    /// The file exists and is something else.
    #[error("{object} is not a groundmist-sync store; move it away, or choose another data directory")]
    NotAStore {
        /// The file.
        object: String,
    },
    /// The file or its directory may not be used.
    #[error("no permission to open {}: {source}; check its owner and the user this runs as", path.display())]
    Permission {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The steps of a commit do not fit what is stored. Nothing was written; a mistake of the caller.
    #[error("commit refused for {object}: {detail}")]
    Order {
        /// The document.
        object: String,
        /// What does not fit.
        detail: String,
    },
    /// One object is larger than the store takes.
    #[error("{object} has {bytes} bytes; the store takes at most {limit}")]
    TooLarge {
        /// The object.
        object: String,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// redb refused for a reason that should not arise.
    #[error("{operation} failed for {object}: {source}")]
    Redb {
        /// What was being done.
        operation: &'static str,
        /// To what.
        object: String,
        /// redb's own error.
        source: Box<redb::Error>,
    },
}

impl StoreError {
    /// Sorts redb's error by what the user can do about it.
    pub(super) fn from_redb(
        operation: &'static str,
        object: impl Into<String>,
        source: impl Into<redb::Error>,
    ) -> Self {
        let object = object.into();
        match source.into() {
            redb::Error::Io(source) => Self::from_io(operation, object, source),
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => Self::Reopening { operation, object },
            redb::Error::Corrupted(detail) => Self::Corrupt { object, detail },
            redb::Error::DatabaseAlreadyOpen => Self::Locked { object },
            source => Self::Redb { operation, object, source: Box::new(source) },
        }
    }

    /// Sorts a system error.
    pub(super) fn from_io(operation: &'static str, object: impl Into<String>, source: io::Error) -> Self {
        let object = object.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { operation, object },
            _ => Self::Io { operation, object, source },
        }
    }

    /// Whether the same call may succeed later without a restart: once there is room, or the disk works again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Io { .. } | Self::Reopening { .. })
    }

    /// Whether redb may be left unusable and must be reopened.
    pub(super) fn breaks_database(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Io { .. } | Self::Reopening { .. } | Self::Redb { .. })
    }
}
