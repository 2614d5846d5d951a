//! The right of one open socket to stay open.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::copies::{Seen, TokenTag};
use super::slot::Standing;
use super::{Access, LAST_USED_STEP_MS, Refused, Session, now};

/// Longest sleep before the wall clock is looked at again: it can be set while a timer runs.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Shortest such sleep, unless less is left.
const SHORTEST_NAP: Duration = Duration::from_millis(500);

/// A verified session in use by a socket. Each session tells its own sockets when to close, so a revocation costs
/// nothing for the others, however many there are.
pub struct Lease {
    pub(super) access: Arc<Access>,
    pub(super) session: Session,
    pub(super) token: TokenTag,
    end: watch::Receiver<Standing>,
    /// The socket's place among those that come from somewhere.
    pub(super) seen: Option<Seen>,
    /// When access was last told that the socket is open.
    noted: Instant,
}

impl Lease {
    pub(super) fn new(
        access: Arc<Access>,
        session: Session,
        token: TokenTag,
        end: watch::Receiver<Standing>,
    ) -> Self {
        Self { access, session, token, end, seen: None, noted: Instant::now() }
    }

    /// Whose socket this is and what it may do.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// When the token was given out, in seconds since the Unix epoch: it tells two tokens of a session apart.
    pub fn token_issued(&self) -> u64 {
        self.token.1
    }

    /// Returns when the socket must close, with the reason. May be dropped and called again.
    pub async fn ended(&mut self) -> Refused {
        loop {
            let left = |standing: Standing| Duration::from_millis(standing.expires.saturating_sub(now()));
            // A socket is use, so it moves the end of a device's session ahead: in time, and not only when it opens.
            let due = left(*self.end.borrow()) <= 2 * LOOK_AGAIN;
            if due || self.noted.elapsed() >= Duration::from_millis(LAST_USED_STEP_MS) {
                self.noted = Instant::now();
                self.access.still_connected(&self.session);
            }
            if let Some(seen) = &self.seen {
                self.access.look_for_copies(&self.session.id, seen);
            }
            let standing = *self.end.borrow_and_update();
            let left = left(standing);
            if let Some(refused) = standing.refused.or(left.is_zero().then_some(Refused::Expired)) {
                return refused;
            }
            // Near the end the clock is looked at more often, so that the end moves before a new socket would be refused.
            let nap = (left / 2).clamp(SHORTEST_NAP, LOOK_AGAIN).min(left);
            let nap = self.seen.as_ref().map_or(nap, |seen| nap.min(seen.together));
            tokio::select! {
                changed = self.end.changed() => {
                    // A session that goes says why first.
                    if changed.is_err() {
                        return self.end.borrow().refused.unwrap_or(Refused::Unverifiable);
                    }
                }
                () = tokio::time::sleep(nap) => {}
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(seen) = &self.seen {
            self.access.not_seen(&self.session.id, seen);
        }
        self.access.closed(&self.session);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("session", &self.session).finish_non_exhaustive()
    }
}
