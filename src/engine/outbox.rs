//! What waits to go out on one connection: a byte budget that shards fill and the socket drains.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::Notify;

use super::lock;
use super::mailbox::Sender;
use super::shard::Input;
use crate::types::ConnId;

/// What to put on the socket.
#[derive(Debug)]
pub enum Outgoing {
    /// One binary WebSocket message.
    Message(Bytes),
    /// Close with this code and reason, then drop the connection.
    Close(u16, &'static str),
}

#[derive(Default)]
struct State {
    queue: VecDeque<Outgoing>,
    /// Bytes queued or handed out and not yet on the socket.
    bytes: usize,
    /// A shard found no room and waits to hear of some.
    wanted: bool,
    /// A close is queued: nothing goes after it.
    closed: bool,
}

/// One connection's outbox.
pub struct Outbox {
    id: ConnId,
    budget: usize,
    state: Mutex<State>,
    filled: Notify,
    shards: Vec<Sender<Input>>,
}

impl Outbox {
    pub(super) fn new(id: ConnId, budget: usize, shards: Vec<Sender<Input>>) -> Self {
        Self { id, budget, state: Mutex::default(), filled: Notify::new(), shards }
    }

    /// True while there is room for a message. False has the shards told ([`Input::Room`]) when half of it is free.
    pub fn has_room(&self) -> bool {
        let mut state = lock(&self.state);
        state.wanted |= state.bytes >= self.budget && !state.closed;
        state.bytes < self.budget && !state.closed
    }

    /// Queue a message. One larger than the budget goes when it is the first beyond it, so that it goes at all.
    pub fn push(&self, message: Bytes) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.bytes += message.len();
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
        if state.wanted && state.bytes <= self.budget / 2 {
            state.wanted = false;
            drop(state);
            for shard in &self.shards {
                let _ = shard.send(Input::Room(self.id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::mailbox::{Receiver, mailbox};
    use std::time::Duration;

    fn next(inputs: &Receiver<Input>) -> Option<Input> {
        let mut taken = VecDeque::new();
        inputs.take(&mut taken, 1, Some(Duration::ZERO)).ok()?;
        taken.pop_front()
    }

    #[tokio::test]
    async fn room_is_counted_until_bytes_are_on_the_socket() {
        let (shard, inputs) = mailbox();
        let outbox = Outbox::new(ConnId(7), 100, vec![shard]);
        assert!(outbox.has_room());
        outbox.push(Bytes::from_static(&[0; 150]));
        assert!(!outbox.has_room());
        assert!(matches!(outbox.next().await, Some(Outgoing::Message(message)) if message.len() == 150));
        assert!(!outbox.has_room(), "handed out is not sent");
        assert!(next(&inputs).is_none());
        outbox.sent(150);
        assert!(matches!(next(&inputs), Some(Input::Room(ConnId(7)))));
        assert!(outbox.has_room());
    }

    #[tokio::test]
    async fn nothing_goes_after_the_close() {
        let outbox = Outbox::new(ConnId(1), 100, vec![]);
        outbox.push(Bytes::from_static(b"last"));
        outbox.close(1001, "stop");
        outbox.close(1000, "again");
        outbox.push(Bytes::from_static(b"late"));
        assert!(!outbox.has_room());
        assert!(matches!(outbox.next().await, Some(Outgoing::Message(_))));
        assert!(matches!(outbox.next().await, Some(Outgoing::Close(1001, _))));
        assert!(outbox.next().await.is_none());
    }
}
