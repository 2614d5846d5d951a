//! Requests for documents that the store lacks: passed on to the namespace's other peers if the document is not on its
//! way, answered with `doc-unavailable` when all have said no, left or kept silent too long, and remembered for late
//! arrivals.

use std::collections::HashSet;

use super::Shard;
use super::budget::Category;
use super::connection::Connection;
use super::requests::Step;
use crate::sync::doc::Peer;
use crate::types::{ConnectionId, DocKey, Millis, Now, Party};

/// How long an absent document has to turn up by itself before others are asked for it, in milliseconds. An
/// automerge-repo client that is asked for what it lacks takes it for unavailable until it comes, for its own app too:
/// who is asked while the author is about to upload would be told wrong.
pub const ASK_AFTER_MS: Millis = 500;
/// Most absent documents that a newcomer is asked for, if that is not more than half of what it may have open.
const MAX_ASKED: usize = 1000;
/// Absent documents that are looked at for a newcomer at a time.
const NEWCOMER_SLICE: usize = 128;
/// Most devices that are asked for one absent document, one connection each.
const MAX_ASKED_DEVICES: usize = 32;
/// What asking one connection for one document costs who wants it, in bytes, about.
const ASKED_BYTES: usize = 1000;

/// A connection that has joined and may have absent documents that others were asked for before.
#[derive(Debug)]
pub(super) struct Newcomer {
    id: ConnectionId,
    /// The last document that was looked at for it.
    after: Option<DocKey>,
    /// Documents that it can still be asked for.
    left: usize,
}

/// Whether it may have the document and was not asked yet.
fn may_be_asked(conn: &Connection, key: &DocKey) -> bool {
    let info = conn.info();
    !info.read_only && info.namespace == key.namespace && !conn.has_open(key) && !conn.is_ending()
}

impl Shard {
    /// A connection asks for a document that is not here.
    pub(super) fn want(&mut self, id: ConnectionId, key: &DocKey, now: Now) {
        // While it waits already, its first request goes on.
        if self.requests.waits(id, key) {
            return;
        }
        let alone = !self.connections.values().any(|conn| may_be_asked(conn, key));
        let ask_at = if alone { now.steady } else { now.steady + ASK_AFTER_MS };
        match self.requests.want(id, key, ask_at, self.options.max_requests) {
            Ok(_) => self.ask_or_tell(key, now),
            Err(refused) => {
                if let Some(peer) = self.documents.get_mut(key).and_then(|doc| doc.peer(id)) {
                    peer.tell_unavailable();
                }
                self.error(id, refused.to_string());
            }
        }
    }

    /// How many documents a connection may have open and still be asked for others: half of the room is its own.
    fn room_for_questions(&self) -> usize {
        self.options.max_documents / 2
    }

    /// Asks a connection for a document at the cost of one that waits for it: who is asked has not chosen to be.
    fn ask(&mut self, id: ConnectionId, key: &DocKey, now: Now) {
        let payer = self.payer(key).unwrap_or(id);
        let Some(conn) = self.connections.get_mut(&id) else { return };
        if conn.open(key, self.options.max_documents) {
            self.attach(key, Peer::new(id, payer, ASKED_BYTES, true));
            self.requests.ask(id, key, now.steady + self.options.request_timeout_ms);
            self.send_queue.push(id, key.document);
        }
    }

    /// Finds the connection that pays for what is asked about a document: the first that wants it and stays.
    pub(super) fn payer(&self, key: &DocKey) -> Option<ConnectionId> {
        let mut peers = self.documents.get(key)?.peers().iter().filter(|peer| peer.is_subscribed());
        peers.find(|peer| self.is_here(peer.connection())).map(|peer| peer.connection())
    }

    /// Nobody wants an absent document any more: those that were asked for it are let go of.
    pub(super) fn end_asking(&mut self, key: &DocKey) {
        let Some(doc) = self.documents.get_mut(key).filter(|doc| !doc.is_stored()) else { return };
        if doc.peers().iter().any(|peer| peer.is_subscribed()) {
            return;
        }
        self.requests.forget(key);
        // All at once: there may be thousands.
        for peer in doc.take_peers() {
            let (payer, bytes) = peer.cost();
            self.budget.change(payer, Category::Documents, bytes, 0);
            if let Some(conn) = self.connections.get_mut(&peer.connection()) {
                conn.close_document(key);
            }
        }
    }

    /// A connection has joined: perhaps it has what nobody had so far. What others are yet to be asked for, it is asked for
    /// with them.
    pub(super) fn ask_newcomer(&mut self, id: ConnectionId, now: Now) {
        if self.connections.get(&id).is_none_or(|conn| conn.info().read_only) {
            return;
        }
        let left = MAX_ASKED.min(self.room_for_questions());
        // Mostly there is little or nothing to ask for, and it is done with at once.
        self.ask_some(Newcomer { id, after: None, left }, now);
    }

    /// Looks at some more documents for the newcomer whose turn it is. Returns whose that is.
    pub(super) fn continue_newcomer(&mut self, now: Now) -> Option<(ConnectionId, Party)> {
        while let Some(newcomer) = self.newcomers.pop_front() {
            // One that has left takes no turn.
            if self.is_here(newcomer.id) {
                let whose = (newcomer.id, self.connections.get(&newcomer.id)?.info().party());
                self.ask_some(newcomer, now);
                return Some(whose);
            }
        }
        None
    }

    fn ask_some(&mut self, mut newcomer: Newcomer, now: Now) {
        let Some(conn) = self.connections.get(&newcomer.id).filter(|conn| !conn.is_ending()) else { return };
        let wanted = self.requests.wanted_after(&conn.info().namespace, newcomer.after.as_ref());
        let some: Vec<(DocKey, bool)> =
            wanted.take(NEWCOMER_SLICE).map(|(key, asked)| (key.clone(), asked)).collect();
        for (key, others_were_asked) in &some {
            if newcomer.left == 0 {
                return;
            }
            if *others_were_asked
                && self.guarded(key, |shard| shard.asked_newcomer(newcomer.id, key, now)) == Some(true)
            {
                newcomer.left -= 1;
            }
        }
        if some.len() == NEWCOMER_SLICE {
            newcomer.after = some.into_iter().last().map(|(key, _)| key);
            self.newcomers.push_back(newcomer);
        }
    }

    /// Nobody is asked for a document while it is on its way, or while the app that wants it has caused more than the server has
    /// finished: each question takes memory.
    fn is_put_off(&self, key: &DocKey, now: Now) -> bool {
        let waits = || {
            let payer = self.payer(key).and_then(|id| self.connections.get(&id));
            payer.is_some_and(|conn| !self.may_go_on(&conn.info().approval()))
        };
        self.documents.get(key).is_some_and(|doc| doc.is_coming(now.steady))
            || self.budget.unfinished().is_too_much() && waits()
    }

    /// Asks a newcomer for a document unless it is on its way. False if it cannot be asked for it.
    fn asked_newcomer(&mut self, id: ConnectionId, key: &DocKey, now: Now) -> bool {
        let Some(doc) = self.documents.get(key) else { return false };
        let may_ask = self.connections.get(&id).is_some_and(|conn| may_be_asked(conn, key));
        if !may_ask || !doc.peers().iter().any(|peer| peer.is_subscribed()) {
            return false;
        }
        if self.is_put_off(key, now) {
            // In case it does not come after all.
            self.requests.ask_again(key, now.steady);
        } else {
            self.ask(id, key, now);
        }
        true
    }

    /// A peer says that it does not have the document.
    pub(super) fn said_no(&mut self, id: ConnectionId, key: &DocKey, now: Now) {
        if let Some(peer) = self.documents.get_mut(key).and_then(|doc| doc.peer(id)) {
            peer.end_upload();
            self.requests.said(id, key);
            self.ask_or_tell(key, now);
        }
    }

    /// An absent document that nobody is about to bring: asks who may have it, and when nobody does tells those who wait.
    pub(super) fn ask_or_tell(&mut self, key: &DocKey, now: Now) {
        let is_put_off = self.is_put_off(key, now);
        match self.requests.step(key, now.steady, || is_put_off) {
            Step::Nothing => return,
            Step::Settle => {}
            Step::Ask => {
                let devices = self.devices_to_ask(key);
                if let Some(doc) = self.documents.get_mut(key) {
                    doc.reserve(devices.len());
                }
                for id in devices {
                    self.ask(id, key, now);
                }
            }
        }
        // An answer that comes before has the document looked at too.
        let waited = self.requests.settle(key, now.steady);
        self.tell_unavailable(key, &waited);
        self.queue(key);
    }

    /// These connections waited for the document, and it is not to be had.
    pub(super) fn tell_unavailable(&mut self, key: &DocKey, waited: &[ConnectionId]) {
        let Some(doc) = self.documents.get_mut(key) else { return };
        for peer in doc.peers_mut().iter_mut().filter(|peer| waited.contains(&peer.connection())) {
            peer.tell_unavailable();
        }
    }

    /// The newest connection of each device that may have the document, at most [`MAX_ASKED_DEVICES`].
    fn devices_to_ask(&self, key: &DocKey) -> Vec<ConnectionId> {
        let room = self.room_for_questions();
        let mut devices = HashSet::new();
        let others = self
            .connections
            .iter()
            .rev()
            .filter(|(_, conn)| may_be_asked(conn, key) && conn.info().counts.documents() < room);
        // A connection without a session is a device of its own.
        let others = others.filter(|(id, conn)| {
            let device = conn.info().session.as_deref();
            devices.insert((device, device.is_none().then_some(**id)))
        });
        others.map(|(id, _)| *id).take(MAX_ASKED_DEVICES).collect()
    }

    /// A document that was absent is durable now. Who was asked for it takes it for unavailable, so it is offered there.
    pub(super) fn arrived(&mut self, key: &DocKey) {
        let arrival = self.requests.arrived(key);
        for id in arrival.unasked {
            self.unshare(id, key);
        }
        if let Some(doc) = self.documents.get_mut(key) {
            let asked =
                |peer: &&mut Peer| arrival.asked.contains(&peer.connection()) && !peer.is_subscribed();
            doc.peers_mut().iter_mut().filter(asked).for_each(Peer::offer);
        }
        if self.options.announce {
            let there = self.connections.iter().filter(|(_, conn)| conn.info().namespace == key.namespace);
            for id in there.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.offer(id, key);
            }
        }
    }
}
