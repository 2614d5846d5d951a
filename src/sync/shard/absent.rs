//! When documents are looked at next that connections asked for and the store lacks. Who wants one stands among the document's
//! peers.
//!
//! Looking costs as much as there are devices to ask, and an app may ask for tens of thousands of documents at once. So
//! those that are due are taken one at a time, and whoever takes them stops when others have waited long enough.

use std::collections::{BTreeSet, HashMap};

use crate::types::{DocKey, DocumentId, Millis, Namespace};

/// Whether others were asked for a document that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// Other devices will be asked at this time, if the document has not come.
    At(Millis),
    /// Other devices were asked.
    Done,
}

#[derive(Debug)]
struct Wait {
    asking: Asking,
    look_at: Millis,
}

/// Absent documents that are wanted.
///
/// Invariant: `looks` holds each document of `waits` once, at its `look_at`.
#[derive(Debug, Default)]
pub struct Absent {
    /// Somebody subscribed to them; late answers count.
    wanted: BTreeSet<DocKey>,
    /// Somebody waits for an answer about them.
    waits: HashMap<DocKey, Wait>,
    looks: BTreeSet<(Millis, DocKey)>,
}

impl Absent {
    /// Somebody waits for a document. Others are asked at `ask_at`, unless others waited for it before.
    pub fn want(&mut self, key: &DocKey, ask_at: Millis) {
        self.wanted.insert(key.clone());
        if !self.waits.contains_key(key) {
            self.waits.insert(key.clone(), Wait { asking: Asking::At(ask_at), look_at: ask_at });
            self.looks.insert((ask_at, key.clone()));
        }
    }

    /// Whether others were asked; `None` if nobody waits for an answer.
    pub fn asking(&self, key: &DocKey) -> Option<Asking> {
        self.waits.get(key).map(|wait| wait.asking)
    }

    /// Sets whether others were asked, and when the document is looked at next.
    pub fn set(&mut self, key: &DocKey, asking: Asking, look_at: Millis) {
        if let Some(wait) = self.waits.get_mut(key) {
            wait.asking = asking;
            let before = std::mem::replace(&mut wait.look_at, look_at);
            self.looks.remove(&(before, key.clone()));
            self.looks.insert((look_at, key.clone()));
        }
    }

    /// Takes a document that is due, and has it looked at again at `look_at`; `None` if none is due.
    pub fn take_due(&mut self, now: Millis, look_at: Millis) -> Option<DocKey> {
        let (_, key) = self.looks.first().filter(|(at, _)| *at <= now)?.clone();
        let asking = self.asking(&key)?;
        self.set(&key, asking, look_at);
        Some(key)
    }

    /// Some document is due.
    pub fn is_due(&self, now: Millis) -> bool {
        self.looks.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Nobody waits for an answer about the document any more.
    pub fn answered(&mut self, key: &DocKey) {
        if let Some(wait) = self.waits.remove(key) {
            self.looks.remove(&(wait.look_at, key.clone()));
        }
    }

    /// Nobody wants the document any more, or it is here.
    pub fn forget(&mut self, key: &DocKey) {
        self.answered(key);
        self.wanted.remove(key);
    }

    /// Nobody waits for an answer.
    pub fn is_quiet(&self) -> bool {
        self.waits.is_empty()
    }

    /// The wanted documents of a namespace.
    pub fn wanted_in(&self, namespace: &Namespace) -> impl Iterator<Item = &DocKey> + use<'_> {
        let namespace = namespace.clone();
        let first = DocKey { namespace: namespace.clone(), document: DocumentId([0; 16]) };
        self.wanted.range(first..).take_while(move |key| key.namespace == namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, n: u8) -> DocKey {
        DocKey { namespace: namespace.parse().unwrap(), document: DocumentId([n; 16]) }
    }

    #[test]
    fn what_is_due_comes_once_and_in_its_time() {
        let mut absent = Absent::default();
        (0..5).for_each(|n| absent.want(&key("xyz.a", n), 100 + u64::from(n)));
        absent.want(&key("xyz.a", 4), 0);
        assert!(!absent.is_due(99));
        assert_eq!(absent.take_due(99, 1000), None);
        assert_eq!(absent.take_due(102, 1000), Some(key("xyz.a", 0)));
        absent.set(&key("xyz.a", 1), Asking::Done, 500);
        absent.answered(&key("xyz.a", 2));
        assert_eq!(absent.take_due(103, 1000), Some(key("xyz.a", 3)));
        assert_eq!(absent.take_due(103, 1000), None);
        assert_eq!(absent.take_due(500, 1000), Some(key("xyz.a", 4)));
        assert_eq!(absent.take_due(500, 1000), Some(key("xyz.a", 1)));
        assert_eq!(absent.asking(&key("xyz.a", 1)), Some(Asking::Done));
        assert_eq!(absent.asking(&key("xyz.a", 2)), None);
        assert_eq!(absent.wanted_in(&"xyz.a".parse().unwrap()).count(), 5);
        assert_eq!(absent.wanted_in(&"xyz.b".parse().unwrap()).count(), 0);
        (0..5).for_each(|n| absent.forget(&key("xyz.a", n)));
        assert!(absent.is_quiet() && absent.looks.is_empty() && absent.wanted.is_empty());
        // What is not waited for is not set.
        absent.set(&key("xyz.a", 1), Asking::Done, 1);
        assert!(!absent.is_due(u64::MAX));
    }
}
