//! How much memory an opening will need, from what its bytes claim and before anything is expanded.
//!
//! The factors were measured with automerge 0.12 on texts, maps, lists, deletions, many small changes, many actors, long names
//! and large values, and rounded up. Counting ends where more is claimed than is allowed. A process gets no more memory than
//! was estimated; if that was too little, it is tried once more with all that is allowed (see [`super::runner`]).

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

use crate::store::{Row, SnapshotInfo, StoreError};
use crate::sync::chunk::{self, Kind};
use crate::sync::job::Job;
use crate::sync::leb::Reader;
use crate::sync::meter::Meter;
use crate::sync::opener::SMALL_DOCUMENT_CHANGES;
use crate::sync::price::Limits;
use crate::sync::pricing::Pricing;
use crate::sync::storage::Storage;
use crate::types::DocKey;

/// What every opening takes: code, encoders, buffers. Bytes, as all others here.
const BASE: u64 = 8 << 20;
/// An operation of a loaded document, and what one with a key or mark name takes on top.
const LOADED: u64 = 110;
const NAMED: u64 = 330;
/// A byte of a name in a loaded document, as often as operations and changes have the name: automerge makes every change anew to
/// check the document (measured: 2.1 of a key, 4.1 of a change's message).
const NAME_BYTE: u64 = 5;
/// A byte of a name in changes that are taken out of a loaded document.
const NAME_BYTE_TAKEN_OUT: u64 = 2;
/// A change of a loaded document, and a change taken out of it.
const CHANGE: u64 = 1_150;
const TAKEN_OUT: u64 = 1_300;
/// An operation of a change that is applied, and the change itself.
const APPLIED: u64 = 600;
const APPLIED_CHANGE: u64 = 2_500;
/// Of [`APPLIED`], what stands in lists.
const LISTED: u64 = 320;
/// Actors besides its own that an operation names at most: of its object, its place, what it replaces.
const ACTORS_NAMED: u64 = 3;
/// A byte of a document or of an applied change, as it is when it is inflated: a single large value is copied that often
/// (measured: 10.0 with random bytes, loaded and taken out as a change, or applied and saved).
const BYTE: u64 = 10;
/// automerge notes now and then for each actor how far it was, which grows with actors times changes: a third of a byte.
const CLOCK_DIVISOR: u64 = 3;
/// A row of the tail that an intake compares with: its hash in a set.
const KNOWN_ROW: u64 = 100;
/// Rows are read and counted so many bytes at a time.
pub const ROWS_BYTES: usize = 2 << 20;
/// Snapshots whose claims are remembered.
const MOST_COUNTED: usize = 256;

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
    /// Actors that documents name. Who made single changes, their authors say.
    actors: u64,
    longest_actor: u64,
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
    for blob in blobs {
        let before = *pricing.meter.price();
        let chunk = chunk::next(&mut Reader::new(blob));
        let counted = chunk.map(|chunk| (chunk.kind, pricing.chunk(&chunk).is_ok()));
        let price = pricing.meter.price();
        claims.size += blob.len() as u64;
        claims.bytes += (blob.len() as u64).max(price.inflated_bytes - before.inflated_bytes);
        if let Ok((Kind::Document, _)) = counted {
            claims.actors += price.actors - before.actors;
        }
        if !matches!(counted, Ok((_, true))) {
            // Damaged bytes fail when they are opened, before they are expanded.
            claims.operations += blob.len() as u64;
        }
    }
    let price = pricing.meter.price();
    claims.operations += price.operations.saturating_sub(price.document_changes);
    claims.changes = price.document_changes + price.changes - price.documents;
    Claims { longest_actor: price.longest_actor, names: price.names, name_bytes: price.name_bytes, ..claims }
}

impl Claims {
    fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.changes += other.changes;
        self.actors += other.actors;
        self.longest_actor = self.longest_actor.max(other.longest_actor);
        self.names = self.names.saturating_add(other.names);
        self.name_bytes = self.name_bytes.saturating_add(other.name_bytes);
        self.bytes += other.bytes;
        self.size += other.size;
    }

    /// A document that is loaded.
    fn loaded(&self) -> u64 {
        sum([
            self.operations.saturating_mul(LOADED),
            self.names.min(self.operations).saturating_mul(NAMED),
            self.changes.saturating_mul(CHANGE),
            self.bytes.saturating_mul(BYTE),
            self.name_bytes.saturating_mul(NAME_BYTE),
            self.named_actors(),
            self.clocks(),
        ])
    }

    /// A loaded document's changes, taken out besides.
    fn taken_out(&self) -> u64 {
        let changes = self.changes.saturating_mul(TAKEN_OUT);
        sum([changes, self.name_bytes.saturating_mul(NAME_BYTE_TAKEN_OUT), self.named_actors()])
    }

    /// Changes that are applied.
    fn applied(&self) -> u64 {
        sum([
            self.operations.saturating_mul(APPLIED),
            self.changes.saturating_mul(APPLIED_CHANGE),
            self.bytes.saturating_mul(BYTE),
            self.name_bytes,
        ])
    }

    /// Ids of actors: each change of a document has those that it names for itself.
    fn named_actors(&self) -> u64 {
        let by_operations = self.changes.saturating_add(self.operations.saturating_mul(ACTORS_NAMED));
        self.changes.saturating_mul(self.actors).min(by_operations).saturating_mul(self.longest_actor)
    }

    fn clocks(&self) -> u64 {
        self.changes.saturating_mul(self.actors) / CLOCK_DIVISOR
    }
}

fn sum<const N: usize>(parts: [u64; N]) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
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
}

/// A snapshot that was counted.
struct Counted {
    key: DocKey,
    /// The fingerprint of its heads.
    fingerprint: u64,
    claims: Claims,
}

/// Estimates jobs. Counting a large snapshot takes long and every device asks for it, so what the latest ones claim is
/// remembered.
pub struct Estimator {
    allowed_bytes: u64,
    hasher: RandomState,
    counted: VecDeque<Counted>,
}

impl Estimator {
    /// `allowed_bytes`: what needs more is not opened, so that it need not be counted either.
    pub fn new(allowed_bytes: u64) -> Self {
        Self { allowed_bytes, hasher: RandomState::new(), counted: VecDeque::new() }
    }

    /// Estimates a job; `None` if there is nothing to open, or no longer what was meant. What it would open is read from the
    /// store, rows a few megabytes at a time.
    /// # Errors
    /// The store cannot give it.
    pub fn estimate(&mut self, job: &Job, storage: &dyn Storage) -> Result<Option<Need>, StoreError> {
        match job {
            Job::Intake { key, chunks, existing, .. } => {
                let claims = count(chunks.iter().map(|chunk| &chunk[..]));
                let mut memory = claims.loaded();
                if *existing || claims.changes <= SMALL_DOCUMENT_CHANGES as u64 {
                    memory = memory.saturating_add(claims.taken_out());
                }
                if *existing {
                    let head = storage.head(key)?;
                    let known = head.as_ref().map_or(0, |head| head.tail_changes);
                    memory = memory.saturating_add(known.saturating_mul(KNOWN_ROW));
                }
                Ok(Some(Need::of(memory, 0, claims.size)))
            }
            Job::Extract { key, snapshot, .. } => {
                let info = storage.head(key)?.and_then(|head| head.snapshot);
                let Some(info) = info.filter(|info| info.heads == *snapshot) else { return Ok(None) };
                let claims = self.snapshot(key, &info, storage)?;
                Ok(claims.map(|claims| {
                    Need::of(claims.loaded().saturating_add(claims.taken_out()), 0, claims.size)
                }))
            }
            Job::Compact { key, below } => self.compaction(key, *below, storage),
        }
    }

    fn compaction(
        &mut self,
        key: &DocKey,
        below: u64,
        storage: &dyn Storage,
    ) -> Result<Option<Need>, StoreError> {
        let Some(head) = storage.head(key)? else { return Ok(None) };
        let base = match &head.snapshot {
            Some(info) => match self.snapshot(key, info, storage)? {
                Some(claims) => claims,
                None => return Ok(None),
            },
            None => Claims::default(),
        };
        let (mut tail, mut authors) = (Claims::default(), HashSet::new());
        for_rows(key, head.next_row - head.tail_changes..below, storage, &mut |rows| {
            tail.add(&count(rows.iter().map(|row| &row.bytes[..])));
            // An actor that a change names has made an earlier one.
            authors.extend(rows.iter().filter_map(|row| {
                let change = chunk::stored_change(&row.bytes, row.hash, row.max_op).ok()?;
                Some(self.hasher.hash_one(&change.actor))
            }));
            tail.applied() <= self.allowed_bytes
        })?;
        let mut all = base;
        all.add(&tail);
        all.actors = base.actors + authors.len() as u64;
        // The changes are applied and the document is saved; when that is gone, the saved one is loaded.
        let memory = sum([base.loaded(), tail.applied(), all.clocks()]).max(all.loaded());
        Ok(Some(Need::of(memory, tail.operations, all.size)))
    }

    /// What a document's snapshot claims; of one that is too large by its size alone, nothing but that. `None` if there is none.
    fn snapshot(
        &mut self,
        key: &DocKey,
        info: &SnapshotInfo,
        storage: &dyn Storage,
    ) -> Result<Option<Claims>, StoreError> {
        if info.bytes.saturating_mul(BYTE) > self.allowed_bytes {
            return Ok(Some(Claims { bytes: info.bytes, size: info.bytes, ..Claims::default() }));
        }
        let fingerprint = self.hasher.hash_one(&info.heads);
        let known = self.counted.iter().find(|known| known.key == *key && known.fingerprint == fingerprint);
        if let Some(known) = known {
            return Ok(Some(known.claims));
        }
        let Some(snapshot) = storage.snapshot(key)? else { return Ok(None) };
        let claims = count([&snapshot[..]].into_iter());
        self.counted.retain(|known| known.key != *key);
        self.counted.push_back(Counted { key: key.clone(), fingerprint, claims });
        if self.counted.len() > MOST_COUNTED {
            self.counted.pop_front();
        }
        Ok(Some(claims))
    }
}

/// Reads rows in pieces, so that neither many of them are in memory nor the store is read for long at one moment. Ends when
/// `each` says no.
/// # Errors
/// The store cannot give them.
pub fn for_rows(
    key: &DocKey,
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
mod tests;
