//! Prices the chunks of a message: what a change or a document claims, counted without expanding it.

use std::io::Read as _;

use flate2::bufread::DeflateDecoder;

use super::chunk::{Kind, MAGIC, RawChunk};
use super::columns::Columns;
use super::leb::{Bad, Reader, put_unsigned};
use super::meter::Meter;
use super::price::{Kind as Limit, Refused};
use super::source::{ColumnSource, Inflating, Source};

/// Room for a chunk's header: magic bytes, checksum, type, and the length in at most ten bytes.
const HEADER_ROOM: usize = 19;

/// A deflated change's chunk as it would be without deflation, so that automerge never inflates by itself.
pub struct Frame {
    bytes: Vec<u8>,
    start: usize,
}

impl Frame {
    /// Inflates `decoder` to at most `most` bytes; `None` when there are more.
    /// # Errors
    /// When the data is malformed.
    pub fn inflate(
        decoder: &mut DeflateDecoder<&[u8]>,
        checksum: [u8; 4],
        most: u64,
    ) -> Result<Option<Self>, Bad> {
        // The header's length depends on the content's, so the header ends where the content begins.
        let mut bytes = vec![0; HEADER_ROOM];
        let read = decoder.take(most.saturating_add(1)).read_to_end(&mut bytes);
        let length = read.map_err(|_| Bad("deflated data"))? as u64;
        if length > most {
            return Ok(None);
        }
        let mut header = Vec::with_capacity(HEADER_ROOM);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&checksum);
        header.push(1);
        put_unsigned(&mut header, length);
        let start = HEADER_ROOM - header.len();
        bytes[start..HEADER_ROOM].copy_from_slice(&header);
        Ok(Some(Self { bytes, start }))
    }

    /// The chunk, header included.
    pub fn chunk(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// The content.
    pub fn content(&self) -> &[u8] {
        &self.bytes[HEADER_ROOM..]
    }
}

/// Prices the chunks of a message. Small inflated contents are kept for decoding, so that small changes are inflated
/// once; large ones are counted in passing.
pub struct Pricing<'a> {
    /// What has been counted.
    pub meter: Meter,
    /// Inflated bytes that may still be kept.
    keep: u64,
    decoder: Option<DeflateDecoder<&'a [u8]>>,
}

impl<'a> Pricing<'a> {
    /// Adds to `meter`, and keeps at most `keep` inflated bytes.
    pub fn new(meter: Meter, keep: u64) -> Self {
        Self { meter, keep, decoder: None }
    }

    /// Count what a chunk claims. A document's deflated columns, and a change's content, are inflated through a small
    /// buffer, unless the content is small enough to be kept.
    /// # Errors
    /// When the chunk is malformed or the message becomes too expensive.
    pub fn chunk(&mut self, chunk: &RawChunk<'a>) -> Result<Option<Frame>, Refused> {
        self.meter.chunk(chunk.kind == Kind::Document)?;
        let wire = chunk.bytes.len() as u64;
        match chunk.kind {
            Kind::Change => {
                price_change(&mut Reader::new(chunk.content), &mut self.meter)?;
                self.meter.end_change(wire, None);
            }
            Kind::Deflated => {
                let (frame, inflated) = self.deflated(chunk)?;
                self.meter.inflated(inflated)?;
                self.meter.end_change(wire, Some(inflated));
                return Ok(frame);
            }
            Kind::Document => {
                price_document(chunk.content, &mut self.meter)?;
                self.meter.end_document();
            }
            // No released client sends bundles and their expansion cannot be bounded beforehand.
            Kind::Bundle => return Err(Bad("bundles are not accepted").into()),
        }
        Ok(None)
    }

    fn deflated(&mut self, chunk: &RawChunk<'a>) -> Result<(Option<Frame>, u64), Refused> {
        let allowed = self.meter.may_inflate();
        let over: Refused = self.meter.excess(Limit::InflatedBytes).into();
        // A decoder has 43 kB of tables, so one serves all chunks of the message.
        let decoder = self.decoder.get_or_insert_with(|| DeflateDecoder::new(&[]));
        let keep = self.keep.min(allowed);
        // What deflates to more than can be kept is not even begun to be kept.
        if chunk.content.len() as u64 <= keep {
            decoder.reset(chunk.content);
            if let Some(frame) = Frame::inflate(decoder, chunk.checksum, keep)? {
                let inflated = frame.content().len() as u64;
                price_change(&mut Reader::new(frame.content()), &mut self.meter)?;
                self.keep -= inflated;
                return Ok((Some(frame), inflated));
            }
            if keep == allowed {
                return Err(over);
            }
        }
        decoder.reset(chunk.content);
        let mut inflating = Inflating::new(decoder, allowed, over);
        price_change(&mut inflating, &mut self.meter)?;
        // What stands behind the columns is inflated too when the change is decoded.
        inflating.drain()?;
        Ok((None, inflating.inflated()))
    }
}

fn price_change(source: &mut impl ColumnSource, meter: &mut Meter) -> Result<(), Refused> {
    let deps = source.unsigned()?;
    meter.hashes_in_chunk(deps)?;
    source.skip(deps * 32)?;
    meter.actor(source.skip_prefixed()?)?;
    source.unsigned()?; // sequence number
    source.unsigned()?; // first operation
    source.signed()?; // time
    meter.commit_message(source.skip_prefixed()?)?;
    price_actors(source, meter)?;
    Columns::read(source)?.price(source, meter)
}

fn price_document(content: &[u8], meter: &mut Meter) -> Result<(), Refused> {
    let reader = &mut Reader::new(content);
    price_actors(reader, meter)?;
    let heads = reader.unsigned()?;
    meter.hashes_in_chunk(heads)?;
    reader.skip(heads * 32)?;
    let changes = Columns::read(reader)?;
    let operations = Columns::read(reader)?;
    changes.price_document(reader, meter)?;
    meter.next_columns();
    operations.price_document(reader, meter)
}

fn price_actors(source: &mut impl Source, meter: &mut Meter) -> Result<(), Refused> {
    let count = source.unsigned()?;
    meter.actors(count)?;
    for _ in 0..count {
        meter.actor(source.skip_prefixed()?)?;
    }
    Ok(())
}
