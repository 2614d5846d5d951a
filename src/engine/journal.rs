//! The journal thread: everything that waits goes into one commit with one fsync, then those who waited are told.
//! Under load the group grows by itself; when idle one change is one commit.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::heart::Heart;
use super::mailbox::{Empty, Receiver, Sender, mailbox};
use super::shard::Input;
use super::{lock, now};
use crate::store::{Op, Store};

/// After this long without a commit the store is made ready for a fast start after a crash.
const IDLE: Duration = Duration::from_secs(3);

/// Who is told of the result.
pub enum Reply {
    /// A shard.
    Shard(Sender<Input>),
    /// A waiting task.
    Waiter(oneshot::Sender<Result<(), String>>),
}

impl Reply {
    fn send(self, result: Result<(), String>) {
        // Who is gone needs no answer.
        match self {
            Self::Shard(shard) => drop(shard.send(Input::Committed(result))),
            Self::Waiter(waiter) => drop(waiter.send(result)),
        }
    }
}

enum Request {
    Commit(Vec<Op>, Reply),
    Ping,
    Stop,
}

#[derive(Default)]
struct State {
    commits: AtomicU64,
    error: Mutex<Option<String>>,
    heart: Arc<Heart>,
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
    pub fn start(store: Arc<Store>) -> io::Result<Self> {
        let (requests, receiver) = mailbox();
        let state = Arc::new(State::default());
        let journal = Self { requests, state: state.clone() };
        std::thread::Builder::new().name("journal".into()).spawn(move || run(&store, &receiver, &state))?;
        Ok(journal)
    }

    /// Have steps committed; `reply` hears of it.
    pub fn commit(&self, ops: Vec<Op>, reply: Reply) {
        if let Err(unsent) = self.requests.send(Request::Commit(ops, reply))
            && let Request::Commit(_, reply) = unsent
        {
            reply.send(Err("the journal has stopped".into()));
        }
    }

    /// Ask for a sign of life.
    pub fn ping(&self) {
        self.state.heart.ask(now());
        let _ = self.requests.send(Request::Ping);
    }

    /// Commit what was handed over before, then end.
    pub fn stop(&self) {
        let _ = self.requests.send(Request::Stop);
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
    let mut settled = false;
    let mut waiting = VecDeque::new();
    loop {
        match requests.take(&mut waiting, usize::MAX, (!settled).then_some(IDLE)) {
            Ok(()) => {}
            Err(Empty::Timeout) => {
                // Failing costs only a slower start after a crash; the next commit tells if the disk is at fault.
                let _ = store.settle();
                match store.reclaim_if_quick() {
                    Ok(true) => tracing::debug!("dead space given back to the disk"),
                    Ok(false) => {}
                    Err(error) => tracing::debug!(%error, "dead space is given back later"),
                }
                settled = true;
                continue;
            }
            Err(Empty::Closed) => return,
        }
        let mut ops = Vec::new();
        let mut parts: Vec<(usize, Reply)> = Vec::new();
        let mut stopping = false;
        for request in waiting.drain(..) {
            match request {
                Request::Commit(more, reply) => {
                    parts.push((more.len(), reply));
                    ops.extend(more);
                }
                Request::Ping => state.heart.beat(),
                Request::Stop => stopping = true,
            }
        }
        if !parts.is_empty() {
            settled = false;
            commit(store, &ops, parts, state);
        }
        if stopping {
            return;
        }
    }
}

fn commit(store: &Store, ops: &[Op], parts: Vec<(usize, Reply)>, state: &State) {
    let all = store.commit(ops);
    state.commits.fetch_add(1, Ordering::Relaxed);
    match all {
        Ok(()) => {
            if lock(&state.error).take().is_some() {
                tracing::info!("changes are stored again");
            }
            parts.into_iter().for_each(|(_, reply)| reply.send(Ok(())));
        }
        // One part may be at fault, or just too large for a nearly full disk: the others need not suffer.
        Err(_) if parts.len() > 1 => {
            let mut rest = ops;
            for (length, reply) in parts {
                let (mine, others) = rest.split_at(length);
                rest = others;
                commit(store, mine, vec![(length, reply)], state);
            }
        }
        Err(error) => {
            let text = error.to_string();
            if lock(&state.error).replace(text.clone()).is_none() {
                tracing::error!(%error, "changes cannot be stored; nothing is acknowledged until this is solved");
            }
            parts.into_iter().for_each(|(_, reply)| reply.send(Err(text.clone())));
        }
    }
}
