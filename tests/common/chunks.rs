//! Chunks and sync messages written by hand, to claim what nobody honest would.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use groundmist_sync::sync::leb::put_unsigned;
use sha2::{Digest as _, Sha256};

pub fn leb(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_unsigned(&mut bytes, value);
    bytes
}

/// A signed LEB128.
pub fn signed(mut value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == if byte & 0x40 == 0 { 0 } else { -1 } {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

pub fn run(count: u64, value: &[u8]) -> Vec<u8> {
    [&signed(count as i64), value].concat()
}

pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A chunk; the checksum is of the content as it would be inflated.
pub fn chunk(kind: u8, content: &[u8]) -> Vec<u8> {
    let hashed = |kind: u8| [&[kind], &leb(content.len() as u64)[..], content].concat();
    let sum = Sha256::digest(hashed(if kind == 2 { 1 } else { kind }));
    let body = if kind == 2 {
        let deflated = deflate(content);
        [&[2], &leb(deflated.len() as u64)[..], &deflated].concat()
    } else {
        hashed(kind)
    };
    [&[0x85, 0x6f, 0x4a, 0x83], &sum[..4], &body].concat()
}

pub fn columns(columns: &[(u64, Vec<u8>)]) -> (Vec<u8>, Vec<u8>) {
    let metadata = columns.iter().flat_map(|(spec, data)| [leb(*spec), leb(data.len() as u64)].concat());
    let data = columns.iter().flat_map(|(_, data)| data.clone());
    (leb(columns.len() as u64).into_iter().chain(metadata).collect(), data.collect())
}

/// A change's content with these actors besides its own and these columns.
pub fn content(actors: &[u8], of: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let (metadata, data) = columns(of);
    // No dependencies, actor 7, sequence number 1, first operation 1, time 0, no message.
    [&[0, 1, 7, 1, 1, 0, 0], actors, &metadata, &data].concat()
}

/// The columns of a change of so many operations that each set key "k" to null.
pub fn operations(count: u64) -> Vec<(u64, Vec<u8>)> {
    vec![
        (0x15, run(count, &[1, b'k'])),
        (0x34, leb(count)),
        (0x42, run(count, &[1])),
        (0x56, run(count, &[0])),
        (0x70, run(count, &[0])),
    ]
}

/// A message with these chunks, as a V1 list or as one V2 blob.
pub fn message(version: u8, chunks: &[Vec<u8>]) -> Bytes {
    let entries: Vec<u8> = match version {
        0x42 => chunks.iter().flat_map(|chunk| [leb(chunk.len() as u64), chunk.clone()].concat()).collect(),
        _ => [leb(chunks.iter().map(Vec::len).sum::<usize>() as u64), chunks.concat()].concat(),
    };
    let count = if version == 0x42 { chunks.len() as u64 } else { 1 };
    [vec![version, 0, 0, 0], leb(count), entries].concat().into()
}
