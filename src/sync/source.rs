//! Foreign bytes read front to back: from a slice, or inflated on the way through one small buffer.
//!
//! Checks are written once against [`Source`], so what a deflated chunk claims is counted in constant memory.

use std::io::Read as _;

use flate2::bufread::DeflateDecoder;

use super::columns;
use super::leb::{self, Bad, Reader};
use super::meter::Meter;
use super::price::Refused;

/// Bytes of inflated content held at a time.
const BUFFER_BYTES: usize = 16 * 1024;

/// Bytes that are read once, from the front.
pub trait Source {
    /// Reads one byte.
    /// # Errors
    /// When the source has ended, or cannot be read on.
    fn byte(&mut self) -> Result<u8, Refused>;

    /// Fills `out`.
    /// # Errors
    /// When the source holds fewer bytes, or cannot be read on.
    fn read(&mut self, out: &mut [u8]) -> Result<(), Refused>;

    /// Passes over `count` bytes.
    /// # Errors
    /// When the source holds fewer bytes, or cannot be read on.
    fn skip(&mut self, count: u64) -> Result<(), Refused>;

    /// Reports whether the source has ended.
    /// # Errors
    /// When the source cannot be read on.
    fn ended(&mut self) -> Result<bool, Refused>;

    /// Reads an unsigned LEB128.
    /// # Errors
    /// When the source has ended or cannot be read on, or the number has more than 64 bits.
    fn unsigned(&mut self) -> Result<u64, Refused> {
        leb::unsigned(|| self.byte())
    }

    /// Reads a signed LEB128.
    /// # Errors
    /// When the source has ended or cannot be read on, or the number has more than 64 bits.
    fn signed(&mut self) -> Result<i64, Refused> {
        leb::signed(|| self.byte())
    }

    /// Passes over bytes that stand behind their length; gives the length.
    /// # Errors
    /// When the source holds fewer bytes, or cannot be read on.
    fn skip_prefixed(&mut self) -> Result<u64, Refused> {
        let length = self.unsigned()?;
        self.skip(length)?;
        Ok(length)
    }
}

/// A source from which columns are counted, each of a known length.
pub trait ColumnSource: Source {
    /// Counts a column's values, as [`columns::count`] does.
    /// # Errors
    /// When the source holds less than the column's length, or the column is malformed or too expensive.
    fn column(&mut self, kind: u64, length: u64, meter: &mut Meter) -> Result<u64, Refused>;
}

impl Source for Reader<'_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Refused> {
        Ok(Reader::byte(self)?)
    }

    fn read(&mut self, out: &mut [u8]) -> Result<(), Refused> {
        out.copy_from_slice(self.bytes(out.len() as u64)?);
        Ok(())
    }

    fn skip(&mut self, count: u64) -> Result<(), Refused> {
        self.bytes(count)?;
        Ok(())
    }

    fn ended(&mut self) -> Result<bool, Refused> {
        Ok(self.is_empty())
    }

    // By the reader's own, whose smaller errors fit into registers: small changes pass through here.
    fn unsigned(&mut self) -> Result<u64, Refused> {
        Ok(Reader::unsigned(self)?)
    }

    fn signed(&mut self) -> Result<i64, Refused> {
        Ok(Reader::signed(self)?)
    }
}

impl ColumnSource for Reader<'_> {
    fn column(&mut self, kind: u64, length: u64, meter: &mut Meter) -> Result<u64, Refused> {
        columns::count(kind, &mut Reader::new(self.bytes(length)?), meter)
    }
}

/// Content that is inflated while it is read. A meter pays for every inflated byte, read or not yet read.
pub struct Inflating<'a, 'd> {
    decoder: &'a mut DeflateDecoder<&'d [u8]>,
    buffer: Box<[u8; BUFFER_BYTES]>,
    at: usize,
    filled: usize,
    /// Bytes that may still come out.
    left: u64,
    /// What `left` was when the reading began.
    allowed: u64,
    over: Refused,
}

impl<'a, 'd> Inflating<'a, 'd> {
    /// Reads what `decoder` inflates, at most `allowed` bytes; `over` is the error for more.
    pub fn new(decoder: &'a mut DeflateDecoder<&'d [u8]>, allowed: u64, over: Refused) -> Self {
        let buffer = Box::new([0; BUFFER_BYTES]);
        Self { decoder, buffer, at: 0, filled: 0, left: allowed, allowed, over }
    }

    /// Bytes inflated so far.
    pub fn inflated(&self) -> u64 {
        self.allowed - self.left
    }

    /// Reads to the end.
    /// # Errors
    /// When the data is malformed or inflates to more than allowed.
    pub fn drain(&mut self) -> Result<(), Refused> {
        while self.fill()? {
            self.at = self.filled;
        }
        Ok(())
    }

    /// Makes sure that the buffer holds an unread byte; false at the end.
    fn fill(&mut self) -> Result<bool, Refused> {
        if self.at < self.filled {
            return Ok(true);
        }
        let read = self.decoder.read(&mut self.buffer[..]).map_err(|_| Bad("deflated data"))?;
        self.left = self.left.checked_sub(read as u64).ok_or(self.over)?;
        (self.at, self.filled) = (0, read);
        Ok(read > 0)
    }
}

impl Source for Inflating<'_, '_> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Refused> {
        if !self.fill()? {
            return Err(Bad("cut short").into());
        }
        self.at += 1;
        Ok(self.buffer[self.at - 1])
    }

    fn read(&mut self, mut out: &mut [u8]) -> Result<(), Refused> {
        while !out.is_empty() {
            if !self.fill()? {
                return Err(Bad("cut short").into());
            }
            let count = out.len().min(self.filled - self.at);
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&self.buffer[self.at..self.at + count]);
            self.at += count;
            out = later;
        }
        Ok(())
    }

    fn skip(&mut self, mut count: u64) -> Result<(), Refused> {
        while count > 0 {
            if !self.fill()? {
                return Err(Bad("cut short").into());
            }
            let now = count.min((self.filled - self.at) as u64);
            self.at += now as usize;
            count -= now;
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<bool, Refused> {
        Ok(!self.fill()?)
    }
}

impl ColumnSource for Inflating<'_, '_> {
    fn column(&mut self, kind: u64, length: u64, meter: &mut Meter) -> Result<u64, Refused> {
        let mut part = Part { of: self, left: length };
        let values = columns::count(kind, &mut part, meter)?;
        // Raw values are not read by that.
        let left = part.left;
        self.skip(left)?;
        Ok(values)
    }
}

/// The next bytes of another source, so many and no more.
struct Part<'a, S> {
    of: &'a mut S,
    left: u64,
}

impl<S> Part<'_, S> {
    fn take(&mut self, count: u64) -> Result<(), Bad> {
        self.left = self.left.checked_sub(count).ok_or(Bad("cut short"))?;
        Ok(())
    }
}

impl<S: Source> Source for Part<'_, S> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Refused> {
        self.take(1)?;
        self.of.byte()
    }

    fn read(&mut self, out: &mut [u8]) -> Result<(), Refused> {
        self.take(out.len() as u64)?;
        self.of.read(out)
    }

    fn skip(&mut self, count: u64) -> Result<(), Refused> {
        self.take(count)?;
        self.of.skip(count)
    }

    fn ended(&mut self) -> Result<bool, Refused> {
        Ok(self.left == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn inflated_bytes_read_like_a_slice() {
        let bytes: Vec<u8> =
            (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 20) as u8 & 0x7f).collect();
        let data = deflated(&bytes);
        let mut decoder = DeflateDecoder::new(&data[..]);
        let mut inflating = Inflating::new(&mut decoder, 100_000, Bad("over").into());
        let mut plain = Reader::new(&bytes);
        let mut step = 1;
        while !Source::ended(&mut plain).unwrap() {
            let mut ours = vec![0; step.min(plain.rest().len())];
            let mut theirs = ours.clone();
            inflating.read(&mut ours).unwrap();
            Source::read(&mut plain, &mut theirs).unwrap();
            assert_eq!(ours, theirs);
            if !plain.is_empty() {
                assert_eq!(inflating.unsigned().unwrap(), Source::unsigned(&mut plain).unwrap());
            }
            step = step * 3 + 1;
        }
        assert!(inflating.ended().unwrap() && inflating.byte().is_err() && inflating.skip(1).is_err());
        assert_eq!(inflating.inflated(), 100_000);
    }

    #[test]
    fn inflation_stops_at_what_is_allowed() {
        let bomb = deflated(&vec![0; 10_000_000]);
        let over = Refused::from(Bad("over"));
        for (allowed, result) in [(9_999_999, Err(over)), (10_000_000, Ok(())), (1000, Err(over))] {
            let mut decoder = DeflateDecoder::new(&bomb[..]);
            let mut inflating = Inflating::new(&mut decoder, allowed, over);
            assert_eq!(inflating.drain(), result);
            // What came out before the end was noticed: one buffer more at most.
            assert!(decoder.total_out() <= allowed + BUFFER_BYTES as u64);
        }
        let mut decoder = DeflateDecoder::new(&[0xff, 0xff, 0xff][..]);
        assert!(Inflating::new(&mut decoder, 10, over).drain().is_err());
    }
}
