//! Presence: ephemeral messages go to every other peer with the document open, once each.
//!
//! [`Presence`] owns the messages that wait and what was seen before. A message is held once, however many connections
//! it waits for; connections queue its number. Both caches have a total budget that apps share fairly.

use super::connection::Out;
use super::fair::FairCache;
use super::wire::Body;
use crate::types::{Approval, Namespace};

/// Bytes of the counts remembered in one shard, to drop messages that come a second time by another way.
const SEEN_BUDGET_BYTES: usize = 512 << 10;
/// Bytes of the ephemeral messages that wait in one shard, over all connections.
pub const WAITING_BUDGET_BYTES: usize = 4 << 20;

/// Number of a waiting message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct MessageId(u64);

/// Author and session, within a namespace. Clients count messages per author and session.
type Source = (Namespace, Box<str>, Box<str>);

#[derive(Debug)]
struct Waiting {
    sender: String,
    body: Body,
    /// Connections that have it in their queue.
    receivers: usize,
}

/// Messages that wait, and the highest count seen of each source.
#[derive(Debug)]
pub struct Presence {
    seen: FairCache<Source, u64>,
    waiting: FairCache<MessageId, Waiting>,
    next_message: u64,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            seen: FairCache::new(SEEN_BUDGET_BYTES),
            waiting: FairCache::new(WAITING_BUDGET_BYTES),
            next_message: 0,
        }
    }
}

impl Presence {
    /// True the first time; counts of a source only rise.
    pub(super) fn is_new(&mut self, approval: &Approval, sender: &str, session: &str, count: u64) -> bool {
        let source = (approval.namespace.clone(), sender.into(), session.into());
        if let Some(last) = self.seen.get_mut(&source) {
            let new = count > *last;
            *last = count.max(*last);
            return new;
        }
        // The text is held twice: in the entry and in the order of entries.
        self.seen.insert(approval, source, count, 2 * (sender.len() + session.len()));
        true
    }

    /// Hold a message for so many connections.
    pub(super) fn hold(
        &mut self,
        approval: &Approval,
        sender: String,
        body: Body,
        bytes: usize,
        receivers: usize,
    ) -> MessageId {
        let message = MessageId(self.next_message);
        self.next_message += 1;
        let waiting = Waiting { sender, body, receivers };
        // Connections that still queue an evicted message skip it.
        self.waiting.insert(approval, message, waiting, bytes);
        message
    }

    /// One connection's copy of a message; `None` if the message was evicted.
    pub(super) fn take(&mut self, message: MessageId) -> Option<Out> {
        let waiting = self.waiting.get_mut(&message)?;
        waiting.receivers -= 1;
        let (sender, body) = if waiting.receivers == 0 {
            let last = self.waiting.remove(&message)?;
            (last.sender, last.body)
        } else {
            (waiting.sender.clone(), waiting.body.clone())
        };
        Some(Out::Message { sender: Some(sender), body })
    }

    /// One connection does not get a message that it queued.
    pub(super) fn release(&mut self, message: MessageId) {
        if let Some(waiting) = self.waiting.get_mut(&message) {
            waiting.receivers -= 1;
            if waiting.receivers == 0 {
                self.waiting.remove(&message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::DocumentId;

    fn approval(namespace: &str, client: &str) -> Approval {
        Approval { namespace: namespace.parse().unwrap(), client_id: client.into() }
    }

    #[test]
    fn counts_only_rise_for_each_author_and_session_within_a_namespace() {
        let (one, two) = (approval("xyz.one", "app"), approval("xyz.two", "app"));
        let mut presence = Presence::default();
        assert!(presence.is_new(&one, "a", "s", 1) && presence.is_new(&one, "a", "s", 3));
        assert!(!presence.is_new(&one, "a", "s", 3) && !presence.is_new(&one, "a", "s", 2));
        assert!(presence.is_new(&one, "b", "s", 1), "another author's session");
        assert!(presence.is_new(&two, "a", "s", 1), "namespaces do not hear of each other");
    }

    #[test]
    fn an_app_that_makes_up_sessions_makes_the_server_forget_its_own_only() {
        let (victim, greedy) = (approval("xyz.one", "victim"), approval("xyz.two", "greedy"));
        let mut presence = Presence::default();
        presence.is_new(&victim, "a", "s", 7);
        for n in 0..20_000 {
            presence.is_new(&greedy, &"x".repeat(256), &n.to_string(), 1);
        }
        assert!(!presence.is_new(&victim, "a", "s", 7));
        assert!(presence.seen.bytes() <= SEEN_BUDGET_BYTES);
    }

    #[test]
    fn a_message_is_held_once_until_its_last_receiver_took_it_or_left() {
        let app = approval("xyz.one", "app");
        let mut presence = Presence::default();
        let data = Bytes::from(vec![0; 1000]);
        let document = DocumentId([1; 16]);
        let body = Body::Ephemeral { document, session: "s".into(), count: 1, data };
        let message = presence.hold(&app, "a".into(), body.clone(), 1000, 3);
        let held = presence.waiting.bytes();
        presence.release(message);
        for _ in 0..2 {
            assert_eq!(presence.waiting.bytes(), held);
            let out = Out::Message { sender: Some("a".into()), body: body.clone() };
            assert_eq!(presence.take(message), Some(out));
        }
        assert_eq!((presence.waiting.bytes(), presence.take(message)), (0, None));
        for _ in 0..10 * WAITING_BUDGET_BYTES / 1000 {
            presence.hold(&app, "a".into(), body.clone(), 1000, 3);
        }
        assert!(presence.waiting.bytes() <= WAITING_BUDGET_BYTES);
        assert_eq!(presence.take(MessageId(1)), None, "the oldest was evicted");
    }
}
