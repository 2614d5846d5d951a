//! Automerge chunks: cutting a blob into them, and taking in one change safely.
//!
//! Format: automerge binary document format, "chunks". A change's hash is SHA-256 over type 1, length and inflated
//! content; the checksum in the header is its first four bytes.

use bytes::Bytes;
use flate2::bufread::DeflateDecoder;
use sha2::{Digest, Sha256};

use super::leb::{Bad, Reader, put_unsigned};
use super::price::{MAX_NAME_BYTES, Refused};
use super::pricing::Frame;
use super::source::{Inflating, Source};
use crate::types::ChangeHash;

/// What every chunk begins with.
pub const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
/// Dependencies and actor ids are reserved for only so many at once, whatever is claimed.
const RESERVE: u64 = 64;

/// What kind of chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole document.
    Document,
    /// One change.
    Change,
    /// One change, deflated.
    Deflated,
    /// Several changes packed together.
    Bundle,
}

/// One chunk within a blob, borrowed from it.
#[derive(Debug, Clone, Copy)]
pub struct RawChunk<'a> {
    /// Its kind.
    pub kind: Kind,
    /// First bytes of the hash.
    pub checksum: [u8; 4],
    /// All its bytes, header included.
    pub bytes: &'a [u8],
    /// Its content, without the header.
    pub content: &'a [u8],
}

/// One chunk, which shares a blob's bytes.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// Its kind.
    pub kind: Kind,
    /// First bytes of the hash.
    pub checksum: [u8; 4],
    /// All its bytes, header included.
    pub bytes: Bytes,
    /// Its content, without the header.
    pub content: Bytes,
}

impl Chunk {
    /// The same chunk, borrowed.
    pub fn raw(&self) -> RawChunk<'_> {
        let (bytes, content) = (&self.bytes[..], &self.content[..]);
        RawChunk { kind: self.kind, checksum: self.checksum, bytes, content }
    }
}

/// A change that passed every check that needs no other change.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its hash.
    pub hash: ChangeHash,
    /// Hashes it depends on.
    pub deps: Vec<ChangeHash>,
    /// Who made it.
    pub actor: Bytes,
    /// Its number among that actor's changes, from 1.
    pub seq: u64,
    /// Counter of its first operation.
    pub start_op: u64,
    /// Counter of its last operation (`start_op - 1` if it has none).
    pub max_op: u64,
    /// The chunk as received.
    pub bytes: Bytes,
}

/// Cut a blob that may be damaged: the chunks whose headers are whole, and what is wrong first, if anything is. Behind
/// damage it goes on at the next magic bytes; the chunks' checksums tell whether what is found there is one.
pub fn salvage(blob: &Bytes) -> (Vec<Chunk>, Option<Bad>) {
    let (mut chunks, mut wrong) = (Vec::new(), None);
    let mut reader = Reader::new(blob);
    while !reader.is_empty() {
        let start = reader.rest();
        match next(&mut reader) {
            Ok(chunk) => chunks.push(chunk.within(blob)),
            Err(bad) => {
                wrong.get_or_insert(bad);
                let found = start[1..].windows(MAGIC.len()).position(|bytes| bytes == MAGIC);
                reader = Reader::new(found.map_or(&[], |found| &start[1 + found..]));
            }
        }
    }
    (chunks, wrong)
}

impl RawChunk<'_> {
    /// The same chunk, sharing the bytes of `blob`, in which it lies.
    pub fn within(&self, blob: &Bytes) -> Chunk {
        let (bytes, content) = (blob.slice_ref(self.bytes), blob.slice_ref(self.content));
        Chunk { kind: self.kind, checksum: self.checksum, bytes, content }
    }
}

/// Read the next chunk.
/// # Errors
/// When its header is malformed.
pub fn next<'a>(reader: &mut Reader<'a>) -> Result<RawChunk<'a>, Bad> {
    let start = reader.rest();
    if reader.bytes(4)? != MAGIC {
        return Err(Bad("chunk without magic bytes"));
    }
    let checksum = reader.bytes(4)?.try_into().map_err(|_| Bad("checksum"))?;
    let kind = match reader.byte()? {
        0 => Kind::Document,
        1 => Kind::Change,
        2 => Kind::Deflated,
        3 => Kind::Bundle,
        _ => return Err(Bad("unknown chunk type")),
    };
    let content = reader.prefixed()?;
    let length = start.len() - reader.rest().len();
    Ok(RawChunk { kind, checksum, bytes: &start[..length], content })
}

/// The fields of a change's content that the graph needs.
struct Head {
    deps: Vec<ChangeHash>,
    actor: Bytes,
    seq: u64,
    start_op: u64,
}

fn hashes(source: &mut impl Source) -> Result<Vec<ChangeHash>, Refused> {
    let count = source.unsigned()?;
    let mut hashes = Vec::with_capacity(count.min(RESERVE) as usize);
    for _ in 0..count {
        let mut hash = [0; 32];
        source.read(&mut hash)?;
        hashes.push(ChangeHash(hash));
    }
    Ok(hashes)
}

fn change_head(source: &mut impl Source) -> Result<Head, Refused> {
    let deps = hashes(source)?;
    let length = source.unsigned()?;
    if length > MAX_NAME_BYTES {
        return Err(Bad("an actor id of more than 1 MiB").into());
    }
    let mut actor = vec![0; length as usize];
    source.read(&mut actor)?;
    Ok(Head { deps, actor: actor.into(), seq: source.unsigned()?, start_op: source.unsigned()? })
}

/// Decode a change chunk that was priced: whole decode by automerge, checksum. `frame` is what pricing kept of it, and
/// `most` is how many bytes it may inflate to otherwise.
/// # Errors
/// What is wrong with it.
pub fn take_in(chunk: &RawChunk<'_>, frame: Option<Frame>, most: u64) -> Result<Change, Refused> {
    let frame = match chunk.kind {
        Kind::Change => None,
        Kind::Deflated if frame.is_some() => frame,
        Kind::Deflated => {
            let decoder = &mut DeflateDecoder::new(chunk.content);
            let frame = Frame::inflate(decoder, chunk.checksum, most)?;
            Some(frame.ok_or(Bad("inflates to more than it was priced at"))?)
        }
        Kind::Document | Kind::Bundle => return Err(Bad("not a change chunk").into()),
    };
    let (bytes, content) = match &frame {
        None => (chunk.bytes, chunk.content),
        Some(frame) => (frame.chunk(), frame.content()),
    };
    let head = change_head(&mut Reader::new(content))?;
    let decoded = automerge::Change::try_from(bytes).map_err(|_| Bad("change does not decode"))?;
    let (hash, max_op) = (decoded.hash(), decoded.max_op());
    if hash.0[..4] != chunk.checksum {
        return Err(Bad("checksum of change").into());
    }
    if head.deps.contains(&hash) || head.seq == 0 || head.start_op == 0 {
        return Err(Bad("change header").into());
    }
    // Both may be large, and go before the copy below is made.
    drop((decoded, frame));
    let Head { deps, actor, seq, start_op } = head;
    // A copy: a small change must not keep the large message alive that it came in.
    let bytes = Bytes::copy_from_slice(chunk.bytes);
    Ok(Change { hash, actor, seq, start_op, max_op, deps, bytes })
}

/// Deps, actor and seq of a stored change, which was checked when it was taken in. Only its head is inflated.
/// # Errors
/// When the stored bytes are damaged.
pub fn stored_change(bytes: &Bytes, hash: ChangeHash, max_op: u64) -> Result<Change, Bad> {
    let mut reader = Reader::new(bytes);
    let chunk = next(&mut reader)?;
    if !reader.is_empty() {
        return Err(Bad("more than one chunk in a row"));
    }
    let head = if chunk.kind == Kind::Deflated {
        let decoder = &mut DeflateDecoder::new(chunk.content);
        change_head(&mut Inflating::new(decoder, u64::MAX, Bad("deflated data").into()))
    } else {
        change_head(&mut Reader::new(chunk.content))
    };
    let Head { deps, actor, seq, start_op } = head.map_err(|refused| match refused {
        Refused::Malformed(bad) => bad,
        Refused::TooExpensive(_) => Bad("stored change"),
    })?;
    Ok(Change { hash, actor, seq, start_op, max_op, deps, bytes: bytes.clone() })
}

/// Check the checksum of a document chunk that was priced, before automerge opens it. Gives the heads that it claims.
/// # Errors
/// What is wrong with it.
pub fn check_document(chunk: &RawChunk<'_>) -> Result<Vec<ChangeHash>, Refused> {
    if chunk.kind != Kind::Document {
        return Err(Bad("not a document chunk").into());
    }
    let mut hasher = Sha256::new();
    let mut header = vec![0];
    put_unsigned(&mut header, chunk.content.len() as u64);
    hasher.update(&header);
    hasher.update(chunk.content);
    let digest = hasher.finalize();
    if digest[..4] != chunk.checksum {
        return Err(Bad("checksum of document").into());
    }
    let mut reader = Reader::new(chunk.content);
    for _ in 0..reader.unsigned()? {
        reader.prefixed()?; // actors
    }
    hashes(&mut reader)
}

#[cfg(test)]
mod tests;
