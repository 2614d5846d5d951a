//! Which job is next, and where it is done.
//!
//! Jobs arrive in a fair queue (approval, device, connection). The opener thread takes one after the other, estimates it,
//! and does it if it is small. Large ones go on into a second fair queue, from which [`CHILDREN`] threads take them, each
//! with a process of its own.
//!
//! Invariants: one job of a document is in here at a time, others wait behind it in the order in which they came; the
//! protocol relies on that. One compaction is under way at a time, because it can wait. No app has all of the processes. What
//! they are estimated to need together is at most `memory.opener`.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::estimate::Need;
use super::{CHILDREN, COMPACTING, Task};
use crate::engine::fair::{FairQueue, Lane, cost};
use crate::engine::lock;
use crate::sync::job::Job;
use crate::types::{Approval, ConnectionId, DocKey};

/// A document kept open for the next part of an extraction is let go after this time.
pub const KEEP_OPEN: Duration = Duration::from_secs(5);
/// What a job is taken to cost until it is done, in nanoseconds: a small document's opening.
const JOB_COST_NS: u64 = 1_000_000;
/// What a byte of memory costs that a large job needs, in nanoseconds: automerge fills some 100 MB a second.
const BYTE_COST_NS: u64 = 10;

/// A job that is done in a process of its own.
pub struct Large {
    pub task: Task,
    pub need: Need,
    /// What is set aside for it.
    pub set_aside: SetAside,
}

/// What a job was given beforehand.
#[derive(Debug, Clone, Copy)]
pub struct SetAside {
    /// Bytes that the process may take.
    pub memory_bytes: u64,
    /// What the queue was told that the job costs, in nanoseconds.
    cost_ns: u64,
}

impl SetAside {
    /// For a job that goes to a process which has its memory already.
    pub fn of_process(self, process: &Self) -> Self {
        Self { memory_bytes: process.memory_bytes, ..self }
    }

    /// By how much the queue was told too little, in nanoseconds.
    fn missed(&self, took: Duration) -> i64 {
        cost(took) - i64::try_from(self.cost_ns).unwrap_or(i64::MAX)
    }
}

/// What a thread with a process does next.
pub enum Next {
    Run(Box<Large>),
    /// End the process that is kept, because its time is over or its memory is wanted.
    LetGo,
    Stop,
}

struct State {
    arrived: FairQueue<Task>,
    large: FairQueue<Box<Large>>,
    /// A job that was next and waits until there is memory, or a thread. Nothing overtakes it, or it might wait for ever.
    short_of_memory: Option<Box<Large>>,
    /// Jobs for documents that another job is in here for.
    behind: HashMap<DocKey, VecDeque<Task>>,
    compacting: bool,
    /// Bytes set aside for processes.
    reserved_bytes: u64,
    /// The documents that idle processes have open.
    kept: [Option<DocKey>; CHILDREN],
    /// Jobs for those documents, which only the thread of that process takes.
    for_kept: [Option<Box<Large>>; CHILDREN],
    /// Jobs that a thread has in hand.
    in_hand: usize,
    /// The approvals whose jobs the processes do.
    running: [Option<Approval>; CHILDREN],
    /// Threads that wait and have no process.
    free: usize,
}

/// Where jobs wait.
pub struct Desk {
    memory_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
    stopping: AtomicBool,
}

fn may(compacting: bool) -> impl Fn(&Approval) -> bool {
    move |approval| !compacting || &*approval.client_id != COMPACTING
}

impl State {
    /// A process does the job from now on, or its thread.
    fn begin(&mut self, number: usize, large: Box<Large>) -> Next {
        self.in_hand += 1;
        self.running[number] = Some(large.task.lane.party.approval.clone());
        Next::Run(large)
    }

    /// No job of the document is in hand or before its turn any more: the next one is.
    fn next_of(&mut self, key: &DocKey) {
        match self.behind.get_mut(key).and_then(VecDeque::pop_front) {
            Some(next) => self.arrived.push(&next.lane.clone(), JOB_COST_NS, next),
            None => drop(self.behind.remove(key)),
        }
    }

    /// The thread has no job any more.
    fn end(&mut self, number: usize) {
        self.in_hand -= 1;
        self.running[number] = None;
    }
}

impl Desk {
    pub fn new(memory_bytes: u64) -> Self {
        let state = State {
            arrived: FairQueue::default(),
            large: FairQueue::default(),
            short_of_memory: None,
            behind: HashMap::new(),
            compacting: false,
            reserved_bytes: 0,
            kept: Default::default(),
            for_kept: Default::default(),
            in_hand: 0,
            running: Default::default(),
            free: 0,
        };
        let (changed, stopping) = Default::default();
        Self { memory_bytes, state: Mutex::new(state), changed, stopping }
    }

    /// Bytes that all processes may take together.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Set when the threads are to end, and the processes with them.
    pub fn stopping(&self) -> &AtomicBool {
        &self.stopping
    }

    /// Ends the threads; what waits is dropped.
    pub fn stop(&self) {
        let _state = lock(&self.state);
        self.stopping.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        let state = lock(&self.state);
        let apart = state.for_kept.iter().flatten().count() + usize::from(state.short_of_memory.is_some());
        let behind: usize = state.behind.values().map(VecDeque::len).sum();
        state.arrived.len() + state.large.len() + apart + behind
    }

    /// A job has come.
    pub fn submit(&self, task: Task) {
        let mut state = lock(&self.state);
        match state.behind.get_mut(task.job.key()) {
            Some(behind) => behind.push_back(task),
            None => {
                state.behind.insert(task.job.key().clone(), VecDeque::new());
                state.arrived.push(&task.lane.clone(), JOB_COST_NS, task);
                self.changed.notify_all();
            }
        }
    }

    /// A connection has left, and nobody waits for what was to be taken out of documents for it.
    pub fn leave(&self, connection: ConnectionId) {
        let mut state = lock(&self.state);
        if state.behind.is_empty() {
            return;
        }
        let State { arrived, large, behind, .. } = &mut *state;
        let stays =
            |task: &Task| !matches!(task.job, Job::Extract { connection: of, .. } if of == connection);
        behind.values_mut().for_each(|behind| behind.retain(stays));
        let mut gone = Vec::new();
        let mut keep = |task: &Task| {
            if !stays(task) {
                gone.push(task.job.key().clone());
            }
            stays(task)
        };
        arrived.retain(&mut keep);
        large.retain(&mut |large| keep(&large.task));
        gone.iter().for_each(|key| state.next_of(key));
        self.changed.notify_all();
    }

    /// The next job to estimate; `None` after `patience` without one.
    /// # Errors
    /// The threads are to end.
    pub fn next_arrived(&self, patience: Option<Duration>) -> Result<Option<Task>, ()> {
        let end = patience.map(|patience| Instant::now() + patience);
        let mut state = lock(&self.state);
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return Err(());
            }
            let may = may(state.compacting);
            if let Some((lane, task)) = state.arrived.pop(may) {
                state.compacting |= &*lane.party.approval.client_id == COMPACTING;
                state.in_hand += 1;
                return Ok(Some(task));
            }
            state = match end.map(|end| end.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Ok(None),
                left => self.sleep(state, left),
            };
        }
    }

    /// The opener thread has done a job, or will not.
    pub fn done(&self, lane: &Lane, key: &DocKey, took: Duration) {
        let mut state = lock(&self.state);
        state.arrived.charge(lane, cost(took) - JOB_COST_NS as i64);
        state.in_hand -= 1;
        self.over(&mut state, lane, key);
    }

    /// The job is for a process: `memory_bytes` are set aside for it when its turn has come.
    pub fn hand_on(&self, task: Task, need: Need, memory_bytes: u64) {
        let mut state = lock(&self.state);
        state.in_hand -= 1;
        let cost_ns = need.memory_bytes.saturating_mul(BYTE_COST_NS);
        let large = Box::new(Large { need, set_aside: SetAside { memory_bytes, cost_ns }, task });
        state.large.push(&large.task.lane.clone(), cost_ns, large);
        self.changed.notify_all();
    }

    /// What the thread of a process does next. `kept`: the process has a document open, until that time.
    pub fn next_large(&self, number: usize, kept: Option<Instant>) -> Next {
        let mut state = lock(&self.state);
        state.free += usize::from(kept.is_none());
        let (mut state, next) = self.wait_for_large(state, number, kept);
        state.free -= usize::from(kept.is_none());
        next
    }

    fn wait_for_large<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        number: usize,
        kept: Option<Instant>,
    ) -> (MutexGuard<'a, State>, Next) {
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return (state, Next::Stop);
            }
            if let Some(large) = state.for_kept[number].take() {
                state.kept[number] = None;
                let next = state.begin(number, large);
                return (state, next);
            }
            if let Some(large) = self.take_large(&mut state) {
                let wanted = Some(large.task.job.key());
                if let Some(of) = state.kept.iter().position(|kept| kept.is_some() && kept.as_ref() == wanted)
                {
                    state.for_kept[of] = Some(large);
                    self.changed.notify_all();
                    continue;
                }
                let fits = self.fits(&state, &large);
                if kept.is_none() && fits {
                    state.reserved_bytes += large.set_aside.memory_bytes;
                    let next = state.begin(number, large);
                    return (state, next);
                }
                let another_takes_it = fits && state.free > 0;
                state.short_of_memory = Some(large);
                self.changed.notify_all();
                if kept.is_some() && !another_takes_it {
                    return (state, Next::LetGo);
                }
            }
            state = match kept.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return (state, Next::LetGo),
                left => self.sleep(state, left),
            };
        }
    }

    fn take_large(&self, state: &mut State) -> Option<Box<Large>> {
        if let Some(large) = state.short_of_memory.take() {
            return Some(large);
        }
        let running = &state.running;
        // One process is left to others, however many large documents an app sends.
        let may = |approval: &Approval| {
            running.iter().flatten().filter(|of| *of == approval).count() < CHILDREN - 1
        };
        state.large.pop(may).map(|(_, large)| large)
    }

    fn fits(&self, state: &State, large: &Large) -> bool {
        state.reserved_bytes == 0 || state.reserved_bytes + large.set_aside.memory_bytes <= self.memory_bytes
    }

    /// The thread of a process has done a job. Its process stays open if `keeps`, with the memory that it has.
    pub fn large_done(
        &self,
        number: usize,
        (lane, key): (&Lane, &DocKey),
        set_aside: SetAside,
        took: Duration,
        keeps: bool,
    ) {
        let mut state = lock(&self.state);
        state.large.charge(lane, set_aside.missed(took));
        if keeps {
            state.kept[number] = Some(key.clone());
        } else {
            state.reserved_bytes -= set_aside.memory_bytes;
        }
        state.end(number);
        self.over(&mut state, lane, key);
    }

    /// The process that had a job is gone, because the job takes more memory than was set aside: its next turn comes when it can
    /// have all.
    pub fn try_again(&self, number: usize, large: Large, took: Duration) {
        let mut state = lock(&self.state);
        let Large { task, need, set_aside } = large;
        state.large.charge(&task.lane, set_aside.missed(took));
        state.reserved_bytes -= set_aside.memory_bytes;
        state.end(number);
        let cost_ns = self.memory_bytes.saturating_mul(BYTE_COST_NS);
        let set_aside = SetAside { memory_bytes: self.memory_bytes, cost_ns };
        state.large.push(&task.lane.clone(), cost_ns, Box::new(Large { task, need, set_aside }));
        self.changed.notify_all();
    }

    /// The process that was kept is gone, and with it the memory that was set aside. A job that was meant for it needs another.
    pub fn let_go(&self, number: usize, memory_bytes: u64) {
        let mut state = lock(&self.state);
        state.kept[number] = None;
        state.reserved_bytes -= memory_bytes;
        if let Some(large) = state.for_kept[number].take() {
            // It was charged when it was taken out for that process.
            state.large.push(&large.task.lane.clone(), 0, large);
        }
        self.changed.notify_all();
    }

    fn over(&self, state: &mut State, lane: &Lane, key: &DocKey) {
        state.compacting &= &*lane.party.approval.client_id != COMPACTING;
        state.next_of(key);
        if state.in_hand == 0 {
            state.arrived.settle();
            state.large.settle();
        }
        self.changed.notify_all();
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State>, time: Option<Duration>) -> MutexGuard<'a, State> {
        match time {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(time) => self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
        }
    }
}

#[cfg(test)]
mod tests;
