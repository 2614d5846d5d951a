//! Deleting whole documents, restoring and purging them.
//!
//! Nothing is done in memory before it is durable, so a failed commit leaves nothing to undo. From then on the document is
//! one that is not synced (`Doc::broken`): whoever brings or asks for it is told that it is unavailable.

use super::Shard;
use crate::store::{Disposal, StoreError};
use crate::sync::doc::DELETED;
use crate::sync::storage::Storage;
use crate::types::{ConnectionId, DocKey, Millis};

impl Shard {
    /// Have a document deleted, restored or purged by the next commit. A document that the store does not have, or that
    /// is not in the state for it, stays as it is.
    /// # Errors
    /// The store cannot be read.
    pub fn dispose(&mut self, key: &DocKey, what: Disposal, storage: &dyn Storage) -> Result<(), StoreError> {
        if storage.head(key)?.is_some() {
            self.disposals.push((key.clone(), what));
        }
        Ok(())
    }

    /// It is durable. Who has the document open hears of its end. When it comes back they are to start over, for what they
    /// sent meanwhile they take for received: only a new connection makes automerge send it again.
    pub(super) fn disposed(&mut self, key: &DocKey, what: Disposal, storage: &dyn Storage, now: Millis) {
        if what == Disposal::Restore && self.options.announce {
            // Have it in use, to be offered to all.
            let _ = self.open(key, storage, now);
        }
        let Some(doc) = self.docs.get_mut(key) else { return };
        let head = storage.head(key).unwrap_or_else(|error| {
            tracing::error!(document = %key.document, %error, "cannot read a document's head");
            let mut head = doc.head.clone();
            if let (Some(head), Disposal::Delete) = (&mut head, what) {
                head.deleted.get_or_insert(now);
            }
            head
        });
        // By what was made of it here: a snapshot in the same commit has told its head already.
        let was = doc.broken.as_deref() == Some(DELETED);
        let is = head.as_ref().is_some_and(|head| head.deleted.is_some());
        if was != is {
            doc.head = head;
            doc.broken = None;
            self.throw_away(key);
            if !is {
                self.send_away(key, 1012, "a document was restored, connect again");
            }
        }
        if what == Disposal::Restore && !is {
            self.arrived(key);
        }
        self.ask_or_tell(key, now);
        self.forget_if_idle(key);
    }

    pub(super) fn client(&self, connection: ConnectionId) -> Option<std::sync::Arc<str>> {
        Some(self.connections.get(&connection)?.info.client.clone())
    }
}
