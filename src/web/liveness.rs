//! Whether a client still answers.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Shared between a connection's reader and its timer.
#[derive(Debug, Default)]
pub struct Liveness {
    heard: AtomicBool,
    paused: AtomicU32,
}

/// While it lives, silence is our doing: we are not reading.
pub struct Paused<'a>(&'a Liveness);

impl Liveness {
    /// Bytes arrived.
    pub fn heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Reading stops until the guard is dropped.
    pub fn pause(&self) -> Paused<'_> {
        self.paused.fetch_add(1, Ordering::Relaxed);
        Paused(self)
    }

    /// Whether reading is paused by us.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed) > 0
    }

    /// Whether the client was silent, by its own doing, since the last call.
    pub fn was_silent(&self) -> bool {
        !self.heard.swap(false, Ordering::Relaxed) && !self.is_paused()
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.paused.fetch_sub(1, Ordering::Relaxed);
        self.0.heard();
    }
}
