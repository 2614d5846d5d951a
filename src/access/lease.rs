//! The right of one open socket to stay open.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Access, Refused, Session, now};

/// Longest sleep before the wall clock is looked at again: it can be set while a timer runs.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A verified session in use by a socket.
pub struct Lease {
    access: Arc<Access>,
    session: Session,
    changes: watch::Receiver<u64>,
}

impl Lease {
    pub(super) fn new(access: Arc<Access>, session: Session, changes: watch::Receiver<u64>) -> Self {
        Self { access, session, changes }
    }

    /// Whose socket this is and what it may do.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Returns when the socket must close, with the reason. May be dropped and called again.
    pub async fn ended(&mut self) -> Refused {
        loop {
            let left = Duration::from_millis(self.session.expires.saturating_sub(now()));
            if left.is_zero() {
                return Refused::Expired;
            }
            tokio::select! {
                changed = self.changes.changed() => {
                    // The sender lives in `access`, which we hold.
                    if changed.is_err() {
                        return Refused::Unverifiable;
                    }
                    if let Err(refused) = self.still_holds() {
                        return refused;
                    }
                }
                () = tokio::time::sleep(left.min(LOOK_AGAIN)) => {}
            }
        }
    }

    fn still_holds(&self) -> Result<(), Refused> {
        let row = self.access.row(&self.session.id)?.ok_or(Refused::Revoked)?;
        let unused = |session: &Session| Session { last_used: None, ..session.clone() };
        if unused(&row) == unused(&self.session) { Ok(()) } else { Err(Refused::Revoked) }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("session", &self.session).finish_non_exhaustive()
    }
}
