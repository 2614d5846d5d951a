//! One joined connection: what it has open, and what waits to be sent to it besides documents.

use std::collections::{BTreeSet, VecDeque};

use crate::sync::connection::{ConnectionInfo, MAX_EPHEMERAL, MAX_EPHEMERAL_BYTES, Out};
use crate::sync::ephemeral::{MessageId, Presence};
use crate::sync::reply::FIXED_BYTES;
use crate::types::{DocKey, DocumentId};

/// Most error messages that wait for one connection.
const MAX_ERRORS: usize = 16;

/// A connection in the shard.
#[derive(Debug)]
pub struct Connection {
    pub(super) info: ConnectionInfo,
    /// Documents it has a share in.
    pub(super) docs: BTreeSet<DocKey>,
    /// Documents it is owed a message about.
    pub(super) queue: VecDeque<DocKey>,
    /// It is in the shard's list of those with something to send.
    pub(super) ready: bool,
    pub(super) close: Option<(u16, &'static str)>,
    close_sent: bool,
    errors: VecDeque<String>,
    /// Ephemeral messages that wait, oldest first, with their payload's bytes. [`Presence`] holds the messages.
    ephemeral: VecDeque<(MessageId, usize)>,
    ephemeral_bytes: usize,
    /// The document whose snapshot the opener takes apart for it.
    pub(super) extracting: Option<DocKey>,
    /// Documents that wait for the opener.
    pub(super) waiting: Vec<DocKey>,
    /// Requests that wait for an answer.
    pub(super) requests: usize,
    /// While documents remain to be offered: the last one that was.
    pub(super) announce: Option<Option<DocumentId>>,
}

impl Connection {
    pub(super) fn new(info: ConnectionInfo, announce: bool) -> Self {
        Self {
            info,
            docs: BTreeSet::new(),
            queue: VecDeque::new(),
            ready: false,
            close: None,
            close_sent: false,
            errors: VecDeque::new(),
            ephemeral: VecDeque::new(),
            ephemeral_bytes: 0,
            extracting: None,
            waiting: Vec::new(),
            requests: 0,
            announce: announce.then_some(None),
        }
    }

    pub(super) fn push_error(&mut self, message: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push_back(message);
        }
    }

    /// Queue an ephemeral message. Returns the messages that are dropped for it.
    pub(super) fn push_ephemeral(&mut self, message: MessageId, bytes: usize) -> Vec<MessageId> {
        self.ephemeral_bytes += bytes;
        self.ephemeral.push_back((message, bytes));
        let mut dropped = Vec::new();
        while self.ephemeral.len() > MAX_EPHEMERAL || self.ephemeral_bytes > MAX_EPHEMERAL_BYTES {
            dropped.extend(self.pop_ephemeral());
        }
        dropped
    }

    /// Take the oldest ephemeral message out of the queue.
    pub(super) fn pop_ephemeral(&mut self) -> Option<MessageId> {
        let (message, bytes) = self.ephemeral.pop_front()?;
        self.ephemeral_bytes -= bytes;
        Some(message)
    }

    /// What goes before documents: errors, then the close they lead to, whatever the room, then ephemeral messages.
    pub(super) fn next_control(&mut self, presence: &mut Presence, room: usize) -> Option<Out> {
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
