//! Requests for documents that the store lacks: passed on to the namespace's other peers, answered with
//! `doc-unavailable` when all have said no, left or kept silent too long, and remembered for late arrivals.

use super::hub::Hub;
use super::peer::{Ask, Peer};
use super::storage::Storage;
use crate::types::{ConnId, DocKey, Millis};

/// Most absent documents that a newcomer is asked for.
const MAX_ASKED: usize = 1000;
/// Documents offered at a time while `sync.announce` is on.
const ANNOUNCE_PAGE: usize = 64;

impl Hub {
    /// A connection asks for a document that is not here.
    pub(super) fn want(&mut self, id: ConnId, key: &DocKey, now: Millis) {
        let until = now + self.options.request_timeout_ms;
        let max_requests = self.options.max_requests;
        let others: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(other, conn)| {
                **other != id && !conn.joining.read_only && conn.joining.namespace == key.namespace
            })
            .map(|(other, _)| *other)
            .collect();
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(doc) = self.docs.get_mut(key) else { return };
        let Some(peer) = doc.peer(id) else { return };
        if peer.wants {
            return;
        }
        if conn.requests >= max_requests {
            peer.tell_unavailable = true;
            return self.error(
                id,
                format!("limits.requests: this connection waits for {max_requests} documents already"),
            );
        }
        peer.wants = true;
        conn.requests += 1;
        self.wanted.insert(key.clone());
        self.unanswered.insert(key.clone());
        for other in others {
            self.ask(other, key, until);
        }
        self.evaluate(key, now);
    }

    fn ask(&mut self, id: ConnId, key: &DocKey, until: Millis) {
        let Some(doc) = self.docs.get_mut(key) else { return };
        let known = doc.peers.iter().any(|peer| peer.conn == id);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if known || conn.docs.len() >= self.options.max_documents {
            return;
        }
        conn.docs.insert(key.clone());
        doc.peers.push(Peer { conn: id, writer: true, ask: Ask::Due(until), ..Peer::default() });
        self.queue(key);
    }

    /// A writer has joined: perhaps it has what others wait for.
    pub(super) fn ask_newcomer(&mut self, id: ConnId, now: Millis) {
        let Some(conn) = self.conns.get(&id).filter(|conn| !conn.joining.read_only) else { return };
        let namespace = &conn.joining.namespace;
        let keys: Vec<DocKey> =
            self.wanted.iter().filter(|key| key.namespace == *namespace).take(MAX_ASKED).cloned().collect();
        for key in keys {
            self.ask(id, &key, now + self.options.request_timeout_ms);
        }
    }

    /// A peer says that it does not have the document.
    pub(super) fn said_no(&mut self, id: ConnId, key: &DocKey, now: Millis) {
        if let Some(peer) = self.docs.get_mut(key).and_then(|doc| doc.peer(id)) {
            peer.ask = Ask::No;
            peer.uploading_until = 0;
            self.evaluate(key, now);
        }
    }

    /// Tell those who wait for an absent document, if nobody may bring it any more.
    pub(super) fn evaluate(&mut self, key: &DocKey, now: Millis) {
        let Some(doc) = self.docs.get_mut(key).filter(|_| self.unanswered.contains(key)) else { return };
        for peer in &mut doc.peers {
            if matches!(peer.ask, Ask::Due(until) | Ask::Until(until) if until <= now) {
                peer.ask = Ask::No;
            }
        }
        let coming =
            doc.head.is_some() || doc.graph.as_ref().is_some_and(|graph| graph.end() > 0) || doc.intakes > 0;
        if coming || doc.peers.iter().any(|peer| peer.may_bring(now)) {
            return;
        }
        for peer in doc.peers.iter_mut().filter(|peer| peer.wants) {
            peer.wants = false;
            peer.tell_unavailable = true;
            if let Some(conn) = self.conns.get_mut(&peer.conn) {
                conn.requests = conn.requests.saturating_sub(1);
            }
        }
        self.unanswered.remove(key);
        self.queue(key);
    }

    /// A document that was absent is durable now.
    pub(super) fn arrived(&mut self, key: &DocKey) {
        self.wanted.remove(key);
        self.unanswered.remove(key);
        let Some(doc) = self.docs.get_mut(key) else { return };
        for peer in doc.peers.iter_mut().filter(|peer| peer.wants) {
            peer.wants = false;
            if let Some(conn) = self.conns.get_mut(&peer.conn) {
                conn.requests = conn.requests.saturating_sub(1);
            }
        }
        if self.options.announce {
            let there = self.conns.iter().filter(|(_, conn)| conn.joining.namespace == key.namespace);
            for id in there.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.offer(id, key);
            }
        }
    }

    fn offer(&mut self, id: ConnId, key: &DocKey) {
        if self.conns.get(&id).is_none_or(|conn| conn.docs.contains(key)) || !self.share(id, key) {
            return;
        }
        if let Some(peer) = self.docs.get_mut(key).and_then(|doc| doc.peer(id)) {
            peer.offer_due = true;
        }
        self.queue(key);
    }

    /// Offer the next page of the namespace's documents. False when there is nothing to offer.
    pub(super) fn announce_page(&mut self, id: ConnId, storage: &dyn Storage, now: Millis) -> bool {
        let Some(conn) = self.conns.get(&id) else { return false };
        let Some(after) = conn.announce else { return false };
        let namespace = conn.joining.namespace.clone();
        let page = match storage.documents(&namespace, after, ANNOUNCE_PAGE) {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "cannot list documents to offer");
                Vec::new()
            }
        };
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.announce = page.last().map(|(last, _)| Some(*last));
        }
        let (hub, hubs) = (self.options.hub, self.options.hubs);
        for (document, _) in page.iter().filter(|(document, _)| super::hub::hub_of(document, hubs) == hub) {
            let key = DocKey { namespace: namespace.clone(), document: *document };
            if self.open(&key, storage, now).is_ok() {
                self.offer(id, &key);
            }
        }
        !page.is_empty()
    }
}
