//! LEB128 numbers and length-prefixed bytes, as automerge's formats use them.

/// Foreign bytes that do not parse; the text says which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Bad(pub &'static str);

/// Reads from the front of a slice; never past its end.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Start at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True at the end.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    /// # Errors
    /// At the end.
    pub fn byte(&mut self) -> Result<u8, Bad> {
        let (first, rest) = self.rest.split_first().ok_or(Bad("cut short"))?;
        self.rest = rest;
        Ok(*first)
    }

    /// An unsigned LEB128 of at most 64 bits.
    /// # Errors
    /// Cut short or too large.
    pub fn unsigned(&mut self) -> Result<u64, Bad> {
        unsigned(|| self.byte())
    }

    /// A signed LEB128 of at most 64 bits.
    /// # Errors
    /// Cut short or too large.
    pub fn signed(&mut self) -> Result<i64, Bad> {
        signed(|| self.byte())
    }

    /// The next `length` bytes.
    /// # Errors
    /// When there are fewer.
    pub fn bytes(&mut self, length: u64) -> Result<&'a [u8], Bad> {
        let length = usize::try_from(length).map_err(|_| Bad("length too large"))?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Bad("cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Bytes with their length before them.
    /// # Errors
    /// When there are fewer.
    pub fn prefixed(&mut self) -> Result<&'a [u8], Bad> {
        let length = self.unsigned()?;
        self.bytes(length)
    }
}

/// Reads an unsigned LEB128 of at most 64 bits from a source of bytes.
/// # Errors
/// The source's own errors, or [`Bad`] for a number over 64 bits.
#[inline]
pub fn unsigned<E: From<Bad>>(mut byte: impl FnMut() -> Result<u8, E>) -> Result<u64, E> {
    let mut value = 0u64;
    for shift in (0..).step_by(7) {
        let byte = byte()?;
        if shift == 63 && byte > 1 {
            return Err(Bad("number over 64 bits").into());
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(value)
}

/// Reads a signed LEB128 of at most 64 bits from a source of bytes.
/// # Errors
/// The source's own errors, or [`Bad`] for a number over 64 bits.
#[inline]
pub fn signed<E: From<Bad>>(mut byte: impl FnMut() -> Result<u8, E>) -> Result<i64, E> {
    let mut value = 0i64;
    let mut shift = 0u32;
    loop {
        let byte = byte()?;
        if shift == 63 && byte != 0 && byte != 0x7f {
            return Err(Bad("number over 64 bits").into());
        }
        value |= i64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            if shift < 64 && byte & 0x40 != 0 {
                value |= -1i64 << shift;
            }
            return Ok(value);
        }
    }
}

/// Append an unsigned LEB128.
pub fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_round_trips_and_has_bounds() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_unsigned(&mut out, value);
            assert_eq!(Reader::new(&out).unsigned(), Ok(value));
        }
        assert!(Reader::new(&[0xff; 11]).unsigned().is_err());
        assert!(Reader::new(&[0x80]).unsigned().is_err());
    }

    #[test]
    fn signed_reads_both_signs() {
        for (bytes, value) in [(&[0x7f][..], -1), (&[0x01], 1), (&[0x80, 0x7f], -128), (&[0xff, 0x00], 127)] {
            assert_eq!(Reader::new(bytes).signed(), Ok(value));
        }
        assert!(Reader::new(&[0xff; 11]).signed().is_err());
    }
}
