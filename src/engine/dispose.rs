//! Deleting, restoring and purging documents: the document's own shard does it, so that it is in order with all that comes.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Engine;
use super::shard::Input;
use crate::store::{BIN_LIFE_MS, CommitError, Disposal, Store, StoreError};
use crate::sync::shard::shard_of;
use crate::types::{DocKey, Millis};

/// Documents in the bin that are looked at in one step.
pub const PURGE_PAGE: usize = 1000;

impl Engine {
    /// Deletes a document, restores or purges it; durable when this returns. One that is not stored, or not in the state
    /// for it, stays as it is.
    /// # Errors
    /// Why it is not durable.
    pub async fn dispose(&self, key: &DocKey, what: Disposal) -> Result<(), CommitError> {
        let shards = &self.core.shards;
        let (sender, receiver) = oneshot::channel();
        // If the shard has ended, the sender is dropped and the receiver reports `Stopped`.
        let _ = shards[shard_of(&key.document, shards.len())].send(Input::Dispose(key.clone(), what, sender));
        receiver.await.unwrap_or(Err(CommitError::Stopped))?;
        if !matches!(what, Disposal::Restore) {
            // The owner need not hear of a document that is gone. If this is lost, the warning comes back with a restart.
            let _ = self.core.record.retry(key).await;
        }
        Ok(())
    }

    /// Purges what has been in the bin for [`BIN_LIFE_MS`]; how many documents. A document is a commit of its own, and
    /// others get their turn in between. `store` is the engine's own.
    /// # Errors
    /// What could not be read or stored; the rest goes the next time.
    pub async fn empty_bin(&self, store: &Arc<Store>, now: Millis) -> Result<u64, CommitError> {
        let deleted_by = now.saturating_sub(BIN_LIFE_MS);
        let mut purged = 0;
        for namespace in store.namespaces()? {
            let mut after = None;
            loop {
                let (store, of) = (store.clone(), namespace.clone());
                let page = tokio::task::spawn_blocking(move || -> Result<_, StoreError> {
                    store.deleted(&of, after, PURGE_PAGE)
                });
                let page = page.await.map_err(|_| CommitError::Stopped)??;
                let Some((last, _)) = page.last() else { break };
                after = Some(*last);
                for (document, _) in
                    page.iter().filter(|(_, head)| head.deleted.is_some_and(|deleted| deleted <= deleted_by))
                {
                    let key = DocKey { namespace: namespace.clone(), document: *document };
                    self.dispose(&key, Disposal::Purge { deleted_by }).await?;
                    purged += 1;
                }
            }
        }
        Ok(purged)
    }
}
