//! Proof of life: a thread answers pings, or it is stuck.

use std::sync::Mutex;

use super::lock;
use crate::types::{Millis, Steady};

/// Milliseconds without an answer after which a thread counts as stuck. A commit on a slow card takes a second or two.
pub(super) const STUCK_MS: Millis = 20_000;

/// One thread's.
#[derive(Debug, Default)]
pub struct Heart {
    /// When the oldest unanswered ping was sent; `None` when all are answered.
    asked: Mutex<Option<Steady>>,
}

impl Heart {
    /// True if a ping is to be sent now; false while one waits.
    pub fn ask(&self, now: Steady) -> bool {
        let mut asked = lock(&self.asked);
        let is_first = asked.is_none();
        asked.get_or_insert(now);
        is_first
    }

    /// The thread has seen it.
    pub fn beat(&self) {
        *lock(&self.asked) = None;
    }

    /// A ping waits.
    #[cfg(test)]
    pub fn is_asked(&self) -> bool {
        lock(&self.asked).is_some()
    }

    /// No ping waits for too long.
    pub fn is_alive(&self, now: Steady) -> bool {
        lock(&self.asked).is_none_or(|asked| now.since(asked) < STUCK_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Now;

    fn at(ms: Millis) -> Steady {
        Now::at(ms).steady
    }

    #[test]
    fn a_thread_that_does_not_answer_is_stuck() {
        let heart = Heart::default();
        assert!(heart.is_alive(at(1000)));
        assert!(heart.ask(at(1000)));
        assert!(!heart.ask(at(2000)), "one ping at a time");
        assert!(heart.is_alive(at(1000 + STUCK_MS - 1)));
        assert!(!heart.is_alive(at(1000 + STUCK_MS)), "asked at 1000 and not answered since");
        heart.beat();
        assert!(heart.is_alive(at(1000 + 2 * STUCK_MS)));
    }
}
