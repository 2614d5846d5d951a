//! Who holds what of the receive budget, and what happens when it runs out: no I/O and no clock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::types::{Party, Shares};

/// The message in the large slot gives way if others wait for the slot and it brings fewer bytes a second, on average over
/// [`LARGE_WINDOW`]. An upload from a slow mobile network brings twice as many.
const LARGE_RATE: u64 = 8 * 1024;
/// How long the large slot's message is watched before it is judged.
const LARGE_WINDOW: Duration = Duration::from_secs(20);
/// Turns in the large slot that are remembered.
const MAX_TURNS: usize = 64;

/// What has become of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The memory may be used.
    Granted,
    /// There is no room yet.
    Waits,
    /// The whole message is to be given up.
    GaveWay,
}

/// Messages that hold memory.
///
/// Invariants: `pool` is the sum of `bytes` of all messages but the one in the slot and those that gave way; while the slot is
/// free nobody waits.
#[derive(Debug)]
pub struct State {
    pool_bytes: usize,
    pool: Shares,
    next: u64,
    messages: HashMap<u64, Message>,
    /// In the order in which they began to wait.
    waiting: VecDeque<u64>,
    slot: Option<Slot>,
    /// Who had the slot, the latest last.
    turns: VecDeque<Party>,
    evictions: usize,
}

#[derive(Debug)]
struct Message {
    party: Party,
    bytes: usize,
    arrived: u64,
    /// The size of the claim that waits.
    wants: Option<usize>,
    is_whole: bool,
    gave_way: bool,
    signal: Arc<Notify>,
}

#[derive(Debug)]
struct Slot {
    message: u64,
    /// Since when the message is watched, and what had arrived of it then.
    watched: Option<(Instant, u64)>,
}

impl State {
    pub fn new(pool_bytes: usize) -> Self {
        Self {
            pool_bytes,
            pool: Shares::default(),
            next: 0,
            messages: HashMap::new(),
            waiting: VecDeque::new(),
            slot: None,
            turns: VecDeque::new(),
            evictions: 0,
        }
    }

    /// A message of that device is under way; `signal` is notified when its outcome changes.
    pub fn begin(&mut self, party: &Party, signal: &Arc<Notify>) -> u64 {
        let id = self.next;
        self.next += 1;
        let message = Message {
            party: party.clone(),
            bytes: 0,
            arrived: 0,
            wants: None,
            is_whole: false,
            gave_way: false,
            signal: Arc::clone(signal),
        };
        self.messages.insert(id, message);
        id
    }

    /// Takes `bytes` more for a message, or has it wait for them.
    pub fn claim(&mut self, id: u64, bytes: usize) -> Outcome {
        let Some(message) = self.messages.get_mut(&id) else { return Outcome::GaveWay };
        if message.gave_way {
            return Outcome::GaveWay;
        }
        message.wants = Some(bytes);
        let party = message.party.clone();
        loop {
            if self.in_slot(id) || self.fits(&party, bytes) {
                self.grant(id);
                return Outcome::Granted;
            }
            if self.slot.is_some() {
                self.waiting.push_back(id);
                return Outcome::Waits;
            }
            // With the slot free nobody needs to be closed: the largest one goes there.
            let large = self.in_the_way(&party, bytes).unwrap_or(id);
            self.move_to_slot(large);
        }
    }

    /// What has become of a message's last claim.
    pub fn outcome(&self, id: u64) -> Outcome {
        match self.messages.get(&id) {
            Some(message) if !message.gave_way && message.wants.is_some() => Outcome::Waits,
            Some(message) if !message.gave_way => Outcome::Granted,
            _ => Outcome::GaveWay,
        }
    }

    /// A claim has waited for a while: who is over their share gives way to it, or else the slot's message if it is slow.
    pub fn press(&mut self, id: u64, now: Instant) -> Outcome {
        if let Some((party, bytes)) = self.waits(id) {
            let mut made_room = false;
            while !self.fits(&party, bytes)
                && let Some(other) = self.in_the_way(&party, bytes)
            {
                self.evict(other);
                made_room = true;
            }
            if !made_room && self.slot_is_slow(now) {
                self.evict_slot();
                made_room = true;
            }
            if made_room {
                // Others who wait, and hold as little, must not take what was freed for this one.
                if self.fits(&party, bytes) {
                    self.grant_waiting(id);
                }
                self.settle();
            }
        }
        self.outcome(id)
    }

    /// Bytes of a message arrived.
    pub fn arrived(&mut self, id: u64, bytes: usize) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.arrived += bytes as u64;
        }
    }

    /// A message is whole, and is left alone until it ends.
    pub fn complete(&mut self, id: u64) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.is_whole = true;
        }
    }

    /// Forgets a message and gives its memory to those who wait.
    pub fn end(&mut self, id: u64) {
        self.give_back(id);
        self.messages.remove(&id);
        self.settle();
    }

    /// Half of the pool is in use, or somebody waits.
    pub fn is_tight(&self) -> bool {
        self.pool.total() > self.pool_bytes / 2 || !self.waiting.is_empty()
    }

    /// Bytes that all messages hold, in the pool and in the slot.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.messages.values().map(|message| message.bytes).sum()
    }

    /// How many messages gave way since the last call.
    pub fn take_evictions(&mut self) -> usize {
        std::mem::take(&mut self.evictions)
    }

    /// Whether the pool has room for a device's claim. One device gets 9/16 of the pool at most and one approval 12/16. The last
    /// 4/16 are for approvals that hold no more than 1/16, so that small messages of others seldom wait at all.
    fn fits(&self, party: &Party, bytes: usize) -> bool {
        let sixteenth = self.pool_bytes / 16;
        let approval = self.pool.of_approval(&party.approval) + bytes;
        let room = if approval <= sixteenth { self.pool_bytes } else { 12 * sixteenth };
        self.pool.total() + bytes <= room
            && approval <= 12 * sixteenth
            && self.pool.of_device(party) + bytes <= 9 * sixteenth
    }

    /// The message in the pool that has to give way to a claim: the largest one of the device furthest over its share, and of
    /// equals the oldest, which is the slowest. `None` if the claimant is the one that is over.
    fn in_the_way(&self, party: &Party, bytes: usize) -> Option<u64> {
        let sixteenth = self.pool_bytes / 16;
        let within = || self.pool.gives_way_within(party, bytes);
        let other = if self.pool.of_device(party) + bytes > 9 * sixteenth {
            None
        } else if self.pool.of_approval(&party.approval) + bytes > 12 * sixteenth {
            within()
        } else {
            self.pool.gives_way(party, bytes).or_else(within)
        }?;
        let of_other = self.messages.iter().filter(|(id, message)| {
            message.party == other && !message.is_whole && !message.gave_way && !self.in_slot(**id)
        });
        let (id, _) = of_other.max_by_key(|(id, message)| (message.bytes, std::cmp::Reverse(**id)))?;
        Some(*id)
    }

    /// Whose claim waits, and for how much.
    fn waits(&self, id: u64) -> Option<(Party, usize)> {
        let message = self.messages.get(&id).filter(|message| !message.gave_way)?;
        Some((message.party.clone(), message.wants?))
    }

    fn in_slot(&self, id: u64) -> bool {
        self.slot.as_ref().is_some_and(|slot| slot.message == id)
    }

    /// Gives a message what it claimed. Its place in `waiting` is the caller's to clear.
    fn grant(&mut self, id: u64) {
        let in_slot = self.in_slot(id);
        let Some(message) = self.messages.get_mut(&id) else { return };
        let bytes = message.wants.take().unwrap_or(0);
        message.bytes += bytes;
        if !in_slot {
            self.pool.add(&message.party, bytes);
        }
        message.signal.notify_one();
    }

    fn move_to_slot(&mut self, id: u64) {
        let Some(message) = self.messages.get(&id) else { return };
        self.pool.remove(&message.party, message.bytes);
        self.turns.push_back(message.party.clone());
        if self.turns.len() > MAX_TURNS {
            self.turns.pop_front();
        }
        self.slot = Some(Slot { message: id, watched: None });
    }

    /// Gives memory and slot to those who wait: first what the pool has room for, to those who hold the least, then the slot.
    fn settle(&mut self) {
        loop {
            let mut order: Vec<(usize, usize, u64)> = Vec::with_capacity(self.waiting.len());
            for id in &self.waiting {
                let Some(message) = self.messages.get(id) else { continue };
                let party = &message.party;
                order.push((self.pool.of_approval(&party.approval), self.pool.of_device(party), *id));
            }
            order.sort_unstable();
            for (_, _, id) in order {
                if self.waits(id).is_some_and(|(party, bytes)| self.fits(&party, bytes)) {
                    self.grant_waiting(id);
                }
            }
            if self.slot.is_some() {
                return;
            }
            let Some(next) = self.next_for_slot() else { return };
            self.move_to_slot(next);
            // Moving it made room in the pool, so all are looked at once more.
            self.grant_waiting(next);
        }
    }

    fn grant_waiting(&mut self, id: u64) {
        self.waiting.retain(|other| *other != id);
        self.grant(id);
    }

    /// The waiting message of the approval that had the slot longest ago, in it of the device; of equals the first to wait.
    fn next_for_slot(&self) -> Option<u64> {
        let latest = |is: &dyn Fn(&Party) -> bool| self.turns.iter().rposition(is);
        self.waiting.iter().copied().min_by_key(|id| {
            self.messages.get(id).map(|message| {
                let of_approval = latest(&|party| party.approval == message.party.approval);
                (of_approval, latest(&|party| *party == message.party))
            })
        })
    }

    /// Whether the slot's message was watched for long enough and brings too little. Begins to watch it, or begins anew.
    fn slot_is_slow(&mut self, now: Instant) -> bool {
        let Some(slot) = &mut self.slot else { return false };
        let Some(message) = self.messages.get(&slot.message).filter(|message| !message.is_whole) else {
            return false;
        };
        let (since, before) = *slot.watched.get_or_insert((now, message.arrived));
        let watched = now.saturating_duration_since(since);
        if watched < LARGE_WINDOW {
            return false;
        }
        slot.watched = Some((now, message.arrived));
        // A gap this long means that nobody waited for a while, and slow uploads are welcome then.
        watched < 2 * LARGE_WINDOW && message.arrived - before < LARGE_RATE * watched.as_secs()
    }

    fn evict_slot(&mut self) {
        if let Some(slot) = &self.slot {
            self.evict(slot.message);
        }
    }

    /// A message gives way: its memory counts as free from now on, since its reader drops it as soon as it runs.
    fn evict(&mut self, id: u64) {
        self.give_back(id);
        if let Some(message) = self.messages.get_mut(&id) {
            message.gave_way = true;
            message.signal.notify_one();
            self.evictions += 1;
        }
    }

    fn give_back(&mut self, id: u64) {
        if self.in_slot(id) {
            self.slot = None;
        } else if let Some(message) = self.messages.get_mut(&id) {
            self.pool.remove(&message.party, message.bytes);
        }
        if let Some(message) = self.messages.get_mut(&id) {
            message.bytes = 0;
            message.wants = None;
        }
        self.waiting.retain(|other| *other != id);
    }
}
