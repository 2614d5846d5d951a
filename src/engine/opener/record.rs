//! The record of openings that ended badly, which keeps a document from being opened over and over.
//!
//! A document is opened in a process of its own if that takes much memory. When such a process ends badly (killed, out of
//! memory, too slow, answers that make no sense) that is recorded afterwards. An opening that may take so much memory that
//! the whole machine suffers, and the server with it, is also written down before it starts, durably: what is still written
//! down at the next start coincided with the end of the server. After [`MOST_BAD_ENDS`] such ends in a row the document is
//! not opened any more until the owner asks for it: it goes on syncing as rows.
//!
//! A clean stop crosses out what is under way: it is no fault of the documents.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::oneshot;

use super::trouble::{Trouble, TroubleKind};
use crate::engine::journal::{Journal, Reply};
use crate::engine::lock;
use crate::store::{CommitError, Op, RecordKind, Store};
use crate::types::DocKey;

/// Bad ends of openings of one document, in a row, after which the document stays closed.
pub const MOST_BAD_ENDS: u32 = 2;
/// Documents with bad ends that are remembered, and other troubles; beyond it the oldest is forgotten.
const MOST_DOCUMENTS: usize = 1_000;
/// Name of the record among the pins.
const PIN: &[u8] = b"openings";
/// Why an opening that coincided with an end of the server counts.
const WITH_THE_SERVER: &str = "the server ended at the same time";

/// A document whose openings ended badly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadEnd {
    /// Its namespace.
    pub namespace: String,
    /// Its id.
    pub document: String,
    /// How often in a row.
    pub ends: u32,
    /// How the last one ended, in words.
    #[serde(default)]
    pub reason: String,
    /// Bytes of memory that it was estimated to need. An opening that needs less and ends well proves nothing.
    #[serde(default)]
    pub need_bytes: u64,
}

impl BadEnd {
    fn of(key: &DocKey, need_bytes: u64, reason: &str) -> Self {
        let (namespace, document) = (key.namespace.to_string(), key.document.to_string());
        Self { namespace, document, ends: 0, reason: reason.into(), need_bytes }
    }

    fn is(&self, key: &DocKey) -> bool {
        self.document == key.document.to_string() && self.namespace == key.namespace.as_str()
    }
}

/// What is durable: JSON in the row [`PIN`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Durable {
    /// Openings under way that may take the server with them.
    #[serde(default, deserialize_with = "one_or_many")]
    under_way: Vec<BadEnd>,
    /// Documents whose last opening ended badly, the oldest first.
    bad: Vec<BadEnd>,
    /// What else the owner must know.
    #[serde(default)]
    troubles: Vec<Trouble>,
}

/// The record of a server that opened one document at a time has one or null.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BadEnd>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Many(Vec<BadEnd>),
        One(Option<BadEnd>),
    }
    Ok(match Stored::deserialize(deserializer)? {
        Stored::Many(many) => many,
        Stored::One(one) => one.into_iter().collect(),
    })
}

#[derive(Default)]
struct State {
    durable: Durable,
    /// The engine stops: an opening that its end interrupts is not the document's fault.
    stopping: bool,
}

/// The record; shared by the opener, which keeps it, and by `status`.
pub struct Record {
    journal: Journal,
    state: Mutex<State>,
}

impl Record {
    /// Reads what the last process left behind. A record that cannot be read counts as empty: it protects, and must not
    /// keep the server from starting. What was too large for less than `memory_bytes`, or for messages of less than
    /// `message_bytes`, may fit now.
    pub fn load(store: &Store, journal: Journal, memory_bytes: u64, message_bytes: u64) -> Arc<Self> {
        let row = store.record(RecordKind::Pin, PIN).ok().flatten();
        let mut durable: Durable = row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default();
        for interrupted in std::mem::take(&mut durable.under_way) {
            durable.count(interrupted);
        }
        durable.troubles.retain(|trouble| match trouble.kind {
            TroubleKind::TooLargeToCompact | TroubleKind::TooLargeToTakeIn => {
                trouble.need_bytes > memory_bytes
            }
            TroubleKind::MessageTooLarge => trouble.size_bytes > message_bytes,
            TroubleKind::Failed => true,
            // Whether a process can be started is found out anew.
            TroubleKind::NoProcess => false,
        });
        Arc::new(Self { journal, state: Mutex::new(State { durable, stopping: false }) })
    }

    /// How often in a row openings of the document ended badly.
    pub fn bad_ends(&self, key: &DocKey) -> u32 {
        let state = lock(&self.state);
        state.durable.bad.iter().find(|bad| bad.is(key)).map_or(0, |bad| bad.ends)
    }

    /// Writes an opening down that may take the server with it; durable when this returns.
    pub fn begin(&self, key: &DocKey, need_bytes: u64) {
        let mut state = lock(&self.state);
        if state.stopping {
            return;
        }
        state.durable.under_way.push(BadEnd::of(key, need_bytes, WITH_THE_SERVER));
        let written = self.write(&state.durable);
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
            drop(self.write(&state.durable));
        }
    }

    /// The opening has ended badly.
    pub fn end_badly(&self, key: &DocKey, need_bytes: u64, reason: &str) {
        let mut state = lock(&self.state);
        if state.stopping {
            return;
        }
        state.durable.cross_out(key);
        state.durable.count(BadEnd::of(key, need_bytes, reason));
        drop(self.write(&state.durable));
    }

    /// The opening came to nothing, through no fault of the document.
    pub fn cancel(&self, key: &DocKey) {
        let mut state = lock(&self.state);
        if state.durable.cross_out(key) {
            drop(self.write(&state.durable));
        }
    }

    /// The engine stops: the openings under way are crossed out.
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopping = true;
        if !std::mem::take(&mut state.durable.under_way).is_empty() {
            drop(self.write(&state.durable));
        }
    }

    /// Notes a trouble. It is written when it is new, so that a device that tries again and again costs no commits.
    pub fn note(&self, trouble: Trouble) {
        let mut state = lock(&self.state);
        let troubles = &mut state.durable.troubles;
        if let Some(known) = troubles.iter_mut().find(|known| known.is_like(&trouble)) {
            *known = trouble;
            return;
        }
        troubles.push(trouble);
        let excess = troubles.len().saturating_sub(MOST_DOCUMENTS);
        troubles.drain(..excess);
        drop(self.write(&state.durable));
    }

    /// Troubles of these kinds with the document are over.
    pub fn is_well(&self, key: &DocKey, kinds: &[TroubleKind]) {
        let mut state = lock(&self.state);
        let before = state.durable.troubles.len();
        state.durable.troubles.retain(|trouble| !trouble.is_about(key) || !kinds.contains(&trouble.kind));
        if state.durable.troubles.len() < before {
            drop(self.write(&state.durable));
        }
    }

    /// The owner wants the document tried again, or deletes it. False if nothing was recorded of it.
    /// # Errors
    /// The record without the document could not be made durable; the document may then stay closed after a restart.
    pub async fn retry(&self, key: &DocKey) -> Result<bool, CommitError> {
        let written = {
            let mut state = lock(&self.state);
            let before = state.durable.troubles.len();
            state.durable.troubles.retain(|trouble| !trouble.is_about(key));
            if !state.durable.forget(key, u64::MAX) && state.durable.troubles.len() == before {
                return Ok(false);
            }
            self.write(&state.durable)
        };
        written.await.unwrap_or(Err(CommitError::Stopped)).map(|()| true)
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
            client: String::new(),
            session: String::new(),
            size_bytes: 0,
            need_bytes: bad.need_bytes,
            reason: bad.reason.clone(),
        });
        state.durable.troubles.iter().cloned().chain(failed).collect()
    }

    fn write(&self, durable: &Durable) -> oneshot::Receiver<Result<(), CommitError>> {
        let (sender, receiver) = oneshot::channel();
        // Invariant: a struct of texts and numbers is always JSON.
        let row = serde_json::to_vec(durable).ok();
        let op = Op::Record { kind: RecordKind::Pin, key: PIN.into(), row };
        self.journal.commit(vec![op], Reply::waiter(sender));
        receiver
    }
}

impl Durable {
    fn count(&mut self, ended: BadEnd) {
        let same = |bad: &BadEnd| (&bad.namespace, &bad.document) == (&ended.namespace, &ended.document);
        match self.bad.iter_mut().find(|bad| same(bad)) {
            Some(bad) => {
                bad.ends += 1;
                bad.need_bytes = bad.need_bytes.max(ended.need_bytes);
                bad.reason = ended.reason;
            }
            None => self.bad.push(BadEnd { ends: 1, ..ended }),
        }
        let excess = self.bad.len().saturating_sub(MOST_DOCUMENTS);
        self.bad.drain(..excess);
    }

    fn cross_out(&mut self, key: &DocKey) -> bool {
        let before = self.under_way.len();
        self.under_way.retain(|opening| !opening.is(key));
        self.under_way.len() < before
    }

    fn forget(&mut self, key: &DocKey, need_bytes: u64) -> bool {
        let before = self.bad.len();
        self.bad.retain(|bad| !bad.is(key) || bad.need_bytes > need_bytes);
        self.bad.len() < before
    }
}

#[cfg(test)]
mod tests;
