//! Looks on while a backup passes by: how far it is, and whether it came to its end.

use super::block::{DIGEST_BYTES, END, HEAD_BYTES, MAGIC, MANIFEST, lengths};
use super::{Manifest, Totals};

/// Longest manifest or totals that are looked at, in bytes.
const MAX_JSON_BYTES: usize = 16 << 10;

/// Knows a backup by its pieces, however they are cut. It checks nothing: reading it back does.
#[derive(Default)]
pub struct Follow {
    /// Bytes so far.
    pub bytes: u64,
    /// As soon as it has passed.
    pub manifest: Option<Manifest>,
    /// At its end.
    pub totals: Option<Totals>,
    /// Bytes of records so far.
    pub plain_bytes: u64,
    skip: usize,
    head: Vec<u8>,
    json: Option<(u8, usize, Vec<u8>)>,
}

impl Follow {
    /// At the beginning.
    pub fn new() -> Self {
        Self { skip: MAGIC.len(), ..Self::default() }
    }

    /// The next piece.
    pub fn see(&mut self, mut piece: &[u8]) {
        self.bytes += piece.len() as u64;
        while !piece.is_empty() {
            if self.skip > 0 {
                let (skipped, rest) = piece.split_at(self.skip.min(piece.len()));
                (self.skip, piece) = (self.skip - skipped.len(), rest);
            } else if let Some((kind, length, json)) = &mut self.json {
                let (mine, rest) = piece.split_at((*length - json.len()).min(piece.len()));
                json.extend_from_slice(mine);
                piece = rest;
                if json.len() == *length {
                    match *kind {
                        MANIFEST => self.manifest = serde_json::from_slice(json).ok(),
                        _ => self.totals = serde_json::from_slice(json).ok(),
                    }
                    (self.json, self.skip) = (None, DIGEST_BYTES);
                }
            } else {
                let (mine, rest) = piece.split_at((HEAD_BYTES - self.head.len()).min(piece.len()));
                self.head.extend_from_slice(mine);
                piece = rest;
                if let Ok(head) = <[u8; HEAD_BYTES]>::try_from(&self.head[..]) {
                    self.head.clear();
                    self.block(head);
                }
            }
        }
    }

    fn block(&mut self, head: [u8; HEAD_BYTES]) {
        match lengths(head) {
            Some((kind @ (MANIFEST | END), _, stored)) if stored <= MAX_JSON_BYTES => {
                self.json = Some((kind, stored, Vec::new()));
            }
            Some((_, plain, stored)) => {
                self.plain_bytes += plain as u64;
                self.skip = stored + DIGEST_BYTES;
            }
            // Not a backup: nothing more is made of it.
            None => self.skip = usize::MAX,
        }
    }
}
