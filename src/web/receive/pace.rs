//! How slowly a message may arrive, and how slowly a client may take what is sent to it (`limits.send_rate`).
//!
//! A message earns time by the bytes it brings: one second for each `limits.receive_rate` bytes, of which it can save up as much as
//! it began with. Only payload counts: empty fragments, frame heads and pings are no progress. Only time in which we wait
//! for the client counts, so a message that waits for its share of memory loses none.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// The longest that a message may bring nothing, whatever `limits.ping_interval` is.
const MAX_STALL: Duration = Duration::from_secs(60);

/// A message came too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooSlow {
    /// It brings too few bytes a second.
    #[error("the message arrives at less than {0} bytes a second (limits.receive_rate): send it again")]
    Rate(usize),
    /// All of it takes too long.
    #[error("the message did not arrive within {} seconds (limits.receive_timeout): send it in parts, or on a faster line", .0.as_secs())]
    Time(Duration),
}

impl TooSlow {
    /// Its name in the metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Rate(_) => "receive_rate",
            Self::Time(_) => "receive_timeout",
        }
    }
}

/// How slow messages of a connection may be, in one direction.
#[derive(Debug, Clone, Copy)]
pub struct Slowest {
    /// Bytes a second.
    pub rate: usize,
    /// Longest time for one message.
    pub most: Duration,
    /// Longest time without progress.
    pub stall: Duration,
}

impl Slowest {
    /// `limits.receive_rate` and `limits.receive_timeout`. A message may stand still for two of `ping_interval`, after which a
    /// silent client is dropped in any case, and at most for a minute.
    pub fn new(rate: usize, most: Duration, ping_interval: Duration) -> Self {
        Self { rate, most, stall: (2 * ping_interval).min(MAX_STALL) }
    }
}

/// The time that the message under way has left, or the client that takes messages.
#[derive(Debug)]
pub struct Pace {
    slowest: Slowest,
    /// Until the next progress.
    allowance: Duration,
    spent: Duration,
    /// Longest time for all of the message.
    most: Duration,
}

impl Pace {
    /// For a message that begins now.
    pub fn new(slowest: Slowest) -> Self {
        Self { slowest, allowance: slowest.stall, spent: Duration::ZERO, most: slowest.most }
    }

    /// The next message begins.
    pub fn restart(&mut self) {
        *self = Self::new(self.slowest);
    }

    /// The message may take as long as it brings enough bytes a second: it takes no memory.
    pub fn may_take_long(&mut self) {
        self.most = Duration::MAX;
    }

    /// Bytes of the payload arrived.
    pub fn progress(&mut self, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / self.slowest.rate as f64);
        self.allowance = (self.allowance + earned).min(self.slowest.stall);
    }

    /// Waits for the client within the time that is left.
    /// # Errors
    /// The time is over.
    pub async fn wait<T>(&mut self, client: impl Future<Output = T>) -> Result<T, TooSlow> {
        let mut client = std::pin::pin!(client);
        loop {
            let begun = Instant::now();
            let left = self.allowance.min(self.most.saturating_sub(self.spent));
            let waited = timeout(left, &mut client).await;
            let took = begun.elapsed();
            match waited {
                Ok(done) => {
                    self.allowance = self.allowance.saturating_sub(took);
                    self.spent += took;
                    return Ok(done);
                }
                // A server that stood still has not read what came meanwhile, and blames nobody for it.
                Err(_) if took > left + self.slowest.stall / 2 => self.allowance = self.slowest.stall / 2,
                Err(_) if self.allowance < self.most.saturating_sub(self.spent) => {
                    return Err(TooSlow::Rate(self.slowest.rate));
                }
                Err(_) => return Err(TooSlow::Time(self.most)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, sleep};

    const SLOWEST: Slowest =
        Slowest { rate: 1_000, most: Duration::from_secs(600), stall: Duration::from_secs(60) };

    /// Waits so many seconds for bytes, again and again: how it ended and after how many seconds.
    async fn send(bytes: usize, seconds: u64) -> (TooSlow, u64) {
        let begun = Instant::now();
        let mut pace = Pace::new(SLOWEST);
        let why = loop {
            match pace.wait(sleep(Duration::from_secs(seconds))).await {
                Ok(()) => pace.progress(bytes),
                Err(why) => break why,
            }
        };
        (why, begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn only_bytes_earn_time() {
        assert_eq!(send(0, 10).await, (TooSlow::Rate(1_000), 60), "empty fragments");
        assert_eq!(send(1, 10).await.1, 60, "single bytes");
        assert!((100..130).contains(&send(500, 1).await.1), "half of the rate");
        assert_eq!(send(1_000_000, 70).await.1, 60, "what is saved up is bounded");
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_slow_upload_has_its_whole_time() {
        assert_eq!(send(1_100, 1).await, (TooSlow::Time(SLOWEST.most), 600));
        assert_eq!(send(30_000, 29).await, (TooSlow::Time(SLOWEST.most), 600), "in bursts");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_no_memory_may_take_long_and_still_must_come() {
        let mut pace = Pace::new(SLOWEST);
        pace.may_take_long();
        for _ in 0..600 {
            pace.wait(sleep(Duration::from_secs(2))).await.unwrap();
            pace.progress(2_100);
        }
        let waited = pace.wait(sleep(Duration::from_secs(70))).await;
        assert_eq!(waited, Err(TooSlow::Rate(1_000)));
        pace.restart();
        assert_eq!(pace.most, SLOWEST.most, "the next message");
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_message_arrives_from_a_slow_phone_by_default() {
        let defaults = Slowest::new(4 * 1024, Duration::from_secs(45 * 60), Duration::from_secs(30));
        let mut pace = Pace::new(defaults);
        let mut arrived = 0;
        // 16 KiB a second, with a gap of half a minute in every ten.
        while arrived < 32 << 20 {
            let gap = if arrived % (9 << 20) == 0 { 31 } else { 1 };
            pace.wait(sleep(Duration::from_secs(gap))).await.unwrap();
            pace.progress(16 * 1024);
            arrived += 16 * 1024;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stood_still_reads_first() {
        let mut pace = Pace::new(SLOWEST);
        let mut waiting = Box::pin(pace.wait(sleep(Duration::from_secs(310))));
        assert!(futures_pending(waiting.as_mut()).await);
        advance(Duration::from_secs(300)).await;
        waiting.await.unwrap();
    }

    async fn futures_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }
}
