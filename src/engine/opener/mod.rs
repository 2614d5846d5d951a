//! Opens documents, which only automerge can do and which takes memory by what is in them: small ones in a thread, large
//! ones in processes that are limited, and that the rest of the server outlives.
//!
//! ```text
//! shard -> desk (fair queue) -> opener thread: estimate -+-> small: done there
//!                                                        +-> more than memory.opener: refused, with a reason
//!                                                        +-> desk (fair queue) -> a thread with a process -> shard
//! ```
//!
//! A process opens one document and ends: no document sees another's bytes, and all memory returns to the system. It has no
//! file of the server's open, and gives up the right to open one before it reads the document.

mod child;
mod desk;
mod estimate;
mod figures;
mod frame;
mod process;
mod record;
mod runner;
mod shared;
mod transfer;
mod trouble;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use child::main as open_document;
pub use figures::OpeningFigures;
pub use process::COMMAND;
pub use record::{Allowed, BadEnd, Known, LastEnd, Record};
pub use trouble::{Trouble, TroubleKind};

use super::fair::Lane;
use super::mailbox::Sender;
use super::shard::Input;
use super::vital::Vital;
use crate::store::Store;
use crate::sync::job::Job;
use crate::sync::opener::Opener;
use crate::sync::oversize::Oversize;
use crate::sync::shard::Oversized;
use crate::types::{ConnectionId, DocKey, Party};
use desk::Desk;
use figures::Figures;
use shared::Shared;

/// Processes that open documents at the same time, at most.
const CHILDREN: usize = 2;
/// What stands for an app in the lanes of compactions, which the server does for itself: those of one namespace are one
/// party. No `client_id` has a space.
const COMPACTING: &str = "the server's own compactions";

/// How documents are opened.
#[derive(Debug, Clone)]
pub struct OpenerOptions {
    /// Bytes of memory that all processes may take together.
    pub memory_bytes: u64,
    /// The program that they run, with [`COMMAND`]; `None` for the running one.
    pub program: Option<PathBuf>,
    /// Processor time that a process has besides what its estimate gives it; twice that by the clock on the wall.
    pub patience: Duration,
}

impl OpenerOptions {
    /// With the running program.
    pub fn with_memory(memory_bytes: u64) -> Self {
        Self { memory_bytes, program: None, patience: Duration::from_secs(60) }
    }
}

/// What opens documents, in the server's thread and in a process.
fn opener() -> Opener {
    Opener::new(|| {
        let mut salt = [0; 16];
        // Without randomness the salt is merely guessable, which costs one wasted exchange at worst.
        let _ = getrandom::fill(&mut salt);
        salt
    })
}

/// A job, who it is for, and the shard that waits for it.
pub struct Task {
    lane: Lane,
    job: Job,
    shard: Sender<Input>,
}

impl Task {
    /// `party`: the device on whose connection the job came, if the connection is still there.
    pub fn new(job: Job, party: Option<Party>, shard: Sender<Input>) -> Self {
        let namespace = || job.key().namespace.clone();
        let party = match job {
            Job::Compact { .. } => Party::new(namespace(), COMPACTING, ""),
            Job::Intake { .. } | Job::Extract { .. } => {
                party.unwrap_or_else(|| Party::new(namespace(), "", ""))
            }
        };
        let connection = job.connection().unwrap_or(ConnectionId(0));
        Self { lane: Lane { party, connection }, job, shard }
    }

    /// The party that sent or wants the document; nobody wants a compaction.
    fn sender(&self) -> Option<&Party> {
        let party = &self.lane.party;
        (&*party.approval.client_id != COMPACTING).then_some(party)
    }
}

/// Handle to the opener's threads; they end when the last one is dropped.
#[derive(Clone)]
pub struct OpenerPool(Arc<Guard>);

struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.desk.stop();
    }
}

impl OpenerPool {
    /// Start the threads.
    /// # Errors
    /// The system has no threads left.
    pub fn start(
        store: Arc<Store>,
        record: Arc<Record>,
        options: OpenerOptions,
        vital: &Vital,
    ) -> io::Result<Self> {
        let (desk, figures) = (Desk::new(options.memory_bytes), Figures::default());
        let shared = Arc::new(Shared { desk, record, store, options, figures });
        let pool = Self(Arc::new(Guard(shared.clone())));
        for number in 0..CHILDREN {
            let shared = shared.clone();
            vital.spawn(format!("opener-{number}"), move || runner::large(&shared, number))?;
        }
        vital.spawn("opener".into(), move || shared::small(&shared))?;
        Ok(pool)
    }

    /// Hands a job over; the shard is told when it is done or refused.
    pub fn submit(&self, task: Task) {
        self.0.0.desk.submit(task);
    }

    /// A connection has left: what was to be taken out of documents for it is dropped.
    pub fn leave(&self, connection: ConnectionId) {
        self.0.0.desk.leave(connection);
    }

    /// All of a document that was too large to take in whole has come change by change.
    pub fn came_singly(&self, key: &DocKey) {
        self.0.0.record.is_well(key, &[TroubleKind::TooLargeToTakeIn]);
    }

    /// A device sent more of a document at once than a limit allows.
    pub fn oversized(&self, Oversized { party, key, oversize }: &Oversized) {
        let is_new = self.0.0.record.note(Trouble::oversize(key, party, *oversize));
        let Oversize { size_bytes, exceeded } = oversize;
        if is_new {
            tracing::info!(document = %key.document, namespace = %key.namespace, session = %party.session, size_bytes, why = %exceeded, "a device sent more of a document at once than a limit allows");
        } else {
            tracing::debug!(document = %key.document, namespace = %key.namespace, session = %party.session, size_bytes, why = %exceeded, "a device sent too much of a document again");
        }
    }

    /// All that a device has of a document is durable.
    pub fn saved(&self, party: &Party, key: &DocKey) {
        self.0.0.record.saved(party, key);
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.0.0.desk.waiting()
    }

    /// What was opened and refused since the start.
    pub fn figures(&self) -> OpeningFigures {
        self.0.0.figures.read()
    }

    /// Ends processes and threads; jobs under way are dropped.
    pub fn stop(&self) {
        self.0.0.desk.stop();
    }
}
