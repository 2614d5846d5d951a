//! A connection leaves, or gives back everything because it holds more than its share.
//!
//! Either may take as long as the connection has documents open, so it is done some documents at a time, and others are served
//! in between. The connection itself is gone at once: it gets nothing any more, counts neither among those who may be asked nor
//! in limits, and nobody gives way for the memory that it is about to give back. Only its peers remain in its documents until
//! it is their turn. A peer that seems to upload or to wait there can delay an answer to others. Each document is looked at
//! again when its peer goes, so nobody is told wrong. A device that comes back meanwhile may have its newer sync state
//! overwritten by the older one, and then some changes are sent once more.
//!
//! Kept of a connection that has left are its heads, as gossip while the document is in use, and its sync state in
//! the store, so that a device with a storage is placed again without Bloom filters. Sync states are rows that a client
//! causes without writing a change, so they are bounded: none for read-only sessions, a size for each row, a number for
//! each departure, and in the store a number for each document ([`crate::store::MAX_SYNC_STATES`]).

use std::collections::BTreeSet;

use super::Shard;
use super::budget::Category;
use crate::store::Op;
use crate::sync::connection::ConnectionInfo;
use crate::sync::doc::Peer;
use crate::types::{ConnectionId, DocKey, Now, Party};

/// Most heads in one sync state. A peer with more is placed by its heads and Bloom filters again.
pub const MAX_SHARED_HEADS: usize = 64;
/// Most sync states written for one departing connection. Each is a row of up to 2 kB in the next commit.
pub const MAX_STATES: usize = 256;
/// Documents that a departure ends its shares in at a time. Each takes some microseconds.
const SLICE: usize = 128;
/// Changes of one document that wait for their dependencies and are dropped at a time. Each takes some microseconds.
const PARKED_SLICE: usize = 500;
/// Told to a connection that holds more than its share.
const OVER_BUDGET: &str = "memory.budget: this connection holds more than its share of the server's memory; connect again with fewer documents open";

/// A connection whose shares are being ended.
#[derive(Debug)]
pub(super) struct Departure {
    id: ConnectionId,
    /// Whose work its end is.
    party: Party,
    /// Documents that it has peers in.
    documents: BTreeSet<DocKey>,
    why: Why,
}

#[derive(Debug)]
enum Why {
    /// It has left; so many sync states were written for it.
    Left { info: ConnectionInfo, states: usize },
    /// It holds more than its share, and is sent why before it is closed.
    GivesWay,
}

impl Shard {
    /// A connection has left.
    pub(super) fn depart(&mut self, id: ConnectionId, now: Now) {
        let Some(mut conn) = self.connections.remove(&id) else { return };
        self.send_queue.leave(id);
        self.remote.leave(id);
        while let Some(message) = conn.pop_ephemeral() {
            self.presence.release(message);
        }
        self.requests.leave(id);
        let info = conn.info().clone();
        self.roster.leave(id, &info);
        let documents = conn.close_documents();
        // One that gave way before is departing already, and has no documents of its own any more.
        if self.departures.iter().any(|departure| departure.id == id) {
            return;
        }
        self.budget.depart(id);
        let (party, why) = (info.party(), Why::Left { info, states: 0 });
        // Most connections have few documents, and are done with at once.
        self.end_shares(Departure { id, party, documents, why }, now);
    }

    /// A connection gives everything back, and is closed. Nothing of that is done at once, because another one may be at work.
    pub(super) fn give_way(&mut self, id: ConnectionId) {
        self.counters.gave_way += 1;
        self.error(id, OVER_BUDGET.into());
        self.close(id, 1013, "memory.budget: this connection holds more than its share");
        self.send_queue.clear(id);
        self.budget.depart(id);
        let Some(conn) = self.connections.get_mut(&id) else { return };
        let (info, documents) = (conn.info(), conn.documents().len());
        tracing::info!(client = %info.client, namespace = %info.namespace, documents, "a connection holds more than its share of the memory budget and is closed");
        let party = info.party();
        // What waits for the opener is not worth its work any more.
        conn.drop_extractions();
        let documents = conn.close_documents();
        self.departures.push_back(Departure { id, party, documents, why: Why::GivesWay });
    }

    /// Ends some shares of the departure whose turn it is. Returns whose that is.
    pub(super) fn continue_departure(&mut self, now: Now) -> Option<(ConnectionId, Party)> {
        let departure = self.departures.pop_front()?;
        let whose = (departure.id, departure.party.clone());
        self.end_shares(departure, now);
        Some(whose)
    }

    /// Ends at most [`SLICE`] of a departure's shares.
    fn end_shares(&mut self, mut departure: Departure, now: Now) {
        for _ in 0..SLICE {
            let Some(key) = departure.documents.pop_first() else {
                return self.budget.departed(departure.id);
            };
            let dropped = self.guarded(&key, |shard| {
                let doc = shard.documents.get_mut(&key);
                doc.is_none_or(|doc| doc.drop_parked_by(departure.id, PARKED_SLICE))
            });
            if dropped == Some(false) {
                departure.documents.insert(key);
                break;
            }
            self.guarded(&key, |shard| shard.end_share(&key, &mut departure, now));
        }
        self.departures.push_back(departure);
    }

    fn end_share(&mut self, key: &DocKey, departure: &mut Departure, now: Now) {
        let peer = self.detach(departure.id, key);
        match &mut departure.why {
            Why::Left { info, states } => {
                if let Some(peer) = peer {
                    self.remember_departed(info, key, peer, states, now);
                }
            }
            Why::GivesWay => self.drop_held(departure.id, key),
        }
        self.end_asking(key);
        self.pass_on_costs(departure.id, key);
        self.ask_or_tell(key, now);
        self.forget_if_idle(key);
    }

    /// Others still want an absent document that a departing connection paid the requests for: one of them pays from now on.
    fn pass_on_costs(&mut self, from: ConnectionId, key: &DocKey) {
        let Some(to) = self.payer(key) else { return };
        let Some(doc) = self.documents.get_mut(key) else { return };
        for peer in doc.peers_mut().iter_mut().filter(|peer| peer.cost().0 == from) {
            let (_, bytes) = peer.cost();
            peer.set_cost(to, bytes);
            self.budget.change(from, Category::Documents, bytes, 0);
            self.budget.change(to, Category::Documents, 0, bytes);
        }
    }

    /// Drops the messages of a connection that gives way which wait until the opener has taken in a new document.
    fn drop_held(&mut self, id: ConnectionId, key: &DocKey) {
        let Some(doc) = self.documents.get_mut(key) else { return };
        for (of, message) in doc.take_held(Some(id)) {
            self.budget.change(of, Category::Messages, message.bytes(), 0);
        }
    }

    /// The connection that joined as `info` had this share in the document. `states` counts the sync states written for
    /// its departure so far.
    fn remember_departed(
        &mut self,
        info: &ConnectionInfo,
        key: &DocKey,
        peer: Peer,
        states: &mut usize,
        now: Now,
    ) {
        let Some(storage) = &info.storage else { return };
        self.departs(info, key, &peer, now);
        let stored = self.documents.get(key).is_some_and(|doc| doc.is_stored());
        if info.read_only || !stored || *states >= MAX_STATES {
            return;
        }
        let Some(shared_heads) = peer.into_shared_heads() else { return };
        if !(1..=MAX_SHARED_HEADS).contains(&shared_heads.len()) {
            return;
        }
        *states += 1;
        let (key, storage) = (key.clone(), storage.clone());
        self.next_commit.write(Op::SyncState { key, storage, shared_heads });
    }
}
