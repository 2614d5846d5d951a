//! What apps have caused that takes memory until the server itself has finished it, and which apps wait meanwhile.
//!
//! New changes stay in memory until they are on the disk, and so does the graph that they belong to. What a connection held stays
//! until its departure has been worked off. Nobody can be made to give way for either. If apps bring more of it than the disk
//! and the shard keep up with, the messages of those with more than an equal share wait: their inboxes fill up, and their
//! sockets are not read.

use std::collections::HashMap;

use crate::types::{Approval, DocKey};

/// The graph of one document counts at most one part in so many of the limit: an app may write to a few long documents at full speed, and not to
/// hundreds.
const PINNED_PART: usize = 16;

/// What one approval has caused.
#[derive(Debug, Default)]
struct Part {
    /// Bytes of connections that are departing.
    departing: usize,
    /// Bytes of documents with changes that are not durable.
    unsaved: usize,
    /// How many such documents.
    documents: usize,
}

/// A document with changes that are not durable.
#[derive(Debug)]
struct Unsaved {
    /// The app whose changes they are; the first one, if there are several.
    approval: Approval,
    bytes: usize,
}

/// The bytes that are not finished, by approval.
///
/// Invariants: `bytes` and `departing` add up what the parts say, and `documents` what they say of documents. Each part has some
/// bytes or a document.
#[derive(Debug)]
pub struct Unfinished {
    /// Bytes from which on approvals with more than an equal share of them wait.
    limit: usize,
    bytes: usize,
    departing: usize,
    parts: HashMap<Approval, Part>,
    documents: HashMap<DocKey, Unsaved>,
}

impl Unfinished {
    /// Nothing. Approvals wait if they have more than their share of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, departing: 0, parts: HashMap::new(), documents: HashMap::new() }
    }

    /// Bytes of connections that are departing.
    pub fn departing(&self) -> usize {
        self.departing
    }

    /// Bytes that count of the graph of one document, besides those of its new changes.
    pub fn most_pinned(&self) -> usize {
        self.limit / PINNED_PART
    }

    /// Bytes of all that is not finished.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Connections of the approval that are departing hold `after` bytes of something of which they held `before`.
    pub fn departing_changed(&mut self, approval: &Approval, before: usize, after: usize) {
        if before == after {
            return;
        }
        self.departing = self.departing - before + after;
        self.change(approval, |part| part.departing = part.departing - before + after);
    }

    /// A document has changes of this approval that are not durable.
    pub fn wrote(&mut self, key: &DocKey, approval: impl FnOnce() -> Approval) {
        if self.documents.contains_key(key) {
            return;
        }
        let approval = approval();
        self.change(&approval, |part| part.documents += 1);
        self.documents.insert(key.clone(), Unsaved { approval, bytes: 0 });
    }

    /// Counts anew what a document takes whose changes are not durable; 0 if they are.
    pub fn recount(&mut self, key: &DocKey, bytes: usize) {
        if bytes == 0 {
            let Some(Unsaved { approval, bytes: before }) = self.documents.remove(key) else { return };
            return self.change(&approval, |part| {
                part.documents -= 1;
                part.unsaved -= before;
            });
        }
        let Some(unsaved) = self.documents.get_mut(key).filter(|unsaved| unsaved.bytes != bytes) else {
            return;
        };
        let before = std::mem::replace(&mut unsaved.bytes, bytes);
        let approval = unsaved.approval.clone();
        self.change(&approval, |part| part.unsaved = part.unsaved - before + bytes);
    }

    /// Some approval has to wait.
    pub fn is_too_much(&self) -> bool {
        self.bytes > self.limit
    }

    /// Whether the next message of an approval may be taken. One message may bring more than all that is allowed: the next one waits
    /// until a commit has stored it.
    pub fn may_go_on(&self, approval: &Approval) -> bool {
        if !self.is_too_much() {
            return true;
        }
        let part = self.parts.get(approval);
        part.is_none_or(|part| part.departing + part.unsaved <= self.limit / self.parts.len())
    }

    fn change(&mut self, approval: &Approval, change: impl FnOnce(&mut Part)) {
        // The name is copied only for an approval that has nothing yet.
        if !self.parts.contains_key(approval) {
            self.parts.insert(approval.clone(), Part::default());
        }
        let Some(part) = self.parts.get_mut(approval) else { return };
        let before = part.departing + part.unsaved;
        change(part);
        let after = part.departing + part.unsaved;
        self.bytes = self.bytes - before + after;
        if after == 0 && part.documents == 0 {
            self.parts.remove(approval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DocumentId;

    fn app(name: &str) -> Approval {
        Approval { namespace: "xyz.one".parse().unwrap(), client_id: name.into() }
    }

    fn key(n: u8) -> DocKey {
        DocKey { namespace: "xyz.one".parse().unwrap(), document: DocumentId([n; 16]) }
    }

    #[test]
    fn an_app_with_more_than_its_share_waits_until_enough_is_finished_and_others_go_on() {
        let mut unfinished = Unfinished::new(100);
        let [flood, other, idle] = ["flood", "other", "idle"].map(app);
        for n in 0..3 {
            unfinished.wrote(&key(n), || flood.clone());
            unfinished.recount(&key(n), 30);
        }
        assert!(unfinished.may_go_on(&flood), "90 of 100");
        unfinished.wrote(&key(9), || other.clone());
        unfinished.recount(&key(9), 20);
        let may = |unfinished: &Unfinished| [&flood, &other, &idle].map(|app| unfinished.may_go_on(app));
        assert_eq!(may(&unfinished), [false, true, true], "90 and 20 of 50 each");
        unfinished.recount(&key(0), 0);
        assert_eq!(may(&unfinished), [true; 3]);
        unfinished.departing_changed(&other, 0, 50);
        assert_eq!((may(&unfinished), unfinished.departing()), ([false, false, true], 50));
        unfinished.departing_changed(&other, 50, 10);
        (1..10).for_each(|n| unfinished.recount(&key(n), 0));
        unfinished.departing_changed(&other, 10, 0);
        assert_eq!((unfinished.bytes(), unfinished.departing()), (0, 0));
        assert!(unfinished.parts.is_empty() && unfinished.documents.is_empty());
    }

    #[test]
    fn a_document_counts_for_who_wrote_to_it_first() {
        let mut unfinished = Unfinished::new(100);
        let [one, two] = ["one", "two"].map(app);
        unfinished.wrote(&key(1), || one.clone());
        unfinished.recount(&key(1), 5000);
        unfinished.wrote(&key(1), || two.clone());
        unfinished.recount(&key(1), 6000);
        assert!(!unfinished.may_go_on(&one) && unfinished.may_go_on(&two));
        unfinished.recount(&key(1), 0);
        assert!(unfinished.may_go_on(&one));
        assert_eq!(unfinished.bytes(), 0);
    }
}
