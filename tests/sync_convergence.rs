//! The sync core against automerge's own protocol on random histories.
//!
//! `SIM_SEED=n` runs one history, `SIM_HISTORIES=n` that many.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod sim;

fn history(seed: u64) -> u64 {
    let mut world = sim::World::new(seed);
    let steps = 20 + world.rng.below(400);
    for _ in 0..steps {
        world.step();
    }
    world.settle();
    world.check_converged();
    world.messages
}

fn run(seed: u64) -> u64 {
    std::panic::catch_unwind(|| history(seed))
        .unwrap_or_else(|_| panic!("history failed: run again with SIM_SEED={seed}"))
}

#[test]
fn random_histories_converge() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SIM_HISTORIES").unwrap_or(3000)).collect(),
    };
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let messages: u64 = std::thread::scope(|scope| {
        let share = |worker: usize| seeds.iter().copied().skip(worker).step_by(workers);
        let running: Vec<_> =
            (0..workers).map(|worker| scope.spawn(move || share(worker).map(run).sum::<u64>())).collect();
        running.into_iter().map(|worker| worker.join().expect("a history failed, see above")).sum()
    });
    println!("{} histories, {messages} messages to the server", seeds.len());
    assert!(seeds.len() < 100 || messages > seeds.len() as u64 * 10, "the histories do too little");
}
