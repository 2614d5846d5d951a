//! Presence: an ephemeral message goes to everyone else who has the document open.

use bytes::Bytes;

use super::Shard;
use crate::sync::connection::MAX_EPHEMERAL_BYTES;
use crate::sync::wire::Body;
use crate::types::{ConnectionId, DocKey};

impl Shard {
    pub(super) fn relay_ephemeral(
        &mut self,
        from: ConnectionId,
        key: &DocKey,
        sender: String,
        session: String,
        count: u64,
        data: Bytes,
    ) {
        let Some(conn) = self.connections.get(&from) else { return };
        let Some(doc) = self.documents.get(key).filter(|doc| doc.is_synced()) else { return };
        if data.len() > MAX_EPHEMERAL_BYTES {
            let most = MAX_EPHEMERAL_BYTES;
            return self.error(from, format!("an ephemeral message may have {most} bytes at most"));
        }
        if !self.roster.may_speak_as(from, conn.info(), &sender) {
            tracing::debug!(connection = from.0, "dropping presence in the name of another session's peer");
            return;
        }
        let approval = conn.info().approval();
        if !self.presence.is_new(&approval, &sender, &session, count) {
            return;
        }
        let others = doc.peers().iter().filter(|peer| peer.is_subscribed() && peer.connection() != from);
        let others: Vec<ConnectionId> =
            others.map(|peer| peer.connection()).filter(|id| self.connections.contains_key(id)).collect();
        if others.is_empty() {
            return;
        }
        let bytes = data.len();
        let held = bytes + sender.len() + session.len();
        // A copy, so that the whole frame is not kept in memory while the message waits.
        let data = Bytes::copy_from_slice(&data);
        let body = Body::Ephemeral { document: key.document, session, count, data };
        let message = self.presence.hold(&approval, sender, body, held, others.len());
        for to in others {
            let Some(conn) = self.connections.get_mut(&to) else { continue };
            for dropped in conn.push_ephemeral(message, bytes) {
                self.presence.release(dropped);
            }
            self.send_queue.make_ready(to);
        }
    }
}
