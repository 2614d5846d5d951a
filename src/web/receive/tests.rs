use super::*;
use crate::web::reader::SMALL_MESSAGE;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

const MIB: usize = 1 << 20;
const POOL: usize = 16 * MIB;

/// Connections of many devices with one budget.
struct Scene {
    budget: Arc<ReceiveBudget>,
    liveness: Liveness,
}

impl Scene {
    fn new() -> Self {
        Self { budget: ReceiveBudget::new(POOL, Arc::default()), liveness: Liveness::default() }
    }

    fn hold(&self, app: &str, session: &str) -> Hold {
        self.budget.hold(Party::new("xyz.example".parse().unwrap(), app, session))
    }

    /// A message that has arrived in part.
    async fn half_sent(&self, app: &str, session: &str, bytes: usize) -> Hold {
        let mut hold = self.hold(app, session);
        hold.grow(bytes, &self.liveness).await.unwrap();
        hold.arrived(bytes);
        hold
    }

    /// Receives a message as a reader does, a quarter at a time, and how long that took in seconds.
    async fn receive(&self, app: &str, session: &str, bytes: usize) -> Result<u64, GaveWay> {
        let mut hold = self.hold(app, session);
        let begun = Instant::now();
        let mut held = 0;
        while held < bytes {
            let step = SMALL_MESSAGE.max(held / 4).min(bytes - held);
            hold.grow(step, &self.liveness).await?;
            hold.arrived(step);
            held += step;
        }
        Ok(begun.elapsed().as_secs())
    }

    fn evicted(&self) -> u64 {
        self.budget.evicted.read().iter().map(|(_, count)| count).sum()
    }
}

async fn is_pending<F: Future>(future: &mut Pin<&mut F>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

async fn gave_way(hold: &Hold) -> bool {
    !is_pending(&mut pin!(hold.gave_way())).await
}

#[tokio::test(start_paused = true)]
async fn half_sent_messages_of_one_app_keep_nobody_else_waiting() {
    for (what, count, bytes) in [
        ("the two of the report", 2, 17_000),
        ("as many as fill the pool", 900, 17_000),
        ("large ones", 200, 4 * MIB),
    ] {
        let scene = Scene::new();
        let mut holds: Vec<_> =
            (0..count).map(|n| scene.hold("hostile", &(n % (count / 2)).to_string())).collect();
        let mut claims: Vec<_> = holds
            .iter_mut()
            .map(|hold| {
                Box::pin(async {
                    hold.grow(bytes, &scene.liveness).await?;
                    std::future::pending::<Result<(), GaveWay>>().await
                })
            })
            .collect();
        for claim in &mut claims {
            assert!(is_pending(&mut claim.as_mut()).await);
        }
        for size in [5_000, 100_000, MIB] {
            assert_eq!(scene.receive("victim", "phone", size).await, Ok(0), "{what}, {size}");
        }
        assert_eq!(scene.evicted(), 0, "{what}: there was room");
        let took = scene.receive("victim", "phone", 6 * MIB).await.unwrap();
        assert!(took <= 2, "{what}: {took}");
        // Another device of the same app gets through as well, if not at once.
        let took = scene.receive("hostile", "victim", 17_000).await.unwrap();
        assert!(took <= 2, "{what}: {took}");
        assert!(scene.budget.held() <= POOL + 5 * MIB);
        drop(claims);
        drop(holds);
        assert_eq!(scene.budget.held(), 0, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_large_message_at_a_time_and_the_next_waits_for_it() {
    let scene = Scene::new();
    let large = scene.half_sent("one", "phone", 30 * MIB).await;
    let mut second = scene.hold("other", "phone");
    second.grow(8 * MIB, &scene.liveness).await.unwrap();
    second.arrived(8 * MIB);
    let mut grows = pin!(second.grow(20 * MIB, &scene.liveness));
    assert!(is_pending(&mut grows).await && scene.liveness.is_paused());
    assert_eq!(scene.receive("third", "phone", 3 * MIB).await, Ok(0));
    drop(large);
    assert!(grows.await.is_ok() && !scene.liveness.is_paused());
    assert_eq!((scene.budget.held(), scene.evicted()), (28 * MIB, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_large_message_gives_way_only_when_others_wait_for_its_slot() {
    for (rate, gives_way) in [(4 * 1024, true), (16 * 1024, false)] {
        let scene = Scene::new();
        let large = scene.half_sent("slow", "phone", 30 * MIB).await;
        let arrives = async {
            loop {
                sleep(Duration::from_secs(1)).await;
                large.arrived(rate);
            }
        };
        let mut arrives = pin!(arrives);
        assert!(tokio::time::timeout(Duration::from_secs(1_000), &mut arrives).await.is_err());
        assert!(!gave_way(&large).await, "nobody waits");
        let mut waiting = scene.hold("other", "phone");
        let grows = tokio::time::timeout(Duration::from_secs(100), waiting.grow(20 * MIB, &scene.liveness));
        let grown = tokio::select! {
            grown = grows => grown,
            () = &mut arrives => return,
        };
        assert_eq!((grown.is_ok(), gave_way(&large).await), (gives_way, gives_way), "{rate}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_whole_is_left_alone() {
    let scene = Scene::new();
    let large = scene.half_sent("one", "phone", 30 * MIB).await;
    let whole = scene.half_sent("one", "laptop", 9 * MIB).await;
    let half = scene.half_sent("one", "desktop", 2 * MIB).await;
    large.complete();
    whole.complete();
    let mut victim = scene.hold("other", "phone");
    let claimed = tokio::time::timeout(Duration::from_secs(60), victim.grow(7 * MIB, &scene.liveness)).await;
    assert!(claimed.is_err(), "what is whole is being worked on, and soon gone");
    assert!(!gave_way(&large).await && !gave_way(&whole).await && !gave_way(&half).await);
    drop(whole);
    victim.release();
    assert_eq!(scene.receive("other", "phone", 7 * MIB).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn the_slot_goes_round_by_app_and_device() {
    let scene = Scene::new();
    let first = scene.half_sent("a", "1", 30 * MIB).await;
    let order = Arc::<Mutex<Vec<&str>>>::default();
    let mut turns = Vec::new();
    for (name, app, session) in [
        ("a1", "a", "1"),
        ("a1 again", "a", "1"),
        ("a2", "a", "2"),
        ("b1", "b", "1"),
        ("b1 again", "b", "1"),
        ("c1", "c", "1"),
    ] {
        let (mut hold, order) = (scene.hold(app, session), Arc::clone(&order));
        turns.push(tokio::spawn(async move {
            hold.grow(20 * MIB, &Liveness::default()).await.unwrap();
            order.lock().unwrap().push(name);
            hold.complete();
            sleep(Duration::from_secs(1)).await;
        }));
        sleep(Duration::from_millis(1)).await;
    }
    drop(first);
    for turn in turns {
        turn.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["b1", "c1", "a2", "b1 again", "a1", "a1 again"]);
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_leaves_nothing_behind() {
    let scene = Scene::new();
    let large = scene.half_sent("one", "phone", 30 * MIB).await;
    {
        let mut waiting = scene.hold("other", "phone");
        assert!(is_pending(&mut pin!(waiting.grow(20 * MIB, &scene.liveness))).await);
        assert!(waiting.is_tight());
        waiting.release();
    }
    assert!(!scene.liveness.is_paused());
    drop(large);
    assert_eq!(scene.budget.held(), 0);
    assert!(!scene.hold("a", "b").is_tight());
}

#[test]
fn little_is_read_ahead_once_all_connections_have_read_much() {
    let scene = Scene::new();
    let mut holds: Vec<Hold> = (0..300).map(|n| scene.hold("app", &n.to_string())).collect();
    holds.iter_mut().for_each(|hold| hold.read_ahead(32 << 10));
    assert!(holds[0].is_tight(), "9.4 MiB");
    holds.iter_mut().take(100).for_each(|hold| hold.read_ahead(0));
    assert!(!holds[0].is_tight(), "6.3 MiB");
    holds[299].read_ahead(3 * MIB);
    assert!(holds[0].is_tight());
    holds.truncate(1);
    assert_eq!(scene.budget.ahead.load(Ordering::Relaxed), 0, "what has left has nothing");
}
