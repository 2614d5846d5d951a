//! Counts what automerge's columns would expand to, without expanding them.
//!
//! Columns are run-length encoded, so ten bytes can claim 2^60 operations. automerge walks them one by one; this
//! adds up the runs first. Format: automerge binary document format, "column data".

use flate2::bufread::DeflateDecoder;
use std::io::Read;

use super::leb::{Bad, Reader};

/// Most operations (or other column values) one chunk may hold.
pub const MAX_CHUNK_VALUES: u64 = 16 << 20;

/// Set in a column's specification when its data is deflated.
const DEFLATED: u64 = 8;

/// Checks the metadata of a set of columns, then each column's data, which follows in `data`.
pub struct Columns {
    specs: Vec<(u64, u64)>,
}

impl Columns {
    /// Read the metadata: a count, then specification and length of each column.
    /// # Errors
    /// Malformed.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        let count = reader.unsigned()?;
        if count > 64 {
            return Err(Bad("too many columns"));
        }
        let specs =
            (0..count).map(|_| Ok((reader.unsigned()?, reader.unsigned()?))).collect::<Result<_, Bad>>()?;
        Ok(Self { specs })
    }

    /// Read the columns' data and add up what they expand to; returns the values of the longest column, which is the
    /// number of operations or changes. `inflate_left` is lowered by the inflated size of deflated columns.
    /// # Errors
    /// Malformed, or over [`MAX_CHUNK_VALUES`] or `inflate_left`.
    pub fn check(&self, reader: &mut Reader<'_>, inflate_left: &mut u64) -> Result<u64, Bad> {
        let mut longest = 0;
        for &(spec, length) in &self.specs {
            let data = reader.bytes(length)?;
            if spec & DEFLATED == 0 {
                longest = longest.max(check_column(spec & 7, data)?);
            } else {
                let inflated = inflate(data, *inflate_left)?;
                *inflate_left -= inflated.len() as u64;
                longest = longest.max(check_column(spec & 7, &inflated)?);
            }
        }
        Ok(longest)
    }
}

/// Inflate raw deflate data to at most `limit` bytes.
/// # Errors
/// Malformed, or larger.
pub fn inflate(data: &[u8], limit: u64) -> Result<Vec<u8>, Bad> {
    let mut out = Vec::new();
    DeflateDecoder::new(data).take(limit + 1).read_to_end(&mut out).map_err(|_| Bad("deflated data"))?;
    if out.len() as u64 > limit {
        return Err(Bad("inflates to more than limits.inflated_bytes"));
    }
    Ok(out)
}

/// Returns how many values the column holds.
fn check_column(kind: u64, data: &[u8]) -> Result<u64, Bad> {
    let reader = &mut Reader::new(data);
    let mut total = 0u64;
    let mut add = |count: u64| {
        total = total.saturating_add(count);
        if total > MAX_CHUNK_VALUES { Err(Bad("holds more operations than one chunk may")) } else { Ok(()) }
    };
    match kind {
        7 => {} // raw values: as long as they are
        4 => {
            while !reader.is_empty() {
                add(reader.unsigned()?)?;
            }
        }
        _ => {
            while !reader.is_empty() {
                let run = reader.signed()?;
                if run == 0 {
                    add(reader.unsigned()?)?;
                } else if run > 0 {
                    add(run as u64)?;
                    let each = value(kind, reader)?;
                    add((run as u64).saturating_mul(each))?;
                } else {
                    add(run.unsigned_abs())?;
                    for _ in 0..run.unsigned_abs() {
                        let each = value(kind, reader)?;
                        add(each)?;
                    }
                }
            }
        }
    }
    Ok(total)
}

/// Reads one value; for a group column its value, as that many members follow in other columns.
fn value(kind: u64, reader: &mut Reader<'_>) -> Result<u64, Bad> {
    match kind {
        0 => return reader.unsigned(),
        3 => drop(reader.signed()?),
        5 => drop(reader.prefixed()?),
        _ => drop(reader.unsigned()?),
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_bombs_are_refused() {
        let run_of_2_pow_40 = [0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 1];
        for kind in [0, 1, 2, 3, 6] {
            assert!(check_column(kind, &run_of_2_pow_40).is_err(), "{kind}");
        }
        assert!(check_column(4, &run_of_2_pow_40[..6]).is_err());
        let null_run = [0, 0x80, 0x80, 0x80, 0x80, 0x20];
        assert!(check_column(2, &null_run).is_err());
        let group_of_many = [1, 0x80, 0x80, 0x80, 0x80, 0x20];
        assert!(check_column(0, &group_of_many).is_err());
        assert!(check_column(2, &[3, 7, 0x7e, 1, 2, 0, 4]).is_ok());
    }

    #[test]
    fn inflation_is_bounded() {
        use std::io::Write;
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 10_000_000]).unwrap();
        let bomb = encoder.finish().unwrap();
        assert!(inflate(&bomb, 1000).is_err());
        assert_eq!(inflate(&bomb, 10_000_000).unwrap().len(), 10_000_000);
    }
}
