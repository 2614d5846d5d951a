//! `kill -9` of the real server under load, again and again on the same data: nothing that any client was told is lost.
//!
//! Told means: the server's own sync messages gave a hash as one of its heads. That hash, and so all
//! changes before it, must be in what a newcomer gets after the server has been killed and started again.
//!
//! `KILL_SEED` repeats a run's choices, `KILL_ROUNDS` sets how many kills, `GROUNDMIST_SYNC` names another program to kill.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod device;
mod random;
mod server;
mod socket;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use automerge::{ActorId, Automerge, ChangeHash};

use device::{Device, Told};
use random::Random;
use server::Server;

const ROUNDS: u64 = 10;
const WRITERS: usize = 4;
/// A document that is written to in several rounds is left alone after this many.
const ROUNDS_PER_DOCUMENT: u64 = 10;
/// Milliseconds of load before a kill: at least, and at most that much more.
const LOAD: (u64, u64) = (60, 500);
/// How long a newcomer may take to get everything.
const NEWCOMER: Duration = Duration::from_secs(60);
/// Fewer acknowledged changes than this for each kill and the load was no load.
const LEAST_PER_ROUND: u64 = 50;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_client_was_told_is_lost() {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = number("KILL_SEED", u64::from(clock.subsec_nanos()));
    let rounds = number("KILL_ROUNDS", ROUNDS);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (data, log) = (directory.path().join("data"), directory.path().join("log"));
    std::fs::create_dir(&data).expect("a data directory");
    let begun = Instant::now();
    match run(&data, &log, rounds, Random(seed)).await {
        Ok(sum) => {
            // Not by println: these figures are worth seeing when the test passes too.
            let _ = writeln!(
                std::io::stderr(),
                "kill -9: {rounds} kills in {:.0} s, {} acknowledged changes of {} documents, all there (seed {seed})",
                begun.elapsed().as_secs_f64(),
                sum.changes,
                sum.documents,
            );
            assert!(
                sum.changes >= rounds * LEAST_PER_ROUND,
                "only {} changes were acknowledged: this was no load (seed {seed})",
                sum.changes
            );
        }
        Err(why) => {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            panic!("{why} (seed {seed})\nlast of the server's log, newest first:\n{}", tail.join("\n"));
        }
    }
}

/// What was checked at the end.
struct Sum {
    changes: u64,
    documents: usize,
}

async fn run(data: &Path, log: &Path, rounds: u64, mut random: Random) -> Result<Sum, String> {
    let mut devices: Vec<_> = (0..=WRITERS).map(|n| Device::new(&format!("device-{n}"))).collect();
    let mut told = Told::new();
    let mut sum = Sum { changes: 0, documents: 0 };
    for round in 0..=rounds {
        let server = Server::start(data, log).map_err(|error| format!("round {round}: {error}"))?;
        sum = check(&server, &told, round).await.map_err(|error| format!("after kill {round}: {error}"))?;
        if round == rounds {
            server.kill()?;
            break;
        }
        give_documents(&mut devices, round, &mut random)?;
        devices =
            load(devices, server, &mut random).await.map_err(|error| format!("round {round}: {error}"))?;
        for device in &mut devices {
            for (id, heads) in std::mem::take(&mut device.told) {
                told.entry(id).or_default().extend(heads);
            }
        }
    }
    Ok(sum)
}

/// Each writer gets a document of its own every round, another to go on with for some rounds, and
/// all share one; the last device only reads what is shared.
fn give_documents(devices: &mut [Device], round: u64, random: &mut Random) -> Result<(), String> {
    let fresh_start = round.is_multiple_of(ROUNDS_PER_DOCUMENT);
    let shared_id = id(random);
    let mut shared = Automerge::new().with_actor(actor(random));
    device::put(&mut shared, "first", "true")?;
    let Some((reader, writers)) = devices.split_last_mut() else { return Err("no devices".to_owned()) };
    for writer in writers {
        if fresh_start {
            let own = id(random);
            writer.add(&own, Automerge::new().with_actor(actor(random)));
            writer.add(&shared_id, shared.fork().with_actor(actor(random)));
            writer.writes = vec![own, shared_id.clone()];
        }
        // What was new in the last round is not written to any more.
        writer.writes.truncate(2);
        let new = id(random);
        writer.add(&new, Automerge::new().with_actor(actor(random)));
        writer.writes.push(new);
        for id in writer.writes.clone() {
            writer.start(&id)?;
        }
    }
    if fresh_start {
        reader.add(&shared_id, Automerge::new());
    }
    Ok(())
}

fn id(random: &mut Random) -> String {
    let mut bytes = [0; 16];
    bytes.fill_with(|| random.below(256) as u8);
    bs58::encode(bytes).with_check().into_string()
}

fn actor(random: &mut Random) -> ActorId {
    let mut bytes = [0; 16];
    bytes.fill_with(|| random.below(256) as u8);
    ActorId::from(bytes)
}

/// All devices write at once, then the server is killed at some instant.
async fn load(devices: Vec<Device>, server: Server, random: &mut Random) -> Result<Vec<Device>, String> {
    let mut working = Vec::new();
    for mut device in devices {
        let mut random = Random(random.below(u64::MAX));
        let mut socket = device.connect(server.port, &server.token).await?;
        working.push(tokio::spawn(async move {
            let why = device.work(&mut socket, &mut random).await;
            (device, why)
        }));
    }
    tokio::time::sleep(Duration::from_millis(LOAD.0 + random.below(LOAD.1))).await;
    for device in &working {
        if device.is_finished() {
            return Err("a device lost its connection before the server was killed".to_owned());
        }
    }
    server.kill()?;
    let mut devices = Vec::new();
    for device in working {
        devices.push(device.await.map_err(|error| error.to_string())?.0);
    }
    Ok(devices)
}

/// A newcomer without any document asks for all that were ever acknowledged, and must get all of it.
async fn check(server: &Server, told: &Told, round: u64) -> Result<Sum, String> {
    let mut newcomer = Device::new(&format!("newcomer-{round}"));
    for id in told.keys() {
        newcomer.add(id, Automerge::new());
    }
    let mut socket = newcomer.connect(server.port, &server.token).await?;
    let mut open: BTreeSet<_> = told.keys().cloned().collect();
    open.retain(|id| !is_whole(&newcomer, id, &told[id]));
    let end = Instant::now() + NEWCOMER;
    while !open.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        let Ok(message) = tokio::time::timeout(left, socket.receive()).await else {
            return Err(format!("a newcomer did not get {}", missing(&newcomer, told, &open)));
        };
        let message = message?;
        if message.kind == "doc-unavailable" && open.contains(&message.document) {
            return Err(format!("the server says that it does not have {}", message.document));
        }
        let id = message.document.clone();
        newcomer.take(message, &mut socket).await?;
        if open.contains(&id) && is_whole(&newcomer, &id, &told[&id]) {
            open.remove(&id);
        }
    }
    let changes = told.iter().map(|(id, heads)| covered(&newcomer, id, heads)).sum();
    Ok(Sum { changes, documents: told.len() })
}

fn is_whole(device: &Device, id: &str, heads: &HashSet<ChangeHash>) -> bool {
    device
        .document(id)
        .is_some_and(|document| heads.iter().all(|head| document.get_change_meta_by_hash(head).is_some()))
}

/// How many changes stand at or before these heads.
fn covered(device: &Device, id: &str, heads: &HashSet<ChangeHash>) -> u64 {
    let Some(document) = device.document(id) else { return 0 };
    let mut seen = HashSet::new();
    let mut next: Vec<_> = heads.iter().copied().collect();
    while let Some(hash) = next.pop() {
        if seen.insert(hash)
            && let Some(change) = document.get_change_meta_by_hash(&hash)
        {
            next.extend(change.deps);
        }
    }
    seen.len() as u64
}

fn missing(device: &Device, told: &Told, open: &BTreeSet<String>) -> String {
    let lost: BTreeMap<_, _> = open
        .iter()
        .map(|id| {
            let there = |head: &&ChangeHash| {
                device.document(id).is_none_or(|document| document.get_change_meta_by_hash(head).is_none())
            };
            (id, told[id].iter().filter(there).count())
        })
        .collect();
    format!("these heads that the server had acknowledged, by document: {lost:?}")
}
