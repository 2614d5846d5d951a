//! The Bloom filter of automerge's sync protocol, read-only and checked before use.
//!
//! The automerge crate's own reader divides by a size that the sender chooses, and allocates by a count that the
//! sender chooses; this one refuses both.

use bytes::Bytes;

use super::leb::{Bad, Reader};
use crate::types::ChangeHash;

/// Most probes per hash that are taken; automerge uses 7.
const MAX_PROBES: u64 = 32;
/// Most bits per entry that are taken; automerge uses 10.
const MAX_BITS_PER_ENTRY: u64 = 64;

/// A set of hashes that answers "perhaps" or "no". Empty means: holds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bloom {
    entries: u64,
    probes: u64,
    bits: Bytes,
}

impl Bloom {
    /// Parse the wire form.
    /// # Errors
    /// When counts are out of bounds or do not fit the bytes.
    pub fn parse(bytes: &Bytes) -> Result<Self, Bad> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader::new(bytes);
        let entries = reader.unsigned()?;
        let bits_per_entry = reader.unsigned()?;
        let probes = reader.unsigned()?;
        if entries > u64::from(u32::MAX) || bits_per_entry > MAX_BITS_PER_ENTRY || probes > MAX_PROBES {
            return Err(Bad("Bloom filter out of bounds"));
        }
        let length = (entries * bits_per_entry).div_ceil(8);
        let bits = reader.bytes(length)?;
        if bits.is_empty() {
            return if entries == 0 { Ok(Self::default()) } else { Err(Bad("Bloom filter without bits")) };
        }
        Ok(Self { entries, probes, bits: bytes.slice_ref(bits) })
    }

    /// True when it certainly holds nothing.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// True when `hash` may be in the set; false when it is certainly not.
    pub fn contains(&self, hash: &ChangeHash) -> bool {
        if self.is_empty() {
            return false;
        }
        // Invariant: `parse` refuses filters with entries but without bits, so `modulo` is not 0.
        let modulo = 8 * self.bits.len() as u64;
        let word = |at: usize| {
            u64::from(u32::from_le_bytes([hash.0[at], hash.0[at + 1], hash.0[at + 2], hash.0[at + 3]]))
        };
        let (mut x, mut y, z) = (word(0) % modulo, word(4) % modulo, word(8) % modulo);
        for probe in 0..self.probes {
            if probe > 0 {
                x = (x + y) % modulo;
                y = (y + z) % modulo;
            }
            if self.bits[(x >> 3) as usize] & (1 << (x & 7)) == 0 {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use automerge::sync::BloomFilter;

    fn hash(n: u32) -> ChangeHash {
        use sha2::Digest;
        ChangeHash(sha2::Sha256::digest(n.to_le_bytes()).into())
    }

    #[test]
    fn agrees_with_automerge() {
        let inside: Vec<_> = (0..500).map(hash).collect();
        let theirs = BloomFilter::from_hashes(inside.iter());
        let ours = Bloom::parse(&Bytes::from(theirs.to_bytes())).unwrap();
        for n in 0..5000 {
            assert_eq!(ours.contains(&hash(n)), theirs.contains_hash(&hash(n)), "{n}");
        }
        assert!(Bloom::parse(&Bytes::new()).unwrap().is_empty());
    }

    #[test]
    fn hostile_counts_are_refused() {
        let huge_probes = [1, 10, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        let zero_bits = [5, 0, 7];
        let huge_entries = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 10, 7, 0];
        for bad in [&huge_probes[..], &zero_bits, &huge_entries, &[1, 10, 7, 0]] {
            assert!(Bloom::parse(&Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
    }
}
