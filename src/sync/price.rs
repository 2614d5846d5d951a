//! What a sync message costs to decode, counted before anything of it is expanded.
//!
//! Columns are run-length encoded and changes are deflated, so a few bytes can claim millions of operations or hundreds
//! of megabytes. A [`Meter`] adds up what all chunks of one message claim and stops at the first total over its
//! [`Limits`]. Counting takes constant memory and time in proportion to the message's bytes and what was counted.

use std::fmt;

use super::leb::Bad;

/// Most bytes of a key, a mark's name, an actor id or a commit message in one change: automerge copies each when it
/// decodes the change, keys twice.
pub const MAX_NAME_BYTES: u64 = 1 << 20;
/// Most actors that one chunk names. automerge's list of them takes up to 64 bytes for each while it grows, and an
/// empty actor id takes one byte on the wire.
pub const MAX_ACTORS: u64 = 1 << 18;
/// Most document chunks in one message. automerge's own messages carry one.
pub const MAX_DOCUMENTS: u64 = 64;

/// Bytes that a decoded change takes besides its own chunk: its record, actor id, dependencies and allocations.
const CHANGE_BYTES: u64 = 320;
/// Bytes that automerge keeps for each actor while it decodes a change.
const ACTOR_BYTES: u64 = 64;

/// The most that one sync message may cost, over all its chunks together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Operations claimed: for each chunk, the values of its longest column.
    pub operations: u64,
    /// Bytes that its deflated parts inflate to.
    pub inflated_bytes: u64,
    /// Changes and document chunks.
    pub changes: u64,
    /// Hashes in `heads`, `need` and all `last_sync` together; also dependencies of any one change.
    pub hashes: u64,
    /// Bytes of its Bloom filters.
    pub bloom_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Twice an honest paste of 4 million characters. Decoding costs some 0.1 to 0.2 us for each.
            operations: 8 << 20,
            // The same paste in 4-byte characters inflates to 16 MB. Decoding holds this twice.
            inflated_bytes: 32 << 20,
            // A history of 131,072 changes: some 14 MB as they come, 56 MB decoded.
            changes: 128 << 10,
            // A document has a head for each device that wrote without hearing of the others; some thousands are a lot.
            hashes: 16 << 10,
            // automerge writes 10 bits for each change since the last sync: 3.3 million changes.
            bloom_bytes: 4 << 20,
        }
    }
}

impl Limits {
    /// The lower of both, for each limit.
    pub fn at_most(&self, other: &Self) -> Self {
        Self {
            operations: self.operations.min(other.operations),
            inflated_bytes: self.inflated_bytes.min(other.inflated_bytes),
            changes: self.changes.min(other.changes),
            hashes: self.hashes.min(other.hashes),
            bloom_bytes: self.bloom_bytes.min(other.bloom_bytes),
        }
    }

    /// What one chunk in a file may cost. Files come from the owner, one document at a time, and a snapshot that this
    /// server wrote may have grown from many messages: 128 MiB and 16,777,216 operations with the defaults.
    pub fn for_files(&self) -> Self {
        let (operations, inflated_bytes) =
            (self.operations.saturating_mul(2), self.inflated_bytes.saturating_mul(4));
        Self { operations, inflated_bytes, ..*self }
    }

    /// The value of one limit.
    pub fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Operations => self.operations,
            Kind::InflatedBytes => self.inflated_bytes,
            Kind::Changes => self.changes,
            Kind::Hashes => self.hashes,
            Kind::BloomBytes => self.bloom_bytes,
        }
    }
}

/// One of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Limits::operations`].
    Operations,
    /// [`Limits::inflated_bytes`].
    InflatedBytes,
    /// [`Limits::changes`].
    Changes,
    /// [`Limits::hashes`].
    Hashes,
    /// [`Limits::bloom_bytes`].
    BloomBytes,
}

impl Kind {
    /// The limit's name in the configuration.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Operations => "limits.operations",
            Self::InflatedBytes => "limits.inflated_bytes",
            Self::Changes => "limits.changes",
            Self::Hashes => "limits.hashes",
            Self::BloomBytes => "limits.bloom_bytes",
        }
    }
}

/// A message costs more than a limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Excess {
    /// The limit.
    pub kind: Kind,
    /// Its value.
    pub limit: u64,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, setting) = (self.limit, self.kind.setting());
        match self.kind {
            Kind::Operations => write!(f, "it claims more than {limit} operations"),
            Kind::InflatedBytes => write!(f, "it inflates to more than {limit} bytes"),
            Kind::Changes => write!(f, "it holds more than {limit} changes"),
            Kind::Hashes => write!(f, "it names more than {limit} hashes"),
            Kind::BloomBytes => write!(f, "its Bloom filters have more than {limit} bytes"),
        }?;
        write!(f, ", which is {setting}; the server's owner can raise it")
    }
}

/// Why bytes were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The bytes do not parse.
    #[error(transparent)]
    Malformed(#[from] Bad),
    /// Decoding them would cost too much.
    #[error(transparent)]
    TooExpensive(#[from] Excess),
}

/// What a message costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price {
    /// As [`Limits::operations`].
    pub operations: u64,
    /// As [`Limits::inflated_bytes`].
    pub inflated_bytes: u64,
    /// As [`Limits::changes`].
    pub changes: u64,
    /// As [`Limits::hashes`].
    pub hashes: u64,
    /// As [`Limits::bloom_bytes`].
    pub bloom_bytes: u64,
    /// Document chunks among `changes`.
    pub documents: u64,
    /// Bytes of memory that decoding the most expensive single chunk takes.
    pub chunk_memory: u64,
    /// Bytes of memory that the decoded changes take.
    pub result_memory: u64,
}

impl Price {
    /// Bytes of memory that decoding takes at its peak, besides the message itself.
    pub fn memory(&self) -> u64 {
        self.chunk_memory + self.result_memory
    }
}

/// What is counted of the chunk at hand.
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

    /// Notes an actor id or a commit message, which automerge copies.
    /// # Errors
    /// When it is too long.
    pub fn name(&mut self, bytes: u64) -> Result<(), Bad> {
        if bytes > MAX_NAME_BYTES {
            return Err(Bad("an actor id or a commit message of more than 1 MiB"));
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

    #[test]
    fn the_client_is_told_which_limit() {
        let excess = Meter::new(&Limits::default()).excess(Kind::Operations);
        assert_eq!(
            Refused::from(excess).to_string(),
            "it claims more than 8388608 operations, which is limits.operations; the server's owner can raise it"
        );
    }
}
