//! The room that all outboxes share.
//!
//! Shares form the tree of approvals and their devices. An approval may hold as much as it leaves free, and in it a device as
//! much as that leaves free (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). So
//! what one app leaves unread takes half of the room at most, and another app always finds some, and so do two devices of
//! one app. A connection that finds too little waits, and is told when others have read. No connection is closed for it: the
//! pace for sending (`web/send.rs`) closes clients that stop reading or take too little.
//!
//! A single message may be larger than all the room and must go all the same: one over a quarter of it counts as that
//! quarter, and [`OVERSIZED`] of them are on their way at a time, of different approvals.

use std::collections::HashSet;
use std::sync::Mutex;

use super::fair::{FairQueue, Lane};
use super::lock;
use super::mailbox::Sender;
use super::shard::Input;
use crate::types::{Approval, ConnectionId, Party, Shares};

/// Messages over a quarter of the room that may be on their way.
const OVERSIZED: usize = 2;
/// Each time that this part of the limit has become free, waiting connections are told.
const TELL_PART: usize = 16;
/// Connections that are told at a time: each of them looks for a message that fits.
const TELL: usize = 32;
/// Most entries of those who wait, one for each connection and shard. Above it the next one in turn is told early, which costs
/// its shard one look that may be in vain.
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
    waiting: FairQueue<(usize, Sender<Input>)>,
    /// Connection and shard of each of them: nobody waits twice.
    queued: HashSet<(ConnectionId, usize)>,
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
    /// The outbox has this part of them for itself.
    pub own: usize,
    releases: u64,
}

impl Room {
    /// With what the outbox has for itself.
    pub fn and(self, own: usize) -> Self {
        Self { bytes: self.bytes.saturating_add(own), own, ..self }
    }
}

/// What an outbox has of the common room.
#[derive(Debug, Default)]
pub struct OutboxHolding {
    pub bytes: usize,
    /// Bytes that are to be sent up to the end of its oversized message, if one is on its way.
    oversized: Option<usize>,
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
        Room { bytes, own: 0, releases: state.releases }
    }

    /// A message of a device takes so many bytes more, whether there is room or not; `unsent` bytes are to be sent until it
    /// is gone.
    pub fn take(&self, party: &Party, bytes: usize, held: &mut OutboxHolding, unsent: usize) {
        let mut state = lock(&self.state);
        if bytes > self.quarter() && held.oversized.replace(unsent).is_none() {
            state.oversized.push(party.approval.clone());
        }
        let bytes = bytes.min(self.quarter());
        state.held.add(party, bytes);
        held.bytes += bytes;
    }

    /// An outbox has sent `bytes`: another oversized message may go when the end of this one is gone.
    pub fn sent(&self, party: &Party, held: &mut OutboxHolding, bytes: usize) {
        let Some(left) = held.oversized else { return };
        held.oversized = left.checked_sub(bytes).filter(|left| *left > 0);
        if held.oversized.is_none() {
            let mut state = lock(&self.state);
            state.end_oversized(&party.approval);
            state.releases += 1;
            state.freed = 0;
            state.tell(TELL);
        }
    }

    /// Gives back what an outbox has above `keep` bytes.
    pub fn give_back(&self, party: &Party, held: &mut OutboxHolding, keep: usize) {
        let bytes = held.bytes.saturating_sub(keep);
        if bytes == 0 {
            return;
        }
        held.bytes -= bytes;
        let mut state = lock(&self.state);
        state.held.remove(party, bytes);
        state.releases += 1;
        state.freed += bytes;
        if keep == 0 && held.oversized.take().is_some() {
            state.end_oversized(&party.approval);
            state.freed = self.limit;
        }
        // While others hold something they will give it back, and the rest is told then. When nobody does, all must be told:
        // those who are told first may have nothing to send any more.
        let all = state.held.total() == 0;
        if all || state.freed >= self.limit / TELL_PART {
            state.freed = 0;
            state.tell(if all { usize::MAX } else { TELL });
        }
    }

    /// The connection found too little room: `shard` is told ([`Input::Room`]) when there may be more.
    pub fn wait(&self, lane: &Lane, found: Room, (index, shard): (usize, &Sender<Input>)) {
        let mut state = lock(&self.state);
        if state.releases != found.releases {
            let _ = shard.send(Input::Room(lane.connection));
            return;
        }
        if !state.queued.insert((lane.connection, index)) {
            return;
        }
        state.waiting.push(lane, 1, (index, shard.clone()));
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
    fn end_oversized(&mut self, approval: &Approval) {
        if let Some(at) = self.oversized.iter().position(|other| other == approval) {
            self.oversized.swap_remove(at);
        }
    }

    fn tell(&mut self, most: usize) {
        for _ in 0..most {
            let Some((lane, (index, shard))) = self.waiting.pop(|_| true) else { break };
            self.queued.remove(&(lane.connection, index));
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
    use crate::types::ConnectionId;

    fn party(app: &str, session: u64) -> Party {
        Party::new("xyz.app".parse().unwrap(), app, &session.to_string())
    }

    fn lane(app: &str, session: u64) -> Lane {
        Lane { party: party(app, session), connection: ConnectionId(session) }
    }

    fn told(inputs: &Receiver<Input>) -> Vec<ConnectionId> {
        let mut taken = VecDeque::new();
        let _ = inputs.take(&mut taken, usize::MAX, Some(Duration::ZERO));
        taken.into_iter().map(|input| if let Input::Room(id) = input { id } else { panic!() }).collect()
    }

    #[test]
    fn many_devices_that_read_nothing_leave_half_of_the_room_to_another_app() {
        let room = Outboxes::new(1000);
        for device in 0..500 {
            let mut held = OutboxHolding::default();
            while room.room(&party("deaf", device)).bytes >= 10 && held.bytes < 1000 {
                room.take(&party("deaf", device), 10, &mut held, 10);
            }
        }
        assert!((480..=500).contains(&room.held()), "{}", room.held());
        assert!(room.room(&party("other", 1)).bytes >= 250, "{:?}", room.room(&party("other", 1)));
        let mut held = OutboxHolding::default();
        while room.room(&party("deaf too", 1)).bytes >= 10 && held.bytes < 1000 {
            room.take(&party("deaf too", 1), 10, &mut held, 10);
        }
        assert!(room.room(&party("other", 1)).bytes >= 100);
    }

    #[test]
    fn messages_larger_than_the_room_go_one_at_a_time_for_each_app() {
        let room = Outboxes::new(1000);
        let mut held = OutboxHolding::default();
        assert_eq!(room.room(&party("one", 1)).bytes, usize::MAX);
        room.take(&party("one", 1), 1_000_000, &mut held, 1_000_000);
        assert_eq!(room.held(), 250);
        assert_eq!(room.room(&party("one", 2)).bytes, 250, "not another one");
        let mut second = OutboxHolding::default();
        assert_eq!(room.room(&party("two", 1)).bytes, usize::MAX);
        room.take(&party("two", 1), 251, &mut second, 300);
        assert!(room.room(&party("three", 1)).bytes <= 250);
        room.sent(&party("two", 1), &mut second, 299);
        assert!(room.room(&party("three", 1)).bytes <= 250, "its end is not sent yet");
        room.sent(&party("two", 1), &mut second, 1);
        room.give_back(&party("two", 1), &mut second, 0);
        assert_eq!(room.room(&party("three", 1)).bytes, usize::MAX);
        room.give_back(&party("one", 1), &mut held, 0);
        assert_eq!((room.held(), room.room(&party("one", 2)).bytes), (0, usize::MAX));
    }

    #[test]
    fn who_waits_is_told_apps_in_turn_and_never_missed() {
        let (room, (shard, inputs)) = (Outboxes::new(1600), mailbox());
        let mut held = OutboxHolding::default();
        room.take(&party("deaf", 0), 400, &mut held, 400);
        let found = room.room(&party("deaf", 1));
        (0..100).for_each(|device| room.wait(&lane("deaf", device), found, (0, &shard)));
        // Nobody waits twice, but each shard does.
        room.wait(&lane("deaf", 5), found, (0, &shard));
        room.wait(&lane("other", 1000), found, (0, &shard));
        assert_eq!(told(&inputs), []);
        room.give_back(&party("deaf", 0), &mut held, 399);
        assert_eq!(told(&inputs), [], "too little to tell anybody");
        room.give_back(&party("deaf", 0), &mut held, 200);
        let first = told(&inputs);
        assert_eq!(first.len(), TELL);
        assert!(first[..2].contains(&ConnectionId(1000)), "{first:?}");
        // What became free after the look is not missed.
        room.wait(&lane("late", 2000), found, (0, &shard));
        assert_eq!(told(&inputs), [ConnectionId(2000)]);
        // The last byte: nobody will give anything back any more, so nobody may be left waiting.
        room.give_back(&party("deaf", 0), &mut held, 0);
        assert_eq!(told(&inputs).len(), 101 - TELL);
    }
}
