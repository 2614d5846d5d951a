//! Memory for messages that are half received, shared between all clients.
//!
//! `limits.receive_bytes` is the total. Of it `limits.message_bytes` are the *large slot*, in which one message at a time can grow to any
//! allowed size; the rest is the *pool*, shared by approval, device and connection. A message starts in the pool and claims memory
//! as its bytes arrive, never ahead of them. When the pool has no room for it:
//!
//! 1. If the large slot is free, the message that is furthest over its share moves there, be it another's or the claimant's.
//! 2. Otherwise the claimant is not read on and waits. When room is given back, those who hold the least get it first, and the
//!    slot goes to the waiting app that had it longest ago.
//! 3. After two seconds of waiting ([`PRESS`]), a claimant that is below its share has the messages that are furthest over theirs closed;
//!    one that is not has the slot's message closed if that is slow.
//!
//! So nobody can keep another app's, or device's, messages out, and an upload that others do not need the room of may be slow.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::liveness::Liveness;
use crate::telemetry::tally::Tally;
use crate::types::Party;
use state::{Outcome, State};

pub mod pace;
mod state;

/// How long a claim waits for others to finish before one of them is closed for it.
const PRESS: Duration = Duration::from_secs(2);
/// Bytes that all connections together may have read ahead before each of them takes little from its socket at once. An app may have a
/// thousand connections that wait for their turn, each with what it read last.
const MOST_AHEAD: usize = 8 << 20;
/// Code in the metrics of a message that gave way to others.
const GAVE_WAY: &str = "receive_bytes";

/// The connection's message was given up so that others get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("others need the memory that this half-received message takes (limits.receive_bytes): send it again")]
pub struct GaveWay;

/// The memory for half-received messages.
pub struct ReceiveBudget {
    state: Mutex<State>,
    /// A hint for readers to take little from the socket at once.
    is_tight: AtomicBool,
    /// Bytes that all connections together have read and that belong to no message that was begun.
    ahead: AtomicUsize,
    evicted: Arc<Tally>,
}

/// What one connection holds of the budget. Everything is given back when it is dropped.
pub struct Hold {
    budget: Arc<ReceiveBudget>,
    party: Party,
    /// The message under way, once it has claimed something.
    message: Option<u64>,
    /// How long its next claim waits before others are closed for it: one message waits for that once.
    patience: Duration,
    signal: Arc<Notify>,
    /// The connection's part of what all connections have read ahead.
    ahead: usize,
}

impl ReceiveBudget {
    /// A pool of `pool` bytes beside the large slot, whose size the readers' message limit bounds. Messages that give way are
    /// counted in `evicted`.
    pub fn new(pool: usize, evicted: Arc<Tally>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::new(pool)),
            is_tight: AtomicBool::new(false),
            ahead: AtomicUsize::new(0),
            evicted,
        })
    }

    /// What a connection of that device will hold; nothing yet.
    pub fn hold(self: &Arc<Self>, party: Party) -> Hold {
        Hold {
            budget: Arc::clone(self),
            party,
            message: None,
            patience: PRESS,
            signal: Arc::default(),
            ahead: 0,
        }
    }

    /// Runs a step of the state machine and notes what came of it.
    fn step<T>(&self, step: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let done = step(&mut state);
        self.is_tight.store(state.is_tight(), Ordering::Relaxed);
        (0..state.take_evictions()).for_each(|_| self.evicted.count(GAVE_WAY));
        done
    }

    /// Bytes that all half-received messages hold.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.lock().held()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    /// Claims `bytes` more for the message under way. While it waits, `liveness` knows that we do not read. When it is
    /// dropped before it is done, [`Hold::release`] must follow.
    /// # Errors
    /// The message gave way to others.
    pub async fn grow(&mut self, bytes: usize, liveness: &Liveness) -> Result<(), GaveWay> {
        let Self { budget, party, message, patience, signal, .. } = self;
        let (message, claimed) = budget.step(|state| {
            let id = *message.get_or_insert_with(|| state.begin(party, signal));
            (id, state.claim(id, bytes))
        });
        if claimed == Outcome::Waits {
            let _paused = liveness.pause();
            let mut pause = *patience;
            loop {
                let outcome = tokio::select! {
                    () = signal.notified() => budget.step(|state| state.outcome(message)),
                    () = sleep(pause) => {
                        (pause, *patience) = (PRESS, Duration::ZERO);
                        budget.step(|state| state.press(message, Instant::now()))
                    }
                };
                match outcome {
                    Outcome::Waits => {}
                    Outcome::Granted => return Ok(()),
                    Outcome::GaveWay => return Err(GaveWay),
                }
            }
        }
        if claimed == Outcome::Granted { Ok(()) } else { Err(GaveWay) }
    }

    /// Bytes of the message under way arrived.
    pub fn arrived(&self, bytes: usize) {
        if let Some(message) = self.message {
            self.budget.lock().arrived(message, bytes);
        }
    }

    /// The message is whole: it keeps its memory until [`Hold::release`], and is not asked to give way any more.
    pub fn complete(&self) {
        if let Some(message) = self.message {
            self.budget.lock().complete(message);
        }
    }

    /// Gives back what the message under way holds.
    pub fn release(&mut self) {
        if let Some(message) = self.message.take() {
            self.patience = PRESS;
            self.budget.step(|state| state.end(message));
        }
    }

    /// Returns when the message under way has to give way to others; never while there is none.
    pub async fn gave_way(&self) {
        loop {
            self.signal.notified().await;
            // The signal may be left from a claim that was granted.
            if self.message.is_some_and(|message| self.budget.lock().outcome(message) == Outcome::GaveWay) {
                return;
            }
        }
    }

    /// So many bytes are read ahead of a claim now.
    pub fn read_ahead(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.ahead, bytes);
        self.budget.ahead.fetch_add(bytes, Ordering::Relaxed);
        self.budget.ahead.fetch_sub(before, Ordering::Relaxed);
    }

    /// The pool is filling up, or much is read ahead already: what is read ahead of a claim should be little.
    pub fn is_tight(&self) -> bool {
        self.budget.is_tight.load(Ordering::Relaxed) || self.budget.ahead.load(Ordering::Relaxed) > MOST_AHEAD
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.read_ahead(0);
        self.release();
    }
}

#[cfg(test)]
mod tests;
