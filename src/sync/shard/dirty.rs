//! Documents whose new changes wait for the next commit.
//!
//! A commit takes a bounded part of them, so that one namespace's flood of new documents or of large changes does not hold
//! up the acknowledgement of another's keystroke: namespaces take turns, a document at a time.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::types::{DocKey, DocumentId, Namespace};

/// One namespace's documents, in the order in which they got changes.
#[derive(Debug, Default)]
struct Queue {
    documents: VecDeque<DocumentId>,
    queued: HashSet<DocumentId>,
}

/// The documents by namespace.
///
/// Invariants: a namespace has a turn exactly while it has documents; each document stands once in its namespace's queue,
/// however many changes it got.
#[derive(Debug, Default)]
pub struct Dirty {
    documents: HashMap<Namespace, Queue>,
    /// The namespaces that have some, the next one first.
    turns: VecDeque<Namespace>,
}

impl Dirty {
    /// A document has new changes.
    pub fn mark(&mut self, key: &DocKey) {
        // The name is copied only for a namespace that has no documents yet.
        if !self.documents.contains_key(&key.namespace) {
            self.documents.insert(key.namespace.clone(), Queue::default());
            self.turns.push_back(key.namespace.clone());
        }
        if let Some(queue) = self.documents.get_mut(&key.namespace)
            && queue.queued.insert(key.document)
        {
            queue.documents.push_back(key.document);
        }
    }

    /// The next document; its namespace's others come after one of each other namespace.
    pub fn pop(&mut self) -> Option<DocKey> {
        let namespace = self.turns.pop_front()?;
        // Invariant: a namespace that has a turn has documents.
        let queue = self.documents.get_mut(&namespace)?;
        let document = queue.documents.pop_front()?;
        queue.queued.remove(&document);
        if queue.documents.is_empty() {
            self.documents.remove(&namespace);
        } else {
            self.turns.push_back(namespace.clone());
        }
        Some(DocKey { namespace, document })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_in_one_namespace_does_not_go_before_what_came_later_in_another() {
        let mut dirty = Dirty::default();
        let key = |namespace: &str, n: u8| DocKey {
            namespace: namespace.parse().unwrap(),
            document: DocumentId([n; 16]),
        };
        (0..100).for_each(|n| dirty.mark(&key("xyz.flood", n)));
        dirty.mark(&key("xyz.flood", 7));
        dirty.mark(&key("xyz.other", 1));
        dirty.mark(&key("xyz.other", 2));
        let order: Vec<DocKey> = std::iter::from_fn(|| dirty.pop()).collect();
        assert_eq!(order.len(), 102);
        assert_eq!(order[1], key("xyz.other", 1));
        assert_eq!(order[3], key("xyz.other", 2));
        let flood: Vec<_> = order.iter().filter(|key| key.namespace.as_str() == "xyz.flood").collect();
        assert!(flood.windows(2).all(|pair| pair[0].document < pair[1].document), "in their order");
        assert!(dirty.documents.is_empty() && dirty.turns.is_empty());
    }
}
