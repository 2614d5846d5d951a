//! What all connections of one approved app share.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::ready;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lock;
use crate::types::Approval;

/// Part of the time of a thread that serves connections which one app may use for what it sends, in percent.
const RECEIVING_PERCENT: i64 = 90;
/// Part of such a thread's time which one app may use for decoding, in percent. What is over it goes to the decoding threads.
const AT_ONCE_PERCENT: i64 = 40;
/// Most time that an allowance saves up, in nanoseconds.
const BURST_NS: i64 = 20_000_000;
/// How long a connection waits that has used up its app's allowance, before it asks again.
const PAUSE: Duration = Duration::from_millis(2);

/// After a step that took so long it is others' turn. Most steps of apps that do little are shorter.
const LONG_STEP: Duration = Duration::from_micros(20);

/// What all connections of one approval share.
pub struct AppShare {
    /// Room for what came and was not worked at, in bytes.
    pub inbox: Arc<Semaphore>,
    /// Time for receiving on the threads that serve connections.
    receiving: Allowance,
    /// Time for decoding on them.
    at_once: Allowance,
    /// One connection at a time has the turn of [`AppShare::in_turn`].
    turn: Semaphore,
    /// How many apps there are.
    count: Arc<AtomicUsize>,
}

/// Room that a message has in its app's inbox. While it is there, the app is the same one, also if all of its connections
/// leave and others come.
pub struct InboxPermit {
    permit: OwnedSemaphorePermit,
    app: Arc<AppShare>,
}

impl AppShare {
    /// Waits for room of so many bytes in the inbox; `None` if the server is stopping.
    pub async fn room(self: &Arc<Self>, bytes: u32) -> Option<InboxPermit> {
        let permit = self.inbox.clone().acquire_many_owned(bytes).await.ok()?;
        Some(InboxPermit { permit, app: self.clone() })
    }

    /// Waits until the app may receive more on a thread that serves connections.
    pub async fn may_receive(&self) {
        while !self.is_left(&self.receiving, Instant::now()) {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Runs `work`, which serves one connection. After a step that took long, the app's other connections wait with their next steps
    /// until the thread has looked at what else is ready. They stand in line here, rather than in the queue in which other apps'
    /// connections stand, so others wait there for one step of this app, however many connections it has. Steps of work that
    /// `is_urgent` wait for nobody.
    pub async fn in_turn<T>(&self, work: impl Future<Output = T>, is_urgent: impl Fn() -> bool) -> T {
        let (mut work, mut next) = (pin!(work), pin!(self.turn.acquire()));
        let mut kept = None;
        poll_fn(|context| {
            // After a long step: what else was ready has had its chance, and who has waited longest is next.
            drop(kept.take());
            if is_urgent() {
                return work.as_mut().poll(context);
            }
            // An error would say that the semaphore was closed. Nobody does that, and everybody would have a turn then.
            let turn = ready!(next.as_mut().poll(context)).ok();
            next.set(self.turn.acquire());
            let began = Instant::now();
            let done = work.as_mut().poll(context);
            if done.is_pending() && began.elapsed() >= LONG_STEP {
                kept = turn;
                context.waker().wake_by_ref();
            }
            done
        })
        .await
    }

    /// Runs `work`, which receives, and charges the time of each of its steps, not the time in which it waits.
    pub async fn receiving<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            let began = Instant::now();
            let done = work.as_mut().poll(context);
            self.receiving.use_up(began.elapsed());
            done
        })
        .await
    }

    /// Runs `work`, which decodes, and charges its time; `None` if the app has used up its time for that.
    pub fn at_once<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let began = Instant::now();
        if !self.is_left(&self.at_once, began) {
            return None;
        }
        let done = work();
        self.at_once.use_up(began.elapsed());
        Some(done)
    }

    /// Uses up time for receiving.
    #[cfg(test)]
    pub fn use_up_receiving(&self, time: Duration) {
        self.receiving.use_up(time);
    }

    /// Whether some of an allowance is left. An app that is the only one has all of the threads' time.
    fn is_left(&self, allowance: &Allowance, now: Instant) -> bool {
        let is_alone = self.count.load(Ordering::Relaxed) == 1;
        allowance.is_left(now, is_alone)
    }
}

impl Drop for AppShare {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InboxPermit {
    /// Cuts one of `of` equal parts off; `None` if there is too little to cut.
    pub fn part(&mut self, of: usize) -> Option<Self> {
        let permit = self.permit.split(self.permit.num_permits() / of)?;
        Some(Self { permit, app: self.app.clone() })
    }
}

/// The approved apps that have a connection, or a message that waits.
#[derive(Default)]
pub struct AppShares {
    apps: Mutex<HashMap<Approval, Weak<AppShare>>>,
    count: Arc<AtomicUsize>,
}

impl AppShares {
    /// What the connections of an approval share.
    pub fn of(&self, approval: &Approval, inbox_bytes: usize) -> Arc<AppShare> {
        let mut apps = lock(&self.apps);
        if let Some(app) = apps.get(approval).and_then(Weak::upgrade) {
            return app;
        }
        apps.retain(|_, app| app.strong_count() > 0);
        let app = Arc::new(AppShare {
            inbox: Arc::new(Semaphore::new(inbox_bytes)),
            receiving: Allowance::new(RECEIVING_PERCENT, Instant::now()),
            at_once: Allowance::new(AT_ONCE_PERCENT, Instant::now()),
            turn: Semaphore::new(1),
            count: self.count.clone(),
        });
        self.count.fetch_add(1, Ordering::Relaxed);
        apps.insert(approval.clone(), Arc::downgrade(&app));
        app
    }

    /// Bytes that came from all of them and were not worked at; each has room for `inbox_bytes`.
    pub fn incoming(&self, inbox_bytes: usize) -> usize {
        let apps = lock(&self.apps);
        let waiting = |app: Arc<AppShare>| inbox_bytes.saturating_sub(app.inbox.available_permits());
        apps.values().filter_map(Weak::upgrade).map(waiting).sum()
    }
}

/// An allowance of time: a part of the time that passes, and some saved up.
struct Allowance {
    percent: i64,
    state: Mutex<Saved>,
}

struct Saved {
    nanos: i64,
    since: Instant,
}

impl Allowance {
    /// An allowance that has all that it can save up.
    fn new(percent: i64, now: Instant) -> Self {
        Self { percent, state: Mutex::new(Saved { nanos: BURST_NS, since: now }) }
    }

    /// Whether some of it is left at `now`; always if the app `is_alone`. What it uses while it is alone is not held against
    /// it for longer than a burst.
    fn is_left(&self, now: Instant, is_alone: bool) -> bool {
        let mut saved = lock(&self.state);
        let passed = now.saturating_duration_since(saved.since);
        // Another thread may have looked at the clock later and come first.
        saved.since = saved.since.max(now);
        let earned = i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX) / 100 * self.percent;
        saved.nanos = saved.nanos.saturating_add(earned).min(BURST_NS);
        if is_alone {
            saved.nanos = saved.nanos.max(-BURST_NS);
        }
        is_alone || saved.nanos > 0
    }

    /// Charges `time`, which may be more than is left.
    fn use_up(&self, time: Duration) {
        let mut saved = lock(&self.state);
        let nanos = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        saved.nanos = saved.nanos.saturating_sub(nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    #[test]
    fn what_is_used_up_comes_back_with_time_and_no_more_than_a_burst_is_saved() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let allowance = Allowance::new(40, start);
        let is_left = |at| allowance.is_left(at, false);
        assert!(is_left(start));
        allowance.use_up(Duration::from_millis(60));
        assert!(!is_left(after(90)), "36 of 40 ms are back");
        assert!(is_left(after(101)));
        allowance.use_up(Duration::from_millis(1));
        assert!(!is_left(after(101)));
        assert!(is_left(after(10_000)));
        allowance.use_up(Duration::from_millis(21));
        assert!(!is_left(after(10_000)), "ten seconds of silence save up no more than a burst");
    }

    #[test]
    fn an_app_keeps_to_its_allowance_while_there_is_another_one() {
        let apps = AppShares::default();
        let app = |name: &str| {
            apps.of(&Approval { namespace: "xyz.one".parse().unwrap(), client_id: name.into() }, 10)
        };
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let one = app("one");
        one.at_once.use_up(Duration::from_secs(3600));
        assert!(one.is_left(&one.at_once, start), "nobody else is there");
        let two = app("two");
        assert!(!one.is_left(&one.at_once, after(1)));
        assert!(two.is_left(&two.at_once, after(1)));
        assert!(one.is_left(&one.at_once, after(51)), "20 ms are owed of the hour");
        one.at_once.use_up(Duration::from_secs(1));
        assert!(!one.is_left(&one.at_once, after(1000)), "all of it is owed while there is another one");
        drop(two);
        assert!(one.is_left(&one.at_once, after(1000)));
    }

    /// Each connection's steps take long, and all of them are always ready.
    #[tokio::test]
    async fn others_wait_for_one_step_of_an_app_however_many_connections_it_has() {
        let apps = Arc::new(AppShares::default());
        let approval = Approval { namespace: "xyz.one".parse().unwrap(), client_id: "many".into() };
        let steps = Arc::new(AtomicUsize::new(0));
        let connections: Vec<_> = (0..50)
            .map(|_| {
                let (app, steps) = (apps.of(&approval, 10), steps.clone());
                tokio::spawn(async move {
                    let work = async {
                        for _ in 0..20 {
                            let began = Instant::now();
                            while began.elapsed() < LONG_STEP {}
                            steps.fetch_add(1, Ordering::Relaxed);
                            tokio::task::yield_now().await;
                        }
                    };
                    app.in_turn(work, || false).await;
                })
            })
            .collect();
        let other = tokio::spawn(async move {
            let (mut before, mut most) = (0, 0);
            while before < 1000 {
                // Not by `yield_now`, which has a task wait for the next look at the sockets.
                let mut had_turn = false;
                poll_fn(|context| {
                    context.waker().wake_by_ref();
                    if std::mem::replace(&mut had_turn, true) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                let now = steps.load(Ordering::Relaxed);
                most = most.max(now - before);
                before = now;
            }
            most
        });
        let most = other.await.unwrap();
        assert!(most <= 2, "{most} steps before another app's");
        for connection in connections {
            connection.await.unwrap();
        }
    }

    #[tokio::test]
    async fn urgent_steps_wait_for_nobody() {
        let apps = AppShares::default();
        let approval = Approval { namespace: "xyz.one".parse().unwrap(), client_id: "app".into() };
        let app = apps.of(&approval, 10);
        let turn = app.turn.acquire().await;
        app.in_turn(async {}, || true).await;
        let mut waits = pin!(app.in_turn(async {}, || false));
        assert!(poll_fn(|context| Poll::Ready(waits.as_mut().poll(context).is_pending())).await);
        drop(turn);
        waits.await;
    }

    #[test]
    fn an_app_is_one_while_it_has_a_connection() {
        let apps = AppShares::default();
        let approval = |app: &str| Approval { namespace: "xyz.one".parse().unwrap(), client_id: app.into() };
        let one = apps.of(&approval("one"), 10);
        assert!(Arc::ptr_eq(&one, &apps.of(&approval("one"), 10)));
        assert!(!Arc::ptr_eq(&one, &apps.of(&approval("two"), 10)));
        // What still waits in a shard counts for those who come after.
        let waits = one
            .inbox
            .clone()
            .try_acquire_many_owned(7)
            .map(|permit| InboxPermit { permit, app: one.clone() });
        drop(one);
        assert_eq!(apps.of(&approval("one"), 10).inbox.available_permits(), 3);
        drop(waits);
        assert_eq!(apps.of(&approval("one"), 20).inbox.available_permits(), 20);
        assert_eq!(lock(&apps.apps).len(), 1, "who is gone is forgotten");
    }
}
