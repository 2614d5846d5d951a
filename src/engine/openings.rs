//! The record of openings that ended the process, which keeps a document from killing the server in a loop.
//!
//! Opening a document needs memory in proportion to its operations, and a process that takes too much is killed. A
//! restarted server would open the same document again at the next connection, and be killed again. So each opening
//! that may be large is written down before it starts, durably, and crossed out when it has ended, however it ended.
//! What is still written down at a start coincided with the end of the process. After [`MOST_BAD_ENDS`] such ends in a row the
//! document is not opened any more: it goes on syncing as rows, and the owner is told.
//!
//! A clean stop crosses out the opening under way: it is no fault of the document.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::journal::{Journal, Reply};
use super::lock;
use crate::store::{CommitError, Op, RecordKind, Store};
use crate::sync::job::Job;
use crate::types::DocKey;

/// Ends of the process during an opening of one document, in a row, after which the document stays closed.
pub const MOST_BAD_ENDS: u32 = 2;
/// Documents with bad ends that are remembered; beyond it the oldest is forgotten.
const MOST_DOCUMENTS: usize = 1_000;
/// An intake of less than this, in bytes and in operations, is not written down: an fsync for each new small document
/// would cost more than its opening.
const SMALL_INTAKE: u64 = 64 * 1024;
/// Name of the record among the pins.
const PIN: &[u8] = b"openings";

/// A document that is not opened because its openings ended the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadEnd {
    /// Its namespace.
    pub namespace: String,
    /// Its id.
    pub document: String,
    /// How often in a row the process ended while the document was being opened.
    pub ends: u32,
}

impl BadEnd {
    fn of(key: &DocKey) -> Self {
        Self { namespace: key.namespace.to_string(), document: key.document.to_string(), ends: 0 }
    }

    fn is(&self, key: &DocKey) -> bool {
        self.document == key.document.to_string() && self.namespace == key.namespace.as_str()
    }
}

/// What is durable: JSON in the row [`PIN`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Record {
    /// The opening under way.
    under_way: Option<BadEnd>,
    /// Documents whose last opening ended the process, the oldest first.
    bad: Vec<BadEnd>,
}

#[derive(Default)]
struct State {
    record: Record,
    /// The engine stops: an opening that its end interrupts is not the document's fault.
    stopping: bool,
}

/// The record; shared by the opener, which keeps it, and by `status`.
pub struct Openings {
    journal: Journal,
    state: Mutex<State>,
}

impl Openings {
    /// Reads what the last process left behind. A record that cannot be read counts as empty: it protects, and must not
    /// keep the server from starting.
    pub fn load(store: &Store, journal: Journal) -> Arc<Self> {
        let row = store.record(RecordKind::Pin, PIN).ok().flatten();
        let mut record: Record = row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default();
        if let Some(interrupted) = record.under_way.take() {
            record.count(interrupted);
        }
        Arc::new(Self { journal, state: Mutex::new(State { record, stopping: false }) })
    }

    /// Whether the job may run; an opening that may be large is durably written down first. Waits for the disk, so only
    /// the opener's thread calls it.
    pub fn begin(&self, job: &Job) -> bool {
        let key = job.key();
        let mut state = lock(&self.state);
        if state.record.is_closed(key) {
            return false;
        }
        if !is_large(job) || state.stopping {
            return true;
        }
        state.record.under_way = Some(BadEnd::of(key));
        let written = self.write(&state.record);
        drop(state);
        // On a full disk nothing can be written down. Refusing to open would then refuse a reader what is stored.
        if !matches!(written.blocking_recv(), Ok(Ok(()))) {
            tracing::debug!(document = %key.document, "an opening could not be written down before it started");
        }
        true
    }

    /// The job has ended and the process lives: the document has no bad ends any more.
    pub fn end(&self, key: &DocKey) {
        let mut state = lock(&self.state);
        let was_under_way = state.record.under_way.take().is_some();
        if state.record.forget(key) || was_under_way {
            // Not waited for: if it is lost with a power cut, one end too many is counted.
            drop(self.write(&state.record));
        }
    }

    /// The engine stops: the opening under way is crossed out.
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopping = true;
        if state.record.under_way.take().is_some() {
            drop(self.write(&state.record));
        }
    }

    /// The owner wants the document tried again. False if it was not closed.
    /// # Errors
    /// The record without the document could not be made durable; the document may then stay closed after a restart.
    pub async fn retry(&self, key: &DocKey) -> Result<bool, CommitError> {
        let written = {
            let mut state = lock(&self.state);
            if !state.record.forget(key) {
                return Ok(false);
            }
            self.write(&state.record)
        };
        written.await.unwrap_or(Err(CommitError::Stopped)).map(|()| true)
    }

    /// The documents that stay closed.
    pub fn closed(&self) -> Vec<BadEnd> {
        let state = lock(&self.state);
        state.record.bad.iter().filter(|bad| bad.ends >= MOST_BAD_ENDS).cloned().collect()
    }

    fn write(&self, record: &Record) -> oneshot::Receiver<Result<(), CommitError>> {
        let (sender, receiver) = oneshot::channel();
        // Invariant: a struct of texts and numbers is always JSON.
        let row = serde_json::to_vec(record).ok();
        let op = Op::Record { kind: RecordKind::Pin, key: PIN.into(), row };
        self.journal.commit(vec![op], Reply::waiter(sender));
        receiver
    }
}

impl Record {
    fn is_closed(&self, key: &DocKey) -> bool {
        self.bad.iter().any(|bad| bad.ends >= MOST_BAD_ENDS && bad.is(key))
    }

    fn count(&mut self, interrupted: BadEnd) {
        let same =
            |bad: &BadEnd| (&bad.namespace, &bad.document) == (&interrupted.namespace, &interrupted.document);
        match self.bad.iter_mut().find(|bad| same(bad)) {
            Some(bad) => bad.ends += 1,
            None => self.bad.push(BadEnd { ends: 1, ..interrupted }),
        }
        let excess = self.bad.len().saturating_sub(MOST_DOCUMENTS);
        self.bad.drain(..excess);
    }

    fn forget(&mut self, key: &DocKey) -> bool {
        let before = self.bad.len();
        self.bad.retain(|bad| !bad.is(key));
        self.bad.len() < before
    }
}

/// Whether an opening may need much memory. Compaction and extraction concern documents with a long history; an intake
/// tells by its bytes and by the operations that it claims.
fn is_large(job: &Job) -> bool {
    match job {
        Job::Intake { chunks, operations, .. } => {
            chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>().max(*operations) >= SMALL_INTAKE
        }
        Job::Extract { .. } | Job::Compact { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tempfile::TempDir;

    use super::*;
    use crate::engine::vital::Vital;
    use crate::store::StoreOptions;
    use crate::types::{ConnectionId, DocumentId};

    fn compact(n: u8) -> Job {
        let key = DocKey { namespace: "xyz.example".parse().unwrap(), document: DocumentId([n; 16]) };
        Job::Compact { key, below: 1 }
    }

    /// One life of the process: what is done in it, then it is gone without a word.
    fn life(dir: &TempDir, live: impl FnOnce(&Openings)) {
        let store = Store::open(&dir.path().join("store"), &StoreOptions { cache_bytes: 1 << 20 }).unwrap();
        let store = Arc::new(store);
        let journal = Journal::start(store.clone(), &Vital::new()).unwrap();
        live(&Openings::load(&store, journal.clone()));
        journal.stop().blocking_recv().unwrap();
        drop(journal);
        while Arc::strong_count(&store) > 1 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_document_whose_opening_ended_the_process_twice_stays_closed() {
        let dir = TempDir::new().unwrap();
        life(&dir, |openings| assert!(openings.begin(&compact(1)), "nothing has happened so far"));
        life(&dir, |openings| {
            assert!(openings.closed().is_empty());
            assert!(openings.begin(&compact(2)), "another document is opened");
            openings.end(compact(2).key());
            assert!(openings.begin(&compact(1)), "once may be chance");
        });
        life(&dir, |openings| {
            assert_eq!(openings.closed().len(), 1);
            assert!(!openings.begin(&compact(1)));
            assert!(openings.begin(&compact(2)), "other documents are not concerned");
            openings.end(compact(2).key());
        });
        life(&dir, |openings| {
            assert!(!openings.begin(&compact(1)), "for good");
            let runtime = tokio::runtime::Runtime::new().unwrap();
            assert!(runtime.block_on(openings.retry(compact(1).key())).unwrap());
            assert!(openings.begin(&compact(1)), "the owner said so");
        });
    }

    #[test]
    fn an_opening_that_ends_well_or_with_a_clean_stop_does_not_count() {
        let dir = TempDir::new().unwrap();
        life(&dir, |openings| assert!(openings.begin(&compact(1))));
        life(&dir, |openings| {
            assert!(openings.begin(&compact(1)));
            openings.end(compact(1).key());
        });
        life(&dir, |openings| assert!(openings.begin(&compact(1)), "the first end is forgotten"));
        for _ in 0..3 {
            life(&dir, |openings| {
                assert!(openings.begin(&compact(1)));
                openings.stop();
            });
        }
        life(&dir, |openings| assert!(openings.begin(&compact(1)), "one bad end only"));
    }

    #[test]
    fn a_small_intake_costs_no_fsync_and_a_large_one_is_written_down() {
        let dir = TempDir::new().unwrap();
        let intake = |bytes, operations| {
            let chunks = vec![Bytes::from(vec![0; bytes])];
            let key = compact(3).key().clone();
            Job::Intake { key, connection: ConnectionId(1), chunks, operations, existing: false }
        };
        for (job, counts) in
            [(intake(100, 100), false), (intake(100, 4_000_000), true), (intake(1 << 20, 1), true)]
        {
            life(&dir, |openings| {
                assert_eq!(openings.state.lock().unwrap().record.bad.len(), 0);
                openings.begin(&job);
            });
            life(&dir, |openings| {
                assert_eq!(openings.state.lock().unwrap().record.bad.len(), usize::from(counts));
                openings.end(job.key());
            });
        }
    }
}
