//! One joined connection: what it has open, and what waits to be sent to it besides documents.

use std::collections::{BTreeSet, VecDeque};

use crate::sync::connection::{ConnectionInfo, MAX_EPHEMERAL, MAX_EPHEMERAL_BYTES, Out};
use crate::sync::doc::FIXED_BYTES;
use crate::sync::ephemeral::{MessageId, Presence};
use crate::types::{DocKey, DocumentId};

/// Most error messages that wait for one connection.
const MAX_ERRORS: usize = 16;

/// A joined connection in its shard.
///
/// Invariant: its share of what [`ConnectionInfo::counts`] says of open documents is the number of `documents`.
#[derive(Debug)]
pub struct Connection {
    info: ConnectionInfo,
    /// Documents that it has a share in.
    documents: BTreeSet<DocKey>,
    close: Option<(u16, &'static str)>,
    close_sent: bool,
    errors: VecDeque<String>,
    /// Ephemeral messages that wait, oldest first, with their payload's bytes. [`Presence`] holds the messages.
    ephemeral: VecDeque<(MessageId, usize)>,
    ephemeral_bytes: usize,
    /// The document whose snapshot the opener takes apart for it.
    extracting: Option<DocKey>,
    /// Documents whose snapshots are to be taken apart for it next.
    to_extract: Vec<DocKey>,
    /// While documents remain to be offered: the last one that was.
    announce: Option<Option<DocumentId>>,
}

impl Connection {
    /// A connection that has nothing open. `announce`: all documents of its namespace are to be offered to it.
    pub fn new(info: ConnectionInfo, announce: bool) -> Self {
        Self {
            info,
            documents: BTreeSet::new(),
            close: None,
            close_sent: false,
            errors: VecDeque::new(),
            ephemeral: VecDeque::new(),
            ephemeral_bytes: 0,
            extracting: None,
            to_extract: Vec::new(),
            announce: announce.then_some(None),
        }
    }

    /// Returns what the client proved about itself.
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Documents that it has a share in.
    pub fn documents(&self) -> &BTreeSet<DocKey> {
        &self.documents
    }

    /// Whether it has a share in a document.
    pub fn has_open(&self, key: &DocKey) -> bool {
        self.documents.contains(key)
    }

    /// Gives it a share in a document. False if it has `most` documents open, over all shards.
    #[must_use]
    pub fn open(&mut self, key: &DocKey, most: usize) -> bool {
        self.documents.contains(key) || (self.info.counts.open(most) && self.documents.insert(key.clone()))
    }

    /// Ends its share in a document.
    pub fn close_document(&mut self, key: &DocKey) {
        if self.documents.remove(key) {
            self.info.counts.close(1);
        }
    }

    /// Ends all of its shares. Returns the documents.
    pub fn close_documents(&mut self) -> BTreeSet<DocKey> {
        self.info.counts.close(self.documents.len());
        std::mem::take(&mut self.documents)
    }

    /// Has the connection closed, once its errors are sent. The first reason counts.
    pub fn end(&mut self, code: u16, reason: &'static str) {
        self.close.get_or_insert((code, reason));
    }

    /// It is being closed: it takes part in nothing any more.
    pub fn is_ending(&self) -> bool {
        self.close.is_some()
    }

    /// The last document that was offered to it, while others remain.
    pub fn announced(&self) -> Option<Option<DocumentId>> {
        self.announce
    }

    /// Documents up to this one were offered; `None` ends it.
    pub fn set_announced(&mut self, last: Option<DocumentId>) {
        self.announce = last.map(Some);
    }

    /// The opener takes a document's snapshot apart for it.
    pub fn begin_extraction(&mut self, key: DocKey) {
        self.extracting = Some(key);
    }

    /// Whether the opener is at work for it.
    pub fn extracts(&self) -> bool {
        self.extracting.is_some()
    }

    /// A document waits until the opener is done with another one.
    pub fn wait_for_extraction(&mut self, key: DocKey) {
        self.to_extract.push(key);
    }

    /// The opener is done, or what it is at does not count: with this document, or whichever it is. Returns the documents
    /// that waited for it.
    pub fn end_extraction(&mut self, of: Option<&DocKey>) -> Vec<DocKey> {
        if of.is_some() && self.extracting.as_ref() != of {
            return Vec::new();
        }
        self.extracting = None;
        std::mem::take(&mut self.to_extract)
    }

    /// Drops the documents that wait until the opener is done with another one.
    pub fn drop_extractions(&mut self) {
        self.to_extract.clear();
    }

    /// Queues an error message.
    pub fn push_error(&mut self, message: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push_back(message);
        }
    }

    /// Queues an ephemeral message. Returns the messages that are dropped for it.
    pub fn push_ephemeral(&mut self, message: MessageId, bytes: usize) -> Vec<MessageId> {
        self.ephemeral_bytes += bytes;
        self.ephemeral.push_back((message, bytes));
        let mut dropped = Vec::new();
        while self.ephemeral.len() > MAX_EPHEMERAL || self.ephemeral_bytes > MAX_EPHEMERAL_BYTES {
            dropped.extend(self.pop_ephemeral());
        }
        dropped
    }

    /// Takes the oldest ephemeral message out of the queue.
    pub fn pop_ephemeral(&mut self) -> Option<MessageId> {
        let (message, bytes) = self.ephemeral.pop_front()?;
        self.ephemeral_bytes -= bytes;
        Some(message)
    }

    /// What goes before documents: errors, then the close they lead to, whatever the room, then ephemeral messages.
    pub fn next_control(&mut self, presence: &mut Presence, room: usize) -> Option<Out> {
        if let Some(message) = self.errors.pop_front() {
            return Some(Out::Error(message));
        }
        if let Some((code, reason)) = self.close {
            return (!std::mem::replace(&mut self.close_sent, true)).then_some(Out::Close(code, reason));
        }
        // A message may have been evicted meanwhile, to stay within the total of all connections.
        while let Some((_, bytes)) = self.ephemeral.front() {
            if bytes + FIXED_BYTES > room {
                return Some(Out::NoRoom);
            }
            let Some(message) = self.pop_ephemeral() else { break };
            if let Some(out) = presence.take(message) {
                return Some(out);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Namespace;

    fn connection() -> Connection {
        let info = ConnectionInfo {
            namespace: "xyz.one".parse().unwrap(),
            read_only: false,
            client: "https://app.example/".into(),
            session: None,
            peer: "one".parse().unwrap(),
            storage: None,
            token: 0,
            counts: Default::default(),
        };
        Connection::new(info, false)
    }

    fn key(n: u8) -> DocKey {
        let namespace: Namespace = "xyz.one".parse().unwrap();
        DocKey { namespace, document: DocumentId([n; 16]) }
    }

    #[test]
    fn open_documents_are_counted_once_over_all_shards() {
        let (mut here, mut elsewhere) = (connection(), connection());
        elsewhere.info.counts = here.info.counts.clone();
        assert!(here.open(&key(1), 2) && here.open(&key(1), 2) && elsewhere.open(&key(2), 2));
        assert!(!here.open(&key(3), 2) && !here.has_open(&key(3)));
        here.close_document(&key(3));
        here.close_document(&key(1));
        assert_eq!(here.info.counts.documents(), 1);
        assert!(here.open(&key(3), 2));
        assert_eq!(here.close_documents().into_iter().collect::<Vec<_>>(), [key(3)]);
        assert_eq!((here.info.counts.documents(), here.documents().len()), (1, 0));
    }

    #[test]
    fn errors_go_before_the_close_and_nothing_after_it() {
        let (mut conn, mut presence) = (connection(), Presence::default());
        conn.push_error("why".into());
        conn.end(1008, "first");
        conn.end(1013, "second");
        assert_eq!(conn.next_control(&mut presence, 0), Some(Out::Error("why".into())));
        assert_eq!(conn.next_control(&mut presence, 0), Some(Out::Close(1008, "first")));
        assert_eq!(conn.next_control(&mut presence, 0), None);
        (0..2 * MAX_ERRORS).for_each(|_| conn.push_error("again".into()));
        assert_eq!(conn.errors.len(), MAX_ERRORS);
    }

    #[test]
    fn what_waits_for_an_extraction_goes_on_when_that_one_ends() {
        let mut conn = connection();
        conn.begin_extraction(key(1));
        conn.wait_for_extraction(key(2));
        assert!(conn.end_extraction(Some(&key(3))).is_empty() && conn.extracts(), "another document's");
        assert_eq!(conn.end_extraction(Some(&key(1))), [key(2)]);
        assert!(!conn.extracts() && conn.end_extraction(None).is_empty());
    }
}
