//! How far a long command is: one line on standard error that changes, if that is a terminal.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

use super::text::count;

/// A count changes no more often.
const PACE: Duration = Duration::from_millis(200);

/// The line.
pub(super) struct Progress(Option<Shown>);

struct Shown {
    at: Instant,
    percent: u64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self(stderr().is_terminal().then(|| Shown { at: Instant::now(), percent: 0 }))
    }

    /// So many documents are done, of nobody knows how many.
    pub(super) fn documents(&mut self, done: u64) {
        if let Some(shown) = self.0.as_mut().filter(|shown| shown.at.elapsed() >= PACE) {
            shown.at = Instant::now();
            let _ = write!(stderr(), "\r\x1b[K{} so far", count(done, "document"));
        }
    }

    /// So much of about so much is done.
    pub(super) fn part(&mut self, done: u64, of: u64) {
        let percent = (done.saturating_mul(100) / of.max(1)).min(100);
        if let Some(shown) = self.0.as_mut().filter(|shown| percent > shown.percent) {
            shown.percent = percent;
            let _ = write!(stderr(), "\r{percent} %\r");
        }
    }

    /// Takes a count away, so that something else can be said.
    pub(super) fn clear(&self) {
        if self.0.is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
