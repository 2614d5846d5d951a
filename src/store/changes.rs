//! Rows of changes: a small change is in its row, a large one in parts in a table of its own
//! ([`schema::LARGE_CHANGES`] says why), and its row says only what is known of it.

use std::ops::RangeBounds;

use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};

use super::schema::{self, ChangePartKey, MAX_ROW_BYTES, RowKey, change_part_key};
use super::write::open;
use super::{StoreError, blob, codec};

type Rows<'txn> = Table<'txn, &'static RowKey, &'static [u8]>;

/// Stores a row whose value, with the change in it, is `value`.
///
/// Returns by how many bytes keys and values grew; `None` if there was a row already.
pub(super) fn insert(
    transaction: &WriteTransaction,
    rows: &mut Rows<'_>,
    place: &RowKey,
    value: &[u8],
    object: &dyn Fn() -> String,
) -> Result<Option<i64>, StoreError> {
    let failed = |source: redb::StorageError| StoreError::from_redb("storing a change", object(), source);
    let (mut row, mut grown) = (value, 0);
    if value.len() > MAX_ROW_BYTES {
        let (known, change) = codec::split_change(value)
            .map_err(|error| StoreError::Corrupt { object: object(), detail: error.0.into() })?;
        let mut parts = open(transaction, schema::LARGE_CHANGES)?;
        grown += blob::write(&mut parts, &|part| change_part_key(place, part), change, object)?;
        row = known;
    }
    let old = rows.insert(place, row).map_err(failed)?;
    Ok(old.is_none().then_some(grown + (place.len() + row.len()) as i64))
}

/// The change of a row that says only what is known of it.
pub(super) fn large(
    parts: &impl ReadableTable<&'static ChangePartKey, &'static [u8]>,
    place: &RowKey,
    object: &dyn Fn() -> String,
) -> Result<Bytes, StoreError> {
    let change = blob::read(parts, &|part| change_part_key(place, part), object)?;
    let lost = || StoreError::Corrupt { object: object(), detail: "a change row holds no change".into() };
    change.filter(|change| !change.is_empty()).ok_or_else(lost)
}

/// Large changes that were removed.
#[derive(Default)]
pub(super) struct Removed {
    pub(super) changes: u64,
    /// Bytes of the changes themselves.
    pub(super) bytes: u64,
    /// Bytes of keys and values.
    pub(super) freed: i64,
}

/// Removes the large changes whose parts have keys in `range`; their rows are the caller's.
pub(super) fn remove_large(
    transaction: &WriteTransaction,
    range: impl RangeBounds<ChangePartKey>,
    object: &dyn Fn() -> String,
) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    let (start, end) = (range.start_bound(), range.end_bound());
    open(transaction, schema::LARGE_CHANGES)?
        .retain_in::<&ChangePartKey, _>((start, end), |key, value| {
            removed.freed += (key.len() + value.len()) as i64;
            removed.bytes += value.len() as u64;
            if key.ends_with(&[0, 0]) {
                removed.changes += 1;
                removed.bytes = removed.bytes.saturating_sub(blob::LENGTH_BYTES as u64);
            }
            false
        })
        .map_err(|source| StoreError::from_redb("removing changes", object(), source))?;
    Ok(removed)
}
