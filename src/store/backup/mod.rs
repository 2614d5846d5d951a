//! Backups: the whole store in one stream, and a new store from it.
//!
//! ```text
//! "groundmist-sync backup 1\n"  block*
//! block:   kind (M D E), plain length u32, stored length u32, stored bytes, SHA-256 of the stream up to here
//! record:  kind u8, key length u16, value length u32, key, value
//! ```
//!
//! Numbers are big endian. M is first and only once: the [`Manifest`] (JSON). D blocks are LZ4 if that makes them shorter
//! (stored as they are if both lengths are equal); what they hold, one after the other, is a stream of records. E is last: [`Totals`] (JSON).
//! Each digest covers all before it, so nothing can be cut, changed, moved or put in without being noticed at the next block.
//!
//! Records are the store's rows as they are, in one order (see `check`), which a reader holds them to:
//! the signing secret, the namespaces, each document with all that belongs to it, then what is not about documents.

use crate::types::Millis;

mod block;
mod build;
mod check;
mod error;
mod follow;
mod last;
mod manifest;
mod read;
mod record;
mod swap;
mod write;

pub use build::{RESTORED_SECRET, build, check};
pub use error::BackupError;
pub use follow::Follow;
pub use last::LastBackup;
pub use manifest::{Manifest, Totals};
pub(super) use swap::forget_second_names;
pub use swap::{Contents, Place};
pub use write::Source;

/// A change is stored as it was received, so it is at most as large as a message may be; a reader that takes messages of
/// more takes rows of more as well (`limits.message_bytes`). Bytes.
pub const MAX_VALUE_BYTES: usize = 64 << 20;

/// `20260131-080509-123`, UTC: sorts by time.
pub fn stamp(at: Millis) -> String {
    let (year, month, day, hour, minute, second) = crate::types::civil(at);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{:03}", at % 1000)
}
