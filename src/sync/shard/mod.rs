//! The documents in use, the connections that use them, and what goes from one to the other: a state machine.
//!
//! All inputs and outputs stand in this file. Inputs: joins, messages, commit results, opener results, time. Outputs: messages
//! when a connection has room for one ([`Shard::next`]), steps for the journal ([`Shard::take_ops`]), jobs for the opener
//! ([`Shard::take_jobs`]).
//!
//! Each kind of state has one owner, which keeps its invariants by itself and knows none of the others:
//!
//! - `Documents`: the documents in use, and which graph was used least recently.
//! - `Connection`: what one connection has open, and what is to be sent to it besides documents.
//! - `Requests`: absent documents, who waits for them and who was asked.
//! - `SendQueue`: who has something to send, about which documents.
//! - `NextCommit`: what goes to the journal, and what is in flight.
//! - `Budget`: the memory that all of it takes, and who gives way.
//! - `Wholes`: documents that were too much to take in whole.
//!
//! What stands between them is in the other files of this folder, as parts of `impl Shard`: each carries what one owner
//! returns to the next. Two rules hold there. A connection has a document among its own exactly while the document has it
//! among its peers, except while it departs (`departure.rs`). And every piece of work on a document runs behind the guard
//! (`guard.rs`): if the program fails at it, that document starts over and nothing else suffers.

mod asking;
mod budget;
mod compact_retries;
mod connection;
mod departure;
mod dirty;
mod dispose;
mod documents;
mod durable;
mod guard;
mod messages;
mod next_commit;
mod opening;
mod relay;
mod remote_heads;
mod requests;
mod send_queue;
mod sending;
mod shares;
#[cfg(test)]
mod tests;
mod unfinished;
mod wholes;

use std::collections::{BTreeMap, VecDeque};

use crate::store::{CommitError, Disposal, Op, StoreError};
use crate::sync::connection::{ConnectionInfo, Out};
use crate::sync::ephemeral::Presence;
use crate::sync::event::Event;
use crate::sync::job::{Done, Job, chunks_bytes};
use crate::sync::oversize::Oversize;
use crate::sync::remote::RemoteBook;
use crate::sync::roster::Roster;
use crate::sync::storage::Storage;
use crate::types::{Approval, ConnectionId, DocKey, DocumentId, Millis, Now, Party, StorageId};
use asking::Newcomer;
use budget::Budget;
use connection::Connection;
use departure::Departure;
use documents::Documents;
use next_commit::NextCommit;
use requests::Requests;
use send_queue::SendQueue;
use wholes::Wholes;

pub use asking::ASK_AFTER_MS;
pub use budget::Categories;
pub use departure::{MAX_SHARED_HEADS, MAX_STATES};

/// Absent documents that one tick looks at; each may have dozens of devices asked.
const LOOKS: usize = 64;
/// Holders of memory that are named.
pub const LARGEST_HOLDERS: usize = 5;

/// How a shard behaves. Units as in the configuration.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// Our storage id.
    pub storage: StorageId,
    /// This shard's number among `shards`; documents are spread over them by id.
    pub shard: usize,
    /// Number of shards.
    pub shards: usize,
    /// Bytes that graphs and connections may use together: graphs get what connections leave, but an eighth at least.
    pub memory_budget: usize,
    /// Bytes of the memory budget that connections may hold.
    pub held_budget: usize,
    /// Documents one connection may have open.
    pub max_documents: usize,
    /// Requests for unknown documents one connection may have waiting.
    pub max_requests: usize,
    /// Milliseconds an asked peer has to answer.
    pub request_timeout_ms: Millis,
    /// Offer all documents of its namespace to a joining peer.
    pub announce: bool,
    /// Milliseconds after creation or compaction before the tail may be compacted.
    pub compact_grace_ms: Millis,
    /// Changes a tail needs before it is compacted.
    pub compact_floor: u64,
}

/// Which shard a document belongs to.
pub fn shard_of(document: &DocumentId, shards: usize) -> usize {
    usize::from(u16::from_le_bytes([document.0[0], document.0[15]])) % shards.max(1)
}

/// Counters since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Changes made durable.
    pub changes_in: u64,
    /// Changes put into messages.
    pub changes_out: u64,
    /// Graphs dropped to stay within the memory budget.
    pub evictions: u64,
    /// Connections closed because they held more than their share of the memory budget.
    pub gave_way: u64,
    /// Documents that stopped being synced: damaged, or fatal to automerge or to us.
    pub quarantines: u64,
}

/// A device sent more of a document at once than a limit allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oversized {
    /// The device, which may have left since.
    pub party: Party,
    /// The document.
    pub key: DocKey,
    /// How much it was.
    pub oversize: Oversize,
}

/// The state machine. Deterministic: what is gone through in order is kept in order.
pub struct Shard {
    options: ShardOptions,
    documents: Documents,
    connections: BTreeMap<ConnectionId, Connection>,
    requests: Requests,
    next_commit: NextCommit,
    send_queue: SendQueue,
    budget: Budget,
    wholes: Wholes,
    /// Documents that were refused whole and of which all of that is durable now.
    came_singly: Vec<DocKey>,
    /// Messages that were too large and that the owner has not been told of.
    oversized: Vec<Oversized>,
    /// Devices of which all that they have of a document is durable, which the owner's troubles were not held against yet.
    saved: Vec<(Party, DocKey)>,
    presence: Presence,
    roster: Roster,
    remote: RemoteBook,
    jobs: Vec<Job>,
    departures: VecDeque<Departure>,
    newcomers: VecDeque<Newcomer>,
    counters: Counters,
}

impl Shard {
    /// An empty shard.
    pub fn new(options: ShardOptions) -> Self {
        Self {
            budget: Budget::new(options.memory_budget, options.held_budget),
            options,
            documents: Documents::default(),
            connections: BTreeMap::new(),
            requests: Requests::default(),
            next_commit: NextCommit::default(),
            send_queue: SendQueue::default(),
            wholes: Wholes::default(),
            came_singly: Vec::new(),
            oversized: Vec::new(),
            saved: Vec::new(),
            presence: Presence::default(),
            roster: Roster::default(),
            remote: RemoteBook::default(),
            jobs: Vec::new(),
            departures: VecDeque::new(),
            newcomers: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// A connection has joined.
    pub fn join(&mut self, id: ConnectionId, info: ConnectionInfo, now: Now) {
        self.roster.join(id, &info);
        self.budget.join(id, info.party());
        self.requests.join(id, info.counts.clone());
        self.send_queue.join(id);
        self.connections.insert(id, Connection::new(info, self.options.announce));
        if self.options.announce {
            self.send_queue.make_ready(id);
        }
        self.ask_newcomer(id, now);
        self.enforce_budget();
    }

    /// A connection is gone. Nothing is sent to it any more; its shares in documents end at once, or some at a time in
    /// [`Shard::work_off`].
    pub fn leave(&mut self, id: ConnectionId, now: Now) {
        self.depart(id, now);
    }

    /// A message has come.
    pub fn receive(&mut self, id: ConnectionId, event: Event, storage: &dyn Storage, now: Now) {
        let document = event.document();
        self.guarded_for(id, |shard, at| {
            let Some(conn) = shard.connections.get(&id).filter(|conn| !conn.is_ending()) else { return };
            let namespace = conn.info().namespace.clone();
            *at = document.map(|document| DocKey { namespace, document });
            shard.take_in(id, event, storage, now);
        });
    }

    /// The next connection with something to send. Call [`Shard::next`] until it has no room or gets `None`; a
    /// connection without room is to be given to [`Shard::has_room`] when it has.
    pub fn next_ready(&mut self) -> Option<ConnectionId> {
        self.send_queue.next_ready()
    }

    /// The connection has room again.
    pub fn has_room(&mut self, id: ConnectionId) {
        self.send_queue.make_ready(id);
    }

    /// Makes the next message for a connection, of `room` bytes at most unless it is about no document.
    pub fn next(&mut self, id: ConnectionId, storage: &dyn Storage, now: Now, room: usize) -> Option<Out> {
        match self.guarded_for(id, |shard, at| shard.make_next(id, at, storage, (now, room))) {
            Some(out) => out,
            None => {
                self.send_queue.make_ready(id);
                None
            }
        }
    }

    /// Closes a connection once what it is owed first is sent.
    pub fn close(&mut self, id: ConnectionId, code: u16, reason: &'static str) {
        if let Some(conn) = self.connections.get_mut(&id) {
            conn.end(code, reason);
            self.send_queue.make_ready(id);
        }
    }

    /// Has a document deleted, restored or purged by the next commit. A document that the store does not have, or that
    /// is not in the state for it, stays as it is.
    /// # Errors
    /// The store cannot be read.
    pub fn dispose(&mut self, key: &DocKey, what: Disposal, storage: &dyn Storage) -> Result<(), StoreError> {
        if storage.head(key)?.is_some() {
            self.next_commit.dispose(key.clone(), what);
        }
        Ok(())
    }

    /// Steps for the next commit; empty when there is nothing. The caller must answer with [`Shard::committed`] or
    /// [`Shard::commit_failed`] before it calls this again.
    pub fn take_ops(&mut self, now: Now) -> Vec<Op> {
        self.gather_ops(now)
    }

    /// The steps last taken are durable.
    pub fn committed(&mut self, storage: &dyn Storage, now: Now) {
        for step in self.next_commit.finish() {
            let key = step.key().clone();
            self.guarded(&key, |shard| shard.made_durable(step, storage, now));
        }
    }

    /// The steps last taken failed; the store has none of them. Connections that sent them are closed, with the reason as
    /// far as it concerns their users, and send their changes again when they come back.
    pub fn commit_failed(&mut self, error: &CommitError, storage: &dyn Storage, now: Now) {
        for step in self.next_commit.finish() {
            let key = step.key().clone();
            self.guarded(&key, |shard| shard.not_durable(step, error, storage, now));
        }
    }

    /// Jobs for the opener.
    pub fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// Documents that the opener refused as a whole, and that have come change by change since: that they were refused is no
    /// trouble any more.
    pub fn take_came_singly(&mut self) -> Vec<DocKey> {
        std::mem::take(&mut self.came_singly)
    }

    /// Messages that brought more of a document than a limit allows, for the owner to hear of.
    pub fn take_oversized(&mut self) -> Vec<Oversized> {
        std::mem::take(&mut self.oversized)
    }

    /// Devices of which all that they have of a document has turned out to be durable: that something of it was too large is no
    /// trouble any more. Each connection is named once for a document, and again after a message that was too large.
    pub fn take_saved(&mut self) -> Vec<(Party, DocKey)> {
        std::mem::take(&mut self.saved)
    }

    /// The opener has finished a job.
    pub fn job_done(&mut self, done: Done, storage: &dyn Storage, now: Now) {
        if let Done::Intake { connection, chunks, .. }
        | Done::Refused(Job::Intake { connection, chunks, .. }, _) = &done
        {
            self.budget.end_upload(*connection, chunks_bytes(chunks));
        }
        let key = done.key().clone();
        self.guarded(&key, |shard| shard.take_done(done, storage, now));
        self.enforce_budget();
    }

    /// The owner allows a document to be opened again. Connections that were refused an upload of it, or changes inside its
    /// snapshot, are disconnected: automerge sends and asks for them again only on a new connection.
    pub fn retry(&mut self, key: &DocKey) {
        self.wholes.allow(key);
        self.allow_opening(key);
    }

    /// Time has passed: looks at absent documents that are due. Other devices are asked for those that did not come, and count
    /// as "no" if they said nothing. One call looks at [`LOOKS`] documents at most, and returns true if more are due.
    pub fn tick(&mut self, now: Now) -> bool {
        for _ in 0..LOOKS {
            let Some(key) = self.requests.take_due(now.steady) else { break };
            self.guarded(&key, |shard| shard.ask_or_tell(&key, now));
        }
        self.enforce_budget();
        self.requests.is_due(now.steady)
    }

    /// True while [`Shard::tick`] has something to look at.
    pub fn needs_ticks(&self) -> bool {
        !self.requests.is_quiet()
    }

    /// True while there is work that is done in turns: call [`Shard::work_off`] and [`Shard::continue_departures`] after other inputs
    /// were looked at.
    pub fn has_backlog(&self) -> bool {
        !self.departures.is_empty() || !self.newcomers.is_empty() || self.remote.subscriptions().has_turns()
    }

    /// True while connections that left or gave way hold something that [`Shard::continue_departures`] gives back.
    pub fn has_departures(&self) -> bool {
        !self.departures.is_empty()
    }

    /// Gives back a bounded part of what one of the connections holds that left or gave way. Returns whose work that was, or `None`
    /// if there was none.
    pub fn continue_departures(&mut self, now: Now) -> Option<(ConnectionId, Party)> {
        self.continue_departure(now)
    }

    /// Does a bounded part of what else grows with the documents of one connection: questions to a newcomer, and turns of telling
    /// remote heads, whose connections are made ready. Returns who the newcomer is, or `None` if there was none.
    pub fn work_off(&mut self, now: Now) -> Option<(ConnectionId, Party)> {
        let newcomer = self.continue_newcomer(now);
        for id in self.remote.subscriptions_mut().begin_turns() {
            self.send_queue.make_ready(id);
        }
        newcomer
    }

    /// Whether the next message of an approval may be taken. If not, it may when a commit or a departure is done.
    pub fn may_go_on(&self, approval: &Approval) -> bool {
        self.budget.unfinished().may_go_on(approval)
    }

    /// Bytes of what has come and is not durable, and of what is being given back, about.
    pub fn unfinished(&self) -> usize {
        self.budget.unfinished().bytes()
    }

    /// Bytes that connections hold, about.
    pub fn held(&self) -> usize {
        self.budget.held()
    }

    /// Bytes that connections hold, about, by category.
    pub fn held_by_category(&self) -> Categories {
        self.budget.by_category()
    }

    /// The devices whose connections hold the most, and how many bytes, about; the largest first.
    pub fn largest_holders(&self) -> Vec<(Party, usize)> {
        self.budget.largest(LARGEST_HOLDERS)
    }

    /// Bytes of graphs in memory, about; how many.
    pub fn memory(&self) -> (usize, usize) {
        self.budget.graphs()
    }

    /// Counters since start.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
