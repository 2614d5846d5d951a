//! Purges deleted documents when their time in the bin is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::engine::Engine;
use crate::store::{CommitError, Store, StoreError};
use crate::types::{Millis, now};

/// How often the bin is looked through, the first time so long after the start: a machine whose clock lost the time has set it
/// right by then, if it ever does.
const EVERY: Duration = Duration::from_secs(3600);
/// By so much, in milliseconds, the machine's clock may go otherwise than the one that nobody sets: 5 minutes.
const SLACK_MS: Millis = 300_000;

/// Why purging ended; the rest is tried the next time.
#[derive(Debug, thiserror::Error)]
enum PurgeError {
    /// Thirty days cannot be told by this clock.
    #[error("the machine's clock was set, or is behind what is stored")]
    Clock,
    /// The store could not be read or written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

pub(super) async fn empty(engine: Engine, store: Arc<Store>) {
    let mut seen = (now(), Instant::now());
    loop {
        sleep(EVERY).await;
        let read = store.clone();
        let Ok(newest) = tokio::task::spawn_blocking(move || newest(&read)).await else { continue };
        let (before, since) = std::mem::replace(&mut seen, (now(), Instant::now()));
        let elapsed = seen.1 - since;
        let emptied = match newest {
            Ok(newest) if is_right(seen.0, before, elapsed, newest) => {
                engine.empty_bin(&store, seen.0).await.map_err(PurgeError::from)
            }
            Ok(_) => Err(PurgeError::Clock),
            Err(error) => Err(CommitError::from(error).into()),
        };
        match emptied {
            Ok(0) => {}
            Ok(documents) => tracing::info!(documents, "documents deleted 30 days ago are gone for good"),
            Err(error) => tracing::warn!(%error, "what was deleted 30 days ago is purged later"),
        }
    }
}

/// When something was last stored.
fn newest(store: &Store) -> Result<Millis, StoreError> {
    Ok(store.totals()?.into_iter().map(|(_, totals)| totals.modified).max().unwrap_or(0))
}

/// The clock can be purged by: since the last look, at `before`, it has gone as the one that nobody sets, and it is not behind
/// what is stored.
fn is_right(now: Millis, before: Millis, elapsed: Duration, newest: Millis) -> bool {
    let expected = before.saturating_add(Millis::try_from(elapsed.as_millis()).unwrap_or(Millis::MAX));
    now.abs_diff(expected) <= SLACK_MS && now.saturating_add(SLACK_MS) >= newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::BIN_LIFE_MS;

    #[test]
    fn nothing_is_purged_by_a_clock_that_was_set() {
        const START: Millis = 1_800_000_000_000;
        let hour = EVERY.as_millis() as Millis;
        let then = START + hour;
        let right = |now, newest| is_right(now, START, EVERY, newest);
        assert!(right(then, 0) && right(then, START) && right(then, then));
        // Small corrections are no matter, in either direction.
        assert!(right(then + SLACK_MS, 0) && !right(then + SLACK_MS + 1, 0));
        assert!(right(then - SLACK_MS, 0) && !right(then - SLACK_MS - 1, 0));
        // Started far ahead and set right meanwhile; started far behind and set right; an hour later both are.
        for wrong in [START + 2 * BIN_LIFE_MS, 0] {
            assert!(!is_right(then, wrong, EVERY, 0));
            assert!(is_right(then + hour, then, EVERY, 0));
        }
        // It lost the time, and nobody set it.
        assert!(!right(then, then + SLACK_MS + 1));
        // A machine that slept.
        assert!(!is_right(START + 9 * hour, START, EVERY, 0));
    }
}
