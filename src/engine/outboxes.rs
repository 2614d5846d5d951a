//! The room that all outboxes share.
//!
//! Shares form the tree of approvals and their devices. An approval may hold as much as it leaves free, and in it a device as
//! much as that leaves free (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). So
//! what one app leaves unread takes half of the room at most, and another app always finds some, and so do two devices of
//! one app. Who finds too little waits, and is told when others have read; nobody is sent away, since a client that reads
//! nothing at all is closed by its connection (`web/send.rs`).
//!
//! A single message may be larger than all the room and must go all the same: one over a quarter of it counts as that
//! quarter, and [`OVERSIZED`] of them are on their way at a time, of different approvals.

use std::sync::Mutex;

use super::fair::{FairQueue, Lane};
use super::lock;
use super::mailbox::Sender;
use super::shard::Input;
use crate::types::{Approval, Party, Shares};

/// Messages over a quarter of the room that may be on their way.
const OVERSIZED: usize = 2;
/// Room is told to those who wait when this part of all of it has become free.
const TELL_PART: usize = 16;
/// And to so many of them at a time: each of them looks for what fits.
const TELL: usize = 32;
/// Most that wait. Only connections that have left can make so many; the first of them is told then, which costs nothing.
const MAX_WAITING: usize = 8192;

/// The room, and who waits for some.
pub struct Outboxes {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Shares,
    /// The approvals whose oversized messages are on their way.
    oversized: Vec<Approval>,
    waiting: FairQueue<Sender<Input>>,
    /// Bytes that became free since those who wait were told.
    freed: usize,
    /// How often something became free.
    releases: u64,
}

/// Room, as it is at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Bytes that one more message may have.
    pub bytes: usize,
    releases: u64,
}

impl Room {
    /// With `bytes` more.
    pub fn and(self, bytes: usize) -> Self {
        Self { bytes: self.bytes.saturating_add(bytes), ..self }
    }
}

/// What an outbox has of the common room.
#[derive(Debug, Default)]
pub struct Held {
    pub bytes: usize,
    oversized: bool,
}

impl Outboxes {
    /// Room of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default() }
    }

    fn quarter(&self) -> usize {
        self.limit / 4
    }

    /// What a device may have besides what it holds.
    pub fn room(&self, party: &Party) -> Room {
        let state = lock(&self.state);
        let free = self.limit.saturating_sub(state.held.total());
        let of_approval = free.saturating_sub(state.held.of_approval(&party.approval));
        let bytes = of_approval.saturating_sub(state.held.of_device(party));
        let may_be_oversized = bytes >= self.quarter()
            && state.oversized.len() < OVERSIZED
            && !state.oversized.contains(&party.approval);
        let bytes = if may_be_oversized { usize::MAX } else { bytes.min(self.quarter()) };
        Room { bytes, releases: state.releases }
    }

    /// A message of a device takes so many bytes more, whether there is room or not.
    pub fn take(&self, party: &Party, bytes: usize, held: &mut Held) {
        let mut state = lock(&self.state);
        if bytes > self.quarter() && !held.oversized {
            held.oversized = true;
            state.oversized.push(party.approval.clone());
        }
        let bytes = bytes.min(self.quarter());
        state.held.add(party, bytes);
        held.bytes += bytes;
    }

    /// Gives back what an outbox has above `keep` bytes.
    pub fn give_back(&self, party: &Party, held: &mut Held, keep: usize) {
        let bytes = held.bytes.saturating_sub(keep);
        if bytes == 0 {
            return;
        }
        held.bytes -= bytes;
        let mut state = lock(&self.state);
        state.held.remove(party, bytes);
        state.releases += 1;
        state.freed += bytes;
        if keep == 0
            && std::mem::take(&mut held.oversized)
            && let Some(at) = state.oversized.iter().position(|approval| *approval == party.approval)
        {
            state.oversized.swap_remove(at);
            state.freed = self.limit;
        }
        if state.freed >= self.limit / TELL_PART || state.held.total() == 0 {
            state.freed = 0;
            state.tell(TELL);
        }
    }

    /// The connection found too little room: `shard` is told ([`Input::Room`]) when there may be more.
    pub fn wait(&self, lane: &Lane, found: Room, shard: &Sender<Input>) {
        let mut state = lock(&self.state);
        if state.releases != found.releases {
            let _ = shard.send(Input::Room(lane.connection));
            return;
        }
        state.waiting.push(lane, 1, shard.clone());
        if state.waiting.len() > MAX_WAITING {
            state.tell(1);
        }
    }

    /// Bytes that all outboxes hold of it.
    pub fn held(&self) -> usize {
        lock(&self.state).held.total()
    }
}

impl State {
    fn tell(&mut self, most: usize) {
        for _ in 0..most {
            let Some((lane, shard)) = self.waiting.pop(|_| true) else { break };
            // A shard that has stopped sends nothing more.
            let _ = shard.send(Input::Room(lane.connection));
        }
        self.waiting.settle();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::*;
    use crate::engine::mailbox::{Receiver, mailbox};
    use crate::types::ConnId;

    fn party(app: &str, session: u64) -> Party {
        Party::new("xyz.app".parse().unwrap(), app, &session.to_string())
    }

    fn lane(app: &str, session: u64) -> Lane {
        Lane { party: party(app, session), connection: ConnId(session) }
    }

    fn told(inputs: &Receiver<Input>) -> Vec<ConnId> {
        let mut taken = VecDeque::new();
        let _ = inputs.take(&mut taken, usize::MAX, Some(Duration::ZERO));
        taken.into_iter().map(|input| if let Input::Room(id) = input { id } else { panic!() }).collect()
    }

    #[test]
    fn many_devices_that_read_nothing_leave_half_of_the_room_to_another_app() {
        let room = Outboxes::new(1000);
        for device in 0..500 {
            let mut held = Held::default();
            while room.room(&party("deaf", device)).bytes >= 10 && held.bytes < 1000 {
                room.take(&party("deaf", device), 10, &mut held);
            }
        }
        assert!((480..=500).contains(&room.held()), "{}", room.held());
        assert!(room.room(&party("other", 1)).bytes >= 250, "{:?}", room.room(&party("other", 1)));
        let mut held = Held::default();
        while room.room(&party("deaf too", 1)).bytes >= 10 && held.bytes < 1000 {
            room.take(&party("deaf too", 1), 10, &mut held);
        }
        assert!(room.room(&party("other", 1)).bytes >= 100);
    }

    #[test]
    fn messages_larger_than_the_room_go_one_at_a_time_for_each_app() {
        let room = Outboxes::new(1000);
        let mut held = Held::default();
        assert_eq!(room.room(&party("one", 1)).bytes, usize::MAX);
        room.take(&party("one", 1), 1_000_000, &mut held);
        assert_eq!(room.held(), 250);
        assert_eq!(room.room(&party("one", 2)).bytes, 250, "not another one");
        let mut second = Held::default();
        assert_eq!(room.room(&party("two", 1)).bytes, usize::MAX);
        room.take(&party("two", 1), 251, &mut second);
        assert!(room.room(&party("three", 1)).bytes <= 250);
        room.give_back(&party("two", 1), &mut second, 10);
        assert!(room.room(&party("three", 1)).bytes <= 250, "its end is not sent yet");
        room.give_back(&party("two", 1), &mut second, 0);
        assert_eq!(room.room(&party("three", 1)).bytes, usize::MAX);
        room.give_back(&party("one", 1), &mut held, 0);
        assert_eq!((room.held(), room.room(&party("one", 2)).bytes), (0, usize::MAX));
    }

    #[test]
    fn who_waits_is_told_apps_in_turn_and_never_missed() {
        let (room, (shard, inputs)) = (Outboxes::new(1600), mailbox());
        let mut held = Held::default();
        room.take(&party("deaf", 0), 400, &mut held);
        let found = room.room(&party("deaf", 1));
        (0..100).for_each(|device| room.wait(&lane("deaf", device), found, &shard));
        room.wait(&lane("other", 1000), found, &shard);
        assert_eq!(told(&inputs), []);
        room.give_back(&party("deaf", 0), &mut held, 399);
        assert_eq!(told(&inputs), [], "too little to tell anybody");
        room.give_back(&party("deaf", 0), &mut held, 200);
        let first = told(&inputs);
        assert_eq!(first.len(), TELL);
        assert!(first[..2].contains(&ConnId(1000)), "{first:?}");
        // What became free after the look is not missed.
        room.wait(&lane("late", 2000), found, &shard);
        assert_eq!(told(&inputs), [ConnId(2000)]);
        room.give_back(&party("deaf", 0), &mut held, 0);
        assert_eq!(told(&inputs).len(), TELL);
    }
}
