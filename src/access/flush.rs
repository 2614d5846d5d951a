//! Writes, now and then, what is not worth a commit of its own: who asked, who was refused, when a session was used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::State;
use super::{Access, AccessError};

/// At most one such commit in this time, so that a flood of refusals costs none. The first one goes at once.
pub const FLUSH_EVERY: Duration = Duration::from_secs(10);

impl Access {
    /// Has what waits written soon. Must be called within a tokio runtime to have an effect.
    pub(super) fn schedule_flush(self: &Arc<Self>, state: &mut State) {
        let dirty = state.pending.is_dirty() || state.audit.is_dirty() || state.sessions.is_dirty();
        if !dirty || state.flush.scheduled {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        state.flush.scheduled = true;
        let wait = state.flush.last.map_or(Duration::ZERO, |last| FLUSH_EVERY.saturating_sub(last.elapsed()));
        // Weak: what waits must not keep the store open.
        let this = Arc::downgrade(self);
        runtime.spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(this) = this.upgrade()
                && let Err(error) = this.flush().await
            {
                tracing::debug!(%error, "who asked and who was refused is written later");
            }
        });
    }

    /// Writes what waits; call it before the engine stops.
    ///
    /// # Errors
    /// The store could not write; it is tried again later.
    pub async fn flush(self: &Arc<Self>) -> Result<(), AccessError> {
        let (apps, places, used, done) = {
            let mut state = self.state();
            state.flush.scheduled = false;
            state.flush.last = Some(Instant::now());
            let (mut ops, apps) = state.pending.flush()?;
            let (more, places) = state.audit.flush()?;
            ops.extend(more);
            let (more, used) = state.sessions.flush()?;
            ops.extend(more);
            if ops.is_empty() {
                return Ok(());
            }
            (apps, places, used, self.commit.make_durable(ops))
        };
        done.await.map_err(|source| {
            let mut state = self.state();
            state.pending.unflushed(apps);
            state.audit.unflushed(places);
            state.sessions.unflushed(used);
            self.schedule_flush(&mut state);
            AccessError::Commit { what: "writing who asked", source }
        })
    }
}
