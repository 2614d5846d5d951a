//! How often anyone may ask to be let in, counted before anything else is done for them.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::atproto::limiter::{Limiter, place_of};
use crate::config::Limits;

const SECOND_US: u64 = 1_000_000;

/// Requests to `/authenticate`.
pub struct Throttle {
    counts: Mutex<(Limiter<IpAddr>, Limiter<()>)>,
    started: Instant,
}

impl Throttle {
    /// `limits.authenticate_per_address` and `limits.authenticate`.
    pub fn new(limits: &Limits) -> Self {
        let counts = (
            Limiter::new(limits.authenticate_per_address, 60 * SECOND_US),
            Limiter::new(limits.authenticate, SECOND_US),
        );
        Self { counts: Mutex::new(counts), started: Instant::now() }
    }

    /// Counts one request.
    /// # Errors
    /// Too many: after this time another one may be made.
    pub fn enter(&self, from: Option<IpAddr>) -> Result<(), Duration> {
        let now = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = from.map_or(Ok(()), |address| counts.0.take(place_of(address), now));
        own.and_then(|()| counts.1.take((), now)).map_err(Duration::from_micros)
    }
}
