//! Counts by a code of ours.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How often each code came. Codes stand in the program, so there is a bound to them; nothing of a request is one.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<&'static str, u64>>);

impl Tally {
    /// One more.
    pub fn count(&self, code: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    /// All that came at least once, by code.
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(code, count)| (*code, *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_counted_apart() {
        let tally = Tally::default();
        ["ok", "no", "ok"].into_iter().for_each(|code| tally.count(code));
        assert_eq!(tally.read(), [("no", 1), ("ok", 2)]);
    }
}
