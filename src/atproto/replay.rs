//! Which proofs and tokens were used already, for as long as they could be used again.

use std::collections::HashMap;

use aws_lc_rs::digest::{Context, SHA256};

use super::jwt::Seconds;

/// Most ids remembered at once, some 6 MB: what comes in 100 s at 2,000 a second, which is as fast as they can be verified.
pub const MAX_REMEMBERED: usize = 200_000;
/// From this many on, expired ids are looked for.
const FIRST_SWEEP: usize = 1_024;
/// Bytes of SHA-256 kept of each: finding two with the same would take 2^64 tries, and gain nothing.
const ID_BYTES: usize = 16;

/// Why an id was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It was used.
    #[error("this proof or token was used before: make a new one for each request")]
    Seen,
    /// There is no room; to forget another one instead would let it be used again.
    #[error("too many proofs and tokens were used in the last minutes: try again in a minute")]
    Full,
}

/// A bounded set of ids, each forgotten when the proof or token that had it is over.
pub struct Replay {
    until: HashMap<[u8; ID_BYTES], Seconds>,
    capacity: usize,
    /// Look for expired ones when there are this many.
    sweep_at: usize,
    /// None expires earlier.
    earliest: Seconds,
}

impl Default for Replay {
    fn default() -> Self {
        Self::with_capacity(MAX_REMEMBERED)
    }
}

impl Replay {
    /// Room for `capacity` ids, taken as they come.
    pub fn with_capacity(capacity: usize) -> Self {
        let sweep_at = FIRST_SWEEP.min(capacity);
        Self { until: HashMap::new(), capacity, sweep_at, earliest: Seconds::MAX }
    }

    /// Takes note of an id, for the first and only time. `holder` is whose id it is: a proof's key, a token's issuer.
    /// `until` is the first second in which the time alone refuses it.
    ///
    /// # Errors
    /// [`ReplayError::Seen`], [`ReplayError::Full`].
    pub fn remember(
        &mut self,
        holder: &str,
        jti: &str,
        until: Seconds,
        now: Seconds,
    ) -> Result<(), ReplayError> {
        if self.knows(holder, jti, now) {
            return Err(ReplayError::Seen);
        }
        if self.until.len() >= self.sweep_at {
            self.sweep(now);
        }
        if self.until.len() >= self.capacity {
            return Err(ReplayError::Full);
        }
        self.earliest = self.earliest.min(until);
        self.until.insert(id(holder, jti), until);
        Ok(())
    }

    /// Whether an id was taken note of, and its time is not over.
    pub fn knows(&self, holder: &str, jti: &str, now: Seconds) -> bool {
        self.until.get(&id(holder, jti)).is_some_and(|until| *until > now)
    }

    /// Forgets what has expired. When full, this runs at most once a second; else, once per doubling.
    fn sweep(&mut self, now: Seconds) {
        if self.earliest <= now {
            self.until.retain(|_, until| *until > now);
            self.until.shrink_to(FIRST_SWEEP);
            self.earliest = self.until.values().min().copied().unwrap_or(Seconds::MAX);
        }
        self.sweep_at = (2 * self.until.len()).max(FIRST_SWEEP).min(self.capacity);
    }
}

fn id(holder: &str, jti: &str) -> [u8; ID_BYTES] {
    let mut hash = Context::new(&SHA256);
    // The length keeps "a" + "bc" and "ab" + "c" apart.
    hash.update(&(holder.len() as u64).to_be_bytes());
    hash.update(holder.as_bytes());
    hash.update(jti.as_bytes());
    let mut id = [0; ID_BYTES];
    id.copy_from_slice(&hash.finish().as_ref()[..ID_BYTES]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_good_once_per_holder() {
        let mut replay = Replay::default();
        assert!(!replay.knows("key", "one", 100));
        assert_eq!(replay.remember("key", "one", 160, 100), Ok(()));
        assert!(replay.knows("key", "one", 159) && !replay.knows("key", "one", 160));
        assert_eq!(replay.remember("key", "one", 160, 100), Err(ReplayError::Seen));
        assert_eq!(replay.remember("key", "one", 500, 159), Err(ReplayError::Seen));
        assert_eq!(replay.remember("other", "one", 160, 100), Ok(()));
        assert_eq!(replay.remember("keyo", "ne", 160, 100), Ok(()));
        assert_eq!(replay.remember("key", "one", 300, 160), Ok(()), "by now its time alone refuses it");
        assert_eq!(replay.remember("key", "one", 300, 299), Err(ReplayError::Seen));
    }

    #[test]
    fn when_full_it_refuses_and_forgets_nothing() {
        let mut replay = Replay::with_capacity(2_000);
        for i in 0..2_000 {
            assert_eq!(replay.remember("key", &i.to_string(), 200 + i % 2, 100), Ok(()), "{i}");
        }
        assert_eq!(replay.remember("key", "new", 300, 199), Err(ReplayError::Full));
        for i in 0..2_000 {
            assert_eq!(replay.remember("key", &i.to_string(), 300, 199), Err(ReplayError::Seen), "{i}");
        }
        assert_eq!(replay.remember("key", "new", 300, 200), Ok(()), "half has expired");
        assert_eq!(replay.until.len(), 1_001);
        assert_eq!(replay.remember("key", "1", 300, 200), Err(ReplayError::Seen));
    }

    #[test]
    fn what_has_expired_takes_no_room() {
        let mut replay = Replay::default();
        for now in 0..20_000 {
            replay.remember("key", &now.to_string(), now + 60, now).unwrap();
            assert!(replay.until.len() <= FIRST_SWEEP);
        }
    }
}
