//! How earlier lives of the server ended: stopped, or without a word.
//!
//! A file in the data directory says that a server runs, and is written once when it starts. A server that is stopped takes
//! that back. What still stands there at the next start belongs to a server that was killed or failed; the machine's boots
//! tell a reboot and a power cut from that. Such ends are kept for a week, for the owner to read. While the server runs it
//! writes nothing: when it last lived is known from the store's file, which changes with every commit.
//!
//! The file is no part of a backup, because the server that a backup is restored to has not been killed.

use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;

use super::STORE_FILE;
use crate::directory::Directory;
use crate::engine::{BadEnd, LastEnd};
use crate::sys::boot::Boot;
use crate::sys::groups::{OutOfMemory, out_of_memory};
use crate::types::{Millis, now};
use crate::web::admin::{ENDS_LIFE_MS, Evidence, MOST_ENDS, NamedDocument, UncleanEnd};

/// Name of the file inside the data directory.
const FILE: &str = "last-run.json";
/// Most bytes of the file that are read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Parts of the server that open documents have names that begin so.
const OPENER_PARTS: &str = "opener";
/// How often is looked at least at what the system counts, so that an end is not explained by what was long before.
const LOOK: Duration = Duration::from_secs(3600);

/// What the file holds, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Written {
    /// The server that runs, or ran.
    running: Option<Running>,
    /// Unclean ends of the last week, the oldest first.
    ends: Vec<UncleanEnd>,
}

/// A server that runs, or ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    /// When it started.
    started: Millis,
    boot: Boot,
    /// Processes that the system had ended for memory, besides those that the server knew of.
    out_of_memory: Vec<OutOfMemory>,
    /// The part that failed, if the server ended for that.
    failed: Option<String>,
}

impl Running {
    fn now() -> Self {
        Self { started: now(), boot: Boot::now(), out_of_memory: out_of_memory(), failed: None }
    }

    /// Whether its end has a reason that is no document's fault. An opener's thread may have failed at the document.
    fn last_end(&self, next: &Boot) -> LastEnd {
        let is_explained = match &self.failed {
            Some(part) => !part.starts_with(OPENER_PARTS),
            None => !self.boot.is_same(next),
        };
        if is_explained { LastEnd::Explained } else { LastEnd::Unknown }
    }

    /// How it ended, as the server that started next sees it; `None` if the machine ended, and the server with it.
    fn end(&self, next: &Self, last_saved: Option<Millis>, opened: &[BadEnd]) -> Option<UncleanEnd> {
        if self.failed.is_none() && !self.boot.is_same(&next.boot) {
            return None;
        }
        let opened = opened.iter().map(|BadEnd { namespace, document, .. }| NamedDocument {
            namespace: namespace.clone(),
            document: document.clone(),
        });
        let alive = last_saved.filter(|saved| (self.started..=next.started).contains(saved));
        Some(UncleanEnd {
            alive: alive.unwrap_or(self.started),
            found: next.started,
            failed: self.failed.clone(),
            memory: evidence(&self.out_of_memory, &next.out_of_memory),
            opened: opened.collect(),
        })
    }
}

/// What speaks for an end by lack of memory. The server's own group says more than those above, which others are in too.
fn evidence(before: &[OutOfMemory], after: &[OutOfMemory]) -> Option<Evidence> {
    let more = after.iter().filter_map(|after| {
        let before = before.iter().find(|before| before.file == after.file)?;
        let processes = after.processes.checked_sub(before.processes).filter(|more| *more > 0)?;
        Some(Evidence { processes, own: after.own })
    });
    // In the order from the server's own group upwards.
    more.max_by_key(|evidence| evidence.own)
}

/// The server's present life, and how earlier ones ended.
pub(super) struct Life {
    directory: Arc<Directory>,
    written: Mutex<Written>,
}

/// When something was last saved, by the store's file. To be asked before the store is opened, which may change the file.
pub(super) fn last_saved(directory: &Directory) -> Option<Millis> {
    let modified = directory.open_own(STORE_FILE).and_then(|file| file.metadata()?.modified()).ok()?;
    Millis::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// What the file says of how the last server ended. To be asked before the engine is started, which counts openings that an
/// end interrupted.
pub(super) fn last_end(directory: &Directory) -> LastEnd {
    read(directory).running.map_or(LastEnd::Unknown, |running| running.last_end(&Boot::now()))
}

impl Life {
    /// Begins a life, durably. To be called with the store open: its lock keeps a second server from this. `last_saved`: see
    /// there. `opened`: documents that the last server was opening when it ended.
    pub(super) fn begin(
        directory: Arc<Directory>,
        last_saved: Option<Millis>,
        opened: &[BadEnd],
    ) -> Arc<Self> {
        let (mut written, running) = (read(&directory), Running::now());
        written.ends.retain(|end| running.started.saturating_sub(end.found) < ENDS_LIFE_MS);
        if let Some(end) = written.running.take().and_then(|last| last.end(&running, last_saved, opened)) {
            tracing::warn!(
                memory = end.memory.is_some(),
                failed = end.failed,
                "the server ended before without having been stopped"
            );
            written.ends.push(end);
            let excess = written.ends.len().saturating_sub(MOST_ENDS);
            written.ends.drain(..excess);
        }
        written.running = Some(running);
        let life = Self { directory, written: Mutex::new(written) };
        life.write(&life.lock());
        Arc::new(life)
    }

    /// Unclean ends of the last week, the oldest first.
    pub(super) fn ends(&self) -> Vec<UncleanEnd> {
        self.lock().ends.clone()
    }

    /// The server was asked to stop: however it ends now is no fault of its own.
    pub(super) fn stop(&self) {
        let mut written = self.lock();
        written.running = None;
        self.write(&written);
    }

    /// The server ends because a part of it failed.
    pub(super) fn fail(&self, part: &str) {
        let mut written = self.lock();
        if let Some(running) = &mut written.running {
            running.failed = Some(part.to_owned());
            self.write(&written);
        }
    }

    /// Looks again at what the system counts whenever an opener process has ended badly, and once an hour: what it ended until
    /// then was not the server.
    pub(super) async fn follow(self: Arc<Self>, mut bad_ends: watch::Receiver<u64>) {
        while !matches!(timeout(LOOK, bad_ends.changed()).await, Ok(Err(_))) {
            let life = self.clone();
            // An error means that the runtime ends.
            let _ = tokio::task::spawn_blocking(move || life.look_again()).await;
        }
    }

    fn look_again(&self) {
        let (mut written, counted) = (self.lock(), out_of_memory());
        if let Some(running) = written.running.as_mut().filter(|running| running.out_of_memory != counted) {
            running.out_of_memory = counted;
            self.write(&written);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server runs whether this succeeds or not.
    fn write(&self, written: &Written) {
        let result = if *written == Written::default() {
            self.directory.remove(FILE).map(drop).map_err(|error| error.to_string())
        } else {
            let json = serde_json::to_vec(written).unwrap_or_default();
            self.directory.replace(FILE, &json).map_err(|error| error.to_string())
        };
        let Err(error) = result else { return };
        tracing::debug!(error, "whether the server was stopped could not be written down");
        if written.running.is_none() {
            // The next start must not take this stop for a kill. On a full disk a file can still be removed.
            let _ = self.directory.remove(FILE);
        }
    }
}

/// A file that is missing or damaged counts as empty: it only informs, and must not keep the server from starting.
fn read(directory: &Directory) -> Written {
    let mut bytes = Vec::new();
    let read = directory.open_own(FILE).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    read.ok().and_then(|_| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
