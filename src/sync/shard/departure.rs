//! What is kept of a connection that has left: its heads as gossip while the document is in use, and its sync state in
//! the store, so that a device with a storage is placed again without Bloom filters.
//!
//! Sync states are rows that a client causes without writing a change, so they are bounded: none for read-only sessions,
//! a size for each row, a number for each departure, and in the store a number for each document
//! ([`crate::store::MAX_SYNC_STATES`]).

use super::Shard;
use crate::store::Op;
use crate::sync::connection::ConnectionInfo;
use crate::sync::peer::Peer;
use crate::types::{DocKey, Millis};

/// Most heads in one sync state. A peer with more is placed by its heads and Bloom filters again.
pub const MAX_SHARED_HEADS: usize = 64;
/// Most sync states written for one departing connection. Each is a row of up to 2 kB in the next commit.
pub const MAX_STATES: usize = 256;

impl Shard {
    /// The connection that joined as `info` had this share in the document. `states` counts the sync states written for
    /// its departure so far.
    pub(super) fn remember_departed(
        &mut self,
        info: &ConnectionInfo,
        key: &DocKey,
        peer: Peer,
        states: &mut usize,
        now: Millis,
    ) {
        let Some(storage) = &info.storage else { return };
        self.departs(info, key, &peer, now);
        let stored = self.docs.get(key).is_some_and(|doc| doc.head.is_some());
        let heads = peer.their_heads.len();
        if info.read_only
            || !stored
            || !peer.moved
            || !peer.need.is_empty()
            || !(1..=MAX_SHARED_HEADS).contains(&heads)
            || *states >= MAX_STATES
        {
            return;
        }
        *states += 1;
        let (key, storage) = (key.clone(), storage.clone());
        self.ops.push(Op::SyncState { key, storage, shared_heads: peer.their_heads });
    }
}
