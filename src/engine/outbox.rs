//! What waits to go out on one connection: a byte budget that shards fill and the socket drains.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::fair::Lane;
use super::lock;
use super::mailbox::Sender;
use super::outboxes::{OutboxHolding, Outboxes, Room};
use super::shard::Input;

/// What to put on the socket.
#[derive(Debug)]
pub enum Outgoing {
    /// One binary WebSocket message.
    Message(Bytes),
    /// Close with this code and reason, then drop the connection.
    Close(u16, &'static str),
}

/// What an outbox may hold without a share of the common room. Bytes: as many messages as an honest client has under way.
const OWN_BYTES: usize = 16 * 1024;

#[derive(Default)]
struct State {
    queue: VecDeque<Outgoing>,
    /// Bytes queued or handed out and not yet on the socket.
    bytes: usize,
    /// The part of `bytes` that counts in the common room.
    held: OutboxHolding,
    /// A shard found the outbox full and waits to hear of room.
    wanted: bool,
    /// A shard found too little room, and waits to hear that half of the outbox's own part is free.
    waits: bool,
    /// A close is queued: nothing goes after it.
    closed: bool,
}

/// One connection's outbox.
pub struct Outbox {
    lane: Lane,
    budget: usize,
    common: Arc<Outboxes>,
    state: Mutex<State>,
    filled: Notify,
    shards: Vec<Sender<Input>>,
}

impl Outbox {
    pub(super) fn new(lane: Lane, budget: usize, common: Arc<Outboxes>, shards: Vec<Sender<Input>>) -> Self {
        Self { lane, budget, common, state: Mutex::default(), filled: Notify::new(), shards }
    }

    /// The room for one more message. `None` when the outbox is closed, or full; if it is full, the shards are told
    /// ([`Input::Room`]) when half of it is free.
    pub fn room(&self) -> Option<Room> {
        let own = {
            let mut state = lock(&self.state);
            if state.closed {
                return None;
            }
            if state.bytes >= self.budget {
                state.wanted = true;
                return None;
            }
            (OWN_BYTES + state.held.bytes).saturating_sub(state.bytes)
        };
        let room = self.common.room(&self.lane.party);
        Some(room.and(own))
    }

    /// Has `shard` told ([`Input::Room`]) when there may be more room than `found`, in this outbox or in the common room.
    pub fn wait(&self, found: Room, index: usize, shard: &Sender<Input>) {
        let mut state = lock(&self.state);
        state.waits = true;
        if (OWN_BYTES + state.held.bytes).saturating_sub(state.bytes) > found.own {
            // Some bytes were sent after the look: nothing else would tell the shard of them.
            let _ = shard.send(Input::Room(self.lane.connection));
            return;
        }
        drop(state);
        self.common.wait(&self.lane, found, (index, shard));
    }

    /// Queue a message, whether there is room for it or not.
    pub fn push(&self, message: Bytes) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.bytes += message.len();
            let more = state.bytes.saturating_sub(OWN_BYTES + state.held.bytes).min(message.len());
            if more > 0 {
                let before = state.bytes;
                self.common.take(&self.lane.party, more, &mut state.held, before);
            }
            state.queue.push_back(Outgoing::Message(message));
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Queue the close, once.
    pub fn close(&self, code: u16, reason: &'static str) {
        let mut state = lock(&self.state);
        if !std::mem::replace(&mut state.closed, true) {
            state.queue.push_back(Outgoing::Close(code, reason));
            drop(state);
            self.filled.notify_one();
        }
    }

    /// The next thing to send; waits for it. `None` after the close.
    pub async fn next(&self) -> Option<Outgoing> {
        loop {
            {
                let mut state = lock(&self.state);
                if let Some(next) = state.queue.pop_front() {
                    return Some(next);
                }
                if state.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// So many bytes are on the socket.
    pub fn sent(&self, bytes: usize) {
        let mut state = lock(&self.state);
        state.bytes = state.bytes.saturating_sub(bytes);
        let keep = state.bytes.saturating_sub(OWN_BYTES);
        self.common.sent(&self.lane.party, &mut state.held, bytes);
        self.common.give_back(&self.lane.party, &mut state.held, keep);
        let is_empty = state.waits && state.bytes <= OWN_BYTES / 2;
        if is_empty || state.wanted && state.bytes <= self.budget / 2 {
            (state.wanted, state.waits) = (false, false);
            drop(state);
            for shard in &self.shards {
                let _ = shard.send(Input::Room(self.lane.connection));
            }
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.common.give_back(&self.lane.party, &mut state.held, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::mailbox::{Receiver, mailbox};
    use crate::types::{ConnectionId, Party};
    use std::time::Duration;

    fn next(inputs: &Receiver<Input>) -> Option<Input> {
        let mut taken = VecDeque::new();
        inputs.take(&mut taken, 1, Some(Duration::ZERO)).ok()?;
        taken.pop_front()
    }

    fn outbox(budget: usize, common: &Arc<Outboxes>, shards: Vec<Sender<Input>>) -> Outbox {
        let party = Party::new("xyz.app".parse().unwrap(), "app", "phone");
        Outbox::new(Lane { party, connection: ConnectionId(7) }, budget, common.clone(), shards)
    }

    #[tokio::test]
    async fn room_is_counted_until_bytes_are_on_the_socket() {
        let ((shard, inputs), common) = (mailbox(), Arc::new(Outboxes::new(1 << 20)));
        let outbox = outbox(100, &common, vec![shard]);
        assert!(outbox.room().is_some());
        outbox.push(Bytes::from_static(&[0; 150]));
        assert!(outbox.room().is_none());
        assert!(matches!(outbox.next().await, Some(Outgoing::Message(message)) if message.len() == 150));
        assert!(outbox.room().is_none(), "handed out is not sent");
        assert!(next(&inputs).is_none());
        outbox.sent(150);
        assert!(matches!(next(&inputs), Some(Input::Room(ConnectionId(7)))));
        assert!(outbox.room().is_some());
    }

    #[tokio::test]
    async fn nothing_goes_after_the_close() {
        let outbox = outbox(100, &Arc::new(Outboxes::new(1 << 20)), vec![]);
        outbox.push(Bytes::from_static(b"last"));
        outbox.close(1001, "stop");
        outbox.close(1000, "again");
        outbox.push(Bytes::from_static(b"late"));
        assert!(outbox.room().is_none());
        assert!(matches!(outbox.next().await, Some(Outgoing::Message(_))));
        assert!(matches!(outbox.next().await, Some(Outgoing::Close(1001, _))));
        assert!(outbox.next().await.is_none());
    }

    #[test]
    fn what_is_over_its_own_part_is_held_of_the_common_room_until_it_is_gone() {
        let common = Arc::new(Outboxes::new(4 << 20));
        let outbox = outbox(1 << 20, &common, vec![]);
        outbox.push(vec![0; OWN_BYTES].into());
        assert_eq!(common.held(), 0);
        outbox.push(vec![0; 1000].into());
        outbox.push(vec![0; 2000].into());
        assert_eq!(common.held(), 3000);
        outbox.sent(OWN_BYTES);
        assert_eq!(common.held(), 0);
        // One that is larger than the room counts as a quarter of it, until it is gone altogether.
        outbox.push(vec![0; 8 << 20].into());
        assert_eq!(common.held(), 1 << 20);
        drop(outbox);
        assert_eq!(common.held(), 0);
    }

    #[test]
    fn who_waits_is_told_when_his_own_part_is_sent_though_others_give_nothing_back() {
        let ((shard, inputs), common) = (mailbox(), Arc::new(Outboxes::new(4 << 20)));
        // Another app, and this app's other devices, have all that there is for this one.
        let mut held = OutboxHolding::default();
        let other = Party::new("xyz.app".parse().unwrap(), "app", "laptop");
        let outbox = outbox(1 << 20, &common, vec![shard.clone()]);
        while common.room(&outbox.lane.party).bytes > 0 {
            common.take(&other, 64 << 10, &mut held, 64 << 10);
        }
        outbox.push(vec![0; OWN_BYTES - 10].into());
        let found = outbox.room().unwrap();
        assert_eq!(found.bytes, 10);
        outbox.wait(found, 0, &shard);
        assert!(next(&inputs).is_none());
        outbox.sent(OWN_BYTES - 10);
        assert!(matches!(next(&inputs), Some(Input::Room(ConnectionId(7)))));
        // And if it was sent before it waited.
        outbox.push(vec![0; OWN_BYTES - 10].into());
        let found = outbox.room().unwrap();
        outbox.sent(OWN_BYTES - 10);
        outbox.wait(found, 0, &shard);
        assert!(matches!(next(&inputs), Some(Input::Room(ConnectionId(7)))));
    }
}
