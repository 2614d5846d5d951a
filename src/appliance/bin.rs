//! Purges deleted documents when their time in the bin is over.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::store::Store;
use crate::types::now;

/// How often the bin is looked through, beginning with the start.
const EVERY: Duration = Duration::from_secs(3600);

pub(super) async fn empty(engine: Engine, store: Arc<Store>) {
    let mut clock = tokio::time::interval(EVERY);
    loop {
        clock.tick().await;
        match engine.empty_bin(&store, now()).await {
            Ok(0) => {}
            Ok(documents) => tracing::info!(documents, "documents deleted 30 days ago are gone for good"),
            Err(error) => tracing::warn!(error, "what was deleted 30 days ago is purged later"),
        }
    }
}
