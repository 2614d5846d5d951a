//! Row formats: compact, self-checking on read. Integers are LEB128, hashes 32 raw bytes.

use std::sync::Arc;

use bytes::Bytes;

use super::{Head, Row, SnapshotInfo};
use crate::types::{ChangeHash, Millis};

/// First byte of a head row; a changed layout gets a new number and a migration.
const HEAD_FORMAT: u8 = 1;
const HAS_SNAPSHOT: u8 = 1;
const IS_QUARANTINED: u8 = 2;
/// Since schema 2, like the next.
const HAS_WRITER: u8 = 4;
const IS_DELETED: u8 = 8;
/// First byte of a tombstone.
const TOMBSTONE_FORMAT: u8 = 1;
const HASH_BYTES: usize = 32;

/// A row that does not decode; the caller adds table and document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

pub(super) fn encode_head(head: &Head) -> Vec<u8> {
    let mut out = Vec::with_capacity(48 + HASH_BYTES * head.heads.len());
    let flags = [
        (head.snapshot.is_some(), HAS_SNAPSHOT),
        (head.quarantined.is_some(), IS_QUARANTINED),
        (head.written_by.is_some(), HAS_WRITER),
        (head.deleted.is_some(), IS_DELETED),
    ];
    let flags = flags.into_iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag);
    out.extend([HEAD_FORMAT, flags]);
    put_hashes(&mut out, &head.heads);
    for number in [head.next_row, head.tail_changes, head.tail_bytes, head.created, head.modified] {
        put_number(&mut out, number);
    }
    if let Some(snapshot) = &head.snapshot {
        put_hashes(&mut out, &snapshot.heads);
        put_number(&mut out, snapshot.changes);
        put_number(&mut out, snapshot.bytes);
    }
    if let Some(writer) = &head.written_by {
        put_number(&mut out, writer.len() as u64);
        out.extend(writer.as_bytes());
    }
    if let Some(deleted) = head.deleted {
        put_number(&mut out, deleted);
    }
    if let Some(reason) = &head.quarantined {
        out.extend(reason.as_bytes());
    }
    out
}

pub(super) fn decode_head(row: &[u8]) -> Result<Head, Malformed> {
    let Some((&[HEAD_FORMAT, flags], mut rest)) = row.split_first_chunk() else {
        return Err(Malformed("the head row has an unknown format"));
    };
    if flags & !(HAS_SNAPSHOT | IS_QUARANTINED | HAS_WRITER | IS_DELETED) != 0 {
        return Err(Malformed("the head row has unknown flags"));
    }
    let input = &mut rest;
    let heads = take_hashes(input)?;
    let (next_row, tail_changes, tail_bytes) =
        (take_number(input)?, take_number(input)?, take_number(input)?);
    let (created, modified) = (take_number(input)?, take_number(input)?);
    let snapshot = if flags & HAS_SNAPSHOT != 0 {
        let heads = take_hashes(input)?;
        Some(SnapshotInfo { heads, changes: take_number(input)?, bytes: take_number(input)? })
    } else {
        None
    };
    let written_by = if flags & HAS_WRITER != 0 { Some(take_text(input)?) } else { None };
    let deleted = if flags & IS_DELETED != 0 { Some(take_number(input)?) } else { None };
    let quarantined = if flags & IS_QUARANTINED != 0 {
        let reason =
            std::str::from_utf8(input).map_err(|_| Malformed("the quarantine reason is not text"))?;
        *input = &[];
        Some(reason.to_owned())
    } else {
        None
    };
    if !input.is_empty() {
        return Err(Malformed("the head row has bytes left over"));
    }
    Ok(Head {
        heads,
        snapshot,
        next_row,
        tail_changes,
        tail_bytes,
        created,
        modified,
        quarantined,
        written_by,
        deleted,
        purged: false,
    })
}

/// What stays of a purged document: when it was deleted.
pub(super) fn encode_tombstone(deleted: Millis) -> Vec<u8> {
    let mut out = vec![TOMBSTONE_FORMAT];
    put_number(&mut out, deleted);
    out
}

/// As the head of a document that has nothing.
pub(super) fn decode_tombstone(row: &[u8]) -> Result<Head, Malformed> {
    match row.split_first() {
        Some((&TOMBSTONE_FORMAT, numbers)) => {
            let [deleted] = decode_numbers(numbers)?;
            Ok(Head { deleted: Some(deleted), purged: true, ..Head::new(deleted) })
        }
        _ => Err(Malformed("a tombstone has an unknown format")),
    }
}

pub(super) fn encode_numbers(numbers: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 * numbers.len());
    numbers.iter().for_each(|number| put_number(&mut out, *number));
    out
}

pub(super) fn decode_numbers<const N: usize>(row: &[u8]) -> Result<[u64; N], Malformed> {
    let (mut rest, mut numbers) = (row, [0; N]);
    for number in &mut numbers {
        *number = take_number(&mut rest)?;
    }
    if rest.is_empty() { Ok(numbers) } else { Err(Malformed("a row of numbers has bytes left over")) }
}

/// A change row's value with the change in it; `row` itself is in the key.
pub(super) fn encode_change(row: &Row) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + HASH_BYTES + row.bytes.len());
    put_number(&mut out, row.max_op);
    out.extend(row.hash.0);
    out.extend(&row.bytes[..]);
    out
}

/// A change row, without bytes if the change is a large one.
pub(super) fn decode_change(row: u64, value: &[u8]) -> Result<Row, Malformed> {
    let mut rest = value;
    let max_op = take_number(&mut rest)?;
    let hash = take_hash(&mut rest)?;
    Ok(Row { row, hash, max_op, bytes: Bytes::copy_from_slice(rest) })
}

/// Splits a change row into what is known of the change and the change itself, which is empty if it is a large one.
pub(super) fn split_change(value: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut rest = value;
    take_number(&mut rest)?;
    take_hash(&mut rest)?;
    Ok(value.split_at(value.len() - rest.len()))
}

pub(super) fn encode_hashes(hashes: &[ChangeHash]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + HASH_BYTES * hashes.len());
    put_hashes(&mut out, hashes);
    out
}

pub(super) fn decode_hashes(row: &[u8]) -> Result<Vec<ChangeHash>, Malformed> {
    let mut rest = row;
    let hashes = take_hashes(&mut rest)?;
    if rest.is_empty() { Ok(hashes) } else { Err(Malformed("a list of heads has bytes left over")) }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(input: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = input.split_first() else {
            return Err(Malformed("a row ends inside a number"));
        };
        *input = rest;
        if shift == 63 && byte > 1 {
            break;
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed("a number is longer than 64 bits"))
}

fn take_text(input: &mut &[u8]) -> Result<Arc<str>, Malformed> {
    let length = take_number(input)?;
    let cut = usize::try_from(length).ok().and_then(|length| input.split_at_checked(length));
    let (text, rest) = cut.ok_or(Malformed("a text is cut short"))?;
    *input = rest;
    std::str::from_utf8(text).map(Arc::from).map_err(|_| Malformed("a text is not UTF-8"))
}

fn put_hashes(out: &mut Vec<u8>, hashes: &[ChangeHash]) {
    put_number(out, hashes.len() as u64);
    for hash in hashes {
        out.extend(hash.0);
    }
}

fn take_hashes(input: &mut &[u8]) -> Result<Vec<ChangeHash>, Malformed> {
    let count = take_number(input)?;
    // The count is checked against what is there before anything is allocated for it.
    if count > (input.len() / HASH_BYTES) as u64 {
        return Err(Malformed("a list of heads is cut short"));
    }
    (0..count).map(|_| take_hash(input)).collect()
}

fn take_hash(input: &mut &[u8]) -> Result<ChangeHash, Malformed> {
    let Some((hash, rest)) = input.split_first_chunk::<HASH_BYTES>() else {
        return Err(Malformed("a hash is cut short"));
    };
    *input = rest;
    Ok(ChangeHash(*hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            heads: vec![ChangeHash([1; 32]), ChangeHash([2; 32])],
            snapshot: Some(SnapshotInfo {
                heads: vec![ChangeHash([3; 32])],
                changes: 260_000,
                bytes: u64::MAX,
            }),
            next_row: 300,
            tail_changes: 2,
            tail_bytes: 1 << 40,
            created: 1_700_000_000_000,
            modified: 1_700_000_000_001,
            quarantined: Some("it made automerge panic".into()),
            written_by: Some("https://app.example/client.json".into()),
            deleted: Some(1_700_000_000_002),
            purged: false,
        }
    }

    #[test]
    fn rows_come_back_as_written() {
        let full = head();
        let plain = Head { snapshot: None, quarantined: None, written_by: None, heads: vec![], ..head() };
        for head in [Head { deleted: None, ..head() }, full, plain] {
            assert_eq!(decode_head(&encode_head(&head)).unwrap(), head);
        }
        let tombstone = decode_tombstone(&encode_tombstone(9)).unwrap();
        assert_eq!((tombstone.deleted, tombstone.purged), (Some(9), true));
        assert!(decode_tombstone(&[2, 9]).is_err() && decode_tombstone(&[]).is_err());
        let row =
            Row { row: 7, hash: ChangeHash([9; 32]), max_op: u64::MAX, bytes: Bytes::from_static(b"change") };
        assert_eq!(decode_change(7, &encode_change(&row)).unwrap(), row);
        let hashes = vec![ChangeHash([4; 32]); 3];
        assert_eq!(decode_hashes(&encode_hashes(&hashes)).unwrap(), hashes);
    }

    #[test]
    fn cut_rows_are_refused_not_panicked_on() {
        let head = encode_head(&Head { quarantined: None, ..head() });
        for length in 0..head.len() {
            assert!(decode_head(&head[..length]).is_err(), "{length}");
        }
        assert!(decode_head(&[&head[..], &[0]].concat()).is_err());
        let row = Row { row: 0, hash: ChangeHash([9; 32]), max_op: 300, bytes: Bytes::from_static(b"c") };
        let change = encode_change(&row);
        let known = change.len() - row.bytes.len();
        for length in 0..known {
            assert!(decode_change(0, &change[..length]).is_err(), "{length}");
        }
        // Of a large change no more is in the row.
        assert!(decode_change(0, &change[..known]).unwrap().bytes.is_empty());
        assert!(decode_hashes(&[0xff; 11]).is_err());
        assert!(decode_hashes(&[0xff, 0xff, 0xff, 0x0f]).is_err());
    }
}
