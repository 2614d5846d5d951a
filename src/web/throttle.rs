//! How often anyone may ask to be let in, counted before anything else is done for them.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::types::Limiter;

const SECOND_US: u64 = 1_000_000;

/// Requests to `/authenticate`, or sign-ins.
pub struct Throttle {
    counts: Mutex<(Limiter<IpAddr>, Limiter<()>)>,
    started: Instant,
}

impl Throttle {
    /// `limits.authenticate_per_address` and `limits.authenticate`.
    pub fn new(limits: &Limits) -> Self {
        let of_address = Limiter::new(limits.authenticate_per_address, 60 * SECOND_US);
        Self::by(of_address, Limiter::new(limits.authenticate, SECOND_US))
    }

    /// So many in a minute of one address, and of all together.
    pub fn per_minute(per_address: u64, all: u64) -> Self {
        Self::by(Limiter::new(per_address, 60 * SECOND_US), Limiter::new(all, 60 * SECOND_US))
    }

    fn by(of_address: Limiter<IpAddr>, of_all: Limiter<()>) -> Self {
        Self { counts: Mutex::new((of_address, of_all)), started: Instant::now() }
    }

    /// Counts one request; `place` is none for a program on this machine.
    /// # Errors
    /// Too many: after this time another one may be made.
    pub fn enter(&self, place: Option<IpAddr>) -> Result<(), Duration> {
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = place.map_or(Ok(()), |place| counts.0.take(place, now));
        own.and_then(|()| counts.1.take((), now)).map_err(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Flags, Sources};
    use crate::types::place_of;

    /// So many at once, and then seconds until the next.
    fn allowed(throttle: &Throttle, from: &str) -> (u64, u64) {
        let from = place_of(from.parse().unwrap());
        for count in 0.. {
            if let Err(wait) = throttle.enter(from) {
                return (count, wait.as_secs());
            }
        }
        unreachable!("it never ends")
    }

    #[test]
    fn one_address_does_not_use_up_what_others_have_and_this_machine_is_none() {
        let set = |name: &str, value: &str| (format!("GROUNDMIST_SYNC_LIMITS__{name}").into(), value.into());
        let env = vec![set("AUTHENTICATE", "1000000"), set("AUTHENTICATE_PER_ADDRESS", "2")];
        let default_file = "/nonexistent".into();
        let sources = Sources { config: None, default_file, env, flags: Flags::default(), dev: false };
        let throttle = Throttle::new(&Config::load(&sources).unwrap().config.limits);
        for address in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
            assert_eq!(allowed(&throttle, address), (2, 29), "{address}");
        }
        assert_eq!(allowed(&throttle, "2001:db8::2"), (0, 29), "the same /64");
        for _ in 0..1000 {
            assert_eq!(throttle.enter(place_of("127.0.0.1".parse().unwrap())), Ok(()));
        }
    }
}
