//! What the opener's threads share: the desk, the record, the store. The thread that estimates jobs and does small ones.

use std::sync::Arc;
use std::time::Instant;

use super::desk::{Desk, KEEP_OPEN};
use super::estimate::{Estimator, Need};
use super::figures::{Figures, Where};
use super::record::{MOST_BAD_ENDS, Record};
use super::transfer::{Answer, MOST_BYTES};
use super::trouble::{Trouble, TroubleKind};
use super::{OpenerOptions, Task};
use crate::engine::mailbox::Sender;
use crate::engine::shard::Input;
use crate::store::{Store, StoreError};
use crate::sync::job::{Done, Job, Refusal};
use crate::sync::opener::Opener;

/// A job that needs at most so many bytes of memory is done in the server's own process.
const SMALL_BYTES: u64 = 24 << 20;

/// What the threads share.
pub struct Shared {
    pub desk: Desk,
    pub record: Arc<Record>,
    pub store: Arc<Store>,
    pub options: OpenerOptions,
    pub figures: Figures,
}

/// The thread that estimates jobs and does the small ones.
pub fn small(shared: &Shared) {
    let mut opener = super::opener();
    let mut estimator = Estimator::new(shared.desk.memory_bytes());
    let mut rested = true;
    loop {
        match shared.desk.next_arrived((!rested).then_some(KEEP_OPEN)) {
            Ok(Some(task)) => {
                rested = false;
                shared.admit(task, &mut opener, &mut estimator);
            }
            Ok(None) => {
                opener.rest();
                rested = true;
            }
            Err(()) => return,
        }
    }
}

impl Shared {
    /// Does a job, hands it on, or refuses it.
    fn admit(&self, task: Task, opener: &mut Opener, estimator: &mut Estimator) {
        let began = Instant::now();
        let (key, lane) = (task.job.key().clone(), task.lane.clone());
        let bad_ends = self.record.bad_ends(&key);
        if bad_ends >= MOST_BAD_ENDS {
            tracing::debug!(document = %key.document, "document stays closed");
            // Before the estimate, which reads all of the document.
            self.refuse(task, Refusal::StaysClosed);
            return self.desk.done(&lane, &key, began.elapsed());
        }
        let allowed_bytes = self.desk.memory_bytes();
        let need = match estimator.estimate(&task.job, &*self.store) {
            Ok(Some(need)) => need,
            Ok(None) => {
                self.answer(task, Answer::Absent);
                return self.desk.done(&lane, &key, began.elapsed());
            }
            Err(error) => {
                self.unreadable(task, &error);
                return self.desk.done(&lane, &key, began.elapsed());
            }
        };
        let is_compaction = matches!(task.job, Job::Compact { .. });
        if is_compaction && need.size_bytes > MOST_BYTES as u64 {
            self.refuse_too_much(task, &need);
        } else if need.memory_bytes <= SMALL_BYTES {
            tracing::debug!(document = %key.document, kind = task.job.kind(), "opening a document");
            let Task { job, shard, .. } = task;
            let kind = Figures::kind(&job);
            let done = opener.run(job, &*self.store);
            self.figures.done(kind, Where::Thread, began.elapsed());
            self.judge(&done, &need, Where::Thread);
            tell(&shard, done);
        } else if need.memory_bytes > allowed_bytes {
            tracing::info!(document = %key.document, namespace = %key.namespace, kind = task.job.kind(), need_bytes = need.memory_bytes, allowed_bytes, "a document is too large to be opened, see memory.opener");
            let kind = match task.job {
                Job::Compact { .. } => Some(TroubleKind::TooLargeToCompact),
                Job::Intake { .. } => Some(TroubleKind::TooLargeToTakeIn),
                // The device gets the whole snapshot instead, so nothing is wrong.
                Job::Extract { .. } => None,
            };
            if let Some(kind) = kind {
                self.record.note(self.trouble(kind, &task).of(&need));
            }
            self.refuse(task, Refusal::TooLarge { need_bytes: need.memory_bytes, allowed_bytes });
        } else {
            // After one bad end the estimate may have been too low, so the second try gets all there is.
            let memory_bytes = if bad_ends > 0 { allowed_bytes } else { need.memory_bytes };
            return self.desk.hand_on(task, need, memory_bytes);
        }
        // After the reply: the next job of the document must not answer first.
        self.desk.done(&lane, &key, began.elapsed());
    }

    /// Notes what a finished job says of its document.
    fn judge(&self, done: &Done, need: &Need, place: Where) {
        use TroubleKind::{Failed, NoProcess, NotExtracted, TooLargeToCompact};
        let is_done = match done {
            Done::Compact { result, .. } => matches!(result, Ok(Some(_))),
            Done::Extract { result, .. } => matches!(result, Ok(Some(_))),
            Done::Intake { result, .. } => result.is_ok(),
            Done::Refused(..) => false,
        };
        if is_done && matches!(place, Where::Child) {
            self.record.is_well(done.key(), &[NoProcess]);
        }
        match done {
            Done::Compact { key, result: Ok(Some(_)), .. } => {
                self.record.is_well(key, &[TooLargeToCompact, Failed, NotExtracted]);
            }
            Done::Compact { key, result: Err(why), .. } => {
                let reason = format!("its changes could not be compacted: {why}");
                self.record.note(Trouble { reason, ..Trouble::new(Failed, key, None) });
            }
            Done::Extract { key, result: Err(why), .. } => {
                let reason = why.to_string();
                self.record.note(Trouble { reason, ..Trouble::new(NotExtracted, key, None) });
            }
            Done::Extract { key, result: Ok(Some(_)), .. } => self.record.is_well(key, &[NotExtracted]),
            Done::Intake { key, result: Ok(_), .. } => self.record.came_in(key, need),
            _ => {}
        }
    }

    /// The store cannot give what a job would open.
    pub(super) fn unreadable(&self, task: Task, error: &StoreError) {
        tracing::debug!(document = %task.job.key().document, kind = task.job.kind(), %error, "a document could not be read to be opened");
        let answer = match task.job {
            Job::Intake { .. } => Answer::Failed(error.to_string()),
            Job::Extract { .. } | Job::Compact { .. } => Answer::Absent,
        };
        self.answer(task, answer);
    }

    /// The job's result would be more than the server holds in memory, however much its processes may take.
    pub(super) fn refuse_too_much(&self, task: Task, need: &Need) {
        let reason = match task.job {
            Job::Compact { .. } => {
                "it has more than 128 MiB, so it is not compacted, and stays as single changes"
            }
            Job::Intake { .. } | Job::Extract { .. } => {
                "it came whole, with more than 128 MiB of changes: they are asked for one by one"
            }
        };
        tracing::info!(document = %task.job.key().document, namespace = %task.job.key().namespace, kind = task.job.kind(), reason, "a document is too large for the server's memory");
        let trouble = self.trouble(TroubleKind::Failed, &task);
        self.record.note(Trouble { reason: reason.into(), ..trouble.of(need) });
        self.refuse(task, Refusal::TooMuch);
    }

    /// Tells the shard what came of a job.
    pub(super) fn answer(&self, task: Task, answer: Answer) {
        tell(&task.shard, answer.into_done(task.job));
    }

    /// A process has done a job.
    pub(super) fn finish(&self, task: Task, answer: Answer, need: &Need, began: Instant) {
        self.figures.done(Figures::kind(&task.job), Where::Child, began.elapsed());
        let done = answer.into_done(task.job);
        self.judge(&done, need, Where::Child);
        tell(&task.shard, done);
    }

    /// Tells the shard that a job is not done.
    pub(super) fn refuse(&self, task: Task, why: Refusal) {
        self.figures.refused(&why);
        tell(&task.shard, Done::Refused(task.job, why));
    }

    /// The owner reads who sent a document.
    pub(super) fn trouble(&self, kind: TroubleKind, task: &Task) -> Trouble {
        Trouble::new(kind, task.job.key(), task.sender())
    }
}

/// Tells a shard what came of its job. The shard may have ended; then nobody waits for that.
fn tell(shard: &Sender<Input>, done: Done) {
    let _ = shard.send(Input::JobDone(Box::new(done)));
}
