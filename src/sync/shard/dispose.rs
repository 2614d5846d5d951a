//! Deleting whole documents, restoring and purging them.
//!
//! Nothing is done in memory before it is durable, so a failed commit leaves nothing to undo. From then on the document is
//! one that is not synced (`Status::Deleted`): whoever brings or asks for it is told that it is unavailable.

use super::Shard;
use crate::store::Disposal;
use crate::sync::doc::Status;
use crate::sync::storage::Storage;
use crate::types::{DocKey, Now};

impl Shard {
    /// A disposal is durable. Peers with the document open get `doc-unavailable`. On restore they are disconnected: they
    /// believe that their changes arrived, and automerge sends them again only on a new connection.
    pub(super) fn disposed(&mut self, key: &DocKey, what: Disposal, storage: &dyn Storage, now: Now) {
        if what == Disposal::Restore && self.options.announce {
            // Have it in use, to be offered to all.
            let _ = self.open(key, storage, now);
        }
        let Some(doc) = self.documents.get(key) else { return };
        let head = storage.head(key).unwrap_or_else(|error| {
            tracing::error!(document = %key.document, %error, "cannot read a document's head");
            let mut head = doc.head().cloned();
            if let (Some(head), Disposal::Delete) = (&mut head, what) {
                head.deleted.get_or_insert(now.wall);
            }
            head
        });
        // By what was made of it here: a snapshot in the same commit has told its head already.
        let was = *doc.status() == Status::Deleted;
        let is = head.as_ref().is_some_and(|head| head.deleted.is_some());
        if was != is {
            self.start_over_with(key, |doc| doc.start_over_as(head));
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
}
