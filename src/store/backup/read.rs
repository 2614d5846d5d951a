//! Reads records out of blocks, with no more in memory than one block and one record.

use std::io::Read;

use super::block::{BlockReader, Next};
use super::record::{HEAD_BYTES, Kind};
use super::{BackupError, Manifest, Totals};

/// Kind, key and value.
pub(super) type Record<'a> = (Kind, &'a [u8], &'a [u8]);

pub(super) struct RecordReader<R> {
    blocks: BlockReader<R>,
    buffer: Vec<u8>,
    /// Records before this place of the buffer are done with.
    done: usize,
    max_value_bytes: usize,
    totals: Option<Totals>,
}

impl<R: Read> RecordReader<R> {
    pub(super) fn begin(source: R, max_value_bytes: usize) -> Result<(Self, Manifest), BackupError> {
        let (blocks, manifest) = BlockReader::begin(source)?;
        Ok((Self { blocks, buffer: Vec::new(), done: 0, max_value_bytes, totals: None }, manifest))
    }

    /// The next record: kind, key, value; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Record<'_>>, BackupError> {
        if !self.fill(HEAD_BYTES)? {
            return if self.done == self.buffer.len() { Ok(None) } else { Err(inside_a_record()) };
        }
        let [byte, k0, k1, v0, v1, v2, v3] = self.buffer[self.done..self.done + HEAD_BYTES] else {
            return Err(inside_a_record());
        };
        let Some(kind) = Kind::of(byte) else {
            return Err(BackupError::Unfit(format!("it holds a record of the unknown kind {byte}")));
        };
        let (key, value) =
            (u16::from_be_bytes([k0, k1]) as usize, u32::from_be_bytes([v0, v1, v2, v3]) as usize);
        if value > self.max_value_bytes {
            return Err(BackupError::TooLarge { bytes: value as u64, limit: self.max_value_bytes as u64 });
        }
        // The buffer grows with what is there, never with what is claimed.
        if !self.fill(HEAD_BYTES + key + value)? {
            return Err(inside_a_record());
        }
        let from = self.done + HEAD_BYTES;
        self.done = from + key + value;
        let (key, value) = self.buffer[from..self.done].split_at(key);
        Ok(Some((kind, key, value)))
    }

    /// What the backup says that it holds; after the last record.
    pub(super) fn totals(&self) -> Totals {
        self.totals.unwrap_or_default()
    }

    /// Has so many bytes in the buffer; false if the backup ends before.
    fn fill(&mut self, bytes: usize) -> Result<bool, BackupError> {
        while self.buffer.len() - self.done < bytes {
            if self.totals.is_some() {
                return Ok(false);
            }
            self.buffer.drain(..self.done);
            self.done = 0;
            if let Next::End(totals) = self.blocks.next(&mut self.buffer)? {
                self.totals = Some(totals);
            }
        }
        Ok(true)
    }
}

fn inside_a_record() -> BackupError {
    BackupError::Unfit("it ends inside a record".into())
}
