//! Where the owner is signed in with a browser. In memory only: a restart signs her out.
//!
//! A cookie is 256 random bits; what is kept of it is its hash, so that looking it up tells nothing by its time. Who may sign in is
//! decided elsewhere: a sign-in is always the owner's.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::AccessError;
use crate::types::{Millis, fingerprint, secret};

/// A sign-in ends after so many milliseconds without a request.
pub const SIGN_IN_IDLE_MS: Millis = 30 * 60_000;
/// And after so many however busy it is.
pub const SIGN_IN_LIFE_MS: Millis = 12 * 3_600_000;
/// Most sign-ins at once; a further one ends the one that is longest out of use.
pub const MAX_SIGN_INS: usize = 32;
/// A one-time link works for so many milliseconds.
pub const LINK_LIFE_MS: Millis = 10 * 60_000;
/// Most links that wait; a further one takes the place of the oldest.
pub const MAX_LINKS: usize = 4;

/// What is kept of a cookie or a code.
type Hash = String;

/// A browser in which the owner is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// Since when.
    pub since: Millis,
    /// When it ends if nothing more is asked; never after its life.
    pub until: Millis,
}

#[derive(Default)]
struct State {
    by_cookie: HashMap<Hash, SignIn>,
    /// With the end of their time.
    links: Vec<(Hash, Millis)>,
}

impl State {
    fn clear_ended(&mut self, now: Millis) {
        self.by_cookie.retain(|_, sign_in| now < sign_in.until);
        self.links.retain(|(_, until)| now < *until);
    }
}

/// All of them.
#[derive(Default)]
pub struct SignIns {
    state: Mutex<State>,
}

impl SignIns {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs the owner in: the cookie's value, always a new one.
    ///
    /// # Errors
    /// No random bytes.
    pub fn begin(&self, now: Millis) -> Result<String, AccessError> {
        let (cookie, hash) = draw()?;
        let mut state = self.state();
        state.clear_ended(now);
        if state.by_cookie.len() >= MAX_SIGN_INS
            && let Some(idle) =
                state.by_cookie.iter().min_by_key(|(_, known)| known.until).map(|(hash, _)| hash.clone())
        {
            state.by_cookie.remove(&idle);
        }
        let until = now.saturating_add(SIGN_IN_IDLE_MS);
        state.by_cookie.insert(hash, SignIn { since: now, until });
        Ok(cookie)
    }

    /// The sign-in of a cookie, which is in use now.
    pub fn check(&self, cookie: &str, now: Millis) -> Option<SignIn> {
        let mut state = self.state();
        let sign_in = state.by_cookie.get_mut(&fingerprint(cookie)).filter(|known| now < known.until)?;
        let end = sign_in.since.saturating_add(SIGN_IN_LIFE_MS);
        sign_in.until = now.saturating_add(SIGN_IN_IDLE_MS).min(end).max(sign_in.until);
        Some(sign_in.clone())
    }

    /// The sign-in of a cookie, if it still counts; that this is asked is no use of it.
    pub fn look(&self, cookie: &str, now: Millis) -> Option<SignIn> {
        self.state().by_cookie.get(&fingerprint(cookie)).filter(|known| now < known.until).cloned()
    }

    /// Whether a cookie still counts; that this is asked is no use of it.
    pub fn is_live(&self, cookie: &str, now: Millis) -> bool {
        self.look(cookie, now).is_some()
    }

    /// Signs one browser out.
    pub fn end(&self, cookie: &str) {
        self.state().by_cookie.remove(&fingerprint(cookie));
    }

    /// Signs every browser out, and forgets the links: how many browsers.
    pub fn end_all(&self) -> usize {
        let ended = std::mem::take(&mut *self.state());
        ended.by_cookie.len()
    }

    /// The code of a link that signs in once.
    ///
    /// # Errors
    /// No random bytes.
    pub fn link(&self, now: Millis) -> Result<String, AccessError> {
        let (code, hash) = draw()?;
        let mut state = self.state();
        state.clear_ended(now);
        if state.links.len() >= MAX_LINKS {
            state.links.remove(0);
        }
        state.links.push((hash, now.saturating_add(LINK_LIFE_MS)));
        Ok(code)
    }

    /// Uses a link up: whether it was one.
    pub fn redeem(&self, code: &str, now: Millis) -> bool {
        let hash = fingerprint(code);
        let mut state = self.state();
        state.clear_ended(now);
        let before = state.links.len();
        state.links.retain(|(known, _)| *known != hash);
        state.links.len() < before
    }
}

/// A new secret and its hash.
fn draw() -> Result<(String, Hash), AccessError> {
    let text = secret().map_err(AccessError::random("drawing a cookie"))?;
    let hash = fingerprint(&text);
    Ok((text, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(all: &SignIns, now: Millis) -> String {
        all.begin(now).unwrap()
    }

    #[test]
    fn it_ends_when_idle_and_at_last_however_busy() {
        let all = SignIns::new();
        let cookie = begin(&all, 0);
        assert_eq!(all.check(&cookie, 1).unwrap().until, 1 + SIGN_IN_IDLE_MS);
        assert!(all.is_live(&cookie, SIGN_IN_IDLE_MS) && !all.is_live(&cookie, 1 + SIGN_IN_IDLE_MS));
        assert_eq!(all.check(&cookie, 1 + SIGN_IN_IDLE_MS), None);
        let busy = begin(&all, 0);
        let mut now = 0;
        while all.check(&busy, now).is_some() {
            now += SIGN_IN_IDLE_MS / 2;
        }
        assert_eq!(now, SIGN_IN_LIFE_MS);
    }

    #[test]
    fn signing_out_is_for_one_browser_or_all() {
        let all = SignIns::new();
        let cookies = [begin(&all, 0), begin(&all, 0), begin(&all, 0)];
        let link = all.link(0).unwrap();
        all.end(&cookies[0]);
        all.end("nonsense");
        assert_eq!(cookies.each_ref().map(|cookie| all.is_live(cookie, 1)), [false, true, true]);
        assert_eq!(all.end_all(), 2);
        assert!(cookies.iter().all(|cookie| all.check(cookie, 1).is_none()));
        assert!(!all.redeem(&link, 1));
    }

    #[test]
    fn the_longest_idle_gives_way() {
        let all = SignIns::new();
        let cookies: Vec<_> = (0..MAX_SIGN_INS as u64).map(|now| begin(&all, now)).collect();
        all.check(&cookies[0], 1000);
        let new = begin(&all, 1001);
        assert!(all.is_live(&cookies[0], 1001) && all.is_live(&new, 1001));
        assert!(!all.is_live(&cookies[1], 1001) && all.is_live(&cookies[2], 1001));
    }

    #[test]
    fn a_link_works_once_and_not_for_long() {
        let all = SignIns::new();
        let links: Vec<_> = (0..=MAX_LINKS).map(|_| all.link(0).unwrap()).collect();
        assert!(!all.redeem(&links[0], 1), "the oldest gave way");
        assert!(all.redeem(&links[1], 1) && !all.redeem(&links[1], 1));
        assert!(!all.redeem("nonsense", 1) && !all.redeem("", 1));
        assert!(!all.redeem(&links[2], LINK_LIFE_MS));
    }
}
