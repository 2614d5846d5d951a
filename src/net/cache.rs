//! What was learned of other servers, for a short while, so that requests to us do not become requests to them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long an answer is good.
pub const LIFE: Duration = Duration::from_secs(300);
/// How long a failure is, so that what is down is not asked at every knock.
pub const FAILURE_LIFE: Duration = Duration::from_secs(10);
/// Shortest time between two requests for one thing because a check failed: forged tokens cannot cause more.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Most things remembered in one cache.
pub const MAX_ENTRIES: usize = 256;

/// How new an answer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// At most [`LIFE`] old.
    Cached,
    /// Asked for again, unless that was done within [`REFRESH_INTERVAL`] already: for when a check failed, as people
    /// move and rotate keys.
    Fresh,
}

/// Remembers answers and failures; one request at a time for each key, shared by all who wait for it.
pub(crate) struct Cache<K, V, E> {
    slots: Mutex<HashMap<K, Arc<Slot<V, E>>>>,
}

struct Slot<V, E> {
    known: Mutex<Known<V, E>>,
    /// Held while somebody is asked.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct Known<V, E> {
    good: Option<(V, Instant)>,
    failure: Option<E>,
    /// When the last request came to its end, with whatever came of it.
    asked: Option<Instant>,
    /// The same of one that was made because a check had failed.
    refreshed: Option<Instant>,
}

impl<K, V, E> Cache<K, V, E>
where
    K: Eq + Hash + Clone,
    V: Clone + Send + 'static,
    E: Clone + Send + 'static,
{
    pub(crate) fn new() -> Self {
        Self { slots: Mutex::new(HashMap::new()) }
    }

    /// What is known of `key`, or what `ask` says. Once begun, `ask` runs to its end even if the caller stops waiting:
    /// otherwise who hangs up in time could have the same asked again and again.
    pub(crate) async fn get(
        &self,
        key: &K,
        freshness: Freshness,
        ask: impl Future<Output = Result<V, E>> + Send + 'static,
    ) -> Result<V, E> {
        let slot = self.slot(key);
        if let Some(known) = slot.known(freshness) {
            return known;
        }
        let turn = Arc::clone(&slot.turn).lock_owned().await;
        // Somebody may have asked meanwhile.
        if let Some(known) = slot.known(freshness) {
            return known;
        }
        let asking = tokio::spawn(async move {
            let begun = Instant::now();
            let outcome = ask.await;
            slot.learn(freshness, begun, &outcome);
            drop(turn);
            outcome
        });
        match asking.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(outcome) => outcome,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime is ending, and this with it.
            Err(Err(_)) => std::future::pending().await,
        }
    }

    fn slot(&self, key: &K) -> Arc<Slot<V, E>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(key) {
            return Arc::clone(slot);
        }
        if slots.len() >= MAX_ENTRIES {
            // Those in use stay: they are as many as requests wait.
            let idle = slots.iter().filter(|(_, slot)| Arc::strong_count(slot) == 1);
            if let Some(oldest) = idle.min_by_key(|(_, slot)| slot.lock().asked).map(|(key, _)| key.clone()) {
                slots.remove(&oldest);
            }
        }
        let slot = Arc::new(Slot {
            known: Mutex::new(Known { good: None, failure: None, asked: None, refreshed: None }),
            turn: Arc::default(),
        });
        slots.insert(key.clone(), Arc::clone(&slot));
        slot
    }
}

impl<V: Clone, E: Clone> Slot<V, E> {
    fn lock(&self) -> MutexGuard<'_, Known<V, E>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Failures count from when they are known, as they may have taken long; answers from when they were asked for.
    fn learn(&self, freshness: Freshness, begun: Instant, outcome: &Result<V, E>) {
        let mut known = self.lock();
        known.asked = Some(Instant::now());
        if freshness == Freshness::Fresh {
            known.refreshed = known.asked;
        }
        match outcome {
            // An older good answer stays until its own time is over: one failed refresh proves nothing.
            Err(failure) => known.failure = Some(failure.clone()),
            Ok(good) => {
                known.good = Some((good.clone(), begun));
                known.failure = None;
            }
        }
    }

    /// `None`: ask.
    fn known(&self, freshness: Freshness) -> Option<Result<V, E>> {
        let known = self.lock();
        let good =
            known.good.as_ref().filter(|(_, since)| since.elapsed() < LIFE).map(|(good, _)| Ok(good.clone()));
        let (last, hold) = match freshness {
            Freshness::Cached if good.is_some() => return good,
            Freshness::Cached => (known.asked, FAILURE_LIFE),
            Freshness::Fresh => (known.refreshed, REFRESH_INTERVAL),
        };
        if last?.elapsed() >= hold {
            return None;
        }
        good.or_else(|| known.failure.clone().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Freshness::{Cached, Fresh};
    use super::*;

    /// A cache and a source that counts how often it is asked, and fails when told to.
    struct Source {
        cache: Cache<u32, usize, &'static str>,
        asked: Arc<AtomicUsize>,
        takes: Duration,
    }

    impl Source {
        fn new() -> Self {
            Self { cache: Cache::new(), asked: Arc::default(), takes: Duration::from_secs(1) }
        }

        async fn get(&self, key: u32, freshness: Freshness, fails: bool) -> Result<usize, &'static str> {
            let (asked, takes) = (Arc::clone(&self.asked), self.takes);
            let ask = async move {
                let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::time::sleep(takes).await;
                if fails { Err("down") } else { Ok(number) }
            };
            self.cache.get(&key, freshness, ask).await
        }
    }

    async fn after(time: Duration) {
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_lives_its_time() {
        let source = Source::new();
        assert_eq!(source.get(1, Cached, false).await, Ok(1));
        after(LIFE - Duration::from_secs(2)).await;
        assert_eq!(source.get(1, Cached, false).await, Ok(1));
        after(Duration::from_secs(2)).await;
        assert_eq!(source.get(1, Cached, false).await, Ok(2));
        assert_eq!(source.get(2, Cached, false).await, Ok(3), "another key");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_lives_shorter() {
        let source = Source::new();
        assert_eq!(source.get(1, Cached, true).await, Err("down"));
        assert_eq!(source.get(1, Cached, false).await, Err("down"));
        after(FAILURE_LIFE).await;
        assert_eq!(source.get(1, Cached, false).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn refreshing_is_limited_and_a_failed_one_keeps_the_answer() {
        let source = Source::new();
        assert_eq!(source.get(1, Cached, false).await, Ok(1));
        for _ in 0..100 {
            assert_eq!(source.get(1, Fresh, false).await, Ok(2), "at once, and then not again");
        }
        after(REFRESH_INTERVAL).await;
        assert_eq!(source.get(1, Cached, false).await, Ok(2));
        assert_eq!(source.get(1, Fresh, true).await, Err("down"));
        for _ in 0..100 {
            assert_eq!(source.get(1, Fresh, false).await, Ok(2));
        }
        after(REFRESH_INTERVAL).await;
        assert_eq!(source.get(1, Fresh, false).await, Ok(4));
        // Of something never found, a failure is all there is to tell.
        assert_eq!(source.get(2, Fresh, true).await, Err("down"));
        after(FAILURE_LIFE).await;
        assert_eq!(source.get(2, Fresh, false).await, Err("down"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_at_once_shares_one_request() {
        let source = Arc::new(Source::new());
        let mut all = tokio::task::JoinSet::new();
        for number in 0..50 {
            let source = Arc::clone(&source);
            all.spawn(
                async move { source.get(1, if number % 2 == 0 { Cached } else { Fresh }, false).await },
            );
        }
        while let Some(answer) = all.join_next().await {
            assert!(answer.unwrap().is_ok());
        }
        // One for those who take what is known, one for those who want it fresh.
        let asked = source.asked.load(Ordering::SeqCst);
        assert!(asked <= 2, "{asked}");
        after(REFRESH_INTERVAL).await;
        // A refresh that takes its time keeps nobody waiting who can do with what is known.
        let refresh = {
            let source = Arc::clone(&source);
            tokio::spawn(async move { source.get(1, Fresh, false).await })
        };
        tokio::task::yield_now().await;
        let before = Instant::now();
        assert_eq!(source.get(1, Cached, false).await, Ok(asked));
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert_eq!(refresh.await.unwrap(), Ok(asked + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_slowly_is_not_asked_by_all_who_waited_for_it() {
        let source = Source { takes: REFRESH_INTERVAL, ..Source::new() };
        for freshness in [Cached, Fresh] {
            let asked = source.asked.load(Ordering::SeqCst);
            assert_eq!(source.get(1, freshness, true).await, Err("down"));
            assert_eq!(source.get(1, freshness, true).await, Err("down"));
            assert_eq!(source.asked.load(Ordering::SeqCst), asked + 1, "{freshness:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_hangs_up_does_not_have_it_asked_again() {
        let source = Source::new();
        for freshness in [Cached, Fresh] {
            let asked = source.asked.load(Ordering::SeqCst);
            for _ in 0..10 {
                let gone =
                    tokio::time::timeout(Duration::from_millis(1), source.get(1, freshness, false)).await;
                assert!(gone.is_err());
            }
            assert_eq!(source.get(1, freshness, false).await, Ok(asked + 1), "{freshness:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_is_forgotten() {
        let source = Source::new();
        let most = u32::try_from(MAX_ENTRIES).unwrap();
        for key in 0..=most {
            // Within the life of all of them.
            let asked = Arc::clone(&source.asked);
            let ask = async move { Ok(asked.fetch_add(1, Ordering::SeqCst)) };
            source.cache.get(&key, Cached, ask).await.unwrap();
            after(Duration::from_millis(1)).await;
        }
        assert_eq!(source.cache.slots.lock().unwrap().len(), MAX_ENTRIES);
        assert_eq!(source.get(1, Cached, false).await, Ok(1), "still there");
        assert_eq!(source.get(0, Cached, false).await, Ok(MAX_ENTRIES + 2), "asked for again");
    }
}
