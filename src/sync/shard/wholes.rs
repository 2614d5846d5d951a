//! Documents that were too much to take in whole.
//!
//! A document that a device sends in one piece has to be opened before it can be stored, and the opener may refuse that. Its
//! changes one by one need no opening: they are stored as they come. A device sends them so to whoever does not say that they
//! understand version 2 of the messages. It notes what was said once for each connection, so a connection that was told so, and
//! on which a document was then refused, is closed, and on the next one the server does not say it for that document.

use std::collections::{HashMap, VecDeque};

use crate::types::{ChangeHash, DocKey};

/// Documents that are remembered; beyond it the oldest is forgotten, and may be refused once more.
const MOST_DOCUMENTS: usize = 1_000;
/// Heads of a document that are remembered, of the many that it may have.
const MOST_HEADS: usize = 8;

/// The documents, and the heads of what was refused.
///
/// Invariant: `order` has every key of `heads` once, the oldest first.
#[derive(Debug, Default)]
pub struct Wholes {
    heads: HashMap<DocKey, Vec<ChangeHash>>,
    order: VecDeque<DocKey>,
}

impl Wholes {
    /// A document with these heads was refused.
    pub fn refuse(&mut self, key: &DocKey, heads: &[ChangeHash]) {
        let heads = heads[..heads.len().min(MOST_HEADS)].to_vec();
        if self.heads.insert(key.clone(), heads).is_some() {
            return;
        }
        self.order.push_back(key.clone());
        if self.order.len() > MOST_DOCUMENTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.heads.remove(&oldest);
        }
    }

    /// The document may be sent whole again.
    pub fn allow(&mut self, key: &DocKey) {
        if self.heads.remove(key).is_some() {
            self.order.retain(|other| other != key);
        }
    }

    /// Heads of what was refused of the document, if something was.
    pub fn refused(&self, key: &DocKey) -> Option<&[ChangeHash]> {
        self.heads.get(key).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DocumentId;

    fn key(n: u64) -> DocKey {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        DocKey { namespace: "xyz.one".parse().unwrap(), document: DocumentId(id) }
    }

    #[test]
    fn the_latest_refusals_are_remembered() {
        let mut wholes = Wholes::default();
        let hash = |n| ChangeHash([n; 32]);
        wholes.refuse(&key(0), &[hash(1)]);
        wholes.refuse(&key(0), &[hash(2); 20]);
        assert_eq!(wholes.refused(&key(0)), Some(&[hash(2); MOST_HEADS][..]));
        for n in 1..=MOST_DOCUMENTS as u64 {
            wholes.refuse(&key(n), &[]);
        }
        assert!(wholes.refused(&key(0)).is_none() && wholes.refused(&key(1)).is_some());
        wholes.allow(&key(1));
        wholes.allow(&key(1));
        assert!(wholes.refused(&key(1)).is_none());
        assert_eq!((wholes.heads.len(), wholes.order.len()), (MOST_DOCUMENTS - 1, MOST_DOCUMENTS - 1));
    }
}
