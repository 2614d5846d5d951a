//! The documents in use, when each was last used, and how many bytes its graph was last counted with; what is remembered of
//! documents that are not in use any more.

use std::collections::HashMap;

use super::compact_retries::CompactRetries;
use crate::store::Head;
use crate::sync::doc::Doc;
use crate::types::{DocKey, Millis, Now, Steady};

#[derive(Debug)]
struct Entry {
    doc: Doc,
    /// When the document was last used, in uses of any document.
    used: u64,
    /// Bytes that its graph was last counted with.
    graph_bytes: usize,
}

/// A change of what one or several graphs take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GraphChange {
    /// Bytes before.
    pub bytes_before: usize,
    /// Bytes now.
    pub bytes_after: usize,
    /// Graphs in memory before.
    pub graphs_before: usize,
    /// Graphs in memory now.
    pub graphs_after: usize,
}

impl GraphChange {
    /// A graph without changes takes some bytes too.
    fn of_one(bytes_before: usize, bytes_after: usize) -> Self {
        let (graphs_before, graphs_after) = (usize::from(bytes_before > 0), usize::from(bytes_after > 0));
        Self { bytes_before, bytes_after, graphs_before, graphs_after }
    }
}

/// All documents in use.
///
/// Invariant: what callers are told with each [`GraphChange`] adds up to the `graph_bytes` of all entries.
#[derive(Debug, Default)]
pub struct Documents {
    entries: HashMap<DocKey, Box<Entry>>,
    uses: u64,
    /// When the first document was opened: about the start of the process.
    started: Option<Steady>,
    compact_retries: CompactRetries,
}

impl Documents {
    /// A document in use.
    pub fn get(&self, key: &DocKey) -> Option<&Doc> {
        self.entries.get(key).map(|entry| &entry.doc)
    }

    /// A document in use, to be changed.
    pub fn get_mut(&mut self, key: &DocKey) -> Option<&mut Doc> {
        self.entries.get_mut(key).map(|entry| &mut entry.doc)
    }

    /// Whether a document is in use.
    pub fn contains(&self, key: &DocKey) -> bool {
        self.entries.contains_key(key)
    }

    /// As [`Documents::get_mut`], for a use that keeps its graph in memory.
    pub fn touch(&mut self, key: &DocKey) -> Option<&mut Doc> {
        self.uses += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.uses;
        Some(&mut entry.doc)
    }

    /// Takes a document into use as the store has it. It is not compacted before `grace_ms` have passed.
    pub fn insert(&mut self, key: &DocKey, head: Option<Head>, now: Now, grace_ms: Millis) {
        // Counted from the start of the process too. If compacting a document ends the process, the next process must not
        // begin with the same compaction.
        let since_start = *self.started.get_or_insert(now.steady) + grace_ms;
        // Of a document's age only the wall clock knows. One from the future says that the clock was set, and no more.
        let age = head.as_ref().map_or(Some(0), |head| now.wall.checked_sub(head.created));
        let left = age.map_or(0, |age| grace_ms.saturating_sub(age));
        let mut doc = Doc::new(key.clone(), head);
        doc.opener.compact_after(since_start.max(now.steady + left));
        if let Some(retry) = self.compact_retries.take(key) {
            doc.opener.retry_compaction_after(retry);
        }
        self.entries.insert(key.clone(), Box::new(Entry { doc, used: self.uses, graph_bytes: 0 }));
    }

    /// Ends the use of a document that nobody needs; `None` if somebody does, or it is not in use.
    pub fn remove_if_idle(&mut self, key: &DocKey) -> Option<GraphChange> {
        if !self.get(key)?.is_idle() {
            return None;
        }
        let entry = self.entries.remove(key)?;
        if let Some(retry) = entry.doc.opener.compaction_retry() {
            self.compact_retries.remember(key.clone(), retry);
        }
        Some(GraphChange::of_one(entry.graph_bytes, 0))
    }

    /// The owner allows a document to be opened again, in use or not.
    pub fn allow_opening(&mut self, key: &DocKey) {
        self.compact_retries.take(key);
        if let Some(doc) = self.get_mut(key) {
            doc.opener.reopen();
        }
    }

    /// Counts a document's graph anew.
    pub fn recount(&mut self, key: &DocKey) -> GraphChange {
        let Some(entry) = self.entries.get_mut(key) else { return GraphChange::default() };
        let bytes = entry.doc.graph_bytes();
        GraphChange::of_one(std::mem::replace(&mut entry.graph_bytes, bytes), bytes)
    }

    /// Drops graphs, those of the documents that were used least recently first, until at least `bytes` are free or none
    /// can be dropped without loss.
    pub fn evict(&mut self, bytes: usize) -> GraphChange {
        let evictable = self.entries.iter().filter(|(_, entry)| entry.doc.is_evictable());
        let mut by_use: Vec<(u64, DocKey)> =
            evictable.map(|(key, entry)| (entry.used, key.clone())).collect();
        by_use.sort_unstable_by_key(|(used, _)| *used);
        let mut freed = GraphChange::default();
        for (_, key) in by_use {
            if freed.bytes_before >= bytes {
                break;
            }
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.doc.evict();
            freed.graphs_before += usize::from(entry.graph_bytes > 0);
            freed.bytes_before += std::mem::take(&mut entry.graph_bytes);
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreOptions};
    use crate::types::DocumentId;

    fn key(n: u8) -> DocKey {
        DocKey { namespace: "xyz.one".parse().unwrap(), document: DocumentId([n; 16]) }
    }

    #[test]
    fn graphs_used_least_recently_are_dropped_first_and_the_counts_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), &StoreOptions { cache_bytes: 1 << 20 }).unwrap();
        let mut documents = Documents::default();
        let (mut bytes, mut graphs) = (0, 0);
        for n in 0..4 {
            documents.insert(&key(n), None, Now::at(0), 0);
            documents.touch(&key(n)).unwrap().load(&store, false).unwrap();
            let change = documents.recount(&key(n));
            assert_eq!((change.bytes_before, change.graphs_before, change.graphs_after), (0, 0, 1));
            (bytes, graphs) = (bytes + change.bytes_after, graphs + 1);
        }
        documents.touch(&key(0));
        let freed = documents.evict(bytes / 4);
        assert_eq!((freed.bytes_before, freed.graphs_before), (bytes / 4, 1));
        assert_eq!(documents.get(&key(1)).unwrap().graph_bytes(), 0, "the others were used later");
        for n in 0..4 {
            let change = documents.remove_if_idle(&key(n)).unwrap();
            bytes -= change.bytes_before;
            graphs -= change.graphs_before;
        }
        assert_eq!((bytes - freed.bytes_before, graphs - freed.graphs_before), (0, 0));
        assert_eq!(documents.remove_if_idle(&key(0)), None);
        assert!(documents.entries.is_empty());
    }
}
