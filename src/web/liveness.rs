//! Whether a client still answers.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

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

    /// Calls `ping` each `interval`, and returns when nothing was heard since the last one. Anything proves life.
    pub async fn until_silent(&self, interval: Duration, ping: impl Fn()) {
        // The first interval counts from here.
        self.heard();
        loop {
            let due = Instant::now() + interval;
            sleep_until(due).await;
            // A server that stood still has not read what came meanwhile, and judges nobody by it.
            let stood_still = due.elapsed() > interval / 2;
            if self.was_silent() && !stood_still {
                return;
            }
            ping();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const INTERVAL: Duration = Duration::from_secs(30);

    /// The client, how often it was pinged, and what waits for it to fall silent.
    fn watched() -> (Arc<Liveness>, Arc<AtomicU32>, tokio::task::JoinHandle<()>) {
        let (liveness, pings) = (Arc::<Liveness>::default(), Arc::<AtomicU32>::default());
        let watch = {
            let (liveness, pings) = (liveness.clone(), pings.clone());
            tokio::spawn(async move {
                let ping = || {
                    pings.fetch_add(1, Ordering::Relaxed);
                };
                liveness.until_silent(INTERVAL, ping).await;
            })
        };
        (liveness, pings, watch)
    }

    #[tokio::test(start_paused = true)]
    async fn silent_is_who_says_nothing_between_two_pings() {
        let begun = Instant::now();
        let (liveness, pings, watch) = watched();
        tokio::time::sleep(INTERVAL / 2).await;
        for _ in 0..5 {
            liveness.heard();
            tokio::time::sleep(INTERVAL).await;
        }
        watch.await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 6 * 30);
        assert_eq!(pings.load(Ordering::Relaxed), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stood_still_asks_once_more() {
        let (liveness, pings, watch) = watched();
        tokio::time::sleep(INTERVAL + INTERVAL / 10).await;
        // It was asked, and its answer waits to be read while the server stands still.
        tokio::time::advance(3 * INTERVAL).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(!watch.is_finished());
        assert_eq!(pings.load(Ordering::Relaxed), 2);
        liveness.heard();
        watch.await.unwrap();
        assert_eq!(pings.load(Ordering::Relaxed), 3);
    }
}
