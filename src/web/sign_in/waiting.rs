//! Sign-ins that have begun and wait for the browser to come back.
//!
//! Each belongs to the browser that began it, by a cookie, and to one `state`: a callback that somebody else began, and made
//! this browser open, finds nothing (login CSRF; RFC 9700, 4.7). Each is used once.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::types::Millis;

/// Most that wait; beyond it the oldest gives way, for whoever refused newcomers could be kept busy by a stranger. With
/// [`super::BEGUN_PER_MINUTE`] each has a minute at least.
pub const MAX_WAITING: usize = 64;
/// Most of one address; its own oldest gives way.
pub const MAX_WAITING_PER_ADDRESS: usize = 8;
/// How long the browser may take, in milliseconds.
pub const WAIT_LIFE_MS: Millis = 10 * 60_000;

/// Sign-ins under way.
pub struct Waiting<T>(Mutex<Vec<Entry<T>>>);

struct Entry<T> {
    cookie: String,
    state: String,
    place: Option<IpAddr>,
    until: Millis,
    what: T,
}

impl<T> Waiting<T> {
    /// None yet.
    pub fn new() -> Self {
        Self(Mutex::default())
    }

    /// Whether a browser's cookie belongs to one that waits. It can have a further one, in another tab.
    pub fn knows(&self, cookie: &str, now: Millis) -> bool {
        self.lock(now).iter().any(|entry| same(&entry.cookie, cookie))
    }

    /// Adds one.
    pub fn add(&self, cookie: String, state: String, place: Option<IpAddr>, what: T, now: Millis) {
        let mut all = self.lock(now);
        let of_place = |entry: &Entry<T>| place.is_some() && entry.place == place;
        if all.iter().filter(|entry| of_place(entry)).count() >= MAX_WAITING_PER_ADDRESS
            && let Some(oldest) = all.iter().position(of_place)
        {
            all.remove(oldest);
        }
        if all.len() >= MAX_WAITING {
            all.remove(0);
        }
        all.push(Entry { cookie, state, place, until: now.saturating_add(WAIT_LIFE_MS), what });
    }

    /// Takes out the one of this cookie and this state, and looks no further: whoever has only one of both changes nothing.
    pub fn take(&self, cookie: &str, state: &str, now: Millis) -> Option<T> {
        let mut all = self.lock(now);
        let is_it = |entry: &Entry<T>| same(&entry.cookie, cookie) & same(&entry.state, state);
        let found = all.iter().position(is_it)?;
        Some(all.remove(found).what)
    }

    fn lock(&self, now: Millis) -> MutexGuard<'_, Vec<Entry<T>>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|entry| now < entry.until);
        all
    }
}

fn same(one: &str, other: &str) -> bool {
    verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(all: &Waiting<usize>, n: usize, from: &str, now: Millis) {
        let place = Some(from.parse().unwrap());
        all.add(format!("cookie{n}"), format!("state{n}"), place, n, now);
    }

    fn take(all: &Waiting<usize>, n: usize, now: Millis) -> Option<usize> {
        all.take(&format!("cookie{n}"), &format!("state{n}"), now)
    }

    #[test]
    fn it_needs_cookie_and_state_and_is_used_once() {
        let all = Waiting::new();
        add(&all, 1, "192.0.2.1", 0);
        add(&all, 2, "192.0.2.1", 0);
        for (cookie, state) in
            [("", ""), ("cookie1", "state2"), ("cookie2", "state1"), ("cookie1", ""), ("", "state1")]
        {
            assert_eq!(all.take(cookie, state, 1), None, "{cookie} {state}");
        }
        assert!(all.knows("cookie1", 1) && !all.knows("cookie3", 1));
        assert_eq!(take(&all, 1, 1), Some(1));
        assert_eq!(take(&all, 1, 1), None);
        assert_eq!(take(&all, 2, WAIT_LIFE_MS), None, "its time is over");
        assert!(!all.knows("cookie1", 1));
    }

    #[test]
    fn one_browser_may_have_several() {
        let all = Waiting::new();
        for state in ["a", "b"] {
            all.add("cookie".into(), state.into(), None, state, 0);
        }
        assert_eq!(all.take("cookie", "a", 1), Some("a"));
        assert_eq!(all.take("cookie", "b", 1), Some("b"));
    }

    #[test]
    fn an_address_pushes_out_its_own_and_many_the_oldest() {
        let all = Waiting::new();
        add(&all, 0, "192.0.2.9", 0);
        for n in 1..=MAX_WAITING_PER_ADDRESS + 1 {
            add(&all, n, "192.0.2.1", 0);
        }
        assert_eq!((take(&all, 1, 1), take(&all, 2, 1)), (None, Some(2)));
        assert_eq!(take(&all, 0, 1), Some(0), "of another address");
        add(&all, 1000, "192.0.2.9", 0);
        let before = MAX_WAITING_PER_ADDRESS;
        for n in 0..=MAX_WAITING - before {
            add(&all, 2000 + n, &format!("198.51.100.{n}"), 0);
        }
        assert_eq!(all.lock(1).len(), MAX_WAITING);
        assert_eq!(take(&all, 3, 1), None, "the oldest of all");
    }
}
