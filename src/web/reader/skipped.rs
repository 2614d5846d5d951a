//! A message over `limits.message_bytes` while it streams by: only its two ends are kept, in which its addressing stands.

use std::collections::VecDeque;

use crate::sync::wire;

/// Bytes that are kept of each end. Names in a message have 256 bytes at most, and there are four.
const END_BYTES: usize = 2 * 1024;

/// What is kept of a message that is too large.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    first: Vec<u8>,
    last: VecDeque<u8>,
    bytes: u64,
}

impl Skipped {
    /// Of a message whose beginning has arrived: these bytes, unmasked.
    pub fn after(arrived: &[u8]) -> Self {
        let mut skipped = Self::default();
        skipped.take(arrived, [0; 4], 0);
        skipped
    }

    /// The next bytes of the message. `at` is the number of the first of them in its frame, which is masked with `mask`.
    pub fn take(&mut self, bytes: &[u8], mask: [u8; 4], at: u64) {
        let unmasked = |from: usize| {
            let turn = (at % 4) as usize + from;
            bytes[from..].iter().enumerate().map(move |(n, byte)| byte ^ mask[(turn + n) % 4])
        };
        let missing = END_BYTES - self.first.len();
        self.first.extend(unmasked(0).take(missing));
        let news = bytes.len().min(END_BYTES);
        let excess = (self.last.len() + news).saturating_sub(END_BYTES);
        self.last.drain(..excess);
        self.last.extend(unmasked(bytes.len() - news));
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
    }

    /// It can be told what the message is about, as far as its beginning has come.
    pub fn is_clear(&self) -> bool {
        self.first.len() < END_BYTES || wire::may_be_decoded(&self.first)
    }

    /// Bytes of the message so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The first bytes and the last ones, 2 KiB of each at most. They overlap if the message is no larger.
    pub fn into_ends(self) -> (Vec<u8>, Vec<u8>) {
        (self.first, self.last.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_kept_unmasked_in_any_cut() {
        let message: Vec<u8> = (0..20_001u32).map(|n| (n % 251) as u8).collect();
        let mask = [9, 8, 7, 6];
        let masked: Vec<u8> =
            message.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        for piece in [1, 3, 1_000, END_BYTES, END_BYTES + 1, 30_000] {
            let mut skipped = Skipped::after(b"");
            for (n, part) in masked.chunks(piece).enumerate() {
                skipped.take(part, mask, (n * piece) as u64);
            }
            assert_eq!(skipped.bytes(), 20_001);
            let (first, last) = skipped.into_ends();
            assert_eq!(
                (&first[..], &last[..]),
                (&message[..END_BYTES], &message[20_001 - END_BYTES..]),
                "{piece}"
            );
        }
    }

    #[test]
    fn what_had_arrived_counts() {
        let mut skipped = Skipped::after(b"abc");
        skipped.take(b"de", [0; 4], 0);
        assert_eq!(skipped.bytes(), 5);
        assert_eq!(skipped.into_ends(), (b"abcde".to_vec(), b"abcde".to_vec()));
    }
}
