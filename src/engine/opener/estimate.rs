//! How much memory an opening will need, from what its bytes claim and before anything is expanded.
//!
//! The factors were measured with automerge 0.12 on texts, maps, lists, deletions, many small changes, many actors and
//! large values, and rounded up. An estimate that is too low does no harm: the process that opens the document gets no
//! more memory than was estimated, and its end is recorded (see [`super::record`]).

use crate::store::{Row, StoreError};
use crate::sync::chunk;
use crate::sync::job::Job;
use crate::sync::leb::Reader;
use crate::sync::meter::Meter;
use crate::sync::price::Limits;
use crate::sync::pricing::Pricing;
use crate::sync::storage::Storage;

/// What every opening takes: code, encoders, buffers. Bytes, as all others here.
const BASE: u64 = 8 << 20;
/// An operation of a loaded document, and what one with a key or mark name takes on top.
const LOADED: u64 = 110;
const NAMED: u64 = 330;
/// A change of a loaded document, and a change taken out of it.
const CHANGE: u64 = 1_150;
const TAKEN_OUT: u64 = 1_300;
/// An operation of a change that is applied, and the change itself.
const APPLIED: u64 = 600;
const APPLIED_CHANGE: u64 = 2_500;
/// Of [`APPLIED`], what stands in lists.
const LISTED: u64 = 320;
/// A byte of a document or of an applied change, as it is when it is inflated: a single large value is copied that often
/// (measured: 10.0 with random bytes, loaded and taken out as a change, or applied and saved).
const BYTE: u64 = 10;
/// automerge notes now and then for each actor how far it was, which grows with actors times changes: a third of a byte.
const CLOCK_DIVISOR: u64 = 3;
/// A row of the tail that an intake compares with: its hash in a set.
const KNOWN_ROW: u64 = 100;
/// Rows are read and counted so many bytes at a time.
pub const ROWS_BYTES: usize = 2 << 20;

/// No limit of its own: what is counted was accepted before. Counting takes time by the bytes, not by what they claim.
const UNLIMITED: Limits = Limits {
    operations: 1 << 60,
    inflated_bytes: 1 << 60,
    changes: 1 << 60,
    hashes: 1 << 30,
    bloom_bytes: 0,
};

/// What chunks claim, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Claims {
    operations: u64,
    changes: u64,
    actors: u64,
    names: u64,
    name_bytes: u64,
    /// Bytes of each chunk as it came or as it is inflated, whichever is more. Of a chunk with both large deflated columns and
    /// large plain ones, which automerge does not make, up to half is missed.
    bytes: u64,
    /// Bytes as stored or received.
    size: u64,
}

/// Counts the chunks in `blobs`.
fn count<'a>(blobs: impl Iterator<Item = &'a [u8]>) -> Claims {
    let (mut claims, mut pricing) = (Claims::default(), Pricing::new(Meter::new(&UNLIMITED), 0));
    let mut inflated = 0;
    for blob in blobs {
        let counted = chunk::next(&mut Reader::new(blob)).map(|chunk| pricing.chunk(&chunk).is_ok());
        let before = std::mem::replace(&mut inflated, pricing.meter.price().inflated_bytes);
        claims.size += blob.len() as u64;
        claims.bytes += (blob.len() as u64).max(inflated - before);
        if counted != Ok(true) {
            // Damaged bytes fail when they are opened, before they are expanded.
            claims.operations += blob.len() as u64;
        }
    }
    let price = pricing.meter.price();
    claims.operations += price.operations.saturating_sub(price.document_changes);
    claims.changes = price.document_changes + price.changes - price.documents;
    Claims { actors: price.actors, names: price.names, name_bytes: price.name_bytes, ..claims }
}

impl Claims {
    fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.changes += other.changes;
        self.actors += other.actors;
        self.names = self.names.saturating_add(other.names);
        self.name_bytes = self.name_bytes.saturating_add(other.name_bytes);
        self.bytes += other.bytes;
        self.size += other.size;
    }

    fn loaded(&self) -> u64 {
        let operations = self.operations.saturating_mul(LOADED);
        let named = self.names.min(self.operations).saturating_mul(NAMED);
        let changes = self.changes.saturating_mul(CHANGE);
        let bytes = self.bytes.saturating_mul(BYTE);
        [named, changes, bytes, self.clocks()].into_iter().fold(operations, u64::saturating_add)
    }

    fn applied(&self) -> u64 {
        let operations = self.operations.saturating_mul(APPLIED);
        let changes = self.changes.saturating_mul(APPLIED_CHANGE);
        let bytes = self.bytes.saturating_mul(BYTE);
        [changes, bytes, self.name_bytes].into_iter().fold(operations, u64::saturating_add)
    }

    fn clocks(&self) -> u64 {
        self.changes.saturating_mul(self.actors) / CLOCK_DIVISOR
    }
}

/// What an opening needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes that automerge reserves besides and does not fill: its lists double when they are full.
    pub reserved_bytes: u64,
    /// Bytes of what is opened, as stored or as received.
    pub size_bytes: u64,
}

impl Need {
    fn of(memory_bytes: u64, applied: u64, size_bytes: u64) -> Self {
        let sum = memory_bytes.saturating_add(BASE);
        let unfilled = applied.checked_next_power_of_two().unwrap_or(u64::MAX) - applied;
        let reserved_bytes = (sum / 4).saturating_add(unfilled.saturating_mul(LISTED));
        Self { memory_bytes: sum.saturating_add(sum / 10), reserved_bytes, size_bytes }
    }

    /// Of a job that cannot be looked at.
    pub fn unknown() -> Self {
        Self { memory_bytes: 0, reserved_bytes: 0, size_bytes: 0 }
    }
}

/// Estimates a job. Reads what it would open from the store, a few megabytes at a time.
/// # Errors
/// The store cannot give it.
pub fn estimate(job: &Job, storage: &dyn Storage) -> Result<Need, StoreError> {
    match job {
        Job::Intake { key, chunks, existing, .. } => {
            let claims = count(chunks.iter().map(|chunk| &chunk[..]));
            let mut memory = claims.loaded();
            if *existing {
                let head = storage.head(key)?;
                let known = head.as_ref().map_or(0, |head| head.tail_changes).saturating_mul(KNOWN_ROW);
                memory =
                    memory.saturating_add(known).saturating_add(claims.changes.saturating_mul(TAKEN_OUT));
            }
            Ok(Need::of(memory, 0, claims.size))
        }
        Job::Extract { key, .. } => {
            let Some(snapshot) = storage.snapshot(key)? else { return Ok(Need::of(0, 0, 0)) };
            let claims = count([&snapshot[..]].into_iter());
            let taken_out = claims.changes.saturating_mul(TAKEN_OUT);
            Ok(Need::of(claims.loaded().saturating_add(taken_out), 0, snapshot.len() as u64))
        }
        Job::Compact { key, below } => {
            let Some(head) = storage.head(key)? else { return Ok(Need::of(0, 0, 0)) };
            let mut size = 0;
            let mut base = Claims::default();
            if let Some(snapshot) = storage.snapshot(key)? {
                size += snapshot.len() as u64;
                base = count([&snapshot[..]].into_iter());
            }
            let mut tail = Claims::default();
            for_rows(key, head.next_row - head.tail_changes..*below, storage, &mut |rows| {
                size += rows.iter().map(|row| row.bytes.len() as u64).sum::<u64>();
                tail.add(&count(rows.iter().map(|row| &row.bytes[..])));
                true
            })?;
            let all =
                Claims { changes: base.changes + tail.changes, actors: base.actors + tail.actors, ..tail };
            let memory = base.loaded().saturating_add(tail.applied()).saturating_add(all.clocks());
            Ok(Need::of(memory, tail.operations, size))
        }
    }
}

/// Reads rows in pieces, so that neither many of them are in memory nor the store is read for long at one moment. Ends when
/// `each` says no.
/// # Errors
/// The store cannot give them.
pub fn for_rows(
    key: &crate::types::DocKey,
    rows: std::ops::Range<u64>,
    storage: &dyn Storage,
    each: &mut dyn FnMut(&[Row]) -> bool,
) -> Result<(), StoreError> {
    let mut next = rows.start;
    while next < rows.end {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        storage.tail(key, next..rows.end, &mut |row| {
            bytes += row.bytes.len();
            batch.push(row);
            bytes < ROWS_BYTES
        })?;
        let Some(last) = batch.last() else { break };
        next = last.row + 1;
        if !each(&batch) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use automerge::{AutoCommit, ObjType, ROOT, transaction::Transactable};

    use super::*;

    fn text(characters: usize) -> AutoCommit {
        let mut doc = AutoCommit::new();
        let text = doc.put_object(ROOT, "text", ObjType::Text).unwrap();
        doc.splice_text(&text, 0, 0, &"x".repeat(characters)).unwrap();
        doc
    }

    #[test]
    fn a_few_bytes_that_claim_many_operations_are_a_large_opening() {
        let mut doc = text(100_000);
        let saved = doc.save();
        let claims = count([&saved[..]].into_iter());
        assert!(saved.len() < 1_000 && claims.operations >= 100_001, "{} bytes: {claims:?}", saved.len());
        assert_eq!((claims.changes, claims.actors), (1, 1));
        let mut change = doc.get_changes(&[])[0].clone();
        let applied = count([&change.bytes()[..]].into_iter());
        assert_eq!(applied.operations, claims.operations);
        assert!(applied.applied() > 100_000 * 565, "measured: 565 bytes for each operation");
        assert!(claims.loaded() > 100_000 * 97 && claims.loaded() < applied.applied() / 4);
    }

    #[test]
    fn a_large_value_counts_by_its_inflated_bytes() {
        let mut doc = AutoCommit::new();
        let mut random = vec![0; 500_000];
        getrandom::fill(&mut random).unwrap();
        let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        for (value, saved_bytes) in [(hex, 500_000..700_000), ("0".repeat(1_000_000), 0..10_000)] {
            doc.put(ROOT, "value", value).unwrap();
            let mut change = doc.get_last_local_change().unwrap().clone();
            let saved = change.bytes().into_owned();
            assert!(saved_bytes.contains(&saved.len()), "{}", saved.len());
            let claims = count([&saved[..]].into_iter());
            assert!((1_000_000..1_010_000).contains(&claims.bytes), "{claims:?}");
            assert!(claims.loaded() >= 9_000_000 && claims.size == saved.len() as u64);
        }
        doc.put(ROOT, "value", random).unwrap();
        let claims = count([&doc.get_last_local_change().unwrap().clone().bytes()[..]].into_iter());
        assert!((500_000..501_000).contains(&claims.bytes), "random bytes do not count twice: {claims:?}");
    }

    #[test]
    fn a_long_key_that_is_repeated_counts_as_often() {
        let mut doc = AutoCommit::new();
        for n in 0..100 {
            doc.put(ROOT, "k".repeat(10_000), n).unwrap();
        }
        let mut change = doc.get_changes(&[])[0].clone();
        let claims = count([&change.bytes()[..]].into_iter());
        assert!(claims.name_bytes >= 100 * 10_000, "{claims:?}");
        assert!(claims.applied() > 1_000_000);
    }

    #[test]
    fn changes_times_actors_are_counted() {
        let claims = Claims { changes: 40_000, actors: 40_000, ..Claims::default() };
        assert!(claims.loaded() > 469_000_000, "measured");
        let huge = Claims { operations: 1 << 60, names: u64::MAX, name_bytes: u64::MAX, ..claims };
        assert_eq!((huge.applied(), huge.loaded()), (u64::MAX, u64::MAX));
    }

    #[test]
    fn damaged_bytes_are_no_reason_to_fail() {
        let saved = text(10).save();
        for length in 0..saved.len() {
            assert!(count([&saved[..length]].into_iter()).bytes >= length as u64);
        }
    }
}
