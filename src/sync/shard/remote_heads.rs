//! Remote heads between the shard's connections: who says what, and who is told.

use std::collections::BTreeMap;

use super::Shard;
use crate::sync::connection::{ConnectionInfo, Out};
use crate::sync::doc::Peer;
use crate::sync::remote::{Scope, Source, Step, gossip, has_durable_heads};
use crate::sync::wire::{Body, MAX_HEADS, RemoteHeads};
use crate::types::{ConnectionId, DocKey, Now, StorageId};

/// Most connections whose heads are told one by one when a commit makes them durable. For more, every subscriber looks
/// through the document once, so that the work grows with the connections and not with their square.
const MAX_AT_ONCE: usize = 16;

impl Shard {
    pub(super) fn subscribe_remote(&mut self, id: ConnectionId, add: Vec<StorageId>, remove: &[StorageId]) {
        let Some(conn) = self.connections.get(&id) else { return };
        let approval = conn.info().approval();
        for storage in remove {
            self.remote.subscriptions_mut().unsubscribe(id, storage);
        }
        for storage in add {
            if let Err(refused) = self.remote.subscriptions_mut().subscribe(id, &approval, storage) {
                self.error(id, refused.to_string());
                break;
            }
        }
        self.send_queue.make_ready(id);
    }

    /// Tell all subscribers with a share in the document, except `but`.
    fn tell_subscribers(&mut self, key: &DocKey, storage: &StorageId, but: Option<ConnectionId>) {
        let Some(subscribers) = self.remote.subscriptions().subscribers(&key.namespace, storage) else {
            return;
        };
        let Some(doc) = self.documents.get(key) else { return };
        // Whichever are fewer: subscribers may have other documents open, and peers other subscriptions.
        let to: Vec<ConnectionId> = if subscribers.len() < doc.peers().len() {
            let has_share =
                |id: &&ConnectionId| self.connections.get(id).is_some_and(|conn| conn.has_open(key));
            subscribers.iter().filter(has_share).copied().collect()
        } else {
            doc.peers().iter().map(|peer| peer.connection()).filter(|id| subscribers.contains(id)).collect()
        };
        for id in to {
            if Some(id) != but {
                self.remote.subscriptions_mut().changed(id, key.document, storage);
                self.send_queue.make_ready(id);
            }
        }
    }

    /// A peer has said what heads it has. Others hear of it once all of them are durable here.
    pub(super) fn heads_seen(&mut self, id: ConnectionId, key: &DocKey, now: Now) {
        let newly_open = self
            .documents
            .get_mut(key)
            .and_then(|doc| doc.peer(id))
            .is_some_and(|peer| peer.is_newly_heard());
        if self.remote.subscriptions().is_empty() {
            return;
        }
        if newly_open && self.remote.subscriptions_mut().opened(id, key.document) {
            self.send_queue.make_ready(id);
        }
        if self.learn_of_peer(id, key, now)
            && let Some(storage) = self.connections.get(&id).and_then(|conn| conn.info().storage.clone())
        {
            self.tell_subscribers(key, &storage, Some(id));
        }
    }

    /// Remember the heads of a connection's storage, if they are durable here and somebody wants to know. True if it is news.
    fn learn_of_peer(&mut self, id: ConnectionId, key: &DocKey, now: Now) -> bool {
        let Some(info) = self.connections.get(&id).map(|conn| conn.info()) else { return false };
        let Some(doc) = self.documents.get(key) else { return false };
        let Some(peer) = doc.peers().iter().find(|peer| peer.connection() == id) else { return false };
        self.remote.learn_of(&self.roster, info, doc, peer, now.wall)
    }

    /// A connection with a storage has left: its heads stay known while the document is in use.
    pub(super) fn departs(&mut self, info: &ConnectionInfo, key: &DocKey, peer: &Peer, now: Now) {
        if let Some(doc) = self.documents.get(key) {
            self.remote.learn_of(&self.roster, info, doc, peer, now.wall);
        }
    }

    /// New changes are durable: our own heads, and those of peers that have the same.
    pub(super) fn heads_durable(&mut self, key: &DocKey, now: Now) {
        if self.remote.subscriptions().is_empty() {
            return;
        }
        let ours = self.options.storage.clone();
        self.tell_subscribers(key, &ours, None);
        let Some(doc) = self.documents.get(key) else { return };
        let same = doc.peers().iter().filter(|peer| has_durable_heads(doc, peer));
        let same: Vec<ConnectionId> = same.map(|peer| peer.connection()).collect();
        if same.len() <= MAX_AT_ONCE {
            return same.into_iter().for_each(|id| self.heads_seen(id, key, now));
        }
        for id in doc.peers().iter().map(|peer| peer.connection()).collect::<Vec<_>>() {
            if self.remote.subscriptions_mut().opened(id, key.document) {
                self.send_queue.make_ready(id);
            }
        }
    }

    /// A peer passes on what it heard of other storages.
    pub(super) fn gossip(&mut self, id: ConnectionId, key: &DocKey, heads: Vec<RemoteHeads>, now: Now) {
        let Some(info) = self.connections.get(&id).map(|conn| conn.info()) else { return };
        if self.documents.get(key).is_none_or(|doc| !doc.is_synced() || !doc.is_stored()) {
            return;
        }
        let (approval, writer) = (info.approval(), !info.read_only);
        let source = if writer { Source::Writer } else { Source::Reader };
        for of in heads {
            let Some(timestamp) = gossip::timestamp(of.timestamp, now.wall) else { continue };
            if self.may_gossip(id, writer, key, &of.storage)
                && self.remote.hear(&approval, key, &of, timestamp, source)
            {
                self.tell_subscribers(key, &of.storage, Some(id));
            }
        }
    }

    /// Whether a connection's gossip about a storage counts. Others must have asked for it. Our own heads we know best, and
    /// a device that has the document open here speaks for itself; but a reader's claim to a storage id does not silence
    /// a writer.
    fn may_gossip(&self, id: ConnectionId, writer: bool, key: &DocKey, storage: &StorageId) -> bool {
        let subscribers = self.remote.subscriptions().subscribers(&key.namespace, storage);
        let has_open = |id: &ConnectionId| self.connections.get(id).is_some_and(|conn| conn.has_open(key));
        *storage != self.options.storage
            && subscribers.is_some_and(|ids| ids.len() > usize::from(ids.contains(&id)))
            && !self
                .roster
                .of_storage(&key.namespace, storage)
                .any(|(device, may_write)| (may_write || !writer) && has_open(&device))
    }

    /// What a connection can be told of a document: the storages that it subscribes to and whose heads are known, and how
    /// many were looked at.
    fn look(&mut self, id: ConnectionId, key: &DocKey, scope: Scope) -> (Vec<StorageId>, usize) {
        let Some(doc) = self.documents.get(key).filter(|doc| doc.is_synced()) else { return (vec![], 1) };
        let Some(head) = doc.head() else { return (vec![], 1) };
        let (modified, mut steps) = (head.modified, 1 + doc.peers().len());
        // Devices that are here now may have said what they have before anybody asked. One for each storage, a writer if
        // there is one: many connections may have joined with the same.
        let mut here: BTreeMap<&StorageId, (&ConnectionInfo, &Peer)> = BTreeMap::new();
        for peer in doc.peers().iter().filter(|peer| peer.connection() != id && has_durable_heads(doc, peer))
        {
            let Some(conn) = self.connections.get(&peer.connection()) else { continue };
            if let Some(storage) = &conn.info().storage
                && self.remote.subscriptions().wants(id, scope, storage)
                && (peer.is_writer() || !here.contains_key(storage))
            {
                here.insert(storage, (conn.info(), peer));
            }
        }
        for (info, peer) in here.into_values() {
            self.remote.learn_of(&self.roster, info, doc, peer, modified);
        }
        let wanted = |storage: &&StorageId| self.remote.subscriptions().wants(id, scope, storage);
        let known = self.remote.gossip().storages(key).inspect(|_| steps += 1);
        let ours = std::iter::once(&self.options.storage);
        let found = ours.chain(known).filter(wanted).cloned().collect();
        (found, steps)
    }

    /// The heads of a storage as they are told: our own are durable, others' as they were learnt.
    fn known_heads(&self, key: &DocKey, storage: &StorageId) -> Option<RemoteHeads> {
        let doc = self.documents.get(key).filter(|doc| doc.is_synced())?;
        let (heads, timestamp) = if *storage == self.options.storage {
            let head = doc.head().filter(|head| head.heads.len() <= MAX_HEADS)?;
            (head.heads.clone(), head.modified)
        } else {
            let known = self.remote.gossip().get(key, storage)?;
            (known.heads.to_vec(), known.timestamp)
        };
        Some(RemoteHeads { storage: storage.clone(), heads, timestamp: timestamp as f64 })
    }

    /// The next remote heads message for a connection: the latest heads, however often they changed since the last.
    pub(super) fn next_remote(&mut self, id: ConnectionId) -> Option<Out> {
        loop {
            let conn = self.connections.get(&id)?;
            let key = |document| DocKey { namespace: conn.info().namespace.clone(), document };
            match self.remote.subscriptions_mut().next(id, conn.documents())? {
                Step::Tell(document, storage) => {
                    if let Some(heads) = self.known_heads(&key(document), &storage) {
                        let body = Body::RemoteHeads { document, heads: vec![heads] };
                        return Some(Out::Message { sender: None, body });
                    }
                }
                Step::Look(document, scope) => {
                    let (found, steps) = self.look(id, &key(document), scope);
                    self.remote.subscriptions_mut().found(id, document, found, steps);
                }
            }
        }
    }
}
