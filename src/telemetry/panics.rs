//! Panics go to the log, each place of the program at most once a minute.
//!
//! What a panic says may quote what it stumbled over: a document's text, a token. So only its place is logged, and its
//! words only if they stand in the program as they are.

use std::collections::HashMap;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same place is logged at most this often: a client that can cause one panic can cause many.
const EVERY: Duration = Duration::from_secs(60);

static COUNT: AtomicU64 = AtomicU64::new(0);
/// When each place was last logged; there are no more of them than the program has.
static LOGGED: LazyLock<Mutex<HashMap<(String, u32), Instant>>> = LazyLock::new(Mutex::default);

/// From now on panics are logged in place of being written to stderr.
pub fn log() {
    panic::set_hook(Box::new(hook));
}

/// Panics since the start, caught ones included.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

fn hook(info: &PanicHookInfo<'_>) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let (file, line) = info.location().map_or(("", 0), |location| (location.file(), location.line()));
    if is_due(file, line, Instant::now()) {
        let thread = std::thread::current();
        let (place, words) = (format!("{file}:{line}"), words(info.payload()));
        tracing::error!(
            thread = thread.name().unwrap_or("unnamed"),
            place,
            words,
            "a fault in the program: please report this line; what it was about to do is given up"
        );
    }
}

fn is_due(file: &str, line: u32, now: Instant) -> bool {
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    let due = logged.get(&(file.to_owned(), line)).is_none_or(|last| now.duration_since(*last) >= EVERY);
    if due {
        logged.insert((file.to_owned(), line), now);
    }
    due
}

/// A literal of the program; what was formatted at run time is not shown.
fn words(payload: &(dyn std::any::Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("(not shown)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::catch_unwind;

    #[test]
    fn words_are_shown_if_the_program_wrote_them() {
        let said = |panic: fn()| words(&*catch_unwind(panic).unwrap_err());
        assert_eq!(said(|| panic!("the list is empty")), "the list is empty");
        assert_eq!(said(|| panic!("{} is odd", String::from("eyJhbGciOi"))), "(not shown)");
        assert_eq!(said(|| std::panic::panic_any(7)), "(not shown)");
    }

    #[test]
    fn a_place_is_logged_once_a_minute() {
        let start = Instant::now();
        assert!(is_due("a.rs", 1, start) && is_due("a.rs", 2, start) && is_due("b.rs", 1, start));
        assert!(!is_due("a.rs", 1, start + EVERY / 2));
        assert!(is_due("a.rs", 1, start + EVERY));
    }
}
