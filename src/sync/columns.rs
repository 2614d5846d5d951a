//! Counts what automerge's columns would expand to, without expanding them.
//!
//! Columns are run-length encoded, so ten bytes can claim 2^60 operations. automerge walks them one by one; this
//! adds up the runs first. Format: automerge binary document format, "column data".

use flate2::bufread::DeflateDecoder;

use super::leb::{Bad, Reader};
use super::meter::Meter;
use super::price::{Kind, MAX_NAME_BYTES, Refused};
use super::source::{ColumnSource, Inflating, Source};

/// Most columns in one set; automerge 0.12 writes 15.
const MAX_COLUMNS: u64 = 64;
/// Set in a column's specification when its data is deflated.
const DEFLATED: u64 = 8;
// What a column holds, in the low three bits of its specification.
const GROUP: u64 = 0;
const DELTA: u64 = 3;
const BOOLEAN: u64 = 4;
const STRING: u64 = 5;
const VALUE_METADATA: u64 = 6;
const RAW: u64 = 7;

/// The metadata of a set of columns, whose data follows.
pub struct Columns {
    specs: Vec<(u64, u64)>,
}

impl Columns {
    /// Reads the metadata: a count, then specification and length of each column.
    /// # Errors
    /// When it is malformed.
    pub fn read(source: &mut impl Source) -> Result<Self, Refused> {
        let count = source.unsigned()?;
        if count > MAX_COLUMNS {
            return Err(Bad("too many columns").into());
        }
        let specs = (0..count).map(|_| Ok((source.unsigned()?, source.unsigned()?)));
        Ok(Self { specs: specs.collect::<Result<_, Refused>>()? })
    }

    /// Reads the columns of a change and counts what they expand to.
    /// # Errors
    /// When a column is malformed, deflated (a change is deflated as a whole or not at all) or too expensive.
    pub fn price(&self, source: &mut impl ColumnSource, meter: &mut Meter) -> Result<(), Refused> {
        for &(spec, length) in &self.specs {
            if spec & DEFLATED != 0 {
                return Err(Bad("deflated column in a change").into());
            }
            let values = source.column(spec & 7, length, meter)?;
            meter.operations(values)?;
        }
        Ok(())
    }

    /// Reads the columns of a document, each of which may be deflated, and counts what they expand to.
    /// # Errors
    /// When a column is malformed or too expensive.
    pub fn price_document(&self, reader: &mut Reader<'_>, meter: &mut Meter) -> Result<(), Refused> {
        for &(spec, length) in &self.specs {
            let data = reader.bytes(length)?;
            let values = if spec & DEFLATED == 0 {
                count(spec & 7, &mut Reader::new(data), meter)?
            } else {
                let mut decoder = DeflateDecoder::new(data);
                let over = meter.excess(Kind::InflatedBytes).into();
                let mut inflating = Inflating::new(&mut decoder, meter.may_inflate(), over);
                let values = count(spec & 7, &mut inflating, meter)?;
                inflating.drain()?;
                meter.inflated(inflating.inflated())?;
                values
            };
            meter.operations(values)?;
        }
        Ok(())
    }
}

/// Counts the values in the data of one column, all of `source`. A group column's members, which follow in other
/// columns, count like a column of their own.
/// # Errors
/// When the data is malformed, or claims more operations than the meter allows.
pub fn count(kind: u64, source: &mut impl Source, meter: &mut Meter) -> Result<u64, Refused> {
    // Raw values are as long as they are; the column before them counts them.
    if kind == RAW {
        return Ok(0);
    }
    let (mut values, mut members) = (0u64, 0u64);
    while !source.ended()? {
        let run = if kind == BOOLEAN { 0 } else { source.signed()? };
        let length = if run == 0 { source.unsigned()? } else { run.unsigned_abs() };
        // Checked before the values are read, which are then no more than the limit.
        values = values.saturating_add(length);
        meter.operations(values)?;
        if run > 0 {
            let each = value(kind, source, meter, length)?;
            members = members.saturating_add(length.saturating_mul(each));
        } else if run < 0 {
            for _ in 0..length {
                members = members.saturating_add(value(kind, source, meter, 1)?);
            }
        }
        meter.operations(members)?;
    }
    Ok(values.max(members))
}

/// Reads one value, which stands `times` times in a row; gives the members of a group, 0 for anything else.
#[inline]
fn value(kind: u64, source: &mut impl Source, meter: &mut Meter, times: u64) -> Result<u64, Refused> {
    match kind {
        GROUP => return source.unsigned(),
        DELTA => drop(source.signed()?),
        STRING => {
            let bytes = source.skip_prefixed()?;
            if bytes > MAX_NAME_BYTES {
                return Err(Bad("a key of more than 1 MiB").into());
            }
            meter.name(bytes, times);
        }
        // Type in the low four bits, then the length of the raw value.
        VALUE_METADATA => meter.value(source.unsigned()? >> 4),
        _ => drop(source.unsigned()?),
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::price::Limits;

    fn counted(kind: u64, data: &[u8]) -> Result<u64, Refused> {
        count(kind, &mut Reader::new(data), &mut Meter::new(&Limits::default()))
    }

    #[test]
    fn run_bombs_are_refused() {
        let run_of_2_pow_40 = [0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 1];
        for kind in [0, 1, 2, 3, 6] {
            assert!(matches!(counted(kind, &run_of_2_pow_40), Err(Refused::TooExpensive(_))), "{kind}");
        }
        assert!(counted(4, &run_of_2_pow_40[..6]).is_err());
        let null_run = [0, 0x80, 0x80, 0x80, 0x80, 0x20];
        assert!(counted(2, &null_run).is_err());
        let group_of_many = [1, 0x80, 0x80, 0x80, 0x80, 0x20];
        assert!(counted(0, &group_of_many).is_err());
        // -2^63, the literal run whose length has no positive counterpart.
        let literals = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f, 1];
        assert!(counted(2, &literals).is_err());
        // A sum over 64 bits.
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert!(counted(4, &[most, most].concat()).is_err());
    }

    #[test]
    fn values_and_members_are_counted() {
        assert_eq!(counted(2, &[3, 7, 0x7e, 1, 2, 0, 4]), Ok(9));
        assert_eq!(counted(4, &[5, 0, 2]), Ok(7));
        // Three groups of two members, then two of four and five.
        assert_eq!(counted(0, &[3, 2, 0x7e, 4, 5]), Ok(6 + 9));
        assert_eq!(counted(0, &[50, 0, 1, 3]), Ok(51));
        assert_eq!(counted(5, &[0x7e, 1, b'a', 2, b'b', b'c']), Ok(2));
        assert_eq!(counted(7, &[9; 50]), Ok(0));
        assert!(counted(5, &[1, 3, b'a']).is_err(), "cut short");
    }
}
