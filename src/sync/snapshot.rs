//! The index of a snapshot: what must be known of the changes inside it without opening it.
//!
//! Full hashes would cost 32 bytes for each change, many times what the snapshot itself takes. Instead: a keyed
//! fingerprint of each hash in a Golomb-coded set (about 22 bits each; wrong for one foreign hash in a million), and
//! exactly: every actor's last sequence number and the highest operation. Whether a *change* is in the snapshot is
//! exact, as it carries actor and sequence number; only the question "do you know this bare hash" rests on the
//! fingerprint, and a wrong "yes" heals itself, for the change behind it is still taken in when it comes.

use std::collections::HashMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::leb::{Bad, Reader, put_unsigned};
use crate::types::ChangeHash;

/// Bits below the average gap: one in 2^20 foreign hashes is taken for known.
const GOLOMB_BITS: u32 = 20;

/// Fingerprints, actors and counters of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    salt: [u8; 16],
    range: u64,
    fingerprints: Vec<u64>,
    /// Last sequence number of every actor.
    pub actors: HashMap<Bytes, u64>,
    /// Highest operation counter.
    pub max_op: u64,
}

impl Index {
    /// Index the changes of a snapshot. `salt` keeps others from finding hashes that collide.
    pub fn build(
        salt: [u8; 16],
        hashes: impl ExactSizeIterator<Item = ChangeHash>,
        actors: HashMap<Bytes, u64>,
        max_op: u64,
    ) -> Self {
        let range = (hashes.len() as u64).max(1) << GOLOMB_BITS;
        let mut fingerprints: Vec<u64> = hashes.map(|hash| fingerprint(&salt, range, &hash)).collect();
        fingerprints.sort_unstable();
        Self { salt, range, fingerprints, actors, max_op }
    }

    /// True when the hash is (almost surely) that of a change in the snapshot.
    pub fn knows(&self, hash: &ChangeHash) -> bool {
        self.fingerprints.binary_search(&fingerprint(&self.salt, self.range, hash)).is_ok()
    }

    /// Changes that the index knows.
    pub fn changes(&self) -> u64 {
        self.fingerprints.len() as u64
    }

    /// Bytes of memory in use, about.
    pub fn memory(&self) -> usize {
        self.fingerprints.len() * 8 + self.actors.len() * 96 + 128
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1];
        out.extend_from_slice(&self.salt);
        put_unsigned(&mut out, self.max_op);
        put_unsigned(&mut out, self.actors.len() as u64);
        let mut actors: Vec<_> = self.actors.iter().collect();
        actors.sort_unstable();
        for (actor, seq) in actors {
            put_unsigned(&mut out, actor.len() as u64);
            out.extend_from_slice(actor);
            put_unsigned(&mut out, *seq);
        }
        put_unsigned(&mut out, self.fingerprints.len() as u64);
        let mut bits = BitWriter { out, free: 0 };
        let mut last = 0;
        for fingerprint in &self.fingerprints {
            let gap = fingerprint - last;
            last = *fingerprint;
            for _ in 0..gap >> GOLOMB_BITS {
                bits.put(1, 1);
            }
            bits.put(0, 1);
            bits.put(gap & ((1 << GOLOMB_BITS) - 1), GOLOMB_BITS);
        }
        bits.out
    }

    /// Read the stored form.
    /// # Errors
    /// When it is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, Bad> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != 1 {
            return Err(Bad("snapshot index of another version"));
        }
        let salt = reader.bytes(16)?.try_into().map_err(|_| Bad("salt"))?;
        let max_op = reader.unsigned()?;
        let mut actors = HashMap::new();
        for _ in 0..reader.unsigned()? {
            let actor = Bytes::copy_from_slice(reader.prefixed()?);
            actors.insert(actor, reader.unsigned()?);
        }
        let count = reader.unsigned()?;
        if count > reader.rest().len() as u64 * 8 / u64::from(GOLOMB_BITS) {
            return Err(Bad("snapshot index count"));
        }
        let range = count.max(1) << GOLOMB_BITS;
        let mut bits = BitReader { bytes: reader.rest(), at: 0 };
        let mut fingerprints = Vec::with_capacity(count as usize);
        let mut last = 0;
        for _ in 0..count {
            let mut gap = 0;
            while bits.get(1)? == 1 {
                gap += 1 << GOLOMB_BITS;
            }
            last += gap | bits.get(GOLOMB_BITS)?;
            fingerprints.push(last);
        }
        Ok(Self { salt, range, fingerprints, actors, max_op })
    }
}

fn fingerprint(salt: &[u8; 16], range: u64, hash: &ChangeHash) -> u64 {
    let digest = Sha256::new().chain_update(salt).chain_update(hash.0).finalize();
    let word = u64::from_le_bytes(digest[..8].try_into().unwrap_or_default());
    ((u128::from(word) * u128::from(range)) >> 64) as u64
}

struct BitWriter {
    out: Vec<u8>,
    free: u32,
}

impl BitWriter {
    fn put(&mut self, value: u64, bits: u32) {
        for bit in (0..bits).rev() {
            if self.free == 0 {
                self.out.push(0);
                self.free = 8;
            }
            self.free -= 1;
            if let Some(last) = self.out.last_mut() {
                *last |= ((value >> bit & 1) as u8) << self.free;
            }
        }
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    fn get(&mut self, bits: u32) -> Result<u64, Bad> {
        let mut value = 0;
        for _ in 0..bits {
            let byte = self.bytes.get(self.at >> 3).ok_or(Bad("snapshot index cut short"))?;
            value = value << 1 | u64::from(byte >> (7 - (self.at & 7)) & 1);
            self.at += 1;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> ChangeHash {
        ChangeHash(Sha256::digest(n.to_le_bytes()).into())
    }

    #[test]
    fn knows_its_own_and_little_else() {
        let actors = HashMap::from([(Bytes::from_static(b"a"), 7)]);
        let index = Index::build([3; 16], (0..10_000).map(hash).collect::<Vec<_>>().into_iter(), actors, 99);
        let stored = index.encode();
        assert!(stored.len() < 10_000 * 23 / 8 + 100, "{} bytes", stored.len());
        let read = Index::decode(&stored).unwrap();
        assert_eq!(read, index);
        assert!((0..10_000).all(|n| read.knows(&hash(n))));
        let wrong = (10_000..210_000).filter(|n| read.knows(&hash(*n))).count();
        assert!(wrong < 5, "{wrong} foreign hashes in 200,000");
    }

    #[test]
    fn damage_is_an_error_not_a_panic() {
        let index =
            Index::build([3; 16], (0..100).map(hash).collect::<Vec<_>>().into_iter(), HashMap::new(), 1);
        let stored = index.encode();
        for length in 0..stored.len() - 1 {
            let _ = Index::decode(&stored[..length]);
        }
        assert!(Index::decode(&stored[..40]).is_err());
        let empty = Index::build([0; 16], Vec::new().into_iter(), HashMap::new(), 0);
        assert_eq!(Index::decode(&empty.encode()).unwrap(), empty);
    }
}
