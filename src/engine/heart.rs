//! Proof of life: a thread answers pings, or it is stuck.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::Millis;

/// Milliseconds without an answer after which a thread counts as stuck. A commit on a slow card takes a second or two.
pub(super) const STUCK_MS: Millis = 20_000;

/// One thread's.
#[derive(Debug, Default)]
pub struct Heart {
    /// When the oldest unanswered ping was sent; 0 when all are answered.
    asked: AtomicU64,
}

impl Heart {
    /// True if a ping is to be sent now; false while one waits.
    pub fn ask(&self, now: Millis) -> bool {
        self.asked.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The thread has seen it.
    pub fn beat(&self) {
        self.asked.store(0, Ordering::Relaxed);
    }

    /// A ping waits.
    #[cfg(test)]
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) != 0
    }

    /// No ping waits for too long.
    pub fn is_alive(&self, now: Millis) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        asked == 0 || now.saturating_sub(asked) < STUCK_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_not_answer_is_stuck() {
        let heart = Heart::default();
        assert!(heart.is_alive(1000));
        assert!(heart.ask(1000));
        assert!(!heart.ask(2000), "one ping at a time");
        assert!(heart.is_alive(1000 + STUCK_MS - 1));
        assert!(!heart.is_alive(1000 + STUCK_MS), "asked at 1000 and not answered since");
        heart.beat();
        assert!(heart.is_alive(1000 + 2 * STUCK_MS));
    }
}
