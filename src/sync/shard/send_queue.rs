//! Which connections have something to send, and about which documents each of them is owed a message.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::types::{ConnectionId, DocumentId};

/// An empty queue that was longer than this gives its memory back.
const KEPT_CAPACITY: usize = 64;

/// One connection's documents. A connection belongs to one namespace, so the document's id names it.
#[derive(Debug, Default)]
struct Queue {
    documents: VecDeque<DocumentId>,
    queued: HashSet<DocumentId>,
    ready: bool,
}

/// The queues of all connections.
///
/// Invariants: a document stands once at most in a connection's `documents`, and `queued` has the same; a connection stands
/// in the list `ready` exactly while its flag says so, except that one that has left may still stand in the list.
#[derive(Debug, Default)]
pub struct SendQueue {
    queues: HashMap<ConnectionId, Queue>,
    ready: VecDeque<ConnectionId>,
}

impl SendQueue {
    /// A connection has joined.
    pub fn join(&mut self, id: ConnectionId) {
        self.queues.insert(id, Queue::default());
    }

    /// A connection gets nothing any more.
    pub fn leave(&mut self, id: ConnectionId) {
        self.queues.remove(&id);
    }

    /// A connection has something to send.
    pub fn make_ready(&mut self, id: ConnectionId) {
        if let Some(queue) = self.queues.get_mut(&id)
            && !std::mem::replace(&mut queue.ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// A connection is owed a message about a document.
    pub fn push(&mut self, id: ConnectionId, document: DocumentId) {
        if self.put_back(id, document) {
            self.make_ready(id);
        }
    }

    /// A document whose message did not fit comes last; the connection is not ready before it has more room. False if the
    /// document was queued already, or the connection has left.
    pub fn put_back(&mut self, id: ConnectionId, document: DocumentId) -> bool {
        let Some(queue) = self.queues.get_mut(&id) else { return false };
        let is_new = queue.queued.insert(document);
        if is_new {
            queue.documents.push_back(document);
        }
        is_new
    }

    /// Takes out the document that a connection's next message is about.
    pub fn pop(&mut self, id: ConnectionId) -> Option<DocumentId> {
        let queue = self.queues.get_mut(&id)?;
        let document = queue.documents.pop_front()?;
        queue.queued.remove(&document);
        if queue.documents.is_empty() && queue.documents.capacity() > KEPT_CAPACITY {
            (queue.documents, queue.queued) = Default::default();
        }
        Some(document)
    }

    /// Documents in a connection's queue.
    pub fn len(&self, id: ConnectionId) -> usize {
        self.queues.get(&id).map_or(0, |queue| queue.documents.len())
    }

    /// Empties a connection's queue of documents.
    pub fn clear(&mut self, id: ConnectionId) {
        if let Some(queue) = self.queues.get_mut(&id) {
            (queue.documents, queue.queued) = Default::default();
        }
    }

    /// Takes out the next connection that has something to send.
    pub fn next_ready(&mut self) -> Option<ConnectionId> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.ready = false;
                return Some(id);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConnectionId = ConnectionId(1);
    const TWO: ConnectionId = ConnectionId(2);

    fn document(n: u8) -> DocumentId {
        DocumentId([n; 16])
    }

    #[test]
    fn a_connection_is_ready_once_and_a_document_queued_once_until_taken_out() {
        let mut queue = SendQueue::default();
        [ONE, TWO].into_iter().for_each(|id| queue.join(id));
        for n in [1, 2, 1, 2] {
            queue.push(ONE, document(n));
        }
        queue.push(TWO, document(1));
        assert_eq!(
            (queue.next_ready(), queue.next_ready(), queue.next_ready()),
            (Some(ONE), Some(TWO), None)
        );
        assert_eq!((queue.len(ONE), queue.pop(ONE)), (2, Some(document(1))));
        queue.push(ONE, document(1));
        assert_eq!(queue.next_ready(), Some(ONE));
        assert_eq!(
            (queue.pop(ONE), queue.pop(ONE), queue.pop(ONE)),
            (Some(document(2)), Some(document(1)), None)
        );
    }

    #[test]
    fn what_does_not_fit_waits_for_room() {
        let mut queue = SendQueue::default();
        queue.join(ONE);
        queue.push(ONE, document(1));
        assert_eq!((queue.next_ready(), queue.pop(ONE)), (Some(ONE), Some(document(1))));
        assert!(queue.put_back(ONE, document(1)));
        queue.push(ONE, document(1));
        assert_eq!(queue.next_ready(), None, "it stands there, so no news makes it ready");
        queue.make_ready(ONE);
        assert_eq!((queue.next_ready(), queue.pop(ONE)), (Some(ONE), Some(document(1))));
    }

    #[test]
    fn who_has_left_gets_nothing() {
        let mut queue = SendQueue::default();
        queue.join(ONE);
        queue.push(ONE, document(1));
        queue.leave(ONE);
        queue.push(ONE, document(2));
        queue.make_ready(ONE);
        assert_eq!((queue.next_ready(), queue.pop(ONE), queue.len(ONE)), (None, None, 0));
        assert!(queue.queues.is_empty());
    }
}
