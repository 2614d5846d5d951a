//! Remote heads: telling peers what other storages have of a document, ours among them, so that an app can show
//! "saved on your server". Follows automerge-repo's `RemoteHeadsSubscriptions`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::conn::Out;
use super::doc::Doc;
use super::hub::Hub;
use super::peer::Peer;
use super::wire::{Body, RemoteHeads};
use crate::types::{ChangeHash, ConnId, DocKey, Millis, StorageId};

/// Most storages of one document whose heads are remembered.
const MAX_STORAGES: usize = 256;
/// Most storages one connection may subscribe to.
pub const MAX_SUBSCRIPTIONS: usize = 1024;

/// Who wants to know of which storage, and what is known.
#[derive(Debug, Default)]
pub struct RemoteBook {
    subscribers: BTreeMap<StorageId, BTreeSet<ConnId>>,
    by_conn: HashMap<ConnId, usize>,
    known: HashMap<DocKey, HashMap<StorageId, (Vec<String>, f64)>>,
}

/// Heads as 2.x clients write them in URLs and in this message: base58check of the 32 bytes.
fn text(heads: &[ChangeHash]) -> Vec<String> {
    heads.iter().map(|head| bs58::encode(head.0).with_check().into_string()).collect()
}

impl RemoteBook {
    fn has_subscribers(&self, storage: &StorageId) -> bool {
        self.subscribers.contains_key(storage)
    }

    /// Remember heads; false if newer ones are known.
    fn learn(&mut self, key: &DocKey, storage: &StorageId, heads: Vec<String>, timestamp: f64) -> bool {
        let known = self.known.entry(key.clone()).or_default();
        let room = known.len() < MAX_STORAGES;
        match known.get_mut(storage) {
            Some(last) if last.1 >= timestamp || last.0 == heads => false,
            Some(last) => {
                *last = (heads, timestamp);
                true
            }
            None if !room => false,
            None => {
                known.insert(storage.clone(), (heads, timestamp));
                true
            }
        }
    }

    pub(super) fn leave(&mut self, id: ConnId) {
        if self.by_conn.remove(&id).is_some() {
            self.subscribers.retain(|_, conns| {
                conns.remove(&id);
                !conns.is_empty()
            });
        }
    }

    pub(super) fn forget(&mut self, key: &DocKey) {
        self.known.remove(key);
    }

    /// A peer with a storage leaves: its heads stay known while the document is in use.
    pub(super) fn last_seen(&mut self, doc: &Doc, peer: &Peer, storage: &StorageId, now: Millis) {
        if self.has_subscribers(storage) && peer.their_heads == doc.heads() {
            self.learn(&doc.key, storage, text(&peer.their_heads), now as f64);
        }
    }
}

impl Hub {
    pub(super) fn subscribe_remote(&mut self, id: ConnId, add: Vec<StorageId>, remove: &[StorageId]) {
        let Some(conn) = self.conns.get(&id) else { return };
        let docs: Vec<DocKey> = conn.docs.iter().cloned().collect();
        for storage in remove {
            if let Some(conns) = self.remote.subscribers.get_mut(storage)
                && conns.remove(&id)
            {
                *self.remote.by_conn.entry(id).or_insert(1) -= 1;
                if conns.is_empty() {
                    self.remote.subscribers.remove(storage);
                }
            }
        }
        for storage in add {
            let count = self.remote.by_conn.entry(id).or_default();
            if *count >= MAX_SUBSCRIPTIONS {
                return self.error(id, format!("more than {MAX_SUBSCRIPTIONS} remote heads subscriptions"));
            }
            if !self.remote.subscribers.entry(storage.clone()).or_default().insert(id) {
                continue;
            }
            *count += 1;
            for key in &docs {
                if self.known_heads(key, &storage).is_some() {
                    self.tell(id, key, &storage);
                }
            }
        }
    }

    /// What is known of a storage's heads: ours, a connected peer's if durable here, or what was gossiped.
    fn known_heads(&self, key: &DocKey, storage: &StorageId) -> Option<RemoteHeads> {
        let doc = self.docs.get(key).filter(|doc| doc.broken.is_none())?;
        let heads =
            |heads: Vec<String>, timestamp| RemoteHeads { storage: storage.clone(), heads, timestamp };
        if *storage == self.options.storage {
            let head = doc.head.as_ref()?;
            return Some(heads(text(&head.heads), head.modified as f64));
        }
        if let Some((known, timestamp)) = self.remote.known.get(key).and_then(|known| known.get(storage)) {
            return Some(heads(known.clone(), *timestamp));
        }
        // A peer that is here, and has what is durable here.
        let is_theirs = |peer: &&Peer| {
            let conn = self.conns.get(&peer.conn);
            peer.heard
                && peer.their_heads == doc.heads()
                && conn.is_some_and(|conn| conn.joining.storage.as_ref() == Some(storage))
        };
        let peer = doc.peers.iter().find(is_theirs)?;
        Some(heads(text(&peer.their_heads), doc.head.as_ref()?.modified as f64))
    }

    fn tell(&mut self, id: ConnId, key: &DocKey, storage: &StorageId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.remote_due.insert((key.clone(), storage.clone()));
            self.make_ready(id);
        }
    }

    /// Tell all subscribers with a share in the document, except `but`.
    fn tell_subscribers(&mut self, key: &DocKey, storage: &StorageId, but: Option<ConnId>) {
        let Some(conns) = self.remote.subscribers.get(storage) else { return };
        let there = |id: &ConnId| self.conns.get(id).is_some_and(|conn| conn.docs.contains(key));
        let to: Vec<ConnId> = conns.iter().filter(|id| Some(**id) != but && there(id)).copied().collect();
        for id in to {
            self.tell(id, key, storage);
        }
    }

    /// A peer has said what heads it has; others hear of it once all of them are durable here.
    pub(super) fn heads_seen(&mut self, id: ConnId, key: &DocKey, now: Millis) {
        let Some(conn) = self.conns.get(&id) else { return };
        let newly_open = self
            .docs
            .get_mut(key)
            .and_then(|doc| doc.peer(id))
            .is_some_and(|peer| peer.heard && !std::mem::replace(&mut peer.told_remote, true));
        let storage = conn.joining.storage.clone();
        if newly_open && self.remote.by_conn.contains_key(&id) {
            let subscribed = self.remote.subscribers.iter().filter(|(_, conns)| conns.contains(&id));
            for storage in subscribed.map(|(storage, _)| storage.clone()).collect::<Vec<_>>() {
                if self.known_heads(key, &storage).is_some() {
                    self.tell(id, key, &storage);
                }
            }
        }
        let Some(storage) = storage.filter(|storage| self.remote.has_subscribers(storage)) else { return };
        let Some(doc) = self.docs.get_mut(key) else { return };
        if doc.heads().is_empty() {
            return;
        }
        let ours = doc.heads().to_vec();
        let Some(peer) = doc.peer(id).filter(|peer| peer.their_heads == ours) else { return };
        let heads = text(&peer.their_heads);
        if self.remote.learn(key, &storage, heads, now as f64) {
            self.tell_subscribers(key, &storage, Some(id));
        }
    }

    /// New changes are durable: our own heads, and those of peers that have the same.
    pub(super) fn heads_durable(&mut self, key: &DocKey, now: Millis) {
        if self.remote.subscribers.is_empty() {
            return;
        }
        let ours = self.options.storage.clone();
        self.tell_subscribers(key, &ours, None);
        let Some(doc) = self.docs.get(key) else { return };
        let same: Vec<ConnId> = doc
            .peers
            .iter()
            .filter(|peer| peer.heard && peer.their_heads == doc.heads())
            .map(|peer| peer.conn)
            .collect();
        for id in same {
            self.heads_seen(id, key, now);
        }
    }

    /// A peer passes on what it heard of other storages.
    pub(super) fn gossip(&mut self, id: ConnId, key: &DocKey, heads: Vec<RemoteHeads>) {
        if self.docs.get(key).is_none_or(|doc| doc.broken.is_some()) {
            return;
        }
        for of in heads {
            // About our own storage nobody knows better than we do.
            if of.storage != self.options.storage
                && self.remote.learn(key, &of.storage, of.heads, of.timestamp)
            {
                self.tell_subscribers(key, &of.storage, Some(id));
            }
        }
    }

    /// The next remote heads message for a connection: the latest, however often they changed since the last.
    pub(super) fn next_remote(&mut self, id: ConnId) -> Option<Out> {
        loop {
            let (key, storage) = self.conns.get_mut(&id)?.remote_due.pop_first()?;
            if let Some(heads) = self.known_heads(&key, &storage) {
                let body = Body::RemoteHeads { document: key.document, heads: vec![heads] };
                return Some(Out::Message { sender: None, body });
            }
        }
    }
}
