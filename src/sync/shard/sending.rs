//! The next message for a connection: control messages, then documents, then what is offered, then remote heads.

use super::Shard;
use crate::sync::connection::Out;
use crate::sync::doc::{FIXED_BYTES, Reply, question};
use crate::sync::storage::Storage;
use crate::types::{ConnectionId, DocKey, Now};

/// Room that there must be before a message about what another storage has is made, in bytes. Such a message names 64 heads at
/// most (`wire::MAX_HEADS`) and needs less; an outbox has a little more than this for itself.
const REMOTE_ROOM: usize = 15 * 1024;
/// Most documents that one call tries when their messages do not fit: each try may read the store.
const MAX_REFUSED: usize = 4;
/// Documents offered at a time while `sync.announce` is on.
const ANNOUNCE_PAGE: usize = 64;

impl Shard {
    /// Puts the document into the queue of every connection that is owed a message about it.
    pub(super) fn queue(&mut self, key: &DocKey) {
        let Some(doc) = self.documents.get_mut(key) else { return };
        doc.peers_mut().iter_mut().for_each(|peer| peer.advance());
        for peer in doc.peers().iter().filter(|peer| doc.has_news(peer)) {
            self.send_queue.push(peer.connection(), key.document);
        }
    }

    /// `at` becomes the document that the message is about.
    pub(super) fn make_next(
        &mut self,
        id: ConnectionId,
        at: &mut Option<DocKey>,
        storage: &dyn Storage,
        (now, room): (Now, usize),
    ) -> Option<Out> {
        let conn = self.connections.get_mut(&id)?;
        if let Some(out) = conn.next_control(&mut self.presence, room) {
            return Some(out);
        }
        if conn.is_ending() {
            return None;
        }
        let namespace = conn.info().namespace.clone();
        let mut refused = 0;
        loop {
            // If the message about one document does not fit, a few others are tried; then the connection waits for room.
            if refused > 0 && refused >= self.send_queue.len(id).min(MAX_REFUSED) {
                return Some(Out::NoRoom);
            }
            let Some(document) = self.send_queue.pop(id) else {
                if self.announce_page(id, storage, now) {
                    continue;
                }
                return if room < REMOTE_ROOM { Some(Out::NoRoom) } else { self.next_remote(id) };
            };
            let key = DocKey { namespace: namespace.clone(), document };
            *at = Some(key.clone());
            match self.message_about(id, &key, storage, room) {
                Reply::NoRoom => {
                    self.send_queue.put_back(id, document);
                    refused += 1;
                }
                Reply::Send(body, changes) => {
                    self.counters.changes_out += changes;
                    self.recount_peer(id, &key);
                    self.recount(&key);
                    self.queue(&key);
                    return Some(Out::Message { sender: None, body });
                }
                Reply::Extract { have, skip } => self.extract(id, &key, have, skip),
                Reply::Nothing => {}
            }
        }
    }

    /// The message about one document.
    fn message_about(&mut self, id: ConnectionId, key: &DocKey, storage: &dyn Storage, room: usize) -> Reply {
        let Some(conn) = self.connections.get_mut(&id) else { return Reply::Nothing };
        let Some(doc) = self.documents.touch(key) else { return Reply::Nothing };
        if !doc.is_stored() && self.requests.has_question(id, key) {
            if room < FIXED_BYTES {
                return Reply::NoRoom;
            }
            self.requests.take_question(id, key);
            return Reply::Send(question(key.document, doc.opener.is_singly()), 0);
        }
        let may_extract = !conn.extracts();
        match doc.reply(id, storage, may_extract, room) {
            Ok(Reply::Nothing) => {
                if !may_extract && doc.peer(id).is_some_and(|peer| peer.waits_for_opener()) {
                    conn.wait_for_extraction(key.clone());
                }
                Reply::Nothing
            }
            Ok(reply) => reply,
            Err(fault) => {
                self.faulty(key, None, &fault);
                Reply::Nothing
            }
        }
    }

    /// Offers a document in use to a connection.
    pub(super) fn offer(&mut self, id: ConnectionId, key: &DocKey) {
        let may_be_offered =
            self.connections.get(&id).is_some_and(|conn| !conn.has_open(key) && !conn.is_ending());
        if !may_be_offered || !self.share(id, key) {
            return;
        }
        if let Some(peer) = self.documents.get_mut(key).and_then(|doc| doc.peer(id)) {
            peer.offer();
        }
        self.queue(key);
    }

    /// Offers the next page of the namespace's documents. False when there is nothing to offer.
    fn announce_page(&mut self, id: ConnectionId, storage: &dyn Storage, now: Now) -> bool {
        let Some(conn) = self.connections.get(&id) else { return false };
        let Some(after) = conn.announced() else { return false };
        let namespace = conn.info().namespace.clone();
        let page = match storage.documents(&namespace, after, ANNOUNCE_PAGE) {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "cannot list documents to offer");
                Vec::new()
            }
        };
        if let Some(conn) = self.connections.get_mut(&id) {
            conn.set_announced(page.last().map(|(last, _)| *last));
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
