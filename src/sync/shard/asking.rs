//! Requests for documents that the store lacks: passed on to the namespace's other peers if the document is not on its
//! way, answered with `doc-unavailable` when all have said no, left or kept silent too long, and remembered for late
//! arrivals.

use std::collections::HashSet;

use super::absent::Asking;
use super::connection::Connection;
use super::{LOOK_AGAIN_MS, Shard};
use crate::sync::peer::{Ask, Peer};
use crate::sync::storage::Storage;
use crate::types::{ConnectionId, DocKey, Millis};

/// How long an absent document has to turn up by itself before others are asked for it, in milliseconds. An
/// automerge-repo client that is asked for what it lacks takes it for unavailable until it comes, for its own app too:
/// who is asked while the author is about to upload would be told wrong.
pub const ASK_AFTER_MS: Millis = 500;
/// Most absent documents that a newcomer is asked for, if that is not more than half of what it may have open.
const MAX_ASKED: usize = 1000;
/// Most devices that are asked for one absent document, one connection each.
const MAX_ASKED_DEVICES: usize = 32;
/// What asking one connection for one document costs who wants it, in bytes, about.
const ASKED_BYTES: usize = 1000;
/// Documents offered at a time while `sync.announce` is on.
const ANNOUNCE_PAGE: usize = 64;

/// Whether it may have the document and was not asked yet.
fn may_be_asked(conn: &Connection, key: &DocKey) -> bool {
    !conn.info.read_only && conn.info.namespace == key.namespace && !conn.docs.contains(key)
}

impl Shard {
    /// A connection asks for a document that is not here.
    pub(super) fn want(&mut self, id: ConnectionId, key: &DocKey, now: Millis) {
        let max_requests = self.options.max_requests;
        let alone = !self.connections.values().any(|conn| may_be_asked(conn, key));
        let Some(conn) = self.connections.get_mut(&id) else { return };
        let Some(doc) = self.docs.get_mut(key) else { return };
        let Some(peer) = doc.peer(id) else { return };
        if peer.wants {
            return;
        }
        if !conn.info.counts.request(max_requests) {
            peer.tell_unavailable = true;
            return self.error(
                id,
                format!("limits.requests: this connection waits for {max_requests} documents already"),
            );
        }
        peer.wants = true;
        conn.requests += 1;
        self.absent.want(key, if alone { now } else { now + ASK_AFTER_MS });
        self.ask_or_tell(key, now);
    }

    /// How many documents a connection may have open and still be asked for others: half of the room is its own.
    fn room_for_questions(&self) -> usize {
        self.options.max_documents / 2
    }

    /// Asks a connection for a document at the cost of one that waits for it: who is asked has not chosen to be.
    fn ask(&mut self, id: ConnectionId, key: &DocKey, now: Millis) {
        let until = now + self.options.request_timeout_ms;
        let wants = |peer: &&Peer| peer.wants || peer.subscribed;
        let waiting = self.docs.get(key).and_then(|doc| doc.peers.iter().find(wants));
        let payer = waiting.map_or(id, |peer| peer.connection);
        let counts = self.connections.get(&id).map(|conn| conn.info.counts.clone());
        if counts.is_some_and(|counts| counts.open(self.options.max_documents)) {
            let ask = Ask::Due(until);
            self.attach_for(
                id,
                key,
                Peer { payer, counted: ASKED_BYTES, writer: true, ask, ..Peer::default() },
            );
        }
    }

    /// Nobody wants an absent document any more: those that were asked for it are let go of.
    pub(super) fn end_asking(&mut self, key: &DocKey) {
        let Some(doc) = self.docs.get_mut(key).filter(|doc| doc.head.is_none()) else { return };
        if doc.peers.iter().any(|peer| peer.subscribed) {
            return;
        }
        for peer in std::mem::take(&mut doc.peers) {
            self.budget.change(peer.payer, peer.counted, 0);
            if let Some(conn) = self.connections.get_mut(&peer.connection)
                && conn.docs.remove(key)
            {
                conn.info.counts.close(1);
            }
        }
    }

    /// A connection has joined: perhaps it has what nobody had so far. What others are yet to be asked for, it is asked for
    /// with them.
    pub(super) fn ask_newcomer(&mut self, id: ConnectionId, now: Millis) {
        let Some(conn) = self.connections.get(&id) else { return };
        let missing = |key: &&DocKey| {
            may_be_asked(conn, key)
                && !matches!(self.absent.asking(key), Some(Asking::At(_)))
                && self.any_peer(key, |peer| peer.subscribed)
        };
        let most = MAX_ASKED.min(self.room_for_questions());
        let of_namespace = self.absent.wanted_in(&conn.info.namespace);
        for key in of_namespace.filter(missing).take(most).cloned().collect::<Vec<_>>() {
            if !self.is_coming(&key, now) {
                self.ask(id, &key, now);
                self.queue(&key);
            } else {
                // In case it does not come after all.
                self.absent.set(&key, Asking::At(now), now + LOOK_AGAIN_MS);
            }
        }
    }

    /// A peer says that it does not have the document.
    pub(super) fn said_no(&mut self, id: ConnectionId, key: &DocKey, now: Millis) {
        if let Some(peer) = self.docs.get_mut(key).and_then(|doc| doc.peer(id)) {
            peer.ask = Ask::No;
            peer.uploading_until = 0;
            self.ask_or_tell(key, now);
        }
    }

    /// An absent document that nobody is about to bring: ask who may have it, and when nobody does tell those who wait.
    pub(super) fn ask_or_tell(&mut self, key: &DocKey, now: Millis) {
        let Some(asking) = self.absent.asking(key) else { return };
        if !self.any_peer(key, |peer| peer.wants) {
            return self.absent.answered(key);
        }
        if matches!(asking, Asking::At(at) if at > now) {
            return;
        }
        if self.is_coming(key, now) {
            return self.absent.set(key, asking, now + LOOK_AGAIN_MS);
        }
        if asking != Asking::Done {
            let room = self.room_for_questions();
            let devices = self.devices_to_ask(key, room);
            if let Some(doc) = self.docs.get_mut(key) {
                doc.peers.reserve_exact(devices.len());
            }
            for id in devices {
                self.ask(id, key, now);
            }
        }
        // An answer that comes before has the document looked at too.
        match self.last_yes(key, now) {
            Some(until) => self.absent.set(key, Asking::Done, until),
            None => self.end_wait(key, true),
        }
        self.queue(key);
    }

    /// The newest connection of each device that may have the document, at most [`MAX_ASKED_DEVICES`].
    fn devices_to_ask(&self, key: &DocKey, room: usize) -> Vec<ConnectionId> {
        let mut devices = HashSet::new();
        let others = self
            .connections
            .iter()
            .rev()
            .filter(|(_, conn)| may_be_asked(conn, key) && conn.info.counts.documents() < room);
        // A connection without a session is a device of its own.
        let others = others.filter(|(id, conn)| {
            let device = conn.info.session.as_deref();
            devices.insert((device, device.is_none().then_some(**id)))
        });
        others.map(|(id, _)| *id).take(MAX_ASKED_DEVICES).collect()
    }

    /// Until when a device that was asked may still answer that it has the document; `None` if none may.
    fn last_yes(&self, key: &DocKey, now: Millis) -> Option<Millis> {
        self.docs.get(key)?.peers.iter().filter_map(|peer| peer.may_say_yes_until(now)).max()
    }

    fn any_peer(&self, key: &DocKey, is: impl Fn(&Peer) -> bool) -> bool {
        self.docs.get(key).is_some_and(|doc| doc.peers.iter().any(is))
    }

    /// Nobody waits for an answer any more, which was "unavailable" or is the document.
    pub(super) fn end_wait(&mut self, key: &DocKey, unavailable: bool) {
        self.absent.answered(key);
        let Some(doc) = self.docs.get_mut(key) else { return };
        for peer in doc.peers.iter_mut().filter(|peer| peer.wants) {
            peer.wants = false;
            peer.tell_unavailable |= unavailable;
            if let Some(conn) = self.connections.get_mut(&peer.connection) {
                conn.requests = conn.requests.saturating_sub(1);
                conn.info.counts.answer(1);
            }
        }
    }

    /// The document is here but not durable, or someone uploads it.
    fn is_coming(&self, key: &DocKey, now: Millis) -> bool {
        self.docs.get(key).is_some_and(|doc| {
            doc.head.is_some()
                || doc.graph.as_ref().is_some_and(|graph| graph.end() > 0)
                || doc.intakes > 0
                || doc.peers.iter().any(|peer| peer.uploads(now))
        })
    }

    /// A document that was absent is durable now. Who was asked for it takes it for unavailable, so it is offered there.
    pub(super) fn arrived(&mut self, key: &DocKey) {
        self.end_wait(key, false);
        self.absent.forget(key);
        let Some(doc) = self.docs.get_mut(key) else { return };
        for peer in &mut doc.peers {
            peer.offer_due |= !peer.subscribed && matches!(peer.ask, Ask::Until(_) | Ask::No);
            if let (Ask::Due(_), Some(conn)) = (peer.ask, self.connections.get_mut(&peer.connection)) {
                conn.docs.remove(key);
                conn.info.counts.close(1);
            }
        }
        // Too late to ask.
        let budget = &mut self.budget;
        doc.peers.retain(|peer| {
            let stays = !matches!(peer.ask, Ask::Due(_));
            if !stays {
                budget.change(peer.payer, peer.counted, 0);
            }
            stays
        });
        if self.options.announce {
            let there = self.connections.iter().filter(|(_, conn)| conn.info.namespace == key.namespace);
            for id in there.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.offer(id, key);
            }
        }
    }

    fn offer(&mut self, id: ConnectionId, key: &DocKey) {
        if self.connections.get(&id).is_none_or(|conn| conn.docs.contains(key)) || !self.share(id, key) {
            return;
        }
        if let Some(peer) = self.docs.get_mut(key).and_then(|doc| doc.peer(id)) {
            peer.offer_due = true;
        }
        self.queue(key);
    }

    /// Offer the next page of the namespace's documents. False when there is nothing to offer.
    pub(super) fn announce_page(&mut self, id: ConnectionId, storage: &dyn Storage, now: Millis) -> bool {
        let Some(conn) = self.connections.get(&id) else { return false };
        let Some(after) = conn.announce else { return false };
        let namespace = conn.info.namespace.clone();
        let page = match storage.documents(&namespace, after, ANNOUNCE_PAGE) {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "cannot list documents to offer");
                Vec::new()
            }
        };
        if let Some(conn) = self.connections.get_mut(&id) {
            conn.announce = page.last().map(|(last, _)| Some(*last));
        }
        let (shard, shards) = (self.options.shard, self.options.shards);
        for (document, _) in page.iter().filter(|(document, _)| super::shard_of(document, shards) == shard) {
            let key = DocKey { namespace: namespace.clone(), document: *document };
            if self.open(&key, storage, now).is_ok() {
                self.offer(id, &key);
                self.forget_if_idle(&key);
            }
        }
        !page.is_empty()
    }
}
