//! A queue that shares work fairly: between app approvals, within one between its devices, within one between its
//! connections.
//!
//! Each level is served in the order of virtual time, which is deficit round robin with a quantum of nothing: a lane's
//! time moves on by the cost of what it got, and the lane that got least is next. However many devices or connections
//! an approval has, all of them together get one approval's turn. A lane that was empty starts at the level's time, so
//! idling saves up nothing; one whose work cost more than it was pushed with pays the rest later
//! ([`FairQueue::charge`]), also when it was empty meanwhile.
//!
//! Invariants: a lane that holds items stands in `ready` of its level, at its own time; one that holds none stands in
//! `debtors` or is gone. Time in `ready` is never behind the level's clock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::types::{Approval, ConnectionId, Party};

/// Most empty lanes of one level that are remembered for what they still owe. Those that owe least are forgotten first.
const MAX_DEBTORS: usize = 64;

/// Where work comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The app's approval and the device.
    pub party: Party,
    /// The connection.
    pub connection: ConnectionId,
}

/// The cost of work by the time that it took, in nanoseconds.
pub fn cost(took: Duration) -> i64 {
    i64::try_from(took.as_nanos()).unwrap_or(i64::MAX)
}

/// Items in lanes, each with a cost. Costs have any unit, the same for all; nanoseconds of work are a good one.
#[derive(Debug)]
pub struct FairQueue<T> {
    approvals: Approvals<T>,
    len: usize,
}

type Approvals<T> = Level<Approval, Level<Device, Level<ConnectionId, Items<T>>>>;

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { approvals: Level::default(), len: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Puts an item behind what its lane holds.
    pub fn push(&mut self, lane: &Lane, cost: u64, item: T) {
        self.len += 1;
        self.approvals.push(lane, cost, item);
    }

    /// Takes the next item, from an approval that `may` be served.
    pub fn pop(&mut self, may: impl Fn(&Approval) -> bool) -> Option<(Lane, T)> {
        let (lane, _, item) = self.approvals.pop(may)?;
        self.len -= 1;
        Some((lane, item))
    }

    /// True when there is an item of an approval that `may` be served.
    pub fn is_ready(&self, may: impl Fn(&Approval) -> bool) -> bool {
        self.approvals.ready.values().any(may)
    }

    /// Corrects what an item of the lane cost, once that is known: `extra` more than it was pushed with, or less.
    pub fn charge(&mut self, lane: &Lane, extra: i64) {
        self.approvals.charge(lane, extra);
    }

    /// Drops the items that `keep` does not want. Lanes keep their turns.
    pub fn retain(&mut self, keep: &mut dyn FnMut(&T) -> bool) {
        self.len = self.approvals.retain(keep);
    }

    /// Items queued.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets what empty lanes owe: for when nothing is queued or in hand, so that nobody has been kept waiting.
    pub fn settle(&mut self) {
        if self.is_empty() {
            self.approvals = Level::default();
        }
    }
}

/// What a level's lanes lead to: another level, or the items of a connection.
trait Queue<T>: Default {
    fn push(&mut self, lane: &Lane, cost: u64, item: T);
    fn pop_any(&mut self) -> Option<(Lane, u64, T)>;
    fn charge(&mut self, lane: &Lane, extra: i64);
    /// Items that are left.
    fn retain(&mut self, keep: &mut dyn FnMut(&T) -> bool) -> usize;
    fn is_empty(&self) -> bool;
}

/// One connection's items, first in, first out.
#[derive(Debug)]
struct Items<T>(VecDeque<(Lane, u64, T)>);

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Queue<T> for Items<T> {
    fn push(&mut self, lane: &Lane, cost: u64, item: T) {
        self.0.push_back((lane.clone(), cost, item));
    }

    fn pop_any(&mut self) -> Option<(Lane, u64, T)> {
        self.0.pop_front()
    }

    fn charge(&mut self, _lane: &Lane, _extra: i64) {}

    fn retain(&mut self, keep: &mut dyn FnMut(&T) -> bool) -> usize {
        self.0.retain(|(_, _, item)| keep(item));
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A lane's name at one level.
trait Name: Clone + Eq + Hash {
    /// Empty lanes are remembered for what they owe. A connection's need not be: its device owes the same.
    const REMEMBERED: bool;

    fn of(lane: &Lane) -> Self;
}

impl Name for Approval {
    const REMEMBERED: bool = true;

    fn of(lane: &Lane) -> Self {
        lane.party.approval.clone()
    }
}

/// A session's id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Device(Arc<str>);

impl Name for Device {
    const REMEMBERED: bool = true;

    fn of(lane: &Lane) -> Self {
        Self(lane.party.session.clone())
    }
}

impl Name for ConnectionId {
    const REMEMBERED: bool = false;

    fn of(lane: &Lane) -> Self {
        lane.connection
    }
}

/// When a lane is next: its virtual time, then the order in which it got its place.
type Turn = (u64, u64);

#[derive(Debug)]
struct Child<N> {
    turn: Turn,
    node: N,
}

/// The lanes of one level.
#[derive(Debug)]
struct Level<K, N> {
    /// The time of the lane that was served last.
    clock: u64,
    /// Turns given, so that no two are equal.
    turns: u64,
    lanes: HashMap<K, Child<N>>,
    ready: BTreeMap<Turn, K>,
    debtors: BTreeMap<Turn, K>,
}

impl<K, N> Default for Level<K, N> {
    fn default() -> Self {
        let (lanes, ready, debtors) = Default::default();
        Self { clock: 0, turns: 0, lanes, ready, debtors }
    }
}

impl<K: Name, N> Level<K, N> {
    fn turn_at(&mut self, time: u64) -> Turn {
        self.turns += 1;
        (time, self.turns)
    }

    /// Gives an empty lane its place: remembered while its time is ahead of the clock, else gone.
    fn retire(&mut self, name: K, time: u64) {
        if !K::REMEMBERED || time <= self.clock {
            self.lanes.remove(&name);
            return;
        }
        let turn = self.turn_at(time);
        if let Some(child) = self.lanes.get_mut(&name) {
            child.turn = turn;
            self.debtors.insert(turn, name);
        }
        if self.debtors.len() > MAX_DEBTORS {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, name)) = self.debtors.pop_first() {
            self.lanes.remove(&name);
        }
    }

    /// Moves the clock on; debts that it has passed are paid.
    fn advance(&mut self, time: u64) {
        self.clock = self.clock.max(time);
        while self.debtors.first_key_value().is_some_and(|((time, _), _)| *time <= self.clock) {
            self.forget_first();
        }
    }

    fn pop<T>(&mut self, may: impl Fn(&K) -> bool) -> Option<(Lane, u64, T)>
    where
        N: Queue<T>,
    {
        let turn = *self.ready.iter().find(|(_, name)| may(name))?.0;
        let name = self.ready.remove(&turn)?;
        // Invariant: a ready lane is among the lanes and holds an item.
        let child = self.lanes.get_mut(&name)?;
        let taken = child.node.pop_any()?;
        // An item for nothing would let its lane be served for ever.
        let time = turn.0.saturating_add(taken.1.max(1));
        let is_empty = child.node.is_empty();
        self.advance(turn.0);
        if is_empty {
            self.retire(name, time);
        } else {
            self.place(name, time);
        }
        Some(taken)
    }

    /// Puts a lane that holds items among the ready.
    fn place(&mut self, name: K, time: u64) {
        let turn = self.turn_at(time);
        if let Some(child) = self.lanes.get_mut(&name) {
            child.turn = turn;
            self.ready.insert(turn, name);
        }
    }
}

impl<T, K: Name, N: Queue<T>> Queue<T> for Level<K, N> {
    fn push(&mut self, lane: &Lane, cost: u64, item: T) {
        let (name, clock) = (K::of(lane), self.clock);
        let fresh = || Child { turn: (clock, 0), node: N::default() };
        let child = self.lanes.entry(name.clone()).or_insert_with(fresh);
        let was_empty = child.node.is_empty();
        child.node.push(lane, cost, item);
        if was_empty {
            let turn = child.turn;
            self.debtors.remove(&turn);
            self.place(name, turn.0.max(clock));
        }
    }

    fn pop_any(&mut self) -> Option<(Lane, u64, T)> {
        self.pop(|_| true)
    }

    fn charge(&mut self, lane: &Lane, extra: i64) {
        let name = K::of(lane);
        if !self.lanes.contains_key(&name) {
            // Paid up and forgotten; it owes from now on.
            if !K::REMEMBERED || extra <= 0 {
                return;
            }
            self.lanes.insert(name.clone(), Child { turn: (self.clock, 0), node: N::default() });
        }
        let Some(child) = self.lanes.get_mut(&name) else { return };
        child.node.charge(lane, extra);
        let (old, is_empty) = (child.turn, child.node.is_empty());
        let time = old.0.saturating_add_signed(extra).max(self.clock);
        self.ready.remove(&old);
        self.debtors.remove(&old);
        if is_empty {
            self.retire(name, time);
        } else {
            self.place(name, time);
        }
    }

    fn retain(&mut self, keep: &mut dyn FnMut(&T) -> bool) -> usize {
        let mut left = 0;
        for (turn, name) in self.ready.clone() {
            let Some(child) = self.lanes.get_mut(&name) else { continue };
            left += child.node.retain(keep);
            if child.node.is_empty() {
                self.ready.remove(&turn);
                self.retire(name, turn.0);
            }
        }
        left
    }

    fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests;
