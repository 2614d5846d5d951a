//! The record of openings that ended badly, which keeps a document from being opened over and over.
//!
//! A document is opened in a process of its own if that takes much memory. When such a process ends badly (killed, out of
//! memory, too slow, answers that make no sense) that is recorded afterwards. An opening that may take so much memory that
//! the whole machine suffers, and the server with it, is also written down before it starts, durably: what is still written
//! down at the next start coincided with the end of the server. After [`MOST_BAD_ENDS`] such ends in a row the document is
//! not opened any more until the owner asks for it: it goes on syncing as rows.
//!
//! A clean stop crosses out what is under way: it is no fault of the documents.
//!
//! Neither is an end of the machine, nor one by the failure of another part of the server ([`LastEnd`]).
//!
//! Beside bad ends the record keeps other troubles for the owner. Apps share the room for both, so an app that causes many
//! forgets only its own. Troubles only inform, so they are written some seconds later, many at once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};

use super::estimate::Need;
use super::trouble::{Trouble, TroubleKind};
use crate::engine::journal::{Journal, Reply};
use crate::engine::lock;
use crate::store::{CommitError, Op, RecordKind, Store};
use crate::types::{DocKey, Party};
pub use allowed::Allowed;
pub use durable::BadEnd;
use durable::{Durable, Name};

mod allowed;
mod durable;

/// Bad ends of openings of one document, in a row, after which the document stays closed.
pub const MOST_BAD_ENDS: u32 = 2;
/// Name of the record among the pins.
const PIN: &[u8] = b"openings";
/// Why an opening that coincided with an end of the server counts.
const WITH_THE_SERVER: &str = "the server ended at the same time";

/// How often troubles are written at most. Each write carries all of them, up to 100 kB.
const TROUBLES_EVERY: Duration = Duration::from_secs(10);

/// Why the last process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LastEnd {
    /// Nobody knows, so the openings that were under way may have been the reason.
    #[default]
    Unknown,
    /// The machine ended too, or a part of the server had failed that opens no documents: no opening is to blame.
    Explained,
}

/// What a record knew of a document that is to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing was recorded.
    Nothing,
    /// Nothing but that messages about the document were too large, for limits that stay what they are.
    Oversize,
    /// Something was recorded that another try may mend.
    Trouble,
}

#[derive(Default)]
struct State {
    durable: Durable,
    /// The engine stops: an opening that its end interrupts is not the document's fault.
    stopping: bool,
    /// Troubles have changed since they were last handed to the journal.
    changed: bool,
}

/// The record; shared by the opener, which keeps it, and by `status`.
pub struct Record {
    journal: Journal,
    state: Mutex<State>,
    /// What was under way when the last process ended without having been stopped.
    interrupted: Vec<BadEnd>,
    /// How often an opening has ended badly since the start.
    ended_badly: watch::Sender<u64>,
    /// Troubles have changed.
    noted: Notify,
}

impl Record {
    /// Reads what the last process left behind. A record that cannot be read counts as empty: it protects, and must not
    /// keep the server from starting. What was too large may fit in what is `allowed` now.
    pub fn load(store: &Store, journal: Journal, allowed: &Allowed, last_end: LastEnd) -> Arc<Self> {
        let row = store.record(RecordKind::Pin, PIN).ok().flatten();
        let mut durable: Durable = row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default();
        let interrupted = std::mem::take(&mut durable.under_way);
        if last_end == LastEnd::Unknown {
            interrupted.iter().for_each(|ended| durable.count(ended.clone()));
        }
        durable.troubles.retain(|trouble| allowed.leaves(trouble));
        durable.make_room();
        let state = Mutex::new(State { durable, ..State::default() });
        let ended_badly = watch::Sender::new(0);
        let record = Arc::new(Self { journal, state, interrupted, ended_badly, noted: Notify::new() });
        if !record.interrupted.is_empty() {
            // Else the next process would take them for its own end's.
            drop(record.write(&mut lock(&record.state)));
        }
        record
    }

    /// The openings that were under way, written down, when the last process ended without having been stopped.
    pub fn interrupted(&self) -> &[BadEnd] {
        &self.interrupted
    }

    /// Tells each time that an opening has ended badly.
    pub fn ended_badly(&self) -> watch::Receiver<u64> {
        self.ended_badly.subscribe()
    }

    /// How often in a row openings of the document ended badly.
    pub fn bad_ends(&self, key: &DocKey) -> u32 {
        let state = lock(&self.state);
        let bad = &state.durable.bad;
        if bad.is_empty() {
            return 0;
        }
        let name = Name::of(key);
        bad.iter().find(|bad| name.is_of(bad)).map_or(0, |bad| bad.ends)
    }

    /// Writes an opening down that may take the server with it; durable when this returns. `party`: who sent or wants the
    /// document.
    pub fn begin(&self, key: &DocKey, party: Option<&Party>, need_bytes: u64) {
        let mut state = lock(&self.state);
        if state.stopping {
            return;
        }
        state.durable.under_way.push(BadEnd::of(key, party, need_bytes, WITH_THE_SERVER));
        let written = self.write(&mut state);
        drop(state);
        // On a full disk nothing can be written down. Refusing to open would then refuse a reader what is stored.
        if !matches!(written.blocking_recv(), Ok(Ok(()))) {
            tracing::debug!(document = %key.document, "an opening could not be written down before it started");
        }
    }

    /// The opening has ended, and earlier ones that needed no more memory do not count any more.
    pub fn end(&self, key: &DocKey, need_bytes: u64) {
        let mut state = lock(&self.state);
        if state.durable.cross_out(key) | state.durable.forget(key, need_bytes) {
            // Not waited for: if it is lost with a power cut, one end too many is counted.
            drop(self.write(&mut state));
        }
    }

    /// The opening has ended badly.
    pub fn end_badly(&self, key: &DocKey, party: Option<&Party>, need_bytes: u64, reason: &str) {
        let mut state = lock(&self.state);
        if state.stopping {
            return;
        }
        state.durable.cross_out(key);
        state.durable.count(BadEnd::of(key, party, need_bytes, reason));
        drop(self.write(&mut state));
        self.ended_badly.send_modify(|times| *times += 1);
    }

    /// The opening came to nothing, through no fault of the document.
    pub fn cancel(&self, key: &DocKey) {
        let mut state = lock(&self.state);
        if state.durable.cross_out(key) {
            drop(self.write(&mut state));
        }
    }

    /// The engine stops: the openings under way are crossed out, and what was noted lately is written.
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopping = true;
        if !std::mem::take(&mut state.durable.under_way).is_empty() | state.changed {
            drop(self.write(&mut state));
        }
    }

    /// Notes a trouble. It is written when it is new, so that a device that tries again and again costs no commits. True if it
    /// is new.
    pub fn note(&self, trouble: Trouble) -> bool {
        let mut state = lock(&self.state);
        let is_new = state.durable.note(trouble);
        if is_new {
            self.changed(&mut state);
        }
        is_new
    }

    /// Troubles of these kinds with the document are over. Costs no commit where there was none.
    pub fn is_well(&self, key: &DocKey, kinds: &[TroubleKind]) {
        let mut state = lock(&self.state);
        if state.durable.clear(key, |trouble| kinds.contains(&trouble.kind)) {
            self.changed(&mut state);
        }
    }

    /// An upload that needed so much was taken in: so could be what was too large before, if it is the same or needs no more.
    pub fn came_in(&self, key: &DocKey, need: &Need) {
        let mut state = lock(&self.state);
        let is_over = |trouble: &Trouble| {
            trouble.kind == TroubleKind::TooLargeToTakeIn
                && (trouble.need_bytes <= need.memory_bytes || trouble.size_bytes == need.size_bytes)
        };
        if state.durable.clear(key, is_over) {
            self.changed(&mut state);
        }
    }

    /// All that a device has of the document is durable: what was too large of it has come another way.
    pub fn saved(&self, party: &Party, key: &DocKey) {
        let mut state = lock(&self.state);
        let is_over = |trouble: &Trouble| {
            trouble.kind == TroubleKind::MessageTooLarge
                && trouble.session == *party.session
                && trouble.client == *party.approval.client_id
        };
        if state.durable.clear(key, is_over) {
            self.changed(&mut state);
        }
    }

    /// The owner wants the document tried again, or deletes it. Returns what was recorded of it.
    /// # Errors
    /// The record without the document could not be made durable; the document may then stay closed after a restart.
    pub async fn retry(&self, key: &DocKey) -> Result<Known, CommitError> {
        let (known, written) = {
            let mut state = lock(&self.state);
            let is_oversize = |trouble: &Trouble| trouble.kind == TroubleKind::MessageTooLarge;
            let oversize = state.durable.clear(key, is_oversize);
            let known = match state.durable.clear(key, |_| true) | state.durable.forget(key, u64::MAX) {
                true => Known::Trouble,
                false if oversize => Known::Oversize,
                false => return Ok(Known::Nothing),
            };
            (known, self.write(&mut state))
        };
        written.await.unwrap_or(Err(CommitError::Stopped)).map(|()| known)
    }

    /// The documents that stay closed.
    pub fn closed(&self) -> Vec<BadEnd> {
        let state = lock(&self.state);
        state.durable.bad.iter().filter(|bad| bad.ends >= MOST_BAD_ENDS).cloned().collect()
    }

    /// What else the owner must know, bad ends that are not enough to close a document included.
    pub fn troubles(&self) -> Vec<Trouble> {
        let state = lock(&self.state);
        let once = |bad: &&BadEnd| bad.ends < MOST_BAD_ENDS;
        let failed = state.durable.bad.iter().filter(once).map(|bad| Trouble {
            kind: TroubleKind::Failed,
            namespace: bad.namespace.clone(),
            document: bad.document.clone(),
            client: bad.client.clone(),
            session: String::new(),
            size_bytes: 0,
            need_bytes: bad.need_bytes,
            reason: bad.reason.clone(),
            limit: None,
        });
        state.durable.troubles.iter().cloned().chain(failed).collect()
    }

    fn write(&self, state: &mut State) -> oneshot::Receiver<Result<(), CommitError>> {
        let (sender, receiver) = oneshot::channel();
        state.changed = false;
        self.hand_over(&state.durable, Reply::waiter(sender));
        receiver
    }

    /// Writes troubles whenever they have changed, at most once in [`TROUBLES_EVERY`], until this is dropped. What changes
    /// when nobody polls this, and what could not be written, is written with the next change or by [`Record::stop`].
    pub async fn keep_written(self: Arc<Self>) {
        loop {
            self.noted.notified().await;
            let Some(written) = self.write_changed() else { continue };
            if !matches!(written.await, Ok(Ok(()))) {
                lock(&self.state).changed = true;
            }
            tokio::time::sleep(TROUBLES_EVERY).await;
        }
    }

    /// Writes troubles if they have changed since they were written.
    fn write_changed(&self) -> Option<oneshot::Receiver<Result<(), CommitError>>> {
        let mut state = lock(&self.state);
        (state.changed && !state.stopping).then(|| self.write(&mut state))
    }

    /// Troubles have changed, and are written with others: clients can cause them faster than a disk writes, and each write
    /// carries all.
    fn changed(&self, state: &mut State) {
        state.changed = true;
        self.noted.notify_one();
    }

    /// With the state locked, so that the journal gets the rows in the order in which they were made.
    fn hand_over(&self, durable: &Durable, reply: Reply) {
        // Invariant: a struct of texts and numbers is always JSON.
        let row = serde_json::to_vec(durable).ok();
        self.journal.commit(vec![Op::Record { kind: RecordKind::Pin, key: PIN.into(), row }], reply);
    }
}

#[cfg(test)]
mod tests;
