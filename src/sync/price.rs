//! What a sync message costs to decode, counted before anything of it is expanded.
//!
//! Columns are run-length encoded and changes are deflated, so a few bytes can claim millions of operations or hundreds
//! of megabytes. A [`Meter`](super::meter::Meter) adds up what all chunks of one message claim and stops at the first
//! total over its [`Limits`]. Counting takes constant memory, and time in proportion to the message's bytes and what was
//! counted.

use std::fmt;

use super::leb::Bad;

/// Most bytes of a key, a mark's name or a commit message in one change: automerge copies each when it
/// decodes the change, keys twice.
pub const MAX_NAME_BYTES: u64 = 1 << 20;
/// Most bytes of an actor id. automerge's own have 16; the graph of a document keeps each actor's as long as it is in memory.
pub const MAX_ACTOR_BYTES: u64 = 256;
/// Most actors that one chunk names. automerge's list of them takes up to 64 bytes for each while it grows, and an
/// empty actor id takes one byte on the wire.
pub const MAX_ACTORS: u64 = 1 << 18;
/// Most document chunks in one message. automerge's own messages carry one.
pub const MAX_DOCUMENTS: u64 = 64;

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
            // 1.x clients send a whole history as single changes in one message, so limits.message_bytes is the bound for
            // honest ones: some 300,000 changes of 110 bytes, 130 MB decoded.
            changes: 512 << 10,
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
    /// Changes inside those document chunks, at most.
    pub document_changes: u64,
    /// Actors that the chunks name, each chunk's counted by itself.
    pub actors: u64,
    /// Bytes of the longest actor id.
    pub longest_actor: u64,
    /// Keys, names of marks, messages of changes: how many operations or changes have one.
    pub names: u64,
    /// Bytes of those names, each as often as an operation or a change has it.
    pub name_bytes: u64,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_told_which_limit() {
        let limit = Limits::default().of(Kind::Operations);
        let excess = Excess { kind: Kind::Operations, limit };
        assert_eq!(
            Refused::from(excess).to_string(),
            "it claims more than 8388608 operations, which is limits.operations; the server's owner can raise it"
        );
    }
}
