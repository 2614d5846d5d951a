//! Automerge sync messages, versions 1 and 2: priced before they are decoded, encoded straight into one buffer.
//!
//! Format: the automerge crate's `sync` module documentation. V1 carries a list of changes, V2 blobs of chunks.

use bytes::Bytes;

use super::bloom::Bloom;
use super::chunk::{self, Change, Chunk, Kind, RawChunk};
use super::leb::{Bad, Reader, put_unsigned};
use super::meter::Meter;
use super::price::{Limits, Price, Refused};
use super::pricing::{Frame, Pricing};
use crate::types::ChangeHash;

const V1: u8 = 0x42;
const V2: u8 = 0x43;
/// Most entries of `have`. automerge's own messages carry one; the server looks at each for every hash it may send.
const MAX_HAVES: u64 = 8;
/// Inflated bytes of a message's changes that are kept from pricing for decoding which follows at once.
pub const KEEP_BYTES: u64 = 128 * 1024;

/// Flag bits of a message (automerge `sync::MessageFlags`).
pub mod flags {
    /// "Forget what you sent me."
    pub const SYNC_RESET: u8 = 1;
    /// "I do not take changes."
    pub const READ_ONLY: u8 = 2;
    /// "I understand `SYNC_RESET`."
    pub const SUPPORTS_SYNC_RESET: u8 = 4;
}

/// What the sender has: everything up to `last_sync`, and what the filter holds since.
#[derive(Debug, Clone, Default)]
pub struct Have {
    /// Hashes both sides had.
    pub last_sync: Vec<ChangeHash>,
    /// What the sender has besides.
    pub bloom: Bloom,
}

/// A decoded message whose changes have passed all checks that need no graph.
#[derive(Debug, Clone, Default)]
pub struct SyncMessage {
    /// The sender's heads.
    pub heads: Vec<ChangeHash>,
    /// Changes the sender asks for by hash.
    pub need: Vec<ChangeHash>,
    /// What the sender has.
    pub have: Vec<Have>,
    /// Changes, checked.
    pub changes: Vec<Change>,
    /// Document and bundle chunks, to be opened.
    pub documents: Vec<Chunk>,
    /// Operations that its changes and document chunks claim to hold.
    pub operations: u64,
    /// Flag bits; `None` from peers that know V1 only.
    pub flags: Option<u8>,
}

fn hashes(reader: &mut Reader<'_>, meter: &mut Meter) -> Result<Vec<ChangeHash>, Refused> {
    let count = reader.unsigned()?;
    meter.hashes(count)?;
    if count > reader.rest().len() as u64 / 32 {
        return Err(Bad("more hashes than bytes").into());
    }
    let hash = |_| Ok(ChangeHash(reader.bytes(32)?.try_into().map_err(|_| Bad("hash"))?));
    (0..count).map(hash).collect()
}

/// The chunks of a message's entries, one after the other.
struct Chunks<'a> {
    /// Entries that have not been begun.
    entries: u64,
    entry: Reader<'a>,
    rest: Reader<'a>,
}

impl<'a> Chunks<'a> {
    /// Reads the count of entries and stands before the first of them.
    fn new(mut rest: Reader<'a>) -> Result<Self, Bad> {
        let entries = rest.unsigned()?;
        Ok(Self { entries, entry: Reader::new(&[]), rest })
    }

    fn next(&mut self) -> Result<Option<RawChunk<'a>>, Bad> {
        while self.entry.is_empty() {
            if self.entries == 0 {
                return Ok(None);
            }
            self.entries -= 1;
            self.entry = Reader::new(self.rest.prefixed()?);
        }
        chunk::next(&mut self.entry).map(Some)
    }
}

/// A message whose framing was checked and whose price is known; its changes are not decoded.
pub struct Priced {
    data: Bytes,
    /// Where the count of entries stands, counted from the end of `data`.
    entries: usize,
    message: SyncMessage,
    /// The inflated changes that were kept: place among the chunks, and content.
    frames: std::vec::IntoIter<(u64, Frame)>,
    price: Price,
}

impl Priced {
    /// Read all but the chunks, and add up what those claim. At most `keep` inflated bytes stay in memory for decoding; what
    /// is not kept is inflated again.
    /// # Errors
    /// What is malformed, or the limit that the message exceeds.
    pub fn new(data: &Bytes, limits: &Limits, keep: u64) -> Result<Self, Refused> {
        let (message, entries, meter) = SyncMessage::framing(data, limits)?;
        let mut chunks = Chunks::new(entries.clone())?;
        let mut pricing = Pricing::new(meter, keep);
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some(chunk) = chunks.next()? {
            frames.extend(pricing.chunk(&chunk)?.map(|frame| (at, frame)));
            at += 1;
        }
        let message = message.with_flags(chunks.rest)?;
        let (frames, price) = (frames.into_iter(), *pricing.meter.price());
        Ok(Self { data: data.clone(), entries: entries.rest().len(), message, frames, price })
    }

    /// What it costs.
    pub fn price(&self) -> &Price {
        &self.price
    }

    /// Decode the changes and check the documents' checksums. Document chunks are not opened.
    /// # Errors
    /// What is wrong with a chunk.
    pub fn decode(self) -> Result<SyncMessage, Refused> {
        let Self { data, entries, mut message, frames, price } = self;
        let mut chunks = Chunks::new(Reader::new(&data[data.len() - entries..]))?;
        let mut frames = frames.peekable();
        message.operations = price.operations;
        message.changes.reserve_exact((price.changes - price.documents) as usize);
        let mut at = 0;
        while let Some(chunk) = chunks.next()? {
            if chunk.kind == Kind::Document {
                chunk::check_document(&chunk)?;
                message.documents.push(chunk.within(&data));
            } else {
                let frame = frames.next_if(|(place, _)| *place == at).map(|(_, frame)| frame);
                message.changes.push(chunk::take_in(&chunk, frame, price.inflated_bytes)?);
            }
            at += 1;
        }
        Ok(message)
    }
}

impl SyncMessage {
    /// Price and decode.
    /// # Errors
    /// What is malformed, or the limit that the message exceeds.
    pub fn decode(data: &Bytes, limits: &Limits) -> Result<Self, Refused> {
        Priced::new(data, limits, KEEP_BYTES)?.decode()
    }

    /// Read all but the chunks, which are passed over: for sessions that may not write. Their framing is checked.
    /// # Errors
    /// What is malformed, or the limit that the rest exceeds.
    pub fn without_changes(data: &Bytes, limits: &Limits) -> Result<Self, Refused> {
        let (message, entries, _) = Self::framing(data, limits)?;
        let mut chunks = Chunks::new(entries)?;
        while chunks.next()?.is_some() {}
        message.with_flags(chunks.rest)
    }

    /// Reads what stands before the chunks; gives what follows too.
    fn framing<'a>(data: &'a Bytes, limits: &Limits) -> Result<(Self, Reader<'a>, Meter), Refused> {
        let mut meter = Meter::new(limits);
        let mut reader = Reader::new(data);
        if !matches!(reader.byte()?, V1 | V2) {
            return Err(Bad("not a sync message").into());
        }
        let heads = hashes(&mut reader, &mut meter)?;
        let need = hashes(&mut reader, &mut meter)?;
        let mut message = Self { heads, need, ..Self::default() };
        let haves = reader.unsigned()?;
        if haves > MAX_HAVES {
            return Err(Bad("too many haves").into());
        }
        for _ in 0..haves {
            let last_sync = hashes(&mut reader, &mut meter)?;
            let filter = reader.prefixed()?;
            meter.bloom(filter.len() as u64)?;
            message.have.push(Have { last_sync, bloom: Bloom::parse(&data.slice_ref(filter))? });
        }
        Ok((message, reader, meter))
    }

    /// Reads what stands behind the chunks.
    fn with_flags(mut self, mut rest: Reader<'_>) -> Result<Self, Refused> {
        if !rest.is_empty() {
            let bits = rest.prefixed()?.iter().filter(|byte| **byte & 0x80 != 0);
            self.flags = Some(bits.fold(0, |all, byte| all | byte & 0x7f));
        }
        Ok(self)
    }

    /// Bytes of its changes and chunks.
    pub fn bytes(&self) -> usize {
        let changes: usize = self.changes.iter().map(|change| change.bytes.len()).sum();
        changes + self.documents.iter().map(|chunk| chunk.bytes.len()).sum::<usize>()
    }

    /// True when the sender says it knows nothing although it has heads: automerge's answer to a `last_sync` it lacks.
    pub fn is_reset(&self) -> bool {
        !self.heads.is_empty()
            && self.have.first().is_some_and(|have| have.last_sync.is_empty() && have.bloom.is_empty())
    }
}

/// A message to send; its changes are given as chunks.
#[derive(Debug, Default)]
pub struct Draft<'a> {
    /// Our heads.
    pub heads: &'a [ChangeHash],
    /// What we ask for.
    pub need: &'a [ChangeHash],
    /// `Some(last_sync)`: we have all that these hashes imply and nothing else. `None`: we do not say.
    pub have: Option<&'a [ChangeHash]>,
    /// Chunks.
    pub chunks: &'a [Bytes],
    /// One blob (V2) or a list of changes (V1).
    pub v2: bool,
    /// Flag bits besides `SUPPORTS_SYNC_RESET`.
    pub flags: u8,
    /// The peer is to send changes one by one and not the whole document: nothing says that we understand version 2, and no
    /// flags are sent. A peer that has read flags on this connection goes by those.
    pub singly: bool,
}

impl Draft<'_> {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let payload: usize = self.chunks.iter().map(|chunk| chunk.len() + 5).sum();
        let mut out = Vec::with_capacity(payload + 64 + 32 * (self.heads.len() + self.need.len()) * 2);
        let v2 = self.v2 && !self.chunks.is_empty();
        out.push(if v2 { V2 } else { V1 });
        put_hashes(&mut out, self.heads);
        put_hashes(&mut out, self.need);
        match self.have {
            None => out.push(0),
            Some(last_sync) => {
                out.push(1);
                put_hashes(&mut out, last_sync);
                out.push(0); // an empty filter
            }
        }
        if v2 {
            out.push(1);
            put_unsigned(&mut out, self.chunks.iter().map(|chunk| chunk.len() as u64).sum());
            for chunk in self.chunks {
                out.extend_from_slice(chunk);
            }
        } else {
            put_unsigned(&mut out, self.chunks.len() as u64);
            for chunk in self.chunks {
                put_unsigned(&mut out, chunk.len() as u64);
                out.extend_from_slice(chunk);
            }
        }
        if !self.singly {
            // Two entries: the old "V2" capability, then the bit field (automerge `MessageFlags`).
            out.extend_from_slice(&[2, 2, 0x80 | flags::SUPPORTS_SYNC_RESET | self.flags]);
        }
        out
    }
}

fn put_hashes(out: &mut Vec<u8>, hashes: &[ChangeHash]) {
    put_unsigned(out, hashes.len() as u64);
    for hash in hashes {
        out.extend_from_slice(&hash.0);
    }
}

#[cfg(test)]
mod tests;
