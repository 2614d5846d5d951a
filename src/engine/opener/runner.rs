//! The threads that have large jobs done by processes.

use std::time::{Duration, Instant};

use super::desk::{KEEP_OPEN, Large, Next, SetAside};
use super::frame::{Order, Work};
use super::process::{Failure, Process};
use super::shared::Shared;
use super::transfer::{self, Answer, Interrupted};
use super::trouble::{Trouble, TroubleKind};
use crate::store::StoreError;
use crate::sync::job::{Job, Refusal};
use crate::types::DocKey;

/// Bytes of memory that a slow machine's processor fills in a second, at least.
const SLOWEST_BYTES: u64 = 8 << 20;

/// A process that has a document open for the next part of an extraction.
struct Kept<'a> {
    key: DocKey,
    process: Process<'a>,
    set_aside: SetAside,
    until: Instant,
}

/// Why a large job came to nothing.
enum Unfinished {
    Failure(Failure),
    Store(StoreError),
    /// What was to be opened is no longer there.
    Replaced,
    /// The changes are more than the server holds in memory.
    TooMuch,
}

/// The thread of one process at a time.
pub fn large(shared: &Shared, number: usize) {
    let mut kept: Option<Kept<'_>> = None;
    loop {
        match shared.desk.next_large(number, kept.as_ref().map(|kept| kept.until)) {
            Next::Run(large) => {
                let Ok(keeps) = shared.run_large(number, *large, kept.take()) else { return };
                kept = keeps;
            }
            Next::LetGo => {
                if let Some(Kept { process, set_aside, .. }) = kept.take() {
                    // Its memory is free when it has ended, not before.
                    drop(process);
                    shared.desk.let_go(number, set_aside.memory_bytes);
                }
            }
            Next::Stop => return,
        }
    }
}

impl Shared {
    /// Has a process do a job; gives the process back if more of the same document is to come. `kept` has the job's document
    /// open.
    ///
    /// # Errors
    /// The server stops: the job is dropped.
    fn run_large<'a>(
        &'a self,
        number: usize,
        large: Large,
        kept: Option<Kept<'a>>,
    ) -> Result<Option<Kept<'a>>, ()> {
        let began = Instant::now();
        let Large { task, need, set_aside } = large;
        let (key, lane) = (task.job.key().clone(), task.lane.clone());
        // With a kept process come the bytes that it was given.
        let set_aside = kept.as_ref().map_or(set_aside, |kept| set_aside.of_process(&kept.set_aside));
        let most = need.memory_bytes.max(set_aside.memory_bytes);
        let is_marked = kept.is_none() && most > self.desk.memory_bytes() / 2;
        if is_marked {
            self.record.begin(&key, task.sender(), need.memory_bytes);
        }
        tracing::debug!(document = %key.document, kind = task.job.kind(), need_bytes = need.memory_bytes, "opening a document in a process of its own");
        let mut keeps = None;
        match self.have_done(&task.job, set_aside.memory_bytes.saturating_add(need.reserved_bytes), kept) {
            Ok((answer, process)) => {
                self.record.end(&key, need.memory_bytes);
                if answer.has_more() {
                    let (key, until) = (key.clone(), Instant::now() + KEEP_OPEN);
                    keeps = Some(Kept { key, process, set_aside, until });
                }
                self.finish(task, answer, &need, began);
            }
            Err(Unfinished::Store(error)) => {
                self.record.cancel(&key);
                self.unreadable(task, &error);
            }
            Err(Unfinished::Replaced) => {
                self.record.cancel(&key);
                self.answer(task, Answer::Absent);
            }
            Err(Unfinished::TooMuch) => {
                self.record.cancel(&key);
                self.refuse_too_much(task, &need);
            }
            Err(Unfinished::Failure(Failure::Stopped)) => return Err(()),
            Err(Unfinished::Failure(Failure::NotStarted(why))) => {
                self.record.cancel(&key);
                tracing::warn!(document = %key.document, namespace = %key.namespace, why, "a document is too large for the server's own process, and no other could be started");
                let trouble = self.trouble(TroubleKind::NoProcess, &task);
                self.record.note(Trouble { reason: why, ..trouble.of(&need) });
                self.refuse(task, Refusal::NoProcess);
            }
            Err(Unfinished::Failure(Failure::WantedMore))
                if set_aside.memory_bytes < self.desk.memory_bytes() =>
            {
                self.record.cancel(&key);
                tracing::debug!(document = %key.document, need_bytes = need.memory_bytes, "the estimate of an opening was too low: it is tried with all that processes may take");
                self.desk.try_again(number, Large { task, need, set_aside }, began.elapsed());
                return Ok(None);
            }
            Err(Unfinished::Failure(failure @ (Failure::Ended(_) | Failure::WantedMore))) => {
                let why = match failure {
                    Failure::Ended(why) => why,
                    _ => "it wanted more memory than memory.opener allows".to_owned(),
                };
                self.record.end_badly(&key, task.sender(), need.memory_bytes, &why);
                tracing::warn!(document = %key.document, namespace = %key.namespace, kind = task.job.kind(), why, "the process that opened a document ended badly");
                self.refuse(task, Refusal::EndedBadly);
            }
        }
        self.desk.large_done(number, (&lane, &key), set_aside, began.elapsed(), keeps.is_some());
        Ok(keeps)
    }

    fn have_done<'a>(
        &'a self,
        job: &Job,
        memory_bytes: u64,
        kept: Option<Kept<'a>>,
    ) -> Result<(Answer, Process<'a>), Unfinished> {
        let is_open = kept.as_ref().is_some_and(|kept| kept.key == *job.key());
        let mut process = match kept {
            Some(kept) if is_open => kept.process,
            _ => {
                let program = self.options.program.as_deref();
                Process::start(program, self.desk.stopping()).map_err(Unfinished::Failure)?
            }
        };
        let snapshot_changes = |key| {
            let head = self.store.head(key).map_err(Unfinished::Store)?;
            Ok(head.and_then(|head| head.snapshot).map_or(0, |info| info.changes))
        };
        let work = match job {
            Job::Intake { existing, .. } => Work::Intake { existing: *existing },
            Job::Extract { snapshot, have, skip, .. } => {
                Work::Extract { snapshot: snapshot.clone(), have: have.clone(), skip: *skip }
            }
            Job::Compact { key, .. } => Work::Compact { snapshot_changes: snapshot_changes(key)? },
        };
        let cpu = self.options.patience + Duration::from_secs(memory_bytes / SLOWEST_BYTES);
        // The machine may be busy with something else.
        process.set_deadline(Instant::now() + 2 * cpu);
        let parent = u64::from(std::process::id());
        let order = Order { parent, memory_bytes, cpu_seconds: cpu.as_secs().max(1), work };
        match transfer::run(&mut process, &order, job, &*self.store, is_open) {
            Ok(answer) => Ok((answer, process)),
            Err(Interrupted::Store(error)) => Err(Unfinished::Store(error)),
            Err(Interrupted::Replaced) => Err(Unfinished::Replaced),
            Err(Interrupted::TooMuch) => Err(Unfinished::TooMuch),
            Err(Interrupted::Pipe(error)) => Err(Unfinished::Failure(process.failed(&error))),
            Err(why @ Interrupted::Failed(_)) => Err(Unfinished::Failure(Failure::Ended(why.to_string()))),
            Err(Interrupted::Unlimited(why)) => Err(Unfinished::Failure(Failure::NotStarted(format!(
                "an opener process could not limit its memory: {why}"
            )))),
        }
    }
}
