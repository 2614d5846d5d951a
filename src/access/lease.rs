//! The right of one open socket to stay open.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Access, LAST_USED_STEP_MS, Refused, Session, now};

/// Longest sleep before the wall clock is looked at again: it can be set while a timer runs.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A verified session in use by a socket. Each session tells its own sockets when to close, so a revocation costs
/// nothing for the others, however many there are.
pub struct Lease {
    access: Arc<Access>,
    session: Session,
    end: watch::Receiver<Option<Refused>>,
    /// When access was last told that the socket is open.
    noted: Instant,
}

impl Lease {
    pub(super) fn new(access: Arc<Access>, session: Session, end: watch::Receiver<Option<Refused>>) -> Self {
        Self { access, session, end, noted: Instant::now() }
    }

    /// Whose socket this is and what it may do.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Returns when the socket must close, with the reason. May be dropped and called again.
    pub async fn ended(&mut self) -> Refused {
        loop {
            if let Some(refused) = *self.end.borrow_and_update() {
                return refused;
            }
            if self.noted.elapsed() >= Duration::from_millis(LAST_USED_STEP_MS) {
                self.noted = Instant::now();
                self.access.still_connected(&self.session);
            }
            let left = Duration::from_millis(self.session.expires.saturating_sub(now()));
            if left.is_zero() {
                return Refused::Expired;
            }
            tokio::select! {
                changed = self.end.changed() => {
                    // A session that goes says why first.
                    if changed.is_err() {
                        return self.end.borrow().unwrap_or(Refused::Unverifiable);
                    }
                }
                () = tokio::time::sleep(left.min(LOOK_AGAIN)) => {}
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.access.closed(&self.session);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("session", &self.session).finish_non_exhaustive()
    }
}
