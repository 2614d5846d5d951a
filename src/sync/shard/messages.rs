//! A message on its way to its document.

use super::budget::Category;
use super::{Oversized, Shard};
use crate::sync::event::Event;
use crate::sync::graph::{MAX_HEADS, Misfit};
use crate::sync::message::SyncMessage;
use crate::sync::oversize::Oversize;
use crate::sync::storage::Storage;
use crate::types::{ConnectionId, DocKey, Now};

/// Most heads that a peer may claim for one document. More than [`MAX_HEADS`], so that a device can bring the
/// change that merges too many of them.
const MAX_CLAIMED_HEADS: usize = 4 * MAX_HEADS;

impl Shard {
    pub(super) fn take_in(&mut self, id: ConnectionId, event: Event, storage: &dyn Storage, now: Now) {
        let Some(conn) = self.connections.get(&id) else { return };
        let namespace = conn.info().namespace.clone();
        let key = |document| DocKey { namespace, document };
        match event {
            Event::Sync { document, message } => {
                if message.heads.len() > MAX_CLAIMED_HEADS {
                    let heads = message.heads.len();
                    let why = format!(
                        "document {document} has {heads} heads, more than the {MAX_CLAIMED_HEADS} that this server hears of; merge them first"
                    );
                    return self.error(id, why);
                }
                let key = key(document);
                self.receive_sync(id, &key, message, storage, now);
                self.recount_peer(id, &key);
                self.enforce_budget();
            }
            Event::TooLarge { document, oversize } => {
                let key = key(document);
                self.end_writing(id, &key, storage, now);
                self.note_oversize(id, &key, oversize);
                self.enforce_budget();
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
        key: &DocKey,
        message: SyncMessage,
        storage: &dyn Storage,
        now: Now,
    ) {
        if let Err(fault) = self.open(key, storage, now) {
            return self.faulty(key, Some(id), &fault);
        }
        if !self.share(id, key) {
            return self.forget_if_idle(key);
        }
        let Some(doc) = self.documents.get_mut(key) else { return };
        if !doc.is_synced() {
            if let Some(peer) = doc.peer(id) {
                peer.tell_unavailable();
            }
            return self.queue(key);
        }
        let brings = !message.changes.is_empty() || !message.documents.is_empty();
        if brings && !doc.is_stored() && doc.opener.has_intakes() {
            self.budget.change(id, Category::Messages, 0, message.bytes());
            return doc.hold(id, message);
        }
        let wants = !doc.is_stored() && message.heads.is_empty() && !doc.is_dirty();
        let info = self.connections.get(&id).map(|conn| conn.info());
        let remote = info.and_then(|info| info.storage.as_ref());
        let received = match doc.receive(id, remote, message, storage, now.steady) {
            Ok(received) => received,
            Err(fault) => return self.faulty(key, Some(id), &fault),
        };
        if received.appended > 0 {
            if let Some(info) = info {
                doc.written_by(Some(info.client.clone()));
                self.budget.wrote(key, || info.approval());
            }
            self.next_commit.mark_dirty(key);
        }
        if !doc.is_stored() {
            // Whatever it was asked, this is its answer.
            self.requests.said(id, key);
        }
        if let Some(misfit) = received.misfit {
            self.misfit(id, key, misfit);
        }
        if !received.documents.is_empty() {
            let chunks = received.documents.into_iter().map(|chunk| chunk.bytes).collect();
            self.intake(id, key, chunks, received.operations);
        }
        if wants {
            self.want(id, key, now);
        } else {
            self.ask_or_tell(key, now);
        }
        self.heads_seen(id, key, now);
        self.note_saved(key);
        self.recount(key);
        self.queue(key);
    }

    /// What the connection has of a document cannot be taken in, and it has been told so. From now on it reads the document at
    /// most: asked for what is missing, or answered, its client would send all of it again.
    pub(super) fn end_writing(&mut self, id: ConnectionId, key: &DocKey, storage: &dyn Storage, now: Now) {
        if !self.is_here(id) {
            return;
        }
        if let Err(fault) = self.open(key, storage, now) {
            return self.faulty(key, Some(id), &fault);
        }
        if !self.share(id, key) {
            return self.forget_if_idle(key);
        }
        let Some(doc) = self.documents.get_mut(key) else { return };
        let (is_stored, is_synced) = (doc.is_stored(), doc.is_synced());
        if let Some(peer) = doc.peer(id) {
            peer.end_writing();
            if !is_synced {
                peer.tell_unavailable();
            }
        }
        if !is_stored {
            // Whoever waits for the document does not get it from this one.
            self.requests.said(id, key);
        }
        self.recount_peer(id, key);
        self.ask_or_tell(key, now);
        self.queue(key);
        self.forget_if_idle(key);
    }

    /// Has the owner told that a device sent more of a document at once than a limit allows. There is no need to if the device
    /// may not write in any case, or if the owner has deleted the document.
    fn note_oversize(&mut self, connection: ConnectionId, key: &DocKey, oversize: Oversize) {
        let info = self.connections.get(&connection).map(|conn| conn.info());
        let Some(info) = info.filter(|info| !info.read_only) else { return };
        let Some(doc) = self.documents.get_mut(key).filter(|doc| doc.is_synced()) else { return };
        if doc.peer(connection).is_some() {
            doc.not_saved(connection);
            self.oversized.push(Oversized { party: info.party(), key: key.clone(), oversize });
        }
    }

    /// All that a device has of a document may have become durable, by whatever way it came.
    pub(super) fn note_saved(&mut self, key: &DocKey) {
        let Some(doc) = self.documents.get_mut(key).filter(|doc| doc.is_stored()) else { return };
        for id in doc.take_saved() {
            let info = self.connections.get(&id).map(|conn| conn.info());
            if let Some(info) = info.filter(|info| !info.read_only) {
                self.saved.push((info.party(), key.clone()));
            }
        }
    }

    /// A change contradicts the document's graph.
    pub(super) fn misfit(&mut self, id: ConnectionId, key: &DocKey, misfit: Misfit) {
        self.error(id, format!("document {}: {misfit}; the change was not taken", key.document));
        if misfit == Misfit::Parked {
            self.close(id, 1008, "too many changes without their dependencies");
        }
    }

    /// The opener is done with a new document: goes on with the messages that waited for it.
    pub(super) fn release_held(&mut self, key: &DocKey, storage: &dyn Storage, now: Now) {
        let Some(doc) = self.documents.get_mut(key).filter(|doc| !doc.opener.has_intakes()) else { return };
        for (id, message) in doc.take_held(None) {
            self.budget.change(id, Category::Messages, message.bytes(), 0);
            if self.is_here(id) {
                self.receive_sync(id, key, message, storage, now);
            }
        }
    }
}
