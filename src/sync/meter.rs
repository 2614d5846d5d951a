//! Adds up what one sync message claims, and stops at the first total over a limit.

use super::leb::Bad;
use super::price::{
    Excess, Kind, Limits, MAX_ACTOR_BYTES, MAX_ACTORS, MAX_DOCUMENTS, MAX_NAME_BYTES, Price, Refused,
};

/// Bytes that a decoded change takes besides its own chunk: its record, actor id, dependencies and allocations.
const CHANGE_BYTES: u64 = 320;
/// Bytes that automerge keeps for each actor while it decodes a change.
const ACTOR_BYTES: u64 = 64;

/// The counts of the chunk at hand.
#[derive(Debug, Clone, Copy, Default)]
struct Chunk {
    operations: u64,
    largest_value: u64,
    actors: u64,
    name_bytes: u64,
}

/// Adds up what one message claims.
#[derive(Debug, Clone)]
pub struct Meter {
    limits: Limits,
    price: Price,
    chunk: Chunk,
}

impl Meter {
    /// Starts at nothing.
    pub fn new(limits: &Limits) -> Self {
        Self { limits: *limits, price: Price::default(), chunk: Chunk::default() }
    }

    /// What has been counted.
    pub fn price(&self) -> &Price {
        &self.price
    }

    /// The error for going over one limit.
    pub fn excess(&self, kind: Kind) -> Excess {
        Excess { kind, limit: self.limits.of(kind) }
    }

    /// Counts hashes that the message names.
    /// # Errors
    /// When there are too many.
    pub fn hashes(&mut self, count: u64) -> Result<(), Excess> {
        let sum = self.price.hashes.saturating_add(count);
        self.price.hashes = self.within(Kind::Hashes, sum)?;
        Ok(())
    }

    /// Checks a list of hashes that is part of a chunk: the dependencies of a change, the heads of a document.
    /// # Errors
    /// When it is too long.
    pub fn hashes_in_chunk(&self, count: u64) -> Result<(), Excess> {
        self.within(Kind::Hashes, count).map(drop)
    }

    /// Counts the bytes of a Bloom filter.
    /// # Errors
    /// When there are too many.
    pub fn bloom(&mut self, bytes: u64) -> Result<(), Excess> {
        let sum = self.price.bloom_bytes.saturating_add(bytes);
        self.price.bloom_bytes = self.within(Kind::BloomBytes, sum)?;
        Ok(())
    }

    /// Counts the next chunk; what is counted until the next call belongs to it.
    /// # Errors
    /// When there are too many.
    pub fn chunk(&mut self, is_document: bool) -> Result<(), Refused> {
        self.price.changes = self.within(Kind::Changes, self.price.changes + 1)?;
        self.price.documents += u64::from(is_document);
        if self.price.documents > MAX_DOCUMENTS {
            return Err(Bad("more than 64 document chunks in one message").into());
        }
        self.chunk = Chunk::default();
        Ok(())
    }

    /// Counts the actors that the chunk names.
    /// # Errors
    /// When there are too many.
    pub fn actors(&mut self, count: u64) -> Result<(), Refused> {
        if count > MAX_ACTORS {
            return Err(Bad("more than 262,144 actors in one chunk").into());
        }
        self.chunk.actors = count;
        self.price.actors = self.price.actors.saturating_add(count);
        Ok(self.operations(count)?)
    }

    /// Notes that a column of the chunk has so many values.
    /// # Errors
    /// When the message then claims too many operations.
    #[inline]
    pub fn operations(&mut self, in_column: u64) -> Result<(), Excess> {
        if in_column > self.chunk.operations {
            let sum = self.price.operations.saturating_add(in_column);
            self.within(Kind::Operations, sum)?;
            self.chunk.operations = in_column;
        }
        Ok(())
    }

    /// Notes the size of a single value in the chunk, which automerge copies.
    #[inline]
    pub fn value(&mut self, bytes: u64) {
        self.chunk.largest_value = self.chunk.largest_value.max(bytes);
    }

    /// Notes a name of `bytes` bytes that `times` operations in a row have.
    #[inline]
    pub fn name(&mut self, bytes: u64, times: u64) {
        self.price.names = self.price.names.saturating_add(times);
        self.price.name_bytes = self.price.name_bytes.saturating_add(bytes.saturating_mul(times));
    }

    /// Notes an actor id, which automerge copies and the graph keeps.
    /// # Errors
    /// When it is too long.
    pub fn actor(&mut self, bytes: u64) -> Result<(), Bad> {
        if bytes > MAX_ACTOR_BYTES {
            return Err(Bad("an actor id of more than 256 bytes"));
        }
        self.chunk.name_bytes += bytes;
        self.price.longest_actor = self.price.longest_actor.max(bytes);
        Ok(())
    }

    /// Notes a commit message, which automerge copies.
    /// # Errors
    /// When it is too long.
    pub fn commit_message(&mut self, bytes: u64) -> Result<(), Bad> {
        if bytes > MAX_NAME_BYTES {
            return Err(Bad("a commit message of more than 1 MiB"));
        }
        self.chunk.name_bytes += bytes;
        Ok(())
    }

    /// Bytes that may still be inflated.
    pub fn may_inflate(&self) -> u64 {
        self.limits.inflated_bytes - self.price.inflated_bytes
    }

    /// Counts inflated bytes.
    /// # Errors
    /// When there are too many.
    pub fn inflated(&mut self, bytes: u64) -> Result<(), Excess> {
        let sum = self.price.inflated_bytes.saturating_add(bytes);
        self.price.inflated_bytes = self.within(Kind::InflatedBytes, sum)?;
        Ok(())
    }

    /// Ends a document chunk, which is not decoded here.
    pub fn end_document(&mut self) {
        self.price.operations += self.chunk.operations;
        self.chunk = Chunk::default();
    }

    /// Starts the second set of columns of a document: its operations come on top of its changes.
    pub fn next_columns(&mut self) {
        self.price.document_changes += self.chunk.operations;
        self.end_document();
    }

    /// Ends a change chunk of `wire` bytes, whose content has `inflated` bytes if it is deflated.
    pub fn end_change(&mut self, wire: u64, inflated: Option<u64>) {
        let content = inflated.unwrap_or(wire);
        // automerge keeps a copy of the content, we one in a frame if it was deflated; names and one value at a time
        // are copied out.
        let copies = if inflated.is_some() { 2 } else { 1 };
        let copied_out = self.chunk.largest_value.min(content) + self.chunk.name_bytes;
        let memory = content * copies + copied_out + self.chunk.actors * ACTOR_BYTES;
        self.price.chunk_memory = self.price.chunk_memory.max(memory);
        self.price.result_memory += wire + CHANGE_BYTES;
        self.price.operations += self.chunk.operations;
        self.chunk = Chunk::default();
    }

    fn within(&self, kind: Kind, sum: u64) -> Result<u64, Excess> {
        if sum > self.limits.of(kind) { Err(self.excess(kind)) } else { Ok(sum) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_over_chunks_and_stop_at_the_limit() {
        let limits = Limits { operations: 100, changes: 3, ..Limits::default() };
        let mut meter = Meter::new(&limits);
        for _ in 0..2 {
            meter.chunk(false).unwrap();
            // The longest column counts, not the sum of all.
            meter.operations(30).unwrap();
            meter.operations(50).unwrap();
            meter.operations(40).unwrap();
            meter.end_change(70, None);
        }
        assert_eq!(meter.price().operations, 100);
        meter.chunk(false).unwrap();
        assert_eq!(meter.operations(1), Err(Excess { kind: Kind::Operations, limit: 100 }));
        assert_eq!(meter.chunk(false), Err(Excess { kind: Kind::Changes, limit: 3 }.into()));
        assert_eq!(meter.hashes(16_384), Ok(()));
        assert_eq!(meter.hashes(1), Err(Excess { kind: Kind::Hashes, limit: 16_384 }));
        assert!(meter.operations(u64::MAX).is_err() && meter.hashes(u64::MAX).is_err());
    }

    #[test]
    fn memory_is_that_of_the_largest_chunk_and_of_all_results() {
        let mut meter = Meter::new(&Limits::default());
        for (wire, inflated) in [(100, None), (1_000, Some(50_000)), (2_000, Some(20_000))] {
            meter.chunk(false).unwrap();
            meter.value(u64::MAX);
            meter.end_change(wire, inflated);
        }
        assert_eq!(meter.price().chunk_memory, 150_000);
        assert_eq!(meter.price().result_memory, 3_100 + 3 * CHANGE_BYTES);
    }
}
