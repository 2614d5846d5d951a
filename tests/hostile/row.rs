//! One row: a server, victims, foes for a few seconds, and what must hold meanwhile and afterwards.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use groundmist_sync::types::DocumentId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Client, Joining};
use crate::common::Server;
use crate::foes::{Foe, Script, Slot};
use crate::stage::{Stage, neighbour};
use crate::victims::{PairReport, Reports, Victims, is_whole};
use crate::watch::{Seen, Watch, reset_peak, size_of};

/// How long foes are at it, at most.
const ATTACK: Duration = Duration::from_millis(2500);
/// How long they hold what they got.
const HOLD: Duration = Duration::from_millis(300);
/// How much the threads of foes stand back for others, as nice(1) says it.
const FOES_PRIORITY: i32 = 10;
/// Victims go on for so long when the foes have left.
const TAIL: Duration = Duration::from_millis(200);

/// What may at most come of an attack. Times are wide: without the fault they are milliseconds, and the machine may be busy.
const MOST_RSS_BYTES: u64 = (128 << 20) + MORE_OF_A_DEBUG_BINARY;
/// A debug binary has so many more bytes of itself in memory: idle 22 MB rather than 9, nearly all of it pages of the file.
const MORE_OF_A_DEBUG_BINARY: u64 = if cfg!(debug_assertions) { 14 << 20 } else { 0 };
const MOST_RELAY_P99: Duration = Duration::from_secs(2);
const MOST_GAP: Duration = Duration::from_secs(5);
const MOST_NEWCOMER: Duration = Duration::from_secs(5);
/// By how much a read-only app may make the data directory grow, besides what victims write.
const MOST_GROWTH_BYTES: u64 = 12 << 20;

/// What an app is approved for.
#[derive(Clone, Copy, PartialEq)]
pub enum May {
    Read,
    Write,
}

/// What foes know when they write their scripts.
pub struct Scene<'a> {
    pub stage: &'a Stage,
    /// The server's peer id.
    pub server: String,
    /// What the hostile app's honest devices have open.
    pub device_document: DocumentId,
}

/// An attack.
pub struct Attack {
    pub name: &'static str,
    pub may: May,
    /// How many sockets: of one session; over all sessions, 0 if that is nothing new.
    pub sockets: [usize; 2],
    pub script: fn(&Scene<'_>, Slot) -> Script,
}

/// What a row showed.
struct Outcome {
    reports: Reports,
    seen: Seen,
    growth: u64,
    faults: Vec<String>,
}

impl Attack {
    /// Runs it with so many sockets and prints a line; what went wrong.
    pub fn run(&self, stage: &Stage, control: &Server, spread: bool) -> Vec<String> {
        let sockets = self.sockets[usize::from(spread)];
        let name = format!("{} {}", self.name, if spread { "spread" } else { "single" });
        let outcome = self.outcome(stage, control, sockets);
        let ms = |time: Duration| time.as_millis();
        let Reports { other, same, control, newcomers } = &outcome.reports;
        let line = format!(
            "{name:<36} other {:>5}/{:>5}/{:>5} ms (machine {:>4})  same {:>4} of {:>4}, {:>5} ms, {} cut off  newcomers {:>2}, {:>5} ms  gap {:>5} ms  rss {:>4} MB  disk {:>4} MB  {}",
            ms(other.quantile(500)),
            ms(other.quantile(990)),
            ms(other.quantile(1000)),
            ms(control.quantile(990)),
            same.meanwhile,
            same.latencies.len(),
            ms(same.quantile(1000)),
            same.writer.disconnects.len() + same.reader.disconnects.len(),
            newcomers.served,
            ms(newcomers.slowest),
            ms(outcome.seen.longest_gap),
            outcome.seen.peak_rss >> 20,
            outcome.growth >> 20,
            if outcome.faults.is_empty() {
                "ok".into()
            } else {
                format!("FAILED: {}", outcome.faults.join("; "))
            },
        );
        // Not by a macro, which would keep it back until the end.
        let _ = writeln!(std::io::stderr(), "{line}");
        outcome.faults.into_iter().map(|fault| format!("{name}: {fault}")).collect()
    }

    fn outcome(&self, stage: &Stage, control: &Server, sockets: usize) -> Outcome {
        let directory = tempfile::tempdir().unwrap();
        let server = stage.server(directory.path());
        // Foes are on other machines: the server and its victims do not compete with them for the processors.
        let step_back = || rustix::process::setpriority_process(None, FOES_PRIORITY).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .on_thread_start(step_back)
            .enable_all()
            .build()
            .unwrap();
        let joining = Joining::new(server.address, &stage.writers[0], "scout");
        let scout = runtime.block_on(Client::join(&joining)).unwrap();
        let device_document = neighbour();
        let scene = Scene { stage, server: scout.server.clone(), device_document };
        drop(scout);
        let slots = (0..sockets).map(|at| Slot { at, of: sockets });
        let scripts: Vec<(Slot, Script)> = slots.map(|slot| (slot, (self.script)(&scene, slot))).collect();
        let victims = Victims::start(stage, server.address, control.address, device_document);
        let before = size_of(directory.path());
        reset_peak(server.pid());
        let watch = Watch::start(server.pid(), directory.path());
        runtime.block_on(self.attack(stage, &server, scripts));
        std::thread::sleep(TAIL);
        let reports = victims.stop();
        let growth = size_of(directory.path()).saturating_sub(before);
        let mut faults = Vec::new();
        for (what, report, token) in [
            ("the other app", &reports.other, &stage.others[3]),
            ("the second device", &reports.same, &stage.readers[0]),
        ] {
            // What is known to be missing is not waited for once more.
            if let Some((document, heads)) = report.document.as_ref().filter(|_| report.missing == 0)
                && let Err(why) = is_whole(server.address, token, *document, heads)
            {
                faults.push(format!("{what} lost changes ({why})"));
            }
        }
        let seen = watch.stop();
        if server.log().contains("panicked") {
            faults.push("a part of the server panicked".into());
        }
        let mut outcome = Outcome { reports, seen, growth, faults };
        outcome.judge(self.may);
        outcome
    }

    async fn attack(&self, stage: &Stage, server: &Server, scripts: Vec<(Slot, Script)>) {
        let tokens = if self.may == May::Read { &stage.readers } else { &stage.writers };
        let until = Instant::now() + ATTACK;
        let working = Arc::new(AtomicUsize::new(scripts.len()));
        let (release, released) = watch::channel(false);
        let address = server.address;
        let foes = scripts.into_iter().map(|(slot, script)| {
            let (working, mut released) = (working.clone(), released.clone());
            async move {
                let done = || {
                    working.fetch_sub(1, Ordering::Relaxed);
                };
                let release = async move { drop(released.wait_for(|released| *released).await) };
                Foe { address, tokens, slot }.run(script, until, done, release).await;
            }
        });
        let end = async {
            // What is written is not yet read.
            sleep_until(until).await;
            while working.load(Ordering::Relaxed) > 0 {
                sleep(Duration::from_millis(20)).await;
            }
            sleep(HOLD).await;
            release.send(true).unwrap();
        };
        tokio::join!(join_all(foes), end);
    }
}

/// Runs them side by side.
async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

impl Outcome {
    fn judge(&mut self, may: May) {
        let Reports { other, same, control, newcomers } = &self.reports;
        let seen = &self.seen;
        // What the machine alone makes everybody wait.
        let busy = 2 * control.quantile(1000);
        let cut_off = |report: &PairReport| {
            [&report.writer, &report.reader].iter().find_map(|side| side.disconnects.first().cloned())
        };
        let told_off = |report: &PairReport| {
            [&report.writer, &report.reader].iter().find_map(|side| side.errors.first().cloned())
        };
        let mut faults = Vec::new();
        let mut check = |wrong: bool, fault: String| {
            if wrong {
                faults.push(fault);
            }
        };
        check(seen.ended, format!("took {} MB", seen.peak_rss >> 20));
        check(seen.peak_rss > MOST_RSS_BYTES, "too much memory".into());
        check(other.quantile(990) > MOST_RELAY_P99 + busy, "the other app waits".into());
        check(
            other.missing + same.missing > 0,
            format!("{} changes never arrived", other.missing + same.missing),
        );
        check(same.meanwhile == 0, "the second device makes no progress".into());
        for (who, report) in [("the other app", other), ("the second device", same)] {
            check(
                cut_off(report).is_some(),
                format!("{who} is cut off ({})", cut_off(report).unwrap_or_default()),
            );
            check(
                told_off(report).is_some(),
                format!("{who} is told off ({})", told_off(report).unwrap_or_default()),
            );
        }
        check(same.reader.forged > 0, format!("{} messages in another's name", same.reader.forged));
        check(
            !newcomers.refused.is_empty(),
            format!("newcomers are refused ({})", newcomers.refused.join(", ")),
        );
        check(newcomers.slowest > MOST_NEWCOMER + busy, "newcomers wait".into());
        check(seen.longest_gap > MOST_GAP + busy, "no sign of life".into());
        check(may == May::Read && self.growth > MOST_GROWTH_BYTES, "a read-only app fills the disk".into());
        self.faults.extend(faults);
    }
}
