//! When the last backup was made; kept in the store, for `status`, metrics and the owner's page.

use serde::{Deserialize, Serialize};

use crate::store::{Op, RecordKind, Store, StoreError};
use crate::types::Millis;

const PIN: &[u8] = b"last_backup";

/// A backup that was written to its end, and put where it was to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastBackup {
    /// The moment that it shows.
    pub created: Millis,
    /// Its size.
    pub bytes: u64,
    /// Documents in it.
    pub documents: u64,
}

impl LastBackup {
    /// Remembers it.
    /// # Errors
    /// It has no JSON form; it always has.
    pub fn op(&self) -> Result<Op, serde_json::Error> {
        Ok(Op::Record { kind: RecordKind::Pin, key: PIN.into(), row: Some(serde_json::to_vec(self)?) })
    }
}

impl Store {
    /// The last backup that is known of; none if that row is damaged.
    /// # Errors
    /// As [`Store::head`].
    pub fn last_backup(&self) -> Result<Option<LastBackup>, StoreError> {
        let row = self.record(RecordKind::Pin, PIN)?;
        Ok(row.and_then(|row| serde_json::from_slice(&row).ok()))
    }
}
