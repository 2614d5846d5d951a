//! Decodes sync messages: cheap ones at once, all others on two threads of their own, in fair turns.
//!
//! A message is priced before it is decoded (`sync/price.rs`). What is cheap is decoded where it arrives, for a hand-over
//! would cost more, as long as the app does not use more than its part of that thread's time. The rest waits in one
//! [`FairQueue`] over all connections. It is priced there, refused if it is over a
//! limit, and queued again at its price; then it is decoded. The connection waits meanwhile, so its messages keep their
//! order.
//!
//! Invariants: messages in decoding take at most [`MEMORY_BYTES`] together, or one message is alone; no approval has all
//! threads, so another one's message waits for one decode of a stranger at most. A panic costs the message it came from.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::app::AppShare;
use super::fair::{FairQueue, Lane};
use super::lock;
use super::vital::Vital;
use crate::sync::message::{KEEP_BYTES, Priced, SyncMessage};
use crate::sync::price::{Excess, Limits, Price, Refused};
use crate::types::{Approval, Millis, Steady};

/// Threads.
const THREADS: usize = 2;
/// Memory that messages in decoding may take together, as their prices estimate it. Bytes.
const MEMORY_BYTES: u64 = 64 << 20;
/// Refusals are logged once in this time at most. Milliseconds.
const LOG_MS: Millis = 60_000;
/// Payloads of more bytes than this are not even priced on the thread that serves connections.
const CHEAP_PAYLOAD: usize = 32 * 1024;
/// Inflated bytes that a priced message keeps while it waits: none, for thousands may wait.
const KEEP_WAITING: u64 = 0;
/// Messages within these limits are decoded where they arrive: at most half a millisecond of work.
const CHEAP: Limits = Limits {
    operations: 4 * 1024,
    inflated_bytes: KEEP_BYTES,
    changes: 256,
    hashes: u64::MAX,
    bloom_bytes: u64::MAX,
};

/// Estimated nanoseconds of work, by which the queue shares until the work has been measured.
mod nanos {
    pub const MESSAGE: u64 = 20_000;
    pub const PAYLOAD_BYTE: u64 = 5;
    pub const INFLATED_BYTE: u64 = 8;
    pub const OPERATION: u64 = 150;
    pub const CHANGE: u64 = 2_000;
}

/// Why there is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are malformed or too expensive.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// automerge panicked.
    #[error("automerge cannot decode it")]
    Panicked,
    /// The engine ends.
    #[error("the server is stopping")]
    Stopped,
}

type Answer = Result<SyncMessage, DecodeError>;

/// What the sender may do decides what is read of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything is decoded.
    ReadWrite,
    /// Changes and documents are passed over.
    ReadOnly,
}

/// The threads, and what waits for them. They end when this is dropped.
pub struct DecodePool {
    limits: Limits,
    shared: Arc<Shared>,
    refusals: AtomicU64,
    /// When a refusal was last logged.
    logged: Mutex<Option<Steady>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: FairQueue<Job>,
    /// The approvals that are being worked for, one entry for each busy thread.
    busy: Vec<Approval>,
    /// Memory that messages in decoding take. Bytes.
    memory: u64,
    closed: bool,
}

struct Job {
    step: Step,
    /// What was pushed as the job's cost.
    cost: u64,
    answer: oneshot::Sender<Answer>,
}

enum Step {
    Price(Bytes, Access),
    Decode(Box<Priced>),
}

/// What a step led to.
enum Done {
    Price(Box<Priced>),
    Message(SyncMessage),
}

impl DecodePool {
    /// Starts the threads.
    /// # Errors
    /// The system has no threads left.
    pub fn start(limits: Limits, vital: &Vital) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        for thread in 0..THREADS {
            let shared = shared.clone();
            vital.spawn(format!("decode-{thread}"), move || {
                while let Some((lane, job)) = shared.next() {
                    shared.work(&lane, job, &limits);
                }
            })?;
        }
        Ok(Self { limits, shared, refusals: AtomicU64::new(0), logged: Mutex::new(None) })
    }

    /// Decodes one payload; here and now if it is cheap and the app has not used up its time for that.
    /// # Errors
    /// Why it cannot be decoded, or will not be.
    pub async fn decode(&self, lane: &Lane, payload: &Bytes, access: Access, app: &AppShare) -> Answer {
        let answer = match self.at_once(payload, access, app) {
            Some(answer) => answer,
            None => self.in_turn(lane, payload, access).await,
        };
        if let Err(DecodeError::Refused(Refused::TooExpensive(excess))) = &answer {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            self.log(lane, excess);
        }
        answer
    }

    /// What messages in decoding take, as their prices estimate it. Bytes.
    pub fn memory(&self) -> u64 {
        lock(&self.shared.state).memory
    }

    /// Messages waiting.
    pub fn waiting(&self) -> usize {
        lock(&self.shared.state).queue.len()
    }

    /// Messages refused for their price since start.
    pub fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Logs a refusal, one a minute: a client may send thousands.
    fn log(&self, lane: &Lane, excess: &Excess) {
        let now = Steady::now();
        let mut logged = lock(&self.logged);
        if logged.is_none_or(|last| now.since(last) >= LOG_MS) {
            *logged = Some(now);
            let Approval { namespace, client_id } = &lane.party.approval;
            tracing::warn!(%namespace, client = &**client_id, "refused a sync message: {excess}");
        }
    }

    /// The answer for a cheap message; `None` for one that must wait for its turn.
    fn at_once(&self, payload: &Bytes, access: Access, app: &AppShare) -> Option<Answer> {
        if payload.len() > CHEAP_PAYLOAD {
            return None;
        }
        let answer = app.at_once(|| {
            guarded(|| match access {
                Access::ReadWrite => SyncMessage::decode(payload, &CHEAP.at_most(&self.limits)),
                Access::ReadOnly => SyncMessage::without_changes(payload, &self.limits),
            })
        })?;
        match answer {
            // Over what is cheap, and perhaps not over the limit.
            Err(DecodeError::Refused(Refused::TooExpensive(Excess { kind, limit })))
                if limit < self.limits.of(kind) =>
            {
                None
            }
            answer => Some(answer),
        }
    }

    async fn in_turn(&self, lane: &Lane, payload: &Bytes, access: Access) -> Answer {
        let (answer, answered) = oneshot::channel();
        let cost = nanos::MESSAGE + nanos::PAYLOAD_BYTE * payload.len() as u64;
        self.shared.push(lane, Job { step: Step::Price(payload.clone(), access), cost, answer });
        answered.await.unwrap_or(Err(DecodeError::Stopped))
    }
}

impl Drop for DecodePool {
    fn drop(&mut self) {
        lock(&self.shared.state).closed = true;
        self.shared.changed.notify_all();
    }
}

/// Runs the part that foreign bytes may make panic, automerge's or ours.
fn guarded<T>(work: impl FnOnce() -> Result<T, Refused>) -> Result<T, DecodeError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Ok(done?),
        Err(_) => Err(DecodeError::Panicked),
    }
}

fn decode_cost(price: &Price) -> u64 {
    nanos::OPERATION * price.operations
        + nanos::INFLATED_BYTE * price.inflated_bytes
        + nanos::CHANGE * price.changes
        + nanos::PAYLOAD_BYTE * price.result_memory
}

impl Shared {
    fn push(&self, lane: &Lane, job: Job) {
        let mut state = lock(&self.state);
        if !state.closed {
            state.queue.push(lane, job.cost, job);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for a job and for the memory that it takes; `None` when the pool is closed.
    fn next(&self) -> Option<(Lane, Job)> {
        let mut state = lock(&self.state);
        let wait = |state| self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        let (lane, job) = loop {
            if state.closed {
                return None;
            }
            let State { queue, busy, .. } = &mut *state;
            let may =
                |approval: &Approval| busy.iter().filter(|busy| *busy == approval).count() < THREADS - 1;
            match queue.pop(may) {
                // Its connection is gone.
                Some((_, job)) if job.answer.is_closed() => {}
                Some(next) => break next,
                None => {
                    if busy.is_empty() {
                        queue.settle();
                    }
                    state = wait(state);
                }
            }
        };
        state.busy.push(lane.party.approval.clone());
        // In the order of the queue: what is smaller does not overtake, else the large would wait for ever.
        let memory = job.step.memory();
        while state.memory > 0 && state.memory + memory > MEMORY_BYTES {
            if state.closed {
                return None;
            }
            state = wait(state);
        }
        state.memory += memory;
        Some((lane, job))
    }

    fn work(&self, lane: &Lane, job: Job, limits: &Limits) {
        let Job { step, cost, answer } = job;
        let (began, memory) = (Instant::now(), step.memory());
        let done = match step {
            Step::Price(payload, Access::ReadOnly) => {
                guarded(|| SyncMessage::without_changes(&payload, limits)).map(Done::Message)
            }
            Step::Price(payload, Access::ReadWrite) => {
                guarded(|| Priced::new(&payload, limits, KEEP_WAITING))
                    .map(|priced| Done::Price(Box::new(priced)))
            }
            Step::Decode(priced) => guarded(|| priced.decode()).map(Done::Message),
        };
        let took = i64::try_from(began.elapsed().as_nanos()).unwrap_or(i64::MAX);
        self.finish(lane, memory, took.saturating_sub_unsigned(cost));
        match done {
            Ok(Done::Price(priced)) => {
                let cost = decode_cost(priced.price());
                self.push(lane, Job { step: Step::Decode(priced), cost, answer });
            }
            // A connection that is gone needs no answer.
            Ok(Done::Message(message)) => drop(answer.send(Ok(message))),
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// Gives back what a job took, and charges what it cost beyond its price.
    fn finish(&self, lane: &Lane, memory: u64, extra: i64) {
        let mut state = lock(&self.state);
        state.memory -= memory;
        if let Some(at) = state.busy.iter().position(|approval| *approval == lane.party.approval) {
            state.busy.swap_remove(at);
        }
        state.queue.charge(lane, extra);
        drop(state);
        self.changed.notify_all();
    }
}

impl Step {
    fn memory(&self) -> u64 {
        match self {
            Self::Price(..) => 0,
            Self::Decode(message) => message.price().memory(),
        }
    }
}

#[cfg(test)]
mod tests;
