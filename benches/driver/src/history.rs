//! The history that is written and followed: one line of changes, each on top of the one before.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use automerge::{
    AutoCommit, Automerge, Change, ChangeHash, ObjType, ROOT, ReadDoc, transaction::Transactable,
};

/// Changes made when there is no file to take them from.
const MADE: usize = 259_778;

/// A line of changes. A position `p` in it stands for the first `p` changes.
pub struct History {
    changes: Vec<Vec<u8>>,
    hashes: Vec<ChangeHash>,
    positions: HashMap<ChangeHash, u32>,
    saved: Mutex<HashMap<u32, Vec<u8>>>,
}

impl History {
    /// From a saved document, or a text of the same length typed here.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let mut saved = None;
        let changes = match file {
            Some(file) => {
                let bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
                let changes = Automerge::load(&bytes)?.get_changes(&[]);
                saved = Some(bytes);
                changes
            }
            None => typed(MADE)?,
        };
        let hashes: Vec<_> = changes.iter().map(Change::hash).collect();
        for (index, change) in changes.iter().enumerate() {
            ensure!(
                change.deps() == &hashes[index.saturating_sub(1)..index],
                "the document is not one line of changes"
            );
        }
        let positions = (1..).zip(&hashes).map(|(position, hash)| (*hash, position)).collect();
        let saved = saved.map(|bytes| (hashes.len() as u32, bytes)).into_iter().collect();
        let changes = changes.iter().map(|change| change.raw_bytes().to_vec()).collect();
        Ok(Self { changes, hashes, positions, saved: Mutex::new(saved) })
    }

    /// How many changes there are.
    pub fn len(&self) -> u32 {
        self.changes.len() as u32
    }

    /// The chunk of the change that leads to `position`.
    pub fn change(&self, position: u32) -> &[u8] {
        &self.changes[position as usize - 1]
    }

    /// The heads at `position`.
    pub fn heads(&self, position: u32) -> &[ChangeHash] {
        &self.hashes[(position as usize).saturating_sub(1)..position as usize]
    }

    /// Where a change leads.
    pub fn position(&self, hash: &ChangeHash) -> Option<u32> {
        self.positions.get(hash).copied()
    }

    /// The furthest position that these heads speak of; 0 if none.
    pub fn furthest(&self, heads: &[ChangeHash]) -> u32 {
        heads.iter().filter_map(|head| self.position(head)).max().unwrap_or(0)
    }

    /// The document as saved at `position`; kept, for it takes seconds to make.
    pub fn document(&self, position: u32) -> Result<Vec<u8>> {
        let Ok(mut saved) = self.saved.lock() else { anyhow::bail!("another task failed while saving") };
        if let Some(bytes) = saved.get(&position) {
            return Ok(bytes.clone());
        }
        let mut document = Automerge::new();
        let chunks = self.changes[..position as usize].concat();
        document.load_incremental(&chunks)?;
        ensure!(document.get_heads() == self.heads(position), "the document does not hold its changes");
        let bytes = document.save();
        saved.insert(position, bytes.clone());
        Ok(bytes)
    }
}

/// A text typed character by character, one change each, with a jump of the cursor now and then.
fn typed(count: usize) -> Result<Vec<Change>> {
    let mut document = AutoCommit::new().with_actor(automerge::ActorId::from([7u8; 16]));
    let text = document.put_object(ROOT, "text", ObjType::Text)?;
    document.commit();
    let (mut random, mut cursor) = (0x2545_f491_4f6c_dd1du64, 0);
    for _ in 1..count {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let length = document.length(&text);
        if random.is_multiple_of(50) {
            cursor = (random >> 8) as usize % (length + 1);
        }
        if random.is_multiple_of(13) && cursor > 0 {
            cursor -= 1;
            document.splice_text(&text, cursor, 1, "")?;
        } else {
            let letter = char::from(b'a' + (random >> 16) as u8 % 26);
            document.splice_text(&text, cursor, 0, &letter.to_string())?;
            cursor += 1;
        }
        document.commit();
    }
    Ok(document.get_changes(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_history_is_one_line() {
        let changes = typed(300).unwrap();
        assert_eq!(changes.len(), 300);
        for pair in changes.windows(2) {
            assert_eq!(pair[1].deps(), [pair[0].hash()]);
        }
    }
}
