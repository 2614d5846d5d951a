//! The documents in use, the connections that use them, and what goes from one to the other.
//!
//! Inputs: joins, messages, commit results, opener results, time. Outputs: messages when a connection has room for
//! one ([`Shard::next`]), steps for the journal ([`Shard::take_ops`]), jobs for the opener ([`Shard::take_jobs`]).

mod absent;
mod asking;
mod budget;
mod commit;
mod connection;
mod departure;
mod dirty;
mod dispose;
mod guard;
mod opening;
mod relay;
mod remote_heads;

pub use asking::ASK_AFTER_MS;
pub use departure::{MAX_SHARED_HEADS, MAX_STATES};

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::store::{Disposal, Op, StoreError};
use crate::sync::connection::{ConnectionInfo, Out};
use crate::sync::doc::{Doc, Fault};
use crate::sync::ephemeral::Presence;
use crate::sync::event::Event;
use crate::sync::job::Job;
use crate::sync::message::SyncMessage;
use crate::sync::peer::{Base, Peer};
use crate::sync::remote::RemoteBook;
use crate::sync::reply::Reply;
use crate::sync::roster::Roster;
use crate::sync::storage::Storage;
use crate::types::{ConnectionId, DocKey, DocumentId, Millis, StorageId};
use absent::Absent;
use budget::Budget;
use commit::{InFlight, Snapshotting};
use connection::Connection;
use dirty::Dirty;

/// What an open document costs for each connection that has it open, in bytes, about, besides the lists of hashes: the
/// document, its place in the map, the peer, the allocator's overhead.
const OPEN_BYTES: usize = 1000;
/// Most heads that a peer may claim for one document. More than [`crate::sync::graph::MAX_HEADS`], so that a device can bring the
/// change that merges too many of them.
const MAX_CLAIMED_HEADS: usize = 4 * crate::sync::graph::MAX_HEADS;
/// Absent documents that one tick looks at; each may have dozens of devices asked.
const LOOKS: usize = 64;
/// How long after a look an absent document that is on its way is looked at again, in milliseconds.
pub(super) const LOOK_AGAIN_MS: Millis = 100;
/// Room that there must be before a message about what another storage has is made, in bytes. Such a message names 64 heads at
/// most (`wire::MAX_HEADS`) and needs less; an outbox has a little more than this for itself.
const REMOTE_ROOM: usize = 15 * 1024;
/// Most documents that one call tries when their messages do not fit: each try may read the store.
const MAX_REFUSED: usize = 4;
/// Told to a connection that holds more than its share.
const OVER_BUDGET: &str = "memory.budget: this connection holds more than its share of the server's memory; connect again with fewer documents open";

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
    /// Offer all documents of its namespace to a info peer.
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
    /// Graphs let go of to stay within the memory budget.
    pub evictions: u64,
    /// Connections closed because they held more than their share of the memory budget.
    pub gave_way: u64,
    /// Documents that stopped being synced: damaged, or fatal to automerge or to us.
    pub quarantines: u64,
}

/// The state machine. Deterministic: what is gone through in order is kept in order.
pub struct Shard {
    options: ShardOptions,
    docs: HashMap<DocKey, Box<Doc>>,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Connections with something to send.
    ready: VecDeque<ConnectionId>,
    dirty: Dirty,
    ops: Vec<Op>,
    snapshots: Vec<Snapshotting>,
    /// What is to become of whole documents; last in the next commit.
    disposals: Vec<(DocKey, Disposal)>,
    in_flight: Vec<InFlight>,
    jobs: Vec<Job>,
    absent: Absent,
    presence: Presence,
    roster: Roster,
    remote: RemoteBook,
    counters: Counters,
    budget: Budget,
    /// Bytes of graphs at which the next eviction may find something: the last one found nothing to let go of.
    evict_at: usize,
    ticks: u64,
    /// When the first document was opened: about the start of the process.
    started: Option<Millis>,
    /// Bytes of graphs in memory, as last counted.
    memory: usize,
    /// Graphs in memory, as last counted.
    loaded: usize,
}

impl Shard {
    /// An empty shard.
    pub fn new(options: ShardOptions) -> Self {
        let budget = Budget::new(options.held_budget);
        Self {
            budget,
            evict_at: 0,
            options,
            docs: HashMap::new(),
            connections: BTreeMap::new(),
            ready: VecDeque::new(),
            dirty: Dirty::default(),
            ops: Vec::new(),
            snapshots: Vec::new(),
            disposals: Vec::new(),
            in_flight: Vec::new(),
            jobs: Vec::new(),
            absent: Absent::default(),
            presence: Presence::default(),
            roster: Roster::default(),
            remote: RemoteBook::default(),
            counters: Counters::default(),
            ticks: 0,
            started: None,
            memory: 0,
            loaded: 0,
        }
    }

    /// A connection has joined.
    pub fn join(&mut self, id: ConnectionId, info: ConnectionInfo, now: Millis) {
        self.roster.join(id, &info);
        let conn = Connection::new(info, self.options.announce);
        let announce = conn.announce.is_some();
        self.budget.join(id, &conn.info);
        self.connections.insert(id, conn);
        if announce {
            self.make_ready(id);
        }
        self.ask_newcomer(id, now);
        self.enforce_budget(now);
    }

    /// A connection is gone.
    pub fn leave(&mut self, id: ConnectionId, now: Millis) {
        let Some(mut conn) = self.connections.remove(&id) else { return };
        conn.info.counts.close(conn.docs.len());
        self.remote.leave(id);
        while let Some(message) = conn.pop_ephemeral() {
            self.presence.release(message);
        }
        let mut states = 0;
        for key in std::mem::take(&mut conn.docs) {
            let Some(peer) = self.detach(id, &key) else { continue };
            self.remember_departed(&conn.info, &key, peer, &mut states, now);
            self.end_asking(&key);
            self.ask_or_tell(&key, now);
            self.forget_if_idle(&key);
        }
        self.roster.leave(id, &conn.info);
        self.budget.leave(id);
    }

    /// Ends a connection's share in a document.
    fn detach(&mut self, id: ConnectionId, key: &DocKey) -> Option<Peer> {
        let doc = self.docs.get_mut(key)?;
        let at = doc.peers.iter().position(|peer| peer.connection == id)?;
        let peer = doc.peers.swap_remove(at);
        self.budget.change(peer.payer, peer.counted, 0);
        Some(peer)
    }

    /// Gives a connection a share in a document in use, at its own cost.
    pub(super) fn attach(&mut self, id: ConnectionId, key: &DocKey, peer: Peer) {
        self.attach_for(id, key, Peer { payer: id, counted: OPEN_BYTES, ..peer });
    }

    /// Gives a connection a share in a document in use, at the cost of the peer's payer.
    pub(super) fn attach_for(&mut self, id: ConnectionId, key: &DocKey, peer: Peer) {
        let Some(doc) = self.docs.get_mut(key) else { return };
        if let Some(conn) = self.connections.get_mut(&id) {
            conn.docs.insert(key.clone());
        }
        self.budget.change(peer.payer, 0, peer.counted);
        doc.attach(Peer { connection: id, ..peer });
    }

    /// Counts anew what a connection makes the server hold of a document.
    fn recount_peer(&mut self, id: ConnectionId, key: &DocKey) {
        let Some(peer) = self.docs.get_mut(key).and_then(|doc| doc.peer(id)) else { return };
        let bytes = OPEN_BYTES + peer.lists_bytes() + peer.parked;
        let before = std::mem::replace(&mut peer.counted, bytes);
        // A connection that was asked for the document pays for itself once it has spoken of it.
        let after = if peer.heard { id } else { peer.payer };
        let payer = std::mem::replace(&mut peer.payer, after);
        self.budget.change(payer, before, 0);
        self.budget.change(after, 0, bytes);
    }

    /// While connections hold more than they may: takes everything from the one that must give way, and closes it.
    pub(super) fn enforce_budget(&mut self, now: Millis) {
        while let Some(id) = self.budget.excess() {
            self.give_way(id, now);
        }
    }

    fn give_way(&mut self, id: ConnectionId, now: Millis) {
        self.counters.gave_way += 1;
        let keys = self.connections.get_mut(&id).map_or_else(BTreeSet::new, |conn| {
            tracing::info!(client = %conn.info.client, namespace = %conn.info.namespace, documents = conn.docs.len(), "a connection holds more than its share of the memory budget and is closed");
            conn.queue.clear();
            conn.waiting.clear();
            conn.info.counts.close(conn.docs.len());
            std::mem::take(&mut conn.docs)
        });
        for key in keys {
            let parked = self.detach(id, &key).map_or(0, |peer| peer.parked);
            let Some(doc) = self.docs.get_mut(&key) else { continue };
            if parked > 0 {
                doc.drop_parked();
            }
            let (theirs, others) =
                std::mem::take(&mut doc.held).into_iter().partition::<Vec<_>, _>(|(of, _)| *of == id);
            doc.held = others;
            for (_, message) in theirs {
                self.budget.change(id, message.bytes(), 0);
            }
            self.end_asking(&key);
            self.ask_or_tell(&key, now);
            self.forget_if_idle(&key);
        }
        self.budget.leave(id);
        self.error(id, OVER_BUDGET.into());
        self.close(id, 1013, "memory.budget: this connection holds more than its share");
    }

    /// Close a connection once what it is owed first is sent.
    pub fn close(&mut self, id: ConnectionId, code: u16, reason: &'static str) {
        if let Some(conn) = self.connections.get_mut(&id) {
            conn.close.get_or_insert((code, reason));
            self.make_ready(id);
        }
    }

    pub(super) fn error(&mut self, id: ConnectionId, message: String) {
        if let Some(conn) = self.connections.get_mut(&id) {
            conn.push_error(message);
            self.make_ready(id);
        }
    }

    pub(super) fn take_in(&mut self, id: ConnectionId, event: Event, storage: &dyn Storage, now: Millis) {
        let Some(conn) = self.connections.get(&id).filter(|conn| conn.close.is_none()) else { return };
        let namespace = conn.info.namespace.clone();
        let key = |document| DocKey { namespace: namespace.clone(), document };
        match event {
            Event::Sync { document, message } => {
                let key = key(document);
                if message.heads.len() > MAX_CLAIMED_HEADS {
                    let heads = message.heads.len();
                    let why = format!(
                        "document {document} has {heads} heads, more than the {MAX_CLAIMED_HEADS} that this server hears of; merge them first"
                    );
                    return self.error(id, why);
                }
                self.receive_sync(id, key.clone(), message, storage, now);
                self.recount_peer(id, &key);
                self.enforce_budget(now);
            }
            Event::Unavailable { document } => self.said_no(id, &key(document), now),
            Event::Presence { document, sender, session, count, data } => {
                self.relay_ephemeral(id, &key(document), sender, session, count, data);
            }
            Event::Subscriptions { add, remove } => self.subscribe_remote(id, add, &remove),
            Event::RemoteHeads { document, heads } => self.gossip(id, &key(document), heads, now),
        }
    }

    fn receive_sync(
        &mut self,
        id: ConnectionId,
        key: DocKey,
        message: SyncMessage,
        storage: &dyn Storage,
        now: Millis,
    ) {
        if let Err(fault) = self.open(&key, storage, now) {
            return self.faulty(&key, Some(id), &fault);
        }
        if !self.share(id, &key) {
            return self.forget_if_idle(&key);
        }
        let Some(doc) = self.docs.get_mut(&key) else { return };
        if doc.broken.is_some() {
            if let Some(peer) = doc.peer(id) {
                peer.tell_unavailable = true;
            }
            return self.queue(&key);
        }
        let brings = !message.changes.is_empty() || !message.documents.is_empty();
        if brings && doc.head.is_none() && doc.intakes > 0 {
            return self.hold(id, &key, message);
        }
        let wants = doc.head.is_none() && message.heads.is_empty() && !doc.is_dirty();
        let info = self.connections.get(&id).map(|conn| &conn.info);
        let remote = info.and_then(|info| info.storage.clone());
        let client = info.map(|info| info.client.clone());
        match doc.receive(id, remote.as_ref(), message, storage, now) {
            Ok(received) => {
                if received.appended > 0 {
                    doc.writer = client;
                    self.dirty.mark(doc);
                }
                if let Some(misfit) = received.misfit {
                    self.misfit(id, &key, misfit);
                }
                if !received.documents.is_empty() {
                    let chunks = received.documents.into_iter().map(|chunk| chunk.bytes).collect();
                    self.intake(id, &key, chunks, received.operations);
                }
                if wants {
                    self.want(id, &key, now);
                } else {
                    self.ask_or_tell(&key, now);
                }
                self.heads_seen(id, &key, now);
                self.recount(&key);
                self.queue(&key);
            }
            Err(fault) => self.faulty(&key, Some(id), &fault),
        }
    }

    pub(super) fn misfit(&mut self, id: ConnectionId, key: &DocKey, misfit: crate::sync::graph::Misfit) {
        self.error(id, format!("document {}: {misfit}; the change was not taken", key.document));
        if misfit == crate::sync::graph::Misfit::Parked {
            self.close(id, 1008, "too many changes without their dependencies");
        }
    }

    fn hold(&mut self, id: ConnectionId, key: &DocKey, message: SyncMessage) {
        self.budget.change(id, 0, message.bytes());
        if let Some(doc) = self.docs.get_mut(key) {
            doc.held.push((id, message));
        }
    }

    /// The opener is done with a new document: go on with the messages that waited for it.
    pub(super) fn release_held(&mut self, key: &DocKey, storage: &dyn Storage, now: Millis) {
        let Some(doc) = self.docs.get_mut(key).filter(|doc| doc.intakes == 0) else { return };
        for (id, message) in std::mem::take(&mut doc.held) {
            self.budget.change(id, message.bytes(), 0);
            if self.connections.contains_key(&id) {
                self.receive_sync(id, key.clone(), message, storage, now);
            }
        }
    }

    /// Have the document in use.
    pub(super) fn open(
        &mut self,
        key: &DocKey,
        storage: &dyn Storage,
        now: Millis,
    ) -> Result<&mut Doc, Fault> {
        self.ticks += 1;
        let started = *self.started.get_or_insert(now);
        if !self.docs.contains_key(key) {
            match storage.head(key) {
                Ok(head) => {
                    let mut doc = Doc::new(key.clone(), head);
                    let created = doc.head.as_ref().map_or(now, |head| head.created);
                    // Counted from the start too. If compacting a document ends the process, the next one must not
                    // begin with the same compaction.
                    doc.compact_after = created.max(started) + self.options.compact_grace_ms;
                    self.docs.insert(key.clone(), Box::new(doc));
                }
                // In use, so that who asks for it is answered.
                Err(error @ StoreError::Corrupt { .. }) => {
                    self.docs.insert(key.clone(), Box::new(Doc::new(key.clone(), None)));
                    self.quarantine(key, error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Invariant: inserted above.
        let Some(doc) = self.docs.get_mut(key) else { unreachable!("document is in use") };
        doc.used = self.ticks;
        Ok(doc)
    }

    /// Give the connection a share in an open document. False (and an error to the peer) over its limit.
    pub(super) fn share(&mut self, id: ConnectionId, key: &DocKey) -> bool {
        let Some(conn) = self.connections.get_mut(&id) else { return false };
        if conn.docs.contains(key) {
            return true;
        }
        let limit = self.options.max_documents;
        if !conn.info.counts.open(limit) {
            self.error(id, format!("limits.documents: this connection has {limit} documents open already"));
            return false;
        }
        let writer = !conn.info.read_only;
        if !self.docs.contains_key(key) {
            return false;
        }
        self.attach(id, key, Peer { writer, ..Peer::default() });
        true
    }

    pub(super) fn forget_if_idle(&mut self, key: &DocKey) {
        if self.docs.get(key).is_some_and(|doc| doc.is_idle())
            && let Some(doc) = self.docs.remove(key)
        {
            self.memory -= doc.counted;
            self.loaded -= usize::from(doc.counted > 0);
            self.absent.forget(key);
            self.remote.forget(key);
        }
    }

    /// Put the document into the queue of every connection that is owed a message about it.
    pub(super) fn queue(&mut self, key: &DocKey) {
        let Some(doc) = self.docs.get_mut(key) else { return };
        for at in 0..doc.peers.len() {
            doc.peers[at].advance();
            if doc.peers[at].queued || !doc.has_news(&doc.peers[at]) {
                continue;
            }
            let id = doc.peers[at].connection;
            if let Some(conn) = self.connections.get_mut(&id) {
                doc.peers[at].queued = true;
                conn.queue.push_back(key.clone());
                if !std::mem::replace(&mut conn.ready, true) {
                    self.ready.push_back(id);
                }
            }
        }
    }

    pub(super) fn make_ready(&mut self, id: ConnectionId) {
        if let Some(conn) = self.connections.get_mut(&id)
            && !std::mem::replace(&mut conn.ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// The next connection with something to send. Call [`Shard::next`] until it has no room or gets `None`; a
    /// connection without room is to be given to [`Shard::has_room`] when it has.
    pub fn next_ready(&mut self) -> Option<ConnectionId> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(conn) = self.connections.get_mut(&id) {
                conn.ready = false;
                return Some(id);
            }
        }
        None
    }

    /// The connection has room again.
    pub fn has_room(&mut self, id: ConnectionId) {
        self.make_ready(id);
    }

    /// `at` becomes the document that the message is about.
    pub(super) fn make_next(
        &mut self,
        id: ConnectionId,
        at: &mut Option<DocKey>,
        storage: &dyn Storage,
        (now, room): (Millis, usize),
    ) -> Option<Out> {
        let conn = self.connections.get_mut(&id)?;
        if let Some(out) = conn.next_control(&mut self.presence, room) {
            return Some(out);
        }
        if conn.close.is_some() {
            return None;
        }
        let mut refused = 0;
        loop {
            let conn = self.connections.get_mut(&id)?;
            // If the message about one document does not fit, a few others are tried; then the connection waits for room.
            if refused > 0 && refused >= conn.queue.len().min(MAX_REFUSED) {
                return Some(Out::NoRoom);
            }
            let Some(key) = conn.queue.pop_front() else {
                if self.announce_page(id, storage, now) {
                    continue;
                }
                return if room < REMOTE_ROOM { Some(Out::NoRoom) } else { self.next_remote(id) };
            };
            *at = Some(key.clone());
            let may_extract = conn.extracting.is_none();
            self.ticks += 1;
            let Some(doc) = self.docs.get_mut(&key) else { continue };
            doc.used = self.ticks;
            if let Some(peer) = doc.peer(id) {
                peer.queued = false;
            }
            match doc.reply(id, storage, may_extract, room) {
                Ok(Reply::NoRoom) => {
                    if let Some(peer) = doc.peer(id) {
                        peer.queued = true;
                    }
                    self.connections.get_mut(&id)?.queue.push_back(key);
                    refused += 1;
                }
                Ok(Reply::Send(body, changes)) => {
                    self.counters.changes_out += changes;
                    self.recount_peer(id, &key);
                    self.recount(&key);
                    self.queue(&key);
                    return Some(Out::Message { sender: None, body });
                }
                Ok(Reply::Extract { have, skip }) => self.extract(id, &key, have, skip),
                Ok(Reply::Nothing) => {
                    let waits = doc
                        .peer(id)
                        .is_some_and(|peer| matches!(&peer.base, Base::Part(part) if !part.running));
                    if waits
                        && !may_extract
                        && let Some(conn) = self.connections.get_mut(&id)
                    {
                        conn.waiting.push(key);
                    }
                }
                Err(fault) => self.faulty(&key, None, &fault),
            }
        }
    }

    /// Time has passed: looks at absent documents that are due. Other devices are asked for those that did not come, and count
    /// as "no" if they said nothing. One call looks at [`LOOKS`] documents at most, and returns true if more are due.
    pub fn tick(&mut self, now: Millis) -> bool {
        for _ in 0..LOOKS {
            let Some(key) = self.absent.take_due(now, now + LOOK_AGAIN_MS) else { break };
            self.ask_or_tell(&key, now);
        }
        self.enforce_budget(now);
        self.absent.is_due(now)
    }

    /// True while [`Shard::tick`] has something to look at.
    pub fn needs_ticks(&self) -> bool {
        !self.absent.is_quiet()
    }

    /// Bytes that graphs may use: what connections leave of the budget, but not nothing, or every message would read its
    /// document anew.
    fn graph_budget(&self) -> usize {
        let budget = self.options.memory_budget;
        budget.saturating_sub(self.budget.used()).max(budget / 8)
    }

    /// Count the document's graph anew, and let go of graphs least recently used while over the budget.
    pub(super) fn recount(&mut self, key: &DocKey) {
        if let Some(doc) = self.docs.get_mut(key) {
            let bytes = doc.graph.as_ref().map_or(0, |graph| graph.memory());
            let before = std::mem::replace(&mut doc.counted, bytes);
            self.memory = self.memory + bytes - before;
            // A graph without changes counts some bytes too.
            self.loaded = self.loaded + usize::from(bytes > 0) - usize::from(before > 0);
        }
        if self.memory > self.graph_budget().max(self.evict_at) {
            self.evict();
        }
    }

    fn evict(&mut self) {
        let budget = self.graph_budget();
        let mut loaded: Vec<(u64, DocKey)> = self
            .docs
            .values()
            .filter(|doc| doc.is_evictable())
            .map(|doc| (doc.used, doc.key.clone()))
            .collect();
        loaded.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in loaded {
            // A quarter of room at once, so that the next message does not evict again.
            if self.memory <= budget / 4 * 3 {
                break;
            }
            if let Some(doc) = self.docs.get_mut(&key) {
                doc.evict();
                self.loaded -= usize::from(doc.counted > 0);
                self.memory -= std::mem::take(&mut doc.counted);
                self.counters.evictions += 1;
            }
        }
        // What cannot be let go of now must not have each message look through all documents again.
        self.evict_at = if self.memory > budget { self.memory + budget / 8 } else { 0 };
    }

    /// Bytes that connections hold, about.
    pub fn held(&self) -> usize {
        self.budget.used()
    }

    /// Bytes of graphs in memory, about; how many.
    pub fn memory(&self) -> (usize, usize) {
        (self.memory, self.loaded)
    }

    /// Counters since start.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
