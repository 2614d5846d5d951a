//! The journal thread: everything that waits goes into one commit with one fsync, then those who waited are told.
//! Under load the group grows by itself; when idle one change is one commit.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::heart::Heart;
use super::lock;
use super::mailbox::{Empty, Receiver, Sender, mailbox};
use super::shard::Input;
use super::vital::Vital;
use crate::store::{CommitError, Op, Store};
use crate::telemetry::histogram::{Buckets, Histogram};

/// After this long without a commit the store is made ready for a fast start after a crash.
const IDLE: Duration = Duration::from_secs(3);

/// Who is told of the result; also when the journal dies with it.
pub struct Reply(Option<To>);

enum To {
    Shard(Sender<Input>),
    Waiter(oneshot::Sender<Result<(), CommitError>>),
}

impl Reply {
    /// To a shard.
    pub fn shard(shard: Sender<Input>) -> Self {
        Self(Some(To::Shard(shard)))
    }

    /// To a waiting task.
    pub fn waiter(waiter: oneshot::Sender<Result<(), CommitError>>) -> Self {
        Self(Some(To::Waiter(waiter)))
    }

    fn send(mut self, result: Result<(), CommitError>) {
        self.tell(result);
    }

    fn tell(&mut self, result: Result<(), CommitError>) {
        // Who is gone needs no answer.
        match self.0.take() {
            Some(To::Shard(shard)) => drop(shard.send(Input::Committed(result))),
            Some(To::Waiter(waiter)) => drop(waiter.send(result)),
            None => {}
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.tell(Err(CommitError::Stopped));
    }
}

/// One who waits for a commit.
struct Part {
    ops: usize,
    reply: Reply,
    handed_over: Instant,
}

enum Request {
    Commit(Vec<Op>, Reply, Instant),
    Ping,
    Stop(oneshot::Sender<()>),
    #[cfg(test)]
    Panic,
}

#[derive(Default)]
struct State {
    commits: AtomicU64,
    took: Histogram,
    error: Mutex<Option<String>>,
    heart: Arc<Heart>,
    #[cfg(test)]
    settled: std::sync::atomic::AtomicBool,
}

/// Handle to the thread.
#[derive(Clone)]
pub struct Journal {
    requests: Sender<Request>,
    state: Arc<State>,
}

impl Journal {
    /// Start the thread.
    /// # Errors
    /// The system has no threads left.
    pub fn start(store: Arc<Store>, vital: &Vital) -> io::Result<Self> {
        let (requests, receiver) = mailbox();
        let state = Arc::new(State::default());
        let journal = Self { requests, state: state.clone() };
        vital.spawn("journal".into(), move || run(&store, &receiver, &state))?;
        Ok(journal)
    }

    /// Have steps committed; `reply` hears of it.
    pub fn commit(&self, ops: Vec<Op>, reply: Reply) {
        // If the thread has ended, `Reply::drop` reports the failure.
        let _ = self.requests.send(Request::Commit(ops, reply, Instant::now()));
    }

    /// Ask for a sign of life.
    pub fn ping(&self) {
        let _ = self.requests.send(Request::Ping);
    }

    /// Commit what was handed over before, make the store ready for a fast start, then end; it is told when that is done.
    pub fn stop(&self) -> oneshot::Receiver<()> {
        let (done, ended) = oneshot::channel();
        // If the thread has ended, the sender is dropped and the receiver resolves at once.
        let _ = self.requests.send(Request::Stop(done));
        ended
    }

    /// Its inbox.
    pub fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// From the hand-over to the disk.
    pub fn took(&self) -> Buckets {
        self.state.took.read()
    }

    /// Dies of it.
    #[cfg(test)]
    pub fn panic(&self) {
        let _ = self.requests.send(Request::Panic);
    }

    /// It has turned idle once.
    #[cfg(test)]
    pub fn has_settled(&self) -> bool {
        self.state.settled.load(Ordering::Relaxed)
    }

    /// Commits since start.
    pub fn commits(&self) -> u64 {
        self.state.commits.load(Ordering::Relaxed)
    }

    /// The last error, until a commit succeeds again.
    pub fn error(&self) -> Option<String> {
        lock(&self.state.error).clone()
    }

    /// Its proof of life.
    pub fn heart(&self) -> Arc<Heart> {
        self.state.heart.clone()
    }
}

fn run(store: &Store, requests: &Receiver<Request>, state: &State) {
    // When the store is to be settled; none when it is. Asking for a sign of life does not put it off.
    let mut settle_at = Some(Instant::now() + IDLE);
    let mut waiting = VecDeque::new();
    loop {
        let patience = settle_at.map(|at| at.saturating_duration_since(Instant::now()));
        let taken = match patience {
            Some(Duration::ZERO) => Err(Empty::Timeout),
            patience => requests.take(&mut waiting, usize::MAX, patience),
        };
        match taken {
            Ok(()) => {}
            Err(Empty::Timeout) => {
                // Failing costs only a slower start after a crash; the next commit tells if the disk is at fault.
                let _ = store.settle();
                match store.reclaim_if_quick() {
                    Ok(true) => tracing::debug!("dead space given back to the disk"),
                    Ok(false) => {}
                    Err(error) => tracing::debug!(%error, "dead space is given back later"),
                }
                settle_at = None;
                #[cfg(test)]
                state.settled.store(true, Ordering::Relaxed);
                continue;
            }
            Err(Empty::Closed) => return,
        }
        let mut ops = Vec::new();
        let mut parts: Vec<Part> = Vec::new();
        let mut stopping = None;
        for request in waiting.drain(..) {
            match request {
                Request::Commit(more, reply, handed_over) => {
                    parts.push(Part { ops: more.len(), reply, handed_over });
                    ops.extend(more);
                }
                Request::Ping => state.heart.beat(),
                Request::Stop(done) => stopping = Some(done),
                #[cfg(test)]
                Request::Panic => panic!("asked to"),
            }
        }
        if !parts.is_empty() {
            commit(store, &ops, parts, state);
            settle_at = Some(Instant::now() + IDLE);
        }
        if let Some(done) = stopping {
            // Whoever still holds the store when the process ends keeps it from being closed.
            let _ = store.settle();
            let _ = done.send(());
            return;
        }
    }
}

fn commit(store: &Store, ops: &[Op], parts: Vec<Part>, state: &State) {
    match store.commit(ops) {
        Ok(()) => {
            state.commits.fetch_add(1, Ordering::Relaxed);
            if lock(&state.error).take().is_some() {
                tracing::info!("changes are stored again");
            }
            let now = Instant::now();
            for part in parts {
                state.took.observe(now.saturating_duration_since(part.handed_over));
                part.reply.send(Ok(()));
            }
        }
        // One part may be at fault, or just too large for a nearly full disk: the others need not suffer.
        Err(_) if parts.len() > 1 => {
            let mut rest = ops;
            for part in parts {
                let (mine, others) = rest.split_at(part.ops);
                rest = others;
                commit(store, mine, vec![part], state);
            }
        }
        Err(error) => {
            let error = CommitError::from(error);
            if lock(&state.error).replace(error.to_string()).is_none() {
                tracing::error!(%error, "changes cannot be stored; nothing is acknowledged until this is solved");
            }
            parts.into_iter().for_each(|part| part.reply.send(Err(error.clone())));
        }
    }
}
