//! What documents and connections make a shard hold, in bytes, within one budget.
//!
//! Graphs can be dropped and read again, so they get what connections leave of the budget: [`Budget::to_evict`] says how much
//! must go. What connections hold cannot be dropped: open documents, claimed heads, parked changes, uploads that wait for the
//! opener. Its sum has a limit of its own, and [`Budget::excess`] says which connection must give way.
//!
//! Holders form the tree of [`Shares`]: approval (namespace and app), then device (session), then connection. When the sum is
//! over the limit, the approval that holds most gives way, in it the device that holds most, in it the connection. So neither
//! many sessions nor many connections of one app get more than one app's share, and a small holder is never closed for a
//! large one. A holder stays here until its last byte is gone, which may be after it left: its documents are worked off some at
//! a time, and the opener may still have its upload. What nobody can give back, because the server itself has to finish it first, makes
//! apps wait instead ([`Unfinished`]).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::documents::GraphChange;
use super::unfinished::Unfinished;
use crate::types::{Approval, ConnectionId, DocKey, Party, Shares};

#[cfg(test)]
mod tests;

/// A part of the budget, one in so many, may be taken by what is not finished before apps wait. Some commits' worth, so that the disk
/// has always something to do.
const UNFINISHED_PART: usize = 8;

/// Kinds of what connections hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Open documents with what the peer claims of them, and its parked changes.
    Documents,
    /// Messages that wait until the opener has taken in a new document.
    Messages,
    /// Document chunks that the opener has or gets.
    Uploads,
}

/// What connections hold, in bytes, by category.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Categories {
    /// See [`Category::Documents`].
    pub documents: usize,
    /// See [`Category::Messages`].
    pub messages: usize,
    /// See [`Category::Uploads`].
    pub uploads: usize,
}

impl Categories {
    fn of(&mut self, category: Category) -> &mut usize {
        match category {
            Category::Documents => &mut self.documents,
            Category::Messages => &mut self.messages,
            Category::Uploads => &mut self.uploads,
        }
    }

    fn sum(&self) -> usize {
        self.documents + self.messages + self.uploads
    }
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It can be closed for what it holds.
    Joined,
    /// It has left or was closed, and what it holds is being given back.
    Departing,
    /// It has left. The opener still has what it holds, or it pays for what others were asked until another one does.
    Left,
}

#[derive(Debug)]
struct Holder {
    party: Party,
    bytes: usize,
    stage: Stage,
}

/// The budget of one shard.
///
/// Invariants: `held` adds up to the bytes of all holders, and what departs in `unfinished` to those in [`Stage::Departing`]. A holder
/// that has left has some bytes.
#[derive(Debug)]
pub struct Budget {
    /// Bytes that graphs and connections may take together.
    total: usize,
    /// Bytes of it that connections may hold.
    limit: usize,
    held: Categories,
    unfinished: Unfinished,
    holders: BTreeMap<ConnectionId, Holder>,
    /// Uploads larger than [`Budget::large`] that the opener has not finished.
    large_uploads: usize,
    graph_bytes: usize,
    /// Graphs in memory.
    graphs: usize,
    /// Bytes of graphs at which the next eviction may find something: the last one could not free enough.
    evict_at: usize,
}

impl Budget {
    /// A budget of `total` bytes, of which connections may hold `limit`.
    pub fn new(total: usize, limit: usize) -> Self {
        Self {
            total,
            limit,
            held: Categories::default(),
            unfinished: Unfinished::new(total / UNFINISHED_PART),
            holders: BTreeMap::new(),
            large_uploads: 0,
            graph_bytes: 0,
            graphs: 0,
            evict_at: 0,
        }
    }

    /// A connection has joined.
    pub fn join(&mut self, id: ConnectionId, party: Party) {
        self.holders.insert(id, Holder { party, bytes: 0, stage: Stage::Joined });
    }

    /// A connection has left or is closed, and gives back what it holds. Nobody else gives way for what that is.
    pub fn depart(&mut self, id: ConnectionId) {
        if let Some(holder) = self.holders.get_mut(&id).filter(|holder| holder.stage == Stage::Joined) {
            holder.stage = Stage::Departing;
            self.unfinished.departing_changed(&holder.party.approval, 0, holder.bytes);
        }
    }

    /// A connection has given back what it can. What it still holds, the opener has.
    pub fn departed(&mut self, id: ConnectionId) {
        self.depart(id);
        if let Some(holder) = self.holders.get_mut(&id).filter(|holder| holder.stage == Stage::Departing) {
            holder.stage = Stage::Left;
            self.unfinished.departing_changed(&holder.party.approval, holder.bytes, 0);
            if holder.bytes == 0 {
                self.holders.remove(&id);
            }
        }
    }

    /// The connection holds `after` bytes of something of which it held `before`.
    pub fn change(&mut self, id: ConnectionId, category: Category, before: usize, after: usize) {
        if before == after {
            return;
        }
        let Some(holder) = self.holders.get_mut(&id) else { return };
        let before = before.min(holder.bytes);
        holder.bytes = holder.bytes - before + after;
        let sum = self.held.of(category);
        debug_assert!(*sum >= before, "{category:?} was counted as another category");
        *sum = sum.saturating_sub(before) + after;
        match holder.stage {
            Stage::Joined => {}
            Stage::Departing => self.unfinished.departing_changed(&holder.party.approval, before, after),
            Stage::Left if holder.bytes == 0 => drop(self.holders.remove(&id)),
            Stage::Left => {}
        }
    }

    /// Size from which an upload is large, in bytes: it counts as this much, and one at a time is taken in. A document
    /// may be larger than the whole budget, and must be let in all the same.
    fn large(&self) -> usize {
        self.limit / 2
    }

    /// An upload of so many bytes goes to the opener. False if it is large and another large one is there.
    #[must_use]
    pub fn begin_upload(&mut self, id: ConnectionId, bytes: usize) -> bool {
        let is_large = bytes > self.large();
        if is_large && self.large_uploads > 0 {
            return false;
        }
        self.large_uploads += usize::from(is_large);
        self.change(id, Category::Uploads, 0, bytes.min(self.large()));
        true
    }

    /// The opener has finished an upload.
    pub fn end_upload(&mut self, id: ConnectionId, bytes: usize) {
        self.large_uploads -= usize::from(bytes > self.large());
        self.change(id, Category::Uploads, bytes.min(self.large()), 0);
    }

    /// The part that deals with what is not finished, and with who waits for it.
    pub fn unfinished(&self) -> &Unfinished {
        &self.unfinished
    }

    /// A document has changes of this approval that are not durable.
    pub fn wrote(&mut self, key: &DocKey, approval: impl FnOnce() -> Approval) {
        self.unfinished.wrote(key, approval);
    }

    /// Counts anew what a document takes whose changes are not durable; 0 if they are.
    pub fn recount_unsaved(&mut self, key: &DocKey, bytes: usize) {
        self.unfinished.recount(key, bytes);
    }

    /// Bytes that connections hold.
    pub fn held(&self) -> usize {
        self.held.sum()
    }

    /// Bytes that connections hold, by category.
    pub fn by_category(&self) -> Categories {
        self.held
    }

    /// What those holders that `count` hold, by approval and device.
    fn shares(&self, count: impl Fn(&&Holder) -> bool) -> Shares {
        let mut shares = Shares::default();
        self.holders.values().filter(count).for_each(|holder| shares.add(&holder.party, holder.bytes));
        shares
    }

    /// The devices that hold the most, at most `most` of them, and how many bytes each of them holds; the largest first.
    pub fn largest(&self, most: usize) -> Vec<(Party, usize)> {
        self.shares(|_| true).largest(most)
    }

    /// The connection that must give way, if more is held than may be besides what is given back already.
    pub fn excess(&self) -> Option<ConnectionId> {
        if self.held() - self.unfinished.departing() <= self.limit {
            return None;
        }
        let can_give = |holder: &&Holder| holder.stage == Stage::Joined && holder.bytes > 0;
        let devices: HashSet<(&Approval, &Arc<str>)> = self
            .holders
            .values()
            .filter(can_give)
            .map(|holder| (&holder.party.approval, &holder.party.session))
            .collect();
        let party = self
            .shares(|holder| holder.stage != Stage::Departing)
            .furthest(|approval, session| devices.contains(&(approval, session)))?;
        let of_party = self.holders.iter().filter(|(_, holder)| can_give(holder) && holder.party == party);
        of_party.max_by_key(|(_, holder)| holder.bytes).map(|(id, _)| *id)
    }

    /// Bytes of graphs in memory, and how many graphs.
    pub fn graphs(&self) -> (usize, usize) {
        (self.graph_bytes, self.graphs)
    }

    /// Graphs have changed.
    pub fn graphs_changed(&mut self, change: GraphChange) {
        self.graph_bytes = self.graph_bytes + change.bytes_after - change.bytes_before;
        self.graphs = self.graphs + change.graphs_after - change.graphs_before;
    }

    /// Bytes that graphs may use: what connections leave of the budget, but not nothing, or every message would read its
    /// document anew.
    fn graph_limit(&self) -> usize {
        self.total.saturating_sub(self.held()).max(self.total / 8)
    }

    /// Bytes of graphs that must be dropped; `None` if all may stay. A quarter of room is made at once, so that the next
    /// message does not evict again. Answer with [`Budget::evicted`].
    pub fn to_evict(&self) -> Option<usize> {
        let limit = self.graph_limit();
        (self.graph_bytes > limit.max(self.evict_at)).then(|| self.graph_bytes - limit / 4 * 3)
    }

    /// Graphs were dropped, as many as could be.
    pub fn evicted(&mut self, change: GraphChange) {
        self.graphs_changed(change);
        let limit = self.graph_limit();
        // What cannot be dropped now must not have each message look through all documents again.
        self.evict_at = if self.graph_bytes > limit { self.graph_bytes + limit / 8 } else { 0 };
    }
}
