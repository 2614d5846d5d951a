//! Honest users while somebody is hostile: a writer and a reader of another app, two more devices of the hostile app, newcomers; and
//! a writer and a reader on another server, who notice only how busy the machine is.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use automerge::ChangeHash;
use groundmist_sync::types::DocumentId;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::common::peer::new_document;
use crate::common::server::random_text;
use crate::side::{Device, Noticed, Side};
use crate::stage::{Stage, neighbour};

/// How often the other app's writer makes a change, and how often the hostile app's other device does.
const OTHER_PERIOD: Duration = Duration::from_millis(20);
const DEVICE_PERIOD: Duration = Duration::from_millis(50);
/// Each so many changes one is a paste of more bytes than a small message has (16 KiB).
const PASTE_EVERY: usize = 25;
const PASTE_BYTES: usize = 24 * 1024;
/// What is missing so long after the foes are gone stays missing.
pub const SETTLE: Duration = Duration::from_secs(10);
/// How long a newcomer on a slow line takes to send its request.
const SLOW: Duration = Duration::from_millis(300);
/// Peer id of the hostile app's honest writer, which foes may know.
pub const DEVICE: &str = "second-device";

/// What a pair went through.
#[derive(Debug, Default)]
pub struct PairReport {
    /// From a change being made to the reader having it, sorted; for those that never arrived, until the end.
    pub latencies: Vec<Duration>,
    pub missing: usize,
    /// How many had arrived when the foes stopped.
    pub meanwhile: usize,
    pub writer: Noticed,
    pub reader: Noticed,
    pub document: Option<(DocumentId, Vec<ChangeHash>)>,
}

impl PairReport {
    /// The latency that so many of a thousand changes do not exceed.
    pub fn quantile(&self, of_thousand: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((self.latencies.len() * of_thousand / 1000).min(last)).copied().unwrap_or_default()
    }
}

/// What newcomers went through.
#[derive(Debug, Default)]
pub struct Newcomers {
    pub served: usize,
    pub refused: Vec<String>,
    pub slowest: Duration,
}

/// What all of them went through.
#[derive(Debug, Default)]
pub struct Reports {
    /// The other app's pair.
    pub other: PairReport,
    /// The hostile app's other devices.
    pub same: PairReport,
    /// The pair on another server.
    pub control: PairReport,
    pub newcomers: Newcomers,
}

/// Until when to go on: `None` is no end in sight, afterwards it is the time to give up.
type Until = watch::Receiver<Option<Instant>>;

/// All of them at work.
pub struct Victims {
    until: watch::Sender<Option<Instant>>,
    thread: JoinHandle<Reports>,
}

impl Victims {
    /// Starts them on a thread of their own; returns when each pair is in step.
    pub fn start(
        stage: &Stage,
        address: SocketAddr,
        control: SocketAddr,
        device_document: DocumentId,
    ) -> Self {
        let device = |token: &str, peer: &str| Device {
            address,
            token: token.into(),
            peer: peer.into(),
            slow: Duration::ZERO,
        };
        let other = [device(&stage.others[0], "writer"), device(&stage.others[1], "reader")];
        // The last sessions: foes begin with the first.
        let writers = stage.writers.iter().rev().collect::<Vec<_>>();
        let same = [device(writers[0], DEVICE), device(writers[1], "third-device")];
        let elsewhere = other.clone().map(|device| Device { address: control, ..device });
        let newcomer = Device { slow: SLOW, ..device(&stage.others[2], "newcomer") };
        let (until, watching) = watch::channel(None);
        let (ready, is_ready) = mpsc::channel();
        let work = async move {
            let (other, same, control, newcomers) = tokio::join!(
                pair(other, neighbour(), OTHER_PERIOD, &watching, &ready),
                pair(same, device_document, DEVICE_PERIOD, &watching, &ready),
                pair(elsewhere, neighbour(), OTHER_PERIOD, &watching, &ready),
                newcomers(newcomer, watching.clone())
            );
            Reports { other, same, control, newcomers }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn(move || runtime.block_on(work));
        (0..3).for_each(|_| is_ready.recv_timeout(crate::common::PATIENCE).unwrap());
        Self { until, thread }
    }

    /// The foes are gone: waits for what is still on its way.
    pub fn stop(self) -> Reports {
        self.until.send(Some(Instant::now() + SETTLE)).unwrap();
        self.thread.join().unwrap()
    }
}

fn given_up(until: &Until) -> bool {
    until.borrow().is_some_and(|end| Instant::now() > end)
}

/// When each change was made.
type Made = Arc<Mutex<Vec<Instant>>>;

async fn pair(
    [writer, reader]: [Device; 2],
    document: DocumentId,
    period: Duration,
    until: &Until,
    ready: &mpsc::Sender<()>,
) -> PairReport {
    let mut writer = Side::join(writer, document).await.unwrap();
    writer.put("count", 0).await.unwrap();
    writer.until(crate::common::PATIENCE, Side::is_acknowledged).await.unwrap();
    let mut reader = Side::join(reader, document).await.unwrap();
    reader.request().await.unwrap();
    reader.until(crate::common::PATIENCE, |side| !side.heads().is_empty()).await.unwrap();
    ready.send(()).unwrap();
    let made = Made::default();
    let (heads, report) = tokio::join!(
        write(&mut writer, period, until.clone(), &made),
        read(&mut reader, until.clone(), &made)
    );
    let document = Some((document, heads));
    PairReport { writer: writer.noticed, reader: reader.noticed, document, ..report }
}

/// Makes changes until told to stop, then waits until all are acknowledged; the heads.
async fn write(side: &mut Side, period: Duration, until: Until, made: &Made) -> Vec<ChangeHash> {
    let mut clock = interval(period);
    // A change is made when the user makes it, not when the connection has room for it.
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut count = 0;
    loop {
        let stopped = until.borrow().is_some();
        if stopped && (side.is_acknowledged() || given_up(&until)) {
            return side.heads();
        }
        let result = tokio::select! {
            due = clock.tick() => {
                if stopped {
                    continue;
                }
                count += 1;
                made.lock().unwrap().push(due.into_std());
                let pasted = match count % PASTE_EVERY {
                    0 => side.put("pasted", random_text(PASTE_BYTES)).await,
                    _ => Ok(()),
                };
                match pasted {
                    Ok(()) => side.put("count", count as i64).await,
                    Err(error) => Err(error),
                }
            }
            message = side.client.receive() => match message {
                Ok(message) => side.take(message).await,
                Err(error) => Err(error),
            }
        };
        if let Err(error) = result
            && !side.reconnect(&error, || given_up(&until)).await
        {
            return side.heads();
        }
    }
}

/// Notes when each change arrives, until all are there.
async fn read(side: &mut Side, until: Until, made: &Made) -> PairReport {
    let mut report = PairReport::default();
    let mut stopped = false;
    loop {
        if until.borrow().is_some() && !std::mem::replace(&mut stopped, true) {
            report.meanwhile = report.latencies.len();
        }
        let result = tokio::select! {
            message = side.client.receive() => match message {
                Ok(message) => side.take(message).await,
                Err(error) => Err(error),
            },
            () = sleep(Duration::from_millis(20)) => Ok(()),
        };
        let made: Vec<Instant> = made.lock().unwrap().clone();
        let there = side.number("count").min(made.len());
        let new = made.get(report.latencies.len()..there).unwrap_or_default();
        report.latencies.extend(new.iter().map(Instant::elapsed));
        let reconnected = match result {
            Ok(()) => true,
            Err(error) => side.reconnect(&error, || given_up(&until)).await,
        };
        if (stopped && there == made.len()) || given_up(&until) || !reconnected {
            report.missing = made.len() - report.latencies.len();
            let missing = made[report.latencies.len()..].iter().map(Instant::elapsed);
            report.latencies.extend(missing.collect::<Vec<_>>());
            report.latencies.sort_unstable();
            return report;
        }
    }
}

/// One after the other connects over a slow line and stores a new document.
async fn newcomers(device: Device, until: Until) -> Newcomers {
    let mut seen = Newcomers::default();
    while until.borrow().is_none() {
        let began = Instant::now();
        let arrival = async {
            let mut side = Side::join(device.clone(), new_document()).await?;
            side.put("key", "value").await?;
            side.until(SETTLE, Side::is_acknowledged).await
        };
        match arrival.await {
            Ok(_) => seen.served += 1,
            Err(error) => {
                seen.refused.push(error.to_string());
                sleep(Duration::from_millis(100)).await;
            }
        }
        seen.slowest = seen.slowest.max(began.elapsed());
    }
    seen
}

/// A fresh device gets a document with these heads.
pub fn is_whole(
    address: SocketAddr,
    token: &str,
    document: DocumentId,
    heads: &[ChangeHash],
) -> Result<(), String> {
    let device = Device { address, token: token.into(), peer: "auditor".into(), slow: Duration::ZERO };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let check = async {
        let mut side = Side::join(device, document).await?;
        side.request().await?;
        side.until(SETTLE, |side| side.heads() == heads).await
    };
    runtime.block_on(check).map(drop).map_err(|error| error.to_string())
}
