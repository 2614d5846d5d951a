//! Blocks: lengths that are bounded before they are believed, compression, and the running digest.

use std::io::{self, Read};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use bytes::Bytes;

use super::{BackupError, Manifest, Totals};

/// Every backup begins so; the digit is the format.
pub(super) const MAGIC: &[u8; 25] = b"groundmist-sync backup 1\n";
const FORMAT: u32 = 1;
/// Where the digit stands.
const FORMAT_AT: usize = 23;
/// Bytes of a block before compression, at most.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// Kind and two lengths.
pub(super) const HEAD_BYTES: usize = 9;
pub(super) const DIGEST_BYTES: usize = SHA256_OUTPUT_LEN;

pub(super) const MANIFEST: u8 = b'M';
pub(super) const DATA: u8 = b'D';
pub(super) const END: u8 = b'E';

/// Takes the stream, a block or so at a time.
pub(super) type Sink<'a> = &'a mut dyn FnMut(Bytes) -> Result<(), BackupError>;

/// Makes blocks of records.
pub(super) struct BlockWriter<'a> {
    sink: Sink<'a>,
    digest: Context,
    plain: Vec<u8>,
}

impl<'a> BlockWriter<'a> {
    /// Begins a backup.
    pub(super) fn begin(sink: Sink<'a>, manifest: &Manifest) -> Result<Self, BackupError> {
        let mut digest = Context::new(&SHA256);
        digest.update(MAGIC);
        sink(Bytes::from_static(MAGIC))?;
        let mut writer = Self { sink, digest, plain: Vec::with_capacity(BLOCK_BYTES) };
        writer.json(MANIFEST, manifest)?;
        Ok(writer)
    }

    /// Adds bytes of the stream of records.
    pub(super) fn add(&mut self, mut bytes: &[u8]) -> Result<(), BackupError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.plain.len()));
            self.plain.extend_from_slice(now);
            bytes = later;
            if self.plain.len() == BLOCK_BYTES {
                self.data()?;
            }
        }
        Ok(())
    }

    /// Ends the backup.
    pub(super) fn finish(mut self, totals: &Totals) -> Result<(), BackupError> {
        if !self.plain.is_empty() {
            self.data()?;
        }
        self.json(END, totals)
    }

    fn data(&mut self) -> Result<(), BackupError> {
        let length = self.plain.len();
        let mut block = vec![0; HEAD_BYTES + length + DIGEST_BYTES];
        // Into one byte less: what does not become shorter stays as it is.
        let stored = match lz4_flex::block::compress_into(
            &self.plain,
            &mut block[HEAD_BYTES..HEAD_BYTES + length - 1],
        ) {
            Ok(stored) => stored,
            Err(_) => {
                block[HEAD_BYTES..HEAD_BYTES + length].copy_from_slice(&self.plain);
                length
            }
        };
        block.truncate(HEAD_BYTES + stored);
        self.plain.clear();
        self.put(DATA, length, block)
    }

    fn json(&mut self, kind: u8, content: &impl serde::Serialize) -> Result<(), BackupError> {
        let mut block = vec![0; HEAD_BYTES];
        serde_json::to_writer(&mut block, content).map_err(|error| BackupError::Write(error.into()))?;
        let length = block.len() - HEAD_BYTES;
        self.put(kind, length, block)
    }

    /// Completes and hands out a block that has room for its head.
    fn put(&mut self, kind: u8, plain: usize, mut block: Vec<u8>) -> Result<(), BackupError> {
        // Both are at most BLOCK_BYTES.
        let (plain, stored) = (plain as u32, (block.len() - HEAD_BYTES) as u32);
        block[0] = kind;
        block[1..5].copy_from_slice(&plain.to_be_bytes());
        block[5..HEAD_BYTES].copy_from_slice(&stored.to_be_bytes());
        self.digest.update(&block);
        let so_far = self.digest.clone().finish();
        block.extend_from_slice(so_far.as_ref());
        self.digest.update(so_far.as_ref());
        (self.sink)(block.into())
    }
}

/// The lengths of a block (as it was, as stored), if a block of this kind may have them.
pub(super) fn lengths(head: [u8; HEAD_BYTES]) -> Option<(u8, usize, usize)> {
    let [kind, p0, p1, p2, p3, s0, s1, s2, s3] = head;
    let [plain, stored] =
        [[p0, p1, p2, p3], [s0, s1, s2, s3]].map(|bytes| u32::from_be_bytes(bytes) as usize);
    let may_shrink = kind == DATA;
    let fits = plain <= BLOCK_BYTES && 0 < stored && stored <= plain && (may_shrink || stored == plain);
    (matches!(kind, MANIFEST | DATA | END) && fits).then_some((kind, plain, stored))
}

/// Reads blocks and believes none of them before its digest is right.
pub(super) struct BlockReader<R> {
    source: R,
    digest: Context,
    /// Bytes read so far.
    at: u64,
    stored: Vec<u8>,
}

/// What came next.
pub(super) enum Next {
    /// Records were added to the buffer.
    Data,
    /// That was all.
    End(Totals),
}

impl<R: Read> BlockReader<R> {
    /// Begins a backup, and reads its manifest.
    pub(super) fn begin(source: R) -> Result<(Self, Manifest), BackupError> {
        let mut reader = Self { source, digest: Context::new(&SHA256), at: 0, stored: Vec::new() };
        let mut magic = [0; MAGIC.len()];
        reader.read(&mut magic)?;
        if magic[..FORMAT_AT] != MAGIC[..FORMAT_AT] || magic[FORMAT_AT + 1..] != MAGIC[FORMAT_AT + 1..] {
            return Err(BackupError::NotABackup);
        }
        match char::from(magic[FORMAT_AT]).to_digit(10) {
            Some(FORMAT) => {}
            Some(found) if found > FORMAT => return Err(BackupError::NewerFormat { found, known: FORMAT }),
            _ => return Err(BackupError::NotABackup),
        }
        reader.digest.update(&magic);
        let (kind, _) = reader.block()?;
        if kind != MANIFEST {
            return Err(reader.damaged("it does not begin with its manifest"));
        }
        let manifest = Manifest::parse(&reader.stored)?;
        Ok((reader, manifest))
    }

    /// Adds the next block's records to `out`.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Result<Next, BackupError> {
        let (kind, plain) = self.block()?;
        match kind {
            DATA if plain == self.stored.len() => out.extend_from_slice(&self.stored),
            DATA => {
                let from = out.len();
                out.resize(from + plain, 0);
                let whole = lz4_flex::block::decompress_into(&self.stored, &mut out[from..]);
                if whole.ok() != Some(plain) {
                    return Err(self.damaged("a block cannot be decompressed"));
                }
            }
            END => {
                let totals = serde_json::from_slice(&self.stored).map_err(|error| {
                    BackupError::Unfit(format!("its totals are not understood ({error})"))
                })?;
                let mut more = [0];
                return match self.source.read(&mut more) {
                    Ok(0) => Ok(Next::End(totals)),
                    Ok(_) => Err(self.damaged("something follows its end")),
                    Err(source) => Err(BackupError::Read { bytes: self.at, source }),
                };
            }
            _ => return Err(self.damaged("a second manifest")),
        }
        Ok(Next::Data)
    }

    /// Reads one block into `stored`; its kind and its length before compression.
    fn block(&mut self) -> Result<(u8, usize), BackupError> {
        let mut head = [0; HEAD_BYTES];
        self.read(&mut head)?;
        let Some((kind, plain, stored)) = lengths(head) else {
            return Err(self.damaged("no block begins like this"));
        };
        let mut bytes = std::mem::take(&mut self.stored);
        bytes.resize(stored, 0);
        let mut claimed = [0; DIGEST_BYTES];
        self.read(&mut bytes)?;
        self.read(&mut claimed)?;
        self.stored = bytes;
        self.digest.update(&head);
        self.digest.update(&self.stored);
        let so_far = self.digest.clone().finish();
        if so_far.as_ref() != claimed {
            return Err(self.damaged("the checksum is another one"));
        }
        self.digest.update(&claimed);
        Ok((kind, plain))
    }

    fn read(&mut self, out: &mut [u8]) -> Result<(), BackupError> {
        let mut filled = 0;
        while filled < out.len() {
            match self.source.read(&mut out[filled..]) {
                Ok(0) => return Err(BackupError::CutShort { bytes: self.at }),
                Ok(more) => {
                    filled += more;
                    self.at += more as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(BackupError::Read { bytes: self.at, source }),
            }
        }
        Ok(())
    }

    fn damaged(&self, detail: &'static str) -> BackupError {
        BackupError::Damaged { at: self.at, detail }
    }
}
