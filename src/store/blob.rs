//! Snapshots, their indexes and large changes: bytes of any size in parts that fit redb's pages.
//!
//! The first part starts with the length of the whole (u64, big endian), so that a lost part is noticed.

use bytes::Bytes;
use redb::{ReadableTable, Table};

use super::StoreError;
use super::schema::{MAX_BLOB_BYTES, PART_BYTES};

/// Parts, each under a key of `N` bytes.
type Parts<'txn, const N: usize> = Table<'txn, &'static [u8; N], &'static [u8]>;

/// What the first part starts with.
pub(super) const LENGTH_BYTES: usize = 8;

/// Replaces the blob whose parts have the keys that `key_of` makes; returns by how much keys and values grew.
pub(super) fn write<const N: usize>(
    table: &mut Parts<'_, N>,
    key_of: &dyn Fn(u16) -> [u8; N],
    content: &[u8],
    object: &dyn Fn() -> String,
) -> Result<i64, StoreError> {
    let failed = |source: redb::StorageError| {
        StoreError::from_redb("storing a snapshot, an index or a large change", object(), source)
    };
    let bytes = content.len() as u64;
    let limit = MAX_BLOB_BYTES - LENGTH_BYTES as u64;
    if bytes > limit {
        return Err(StoreError::TooLarge { object: object(), bytes, limit });
    }
    let mut grown = 0i64;
    let (start, end) = (key_of(0), key_of(u16::MAX));
    table
        .retain_in::<&[u8; N], _>(&start..=&end, |key, value| {
            grown -= (key.len() + value.len()) as i64;
            false
        })
        .map_err(failed)?;
    let (first, rest) = content.split_at(content.len().min(PART_BYTES - LENGTH_BYTES));
    let first = [&bytes.to_be_bytes(), first].concat();
    for (part, value) in (0..=u16::MAX).zip(std::iter::once(&first[..]).chain(rest.chunks(PART_BYTES))) {
        let key = key_of(part);
        table.insert(&key, value).map_err(failed)?;
        grown += (key.len() + value.len()) as i64;
    }
    Ok(grown)
}

/// The blob whose parts have the keys that `key_of` makes, if it is there.
pub(super) fn read<const N: usize>(
    table: &impl ReadableTable<&'static [u8; N], &'static [u8]>,
    key_of: &dyn Fn(u16) -> [u8; N],
    object: &dyn Fn() -> String,
) -> Result<Option<Bytes>, StoreError> {
    let failed = |source: redb::StorageError| {
        StoreError::from_redb("reading a snapshot, an index or a large change", object(), source)
    };
    let corrupt = |detail: &str| StoreError::Corrupt { object: object(), detail: detail.into() };
    let (start, end) = (key_of(0), key_of(u16::MAX));
    let mut parts = table.range::<&[u8; N]>(&start..=&end).map_err(failed)?;
    let Some(first) = parts.next() else { return Ok(None) };
    let (key, value) = first.map_err(failed)?;
    let Some((length, begin)) = value.value().split_first_chunk::<LENGTH_BYTES>() else {
        return Err(corrupt("its first part has no length"));
    };
    let length = u64::from_be_bytes(*length);
    if *key.value() != start || length > MAX_BLOB_BYTES {
        return Err(corrupt("its first part is missing"));
    }
    let length = usize::try_from(length).map_err(|_| corrupt("it is larger than memory"))?;
    let mut content = Vec::with_capacity(length);
    content.extend_from_slice(begin);
    for (part, next) in (1..=u16::MAX).zip(parts) {
        let (key, value) = next.map_err(failed)?;
        if *key.value() != key_of(part) {
            return Err(corrupt("a part is missing"));
        }
        content.extend_from_slice(value.value());
    }
    if content.len() != length {
        return Err(corrupt("its parts do not add up to its length"));
    }
    Ok(Some(content.into()))
}
