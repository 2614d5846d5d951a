//! Remote heads: telling peers what other storages have of a document, ours among them, so that an app can show
//! "saved on your server". Follows automerge-repo's `RemoteHeadsSubscriptions`.
//!
//! Heads of a storage come from three places. Our own are those of the last commit. A connected device's are those it
//! syncs with, once all of them are durable here. Of any other storage there is only gossip, which nobody can prove: it
//! counts for a document that is stored and open, and only while somebody else in the namespace subscribes to the storage.

pub mod gossip;
mod subscriptions;

pub use gossip::{Gossip, Known, Source};
pub use subscriptions::{MAX_SUBSCRIPTIONS, Scope, Step, SubscribeError, Subscriptions};

use super::connection::ConnectionInfo;
use super::doc::{Doc, Peer};
use super::roster::Roster;
use super::wire::{MAX_HEADS, RemoteHeads};
use crate::types::{Approval, ConnectionId, DocKey, Millis};

/// Who wants to know of which storage, and what is known.
///
/// Invariant: of a storage other than ours, heads are learnt only while somebody in the namespace subscribes to it.
#[derive(Debug, Default)]
pub struct RemoteBook {
    /// The connections that want to know.
    subscriptions: Subscriptions,
    /// The heads that are known.
    gossip: Gossip,
}

impl RemoteBook {
    /// The connections that want to know.
    pub(super) fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// The connections that want to know, and what they are to be told.
    pub(super) fn subscriptions_mut(&mut self) -> &mut Subscriptions {
        &mut self.subscriptions
    }

    /// The heads that are known.
    pub(super) fn gossip(&self) -> &Gossip {
        &self.gossip
    }

    pub(super) fn leave(&mut self, id: ConnectionId) {
        self.subscriptions.leave(id);
    }

    pub(super) fn forget(&mut self, key: &DocKey) {
        self.gossip.forget(key);
    }

    /// Take in what a connection says of a storage other than its own and ours, if somebody in the namespace subscribes to it. True if
    /// it is news.
    pub(super) fn hear(
        &mut self,
        approval: &Approval,
        key: &DocKey,
        said: &RemoteHeads,
        timestamp: Millis,
        source: Source,
    ) -> bool {
        self.subscriptions.subscribers(&key.namespace, &said.storage).is_some()
            && self.gossip.learn(approval, key, &said.storage, &said.heads, timestamp, source)
    }

    /// Take in what a connection's own share in a document says of its storage, if somebody in the namespace subscribes to
    /// it and all its heads are durable here. True if it is news.
    pub(super) fn learn_of(
        &mut self,
        roster: &Roster,
        info: &ConnectionInfo,
        doc: &Doc,
        peer: &Peer,
        at: Millis,
    ) -> bool {
        let Some(storage) = &info.storage else { return false };
        if self.subscriptions.subscribers(&info.namespace, storage).is_none()
            || !has_durable_heads(doc, peer)
            || !roster.speaks_for_its_storage(info)
        {
            return false;
        }
        let approval = info.approval();
        self.gossip.learn(&approval, doc.key(), storage, peer.their_heads(), at, Source::Itself)
    }
}

/// The peer has said that its heads are those that are durable here, and they are few enough to be told.
pub(super) fn has_durable_heads(doc: &Doc, peer: &Peer) -> bool {
    let heads = doc.heads();
    doc.is_synced() && peer.is_heard() && heads.len() <= MAX_HEADS && peer.their_heads() == heads
}
