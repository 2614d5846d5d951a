//! How often somebody may do something (the generic cell rate algorithm): one number a key, no timers.

use std::collections::HashMap;
use std::hash::Hash;

/// Most keys that are counted at once, some 3 MB; beyond it newcomers are refused until others have had their rest.
pub const MAX_KEYS: usize = 65_536;

/// Counts by key.
pub struct Limiter<K> {
    /// Microseconds between two, at the long-term rate.
    interval: u64,
    /// Microseconds that may be drawn in advance: what makes a burst.
    burst: u64,
    /// When each key will have had its rest.
    rested: HashMap<K, u64>,
}

impl<K: Eq + Hash> Limiter<K> {
    /// `count` at once, and then `count` in each `period_us` microseconds. Neither is 0.
    pub fn new(count: u64, period_us: u64) -> Self {
        let interval = (period_us / count.max(1)).max(1);
        Self { interval, burst: interval.saturating_mul(count.max(1) - 1), rested: HashMap::new() }
    }

    /// Counts one, at a time in microseconds.
    ///
    /// # Errors
    /// It is too often: after so many microseconds it is not.
    pub fn take(&mut self, key: K, now: u64) -> Result<(), u64> {
        if self.rested.len() >= MAX_KEYS && !self.rested.contains_key(&key) {
            self.rested.retain(|_, rested| *rested > now);
            if self.rested.len() >= MAX_KEYS {
                return Err(self.interval);
            }
        }
        let rested = self.rested.entry(key).or_insert(0);
        let from = (*rested).max(now);
        if from - now > self.burst {
            return Err(from - now - self.burst);
        }
        *rested = from.saturating_add(self.interval);
        Ok(())
    }

    /// Takes back what was counted: it was well spent.
    pub fn give_back(&mut self, key: &K) {
        if let Some(rested) = self.rested.get_mut(key) {
            *rested = rested.saturating_sub(self.interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut limiter = Limiter::new(3, 60 * SECOND);
        for _ in 0..3 {
            assert_eq!(limiter.take("a", 0), Ok(()));
        }
        assert_eq!(limiter.take("a", 0), Err(20 * SECOND));
        assert_eq!(limiter.take("b", 0), Ok(()), "keys do not count for each other");
        assert_eq!(limiter.take("a", 20 * SECOND), Ok(()));
        assert_eq!(limiter.take("a", 21 * SECOND), Err(19 * SECOND));
        limiter.give_back(&"a");
        assert_eq!(limiter.take("a", 21 * SECOND), Ok(()));
        for _ in 0..3 {
            assert_eq!(limiter.take("a", 1000 * SECOND), Ok(()), "a long rest saves up one burst");
        }
        assert!(limiter.take("a", 1000 * SECOND).is_err());
    }

    #[test]
    fn keys_are_bounded_and_rested_ones_make_room() {
        let mut limiter = Limiter::new(1, SECOND);
        for key in 0..MAX_KEYS {
            assert_eq!(limiter.take(key, 0), Ok(()));
        }
        assert!(limiter.take(MAX_KEYS, 0).is_err());
        assert_eq!(limiter.take(MAX_KEYS, SECOND), Ok(()));
        assert_eq!(limiter.rested.len(), 1);
    }
}
