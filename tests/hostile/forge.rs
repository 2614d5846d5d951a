//! Valid and invalid automerge chunks and sync messages, made byte by byte: what no honest library would write.
//!
//! Formats: the automerge binary document format ("chunks", "column data") and the automerge crate's `sync` module documentation.

use std::io::Write as _;

use automerge::ChangeHash;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use sha2::{Digest as _, Sha256};

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const DOCUMENT: u8 = 0;
const CHANGE: u8 = 1;
const DEFLATED: u8 = 2;

/// Column specifications: an id times 16 plus the type.
const KEY_TEXT: u64 = 0x15;
const OPERATION_ACTOR: u64 = 0x21;
const OPERATION_COUNTER: u64 = 0x23;
const INSERT: u64 = 0x34;
const ACTION: u64 = 0x42;
const VALUE_LENGTH: u64 = 0x56;
const VALUE: u64 = 0x57;
const PREDECESSORS: u64 = 0x70;
const SUCCESSORS: u64 = 0x80;
/// Set where a column's data is deflated.
const DEFLATE: u64 = 8;
/// The action of an operation that sets a value.
const SET: u8 = 1;

/// LEB128, unsigned.
pub fn unsigned(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// LEB128, signed.
fn signed(mut value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !(-0x40..0x40).contains(&value) {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8 & 0x7f);
    bytes
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&unsigned(bytes.len() as u64), bytes].concat()
}

/// `count` times the same value, run-length encoded.
fn run(count: u64, value: &[u8]) -> Vec<u8> {
    match count {
        // A run of one value is written as a literal.
        1 => [&signed(-1), value].concat(),
        _ => [&signed(count as i64), value].concat(),
    }
}

/// A count, the specification and length of each column, the columns.
fn columns(columns: &[(u64, Vec<u8>)]) -> (Vec<u8>, Vec<u8>) {
    let filled: Vec<_> = columns.iter().filter(|(_, data)| !data.is_empty()).collect();
    let mut head = unsigned(filled.len() as u64);
    for (specification, data) in &filled {
        head.extend(unsigned(*specification));
        head.extend(unsigned(data.len() as u64));
    }
    (head, filled.iter().flat_map(|(_, data)| data.clone()).collect())
}

/// A chunk and the hash of its content.
fn chunk(kind: u8, content: &[u8]) -> (Vec<u8>, ChangeHash) {
    let body = [&[kind][..], &prefixed(content)].concat();
    let hash: [u8; 32] = Sha256::digest(&body).into();
    ([&MAGIC[..], &hash[..4], &body].concat(), ChangeHash(hash))
}

/// A change to be forged: `operations` times the same value under one key.
#[derive(Clone)]
pub struct Forged<'a> {
    pub deps: &'a [ChangeHash],
    pub actor: &'a [u8],
    pub seq: u64,
    pub start_op: u64,
    pub operations: u64,
    /// The value of each operation, as bytes; empty is null.
    pub value: &'a [u8],
}

impl Forged<'_> {
    /// A first change without dependencies.
    pub fn first(actor: &[u8]) -> Forged<'_> {
        Forged { deps: &[], actor, seq: 1, start_op: 1, operations: 1, value: &[] }
    }

    fn content(&self) -> Vec<u8> {
        let count = self.operations;
        // The type of a value (7: bytes, 0: null) is in the low bits of its length.
        let length =
            if self.value.is_empty() { vec![0] } else { unsigned((self.value.len() as u64) << 4 | 7) };
        let (head, data) = columns(&[
            (KEY_TEXT, run(count, &prefixed(b"k"))),
            (INSERT, unsigned(count)),
            (ACTION, run(count, &[SET])),
            (VALUE_LENGTH, run(count, &length)),
            (VALUE, self.value.repeat(count as usize)),
            (PREDECESSORS, run(count, &[0])),
        ]);
        let mut content = hashes(self.deps);
        content.extend(prefixed(self.actor));
        content.extend(unsigned(self.seq));
        content.extend(unsigned(self.start_op));
        // Time, message, other actors.
        content.extend([0, 0, 0]);
        content.extend(head);
        content.extend(data);
        content
    }

    /// The chunk and the change's hash.
    pub fn plain(&self) -> (Vec<u8>, ChangeHash) {
        chunk(CHANGE, &self.content())
    }

    /// The chunk with its content deflated; the hash is of the inflated content.
    pub fn deflated(&self) -> Vec<u8> {
        let content = self.content();
        let (_, hash) = chunk(CHANGE, &content);
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&content).unwrap();
        let deflated = encoder.finish().unwrap();
        [&MAGIC[..], &hash.0[..4], &[DEFLATED], &prefixed(&deflated)].concat()
    }
}

/// Changes of one actor, each resting on the one before; the first rests on `root`, if there is one.
pub fn chain(actor: &[u8], root: Option<ChangeHash>, length: u64) -> Vec<(Vec<u8>, ChangeHash)> {
    let mut changes: Vec<(Vec<u8>, ChangeHash)> = Vec::new();
    for n in 0..length {
        let last = changes.last().map(|(_, hash)| *hash).or(root);
        let deps: Vec<ChangeHash> = last.into_iter().collect();
        // With a root, the sequence goes on from it.
        let at = n + 1 + u64::from(root.is_some());
        let forged = Forged { deps: &deps, seq: at, start_op: at, ..Forged::first(actor) };
        changes.push(forged.plain());
    }
    changes
}

/// A document chunk that claims one change of `operations` operations. Its checksum is right, the head that it names is not.
pub fn document_bomb(operations: u64) -> Vec<u8> {
    document(operations, &columns(&document_operations(operations)))
}

/// A document chunk with a column that inflates to so many bytes.
pub fn inflating_document(bytes: usize) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&vec![0; bytes]).unwrap();
    let mut inflating = document_operations(1);
    inflating.insert(6, (VALUE | DEFLATE, encoder.finish().unwrap()));
    document(1, &columns(&inflating))
}

fn document_operations(count: u64) -> Vec<(u64, Vec<u8>)> {
    vec![
        (KEY_TEXT, run(count, &prefixed(b"k"))),
        (OPERATION_ACTOR, run(count, &[0])),
        (OPERATION_COUNTER, run(count, &[1])),
        (INSERT, unsigned(count)),
        (ACTION, run(count, &[SET])),
        (VALUE_LENGTH, run(count, &[0])),
        (SUCCESSORS, run(count, &[0])),
    ]
}

fn document(last: u64, (head, data): &(Vec<u8>, Vec<u8>)) -> Vec<u8> {
    let (changes, change_data) = columns(&[
        (0x01, run(1, &[0])),                 // actor
        (0x03, run(1, &[1])),                 // sequence number
        (0x13, run(1, &signed(last as i64))), // last operation
        (0x23, run(1, &[0])),                 // time
        (0x40, run(1, &[0])),                 // dependencies
        (0x56, run(1, &[7])),                 // extra bytes: none
    ]);
    let mut content = [unsigned(1), prefixed(&[7; 16]), hashes(&[hash_of(0)])].concat();
    content.extend([&changes[..], head, &change_data, data].concat());
    content.push(0); // the head's index
    chunk(DOCUMENT, &content).0
}

/// A hash that stands for no change.
pub fn hash_of(n: u64) -> ChangeHash {
    ChangeHash(Sha256::digest(n.to_le_bytes()).into())
}

/// So many hashes that stand for no change, cheaply made, sorted.
pub fn unknown_hashes(count: u32) -> Vec<ChangeHash> {
    let hash = |n: u32| {
        let mut bytes = [0xab; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        ChangeHash(bytes)
    };
    (0..count).map(hash).collect()
}

/// A count and the hashes.
pub fn hashes(hashes: &[ChangeHash]) -> Vec<u8> {
    let mut bytes = unsigned(hashes.len() as u64);
    hashes.iter().for_each(|hash| bytes.extend(hash.0));
    bytes
}

/// A sync message, version 1.
#[derive(Default)]
pub struct Sync<'a> {
    pub heads: &'a [ChangeHash],
    pub need: &'a [ChangeHash],
    /// `last_sync` and the bytes of the filter.
    pub have: Vec<(&'a [ChangeHash], Vec<u8>)>,
    pub chunks: &'a [Vec<u8>],
    /// "Forget what you sent me": have the receiver find out anew what the sender has.
    pub reset: bool,
}

impl Sync<'_> {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0x42];
        bytes.extend(hashes(self.heads));
        bytes.extend(hashes(self.need));
        bytes.extend(unsigned(self.have.len() as u64));
        for (last_sync, filter) in &self.have {
            bytes.extend(hashes(last_sync));
            bytes.extend(prefixed(filter));
        }
        bytes.extend(unsigned(self.chunks.len() as u64));
        self.chunks.iter().for_each(|chunk| bytes.extend(prefixed(chunk)));
        // Capabilities: version 2, and the bit field.
        bytes.extend([2, 2, 0x84 | u8::from(self.reset)]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use automerge::{AutoCommit, Change};

    use super::*;

    #[test]
    fn what_is_forged_is_valid() {
        let bomb = Forged { operations: 1 << 10, ..Forged::first(&[7; 16]) }.plain().0;
        assert!(bomb.len() < 80, "{}", bomb.len());
        assert_eq!(Change::try_from(&bomb[..]).unwrap().len(), 1 << 10);
        let deflated = Forged { value: &[0; 100_000], ..Forged::first(&[7; 16]) }.deflated();
        assert!(deflated.len() < 2000);
        assert_eq!(Change::from_bytes(deflated).unwrap().len(), 1);
        let mut document = AutoCommit::new();
        let changes = chain(&[7; 16], None, 10).into_iter();
        document.apply_changes(changes.map(|(bytes, _)| Change::from_bytes(bytes).unwrap())).unwrap();
        assert_eq!(document.get_heads().len(), 1);
    }

    #[test]
    fn a_document_bomb_fails_only_by_its_head() {
        let error = AutoCommit::load(&document_bomb(1000)).unwrap_err();
        assert!(error.to_string().contains("heads"), "{error}");
    }
}
