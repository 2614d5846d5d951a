//! Automerge sync messages and the chunks in them, written and read without opening a document.
//!
//! Format: the documentation of the automerge crate's `sync` module; checked against it in the tests below.

use anyhow::{Context, Result, bail, ensure};
use automerge::{Change, ChangeHash};
use sha2::{Digest, Sha256};

const V1: u8 = 0x42;
const V2: u8 = 0x43;
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
/// What current clients append: "I read version 2, I know resets".
const CAPABILITIES: [u8; 3] = [2, 2, 0x84];
const HASH: usize = 32;

/// What a server's message says.
#[derive(Debug, Default)]
pub struct Received {
    /// The sender's heads.
    pub heads: Vec<ChangeHash>,
    /// What it asks for.
    pub need: Vec<ChangeHash>,
    /// Single changes, in the order sent.
    pub changes: Vec<ChangeHash>,
    /// Heads of whole documents in it.
    pub document_heads: Vec<ChangeHash>,
    /// It sent capability bytes, so it reads version 2.
    pub reads_v2: bool,
}

/// One message to a server. An empty `have` filter is exact: it is only said of what both sides share.
#[derive(Debug, Default)]
pub struct Sent<'a> {
    /// Our heads.
    pub heads: &'a [ChangeHash],
    /// What we miss.
    pub need: &'a [ChangeHash],
    /// Up to where both sides have the same.
    pub shared: &'a [ChangeHash],
    /// Chunks, strung together.
    pub chunks: &'a [u8],
}

impl Sent<'_> {
    /// Append the message to `out`, in version 2 if it has chunks and the server reads it.
    pub fn write(&self, v2: bool, out: &mut Vec<u8>) {
        out.push(if v2 && !self.chunks.is_empty() { V2 } else { V1 });
        put_hashes(out, self.heads);
        put_hashes(out, self.need);
        out.push(1);
        put_hashes(out, self.shared);
        out.push(0);
        if self.chunks.is_empty() {
            out.push(0);
        } else {
            out.push(1);
            put_leb(out, self.chunks.len());
            out.extend_from_slice(self.chunks);
        }
        out.extend_from_slice(&CAPABILITIES);
    }
}

fn put_leb(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_hashes(out: &mut Vec<u8>, hashes: &[ChangeHash]) {
    put_leb(out, hashes.len());
    for hash in hashes {
        out.extend_from_slice(&hash.0);
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length).context("sync message ends too early")?;
        self.0 = rest;
        Ok(head)
    }

    fn leb(&mut self) -> Result<usize> {
        let mut value = 0usize;
        for shift in (0..63).step_by(7) {
            let byte = self.take(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a number in the sync message is too long")
    }

    fn prefixed(&mut self) -> Result<&'a [u8]> {
        let length = self.leb()?;
        self.take(length)
    }

    fn hashes(&mut self) -> Result<Vec<ChangeHash>> {
        let count = self.leb()?;
        ensure!(count <= self.0.len() / HASH, "more hashes announced than sent");
        (0..count).map(|_| Ok(ChangeHash(self.take(HASH)?.try_into()?))).collect()
    }
}

/// Read a server's message. Every single change is hashed, so that what is counted is what was written.
pub fn read(data: &[u8]) -> Result<Received> {
    let mut cursor = Cursor(data);
    let version = cursor.take(1)?[0];
    ensure!(matches!(version, V1 | V2), "not a sync message");
    let mut received = Received { heads: cursor.hashes()?, need: cursor.hashes()?, ..Received::default() };
    for _ in 0..cursor.leb()? {
        cursor.hashes()?;
        cursor.prefixed()?;
    }
    for _ in 0..cursor.leb()? {
        read_chunks(cursor.prefixed()?, &mut received)?;
    }
    received.reads_v2 = !cursor.0.is_empty();
    Ok(received)
}

fn read_chunks(blob: &[u8], received: &mut Received) -> Result<()> {
    let mut cursor = Cursor(blob);
    while !cursor.0.is_empty() {
        let whole = cursor.0;
        ensure!(cursor.take(4)? == MAGIC, "not a chunk");
        let checksum = cursor.take(4)?;
        let hashed = cursor.0;
        let kind = cursor.take(1)?[0];
        let content = cursor.prefixed()?;
        let length = whole.len() - cursor.0.len();
        match kind {
            0 => {
                ensure!(
                    Sha256::digest(&hashed[..length - 8])[..4] == *checksum,
                    "document with a wrong checksum"
                );
                received.document_heads.extend(document_heads(content)?);
            }
            1 => {
                let hash = Sha256::digest(&hashed[..length - 8]);
                ensure!(hash[..4] == *checksum, "chunk with a wrong checksum");
                received.changes.push(ChangeHash(hash.into()));
            }
            2 => received.changes.push(Change::from_bytes(whole[..length].to_vec())?.hash()),
            other => bail!("chunk of unknown kind {other}"),
        }
    }
    Ok(())
}

fn document_heads(content: &[u8]) -> Result<Vec<ChangeHash>> {
    let mut cursor = Cursor(content);
    for _ in 0..cursor.leb()? {
        cursor.prefixed()?;
    }
    cursor.hashes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use automerge::sync::{Message, SyncDoc};
    use automerge::transaction::Transactable;
    use automerge::{AutoCommit, ROOT};

    fn document() -> AutoCommit {
        let mut document = AutoCommit::new();
        for value in 0..3 {
            document.put(ROOT, "key", value).unwrap();
            document.commit();
        }
        document
    }

    #[test]
    fn what_is_written_automerge_reads() {
        let mut document = document();
        let chunks: Vec<u8> = document.get_changes(&[]).iter().flat_map(|c| c.raw_bytes().to_vec()).collect();
        let heads = document.get_heads();
        for v2 in [false, true] {
            let mut bytes = Vec::new();
            Sent { heads: &heads, need: &[], shared: &heads, chunks: &chunks }.write(v2, &mut bytes);
            let message = Message::decode(&bytes).unwrap();
            assert_eq!(message.heads, heads);
            assert_eq!(message.have[0].last_sync, heads);
            assert!(message.flags.is_some());
            let mut other = AutoCommit::new();
            other.sync().receive_sync_message(&mut automerge::sync::State::new(), message).unwrap();
            assert_eq!(other.get_heads(), heads);
        }
    }

    #[test]
    fn what_automerge_writes_is_read() {
        let mut ours = document();
        let mut theirs = AutoCommit::new();
        let (mut to_theirs, mut to_ours) = (automerge::sync::State::new(), automerge::sync::State::new());
        let mut whole = 0;
        for _ in 0..5 {
            if let Some(message) = theirs.sync().generate_sync_message(&mut to_ours) {
                ours.sync().receive_sync_message(&mut to_theirs, message).unwrap();
            }
            let Some(message) = ours.sync().generate_sync_message(&mut to_theirs) else { break };
            let received = read(&message.clone().encode()).unwrap();
            assert_eq!(received.heads, ours.get_heads());
            assert!(received.reads_v2);
            whole += usize::from(received.document_heads == ours.get_heads());
            theirs.sync().receive_sync_message(&mut to_ours, message).unwrap();
            ours.put(ROOT, "key", "more").unwrap();
            ours.commit();
        }
        assert_eq!(whole, 1, "the first load is a whole document");
    }

    #[test]
    fn hashes_of_single_and_deflated_changes() {
        let mut document = document();
        document.put(ROOT, "long", "a".repeat(100_000)).unwrap();
        document.commit();
        let changes = document.get_changes(&[]);
        let mut chunks: Vec<u8> = Vec::new();
        for change in &changes {
            chunks.extend_from_slice(&change.clone().bytes());
        }
        let mut received = Received::default();
        read_chunks(&chunks, &mut received).unwrap();
        assert_eq!(received.changes, changes.iter().map(|c| c.hash()).collect::<Vec<_>>());
    }
}
