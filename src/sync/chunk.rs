//! Automerge chunks: cutting a blob into them, and taking in one change safely.
//!
//! Format: automerge binary document format, "chunks". A change's hash is SHA-256 over type 1, length and inflated
//! content; the checksum in the header is its first four bytes.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::columns::{Columns, inflate};
use super::leb::{Bad, Reader, put_unsigned};
use crate::types::ChangeHash;

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];

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

/// One chunk within a blob.
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

/// Cut a blob into chunks.
/// # Errors
/// When a header is malformed.
pub fn split(blob: &Bytes) -> Result<Vec<Chunk>, Bad> {
    let mut chunks = Vec::new();
    let mut reader = Reader::new(blob);
    while !reader.is_empty() {
        chunks.push(next(blob, &mut reader)?);
    }
    Ok(chunks)
}

/// Cut a blob that may be damaged: the chunks whose headers are whole, and what is wrong first, if anything is. Behind
/// damage it goes on at the next magic bytes; the chunks' checksums tell whether what is found there is one.
pub fn salvage(blob: &Bytes) -> (Vec<Chunk>, Option<Bad>) {
    let (mut chunks, mut wrong) = (Vec::new(), None);
    let mut reader = Reader::new(blob);
    while !reader.is_empty() {
        let start = reader.rest();
        match next(blob, &mut reader) {
            Ok(chunk) => chunks.push(chunk),
            Err(bad) => {
                wrong.get_or_insert(bad);
                let found = start[1..].windows(MAGIC.len()).position(|bytes| bytes == MAGIC);
                reader = Reader::new(found.map_or(&[], |found| &start[1 + found..]));
            }
        }
    }
    (chunks, wrong)
}

fn next(blob: &Bytes, reader: &mut Reader<'_>) -> Result<Chunk, Bad> {
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
    Ok(Chunk { kind, checksum, bytes: blob.slice_ref(&start[..length]), content: blob.slice_ref(content) })
}

/// The fields of a change's content that the graph needs.
struct Head<'a> {
    deps: Vec<ChangeHash>,
    actor: &'a [u8],
    seq: u64,
    start_op: u64,
}

fn hashes(reader: &mut Reader<'_>) -> Result<Vec<ChangeHash>, Bad> {
    let count = reader.unsigned()?;
    if count > reader.rest().len() as u64 / 32 {
        return Err(Bad("more hashes than bytes"));
    }
    (0..count).map(|_| Ok(ChangeHash(reader.bytes(32)?.try_into().map_err(|_| Bad("hash"))?))).collect()
}

fn change_head<'a>(reader: &mut Reader<'a>) -> Result<Head<'a>, Bad> {
    let deps = hashes(reader)?;
    let actor = reader.prefixed()?;
    let seq = reader.unsigned()?;
    let start_op = reader.unsigned()?;
    Ok(Head { deps, actor, seq, start_op })
}

/// Take in a change chunk: bounded inflation, bounded expansion, whole decode by automerge, checksum.
/// # Errors
/// What is wrong with it.
pub fn take_in(chunk: &Chunk, max_inflated: u64) -> Result<Change, Bad> {
    let inflated;
    let content: &[u8] = match chunk.kind {
        Kind::Change => &chunk.content,
        Kind::Deflated => {
            inflated = inflate(&chunk.content, max_inflated)?;
            &inflated
        }
        Kind::Document | Kind::Bundle => return Err(Bad("not a change chunk")),
    };
    let mut reader = Reader::new(content);
    let head = change_head(&mut reader)?;
    reader.signed()?; // time
    reader.prefixed()?; // message
    for _ in 0..reader.unsigned()? {
        reader.prefixed()?; // other actors
    }
    let columns = Columns::read(&mut reader)?;
    columns.check(&mut reader, &mut 0)?;

    // automerge decodes every operation; it gets the inflated form, so that it never inflates by itself.
    let decoded = match chunk.kind {
        Kind::Change => automerge::Change::try_from(&chunk.bytes[..]),
        _ => {
            let mut bytes = Vec::with_capacity(content.len() + 16);
            bytes.extend_from_slice(&MAGIC);
            bytes.extend_from_slice(&chunk.checksum);
            bytes.push(1);
            put_unsigned(&mut bytes, content.len() as u64);
            bytes.extend_from_slice(content);
            automerge::Change::try_from(&bytes[..])
        }
    }
    .map_err(|_| Bad("change does not decode"))?;
    let hash = decoded.hash();
    if hash.0[..4] != chunk.checksum {
        return Err(Bad("checksum of change"));
    }
    if head.deps.contains(&hash) || head.seq == 0 || head.start_op == 0 {
        return Err(Bad("change header"));
    }
    Ok(Change {
        hash,
        actor: Bytes::copy_from_slice(head.actor),
        seq: head.seq,
        start_op: head.start_op,
        max_op: decoded.max_op(),
        deps: head.deps,
        bytes: compact_copy(&chunk.bytes),
    })
}

/// A small change must not keep the large frame alive that it came in.
fn compact_copy(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Deps, actor and seq of a stored change, which was checked when it was taken in.
/// # Errors
/// When the stored bytes are damaged.
pub fn stored_change(bytes: &Bytes, hash: ChangeHash, max_op: u64) -> Result<Change, Bad> {
    let chunk = split(bytes)?.pop().ok_or(Bad("empty row"))?;
    let inflated;
    let content: &[u8] = if chunk.kind == Kind::Deflated {
        inflated = inflate(&chunk.content, u64::from(u32::MAX))?;
        &inflated
    } else {
        &chunk.content
    };
    let head = change_head(&mut Reader::new(content))?;
    Ok(Change {
        hash,
        actor: Bytes::copy_from_slice(head.actor),
        seq: head.seq,
        start_op: head.start_op,
        max_op,
        deps: head.deps,
        bytes: bytes.clone(),
    })
}

/// Check a document chunk before automerge opens it: checksum, bounded inflation, bounded expansion. Returns the heads
/// and the number of operations that the chunk claims.
/// # Errors
/// What is wrong with it.
pub fn check_document(chunk: &Chunk, max_inflated: u64) -> Result<(Vec<ChangeHash>, u64), Bad> {
    if chunk.kind != Kind::Document {
        return Err(Bad("not a document chunk"));
    }
    let mut hasher = Sha256::new();
    let mut header = vec![0];
    put_unsigned(&mut header, chunk.content.len() as u64);
    hasher.update(&header);
    hasher.update(&chunk.content);
    let digest = hasher.finalize();
    if digest[..4] != chunk.checksum {
        return Err(Bad("checksum of document"));
    }
    let mut reader = Reader::new(&chunk.content);
    for _ in 0..reader.unsigned()? {
        reader.prefixed()?; // actors
    }
    let heads = hashes(&mut reader)?;
    let changes = Columns::read(&mut reader)?;
    let operations = Columns::read(&mut reader)?;
    let mut left = max_inflated;
    changes.check(&mut reader, &mut left)?;
    let operations = operations.check(&mut reader, &mut left)?;
    Ok((heads, operations))
}

#[cfg(test)]
mod tests {
    use super::*;
    use automerge::{AutoCommit, ROOT, transaction::Transactable};

    fn change(text: &str) -> automerge::Change {
        let mut doc = AutoCommit::new();
        doc.put(ROOT, "k", text).unwrap();
        doc.get_last_local_change().unwrap().clone()
    }

    #[test]
    fn changes_plain_and_deflated_are_taken_in() {
        for (text, kind) in [("short".to_owned(), Kind::Change), ("long ".repeat(1000), Kind::Deflated)] {
            let mut made = change(&text);
            let blob = Bytes::from(made.bytes().into_owned());
            let chunks = split(&blob).unwrap();
            assert_eq!(chunks[0].kind, kind);
            let taken = take_in(&chunks[0], 1 << 20).unwrap();
            assert_eq!((taken.hash, taken.seq, taken.max_op), (made.hash(), 1, made.max_op()));
            assert_eq!(taken.bytes, blob);
            let again = stored_change(&blob, taken.hash, taken.max_op).unwrap();
            assert_eq!((again.actor, again.deps), (taken.actor, taken.deps));
        }
    }

    #[test]
    fn damage_is_noticed_at_every_byte() {
        let mut made = change("some text that is short");
        let bytes = made.bytes().into_owned();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x21;
            let taken = split(&Bytes::from(bad)).and_then(|chunks| take_in(&chunks[0], 1 << 20));
            assert!(taken.is_err(), "byte {at}");
        }
    }

    #[test]
    fn inflation_is_bounded_by_the_limit() {
        let mut made = change(&"x".repeat(100_000));
        let chunks = split(&Bytes::from(made.bytes().into_owned())).unwrap();
        assert!(take_in(&chunks[0], 10_000).is_err());
        assert!(take_in(&chunks[0], 200_000).is_ok());
    }

    #[test]
    fn documents_are_checked() {
        let mut doc = AutoCommit::new();
        for n in 0..200 {
            doc.put(ROOT, format!("key {n}"), "value ".repeat(20)).unwrap();
            doc.commit();
        }
        let bytes = doc.save();
        let chunks = split(&Bytes::from(bytes.clone())).unwrap();
        assert_eq!(chunks.len(), 1);
        check_document(&chunks[0], 1 << 20).unwrap();
        assert!(check_document(&chunks[0], 100).is_err());
        let mut bad = bytes;
        let last = bad.len() - 1;
        bad[last] ^= 1;
        assert!(check_document(&split(&Bytes::from(bad)).unwrap()[0], 1 << 20).is_err());
    }
}
