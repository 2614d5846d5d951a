//! Work that takes an open document: what the opener is asked for, and what follows from its results.

use bytes::Bytes;

use super::Shard;
use super::commit::Snapshotting;
use crate::sync::job::{Done, Intake, Job, chunks_bytes};
use crate::sync::peer::Base;
use crate::sync::storage::Storage;
use crate::types::{ChangeHash, ConnectionId, DocKey, Millis};

/// What an intake was given, for another try.
struct Upload {
    chunks: Vec<Bytes>,
    operations: u64,
}

impl Shard {
    /// Jobs for the opener.
    pub fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    pub(super) fn intake(
        &mut self,
        connection: ConnectionId,
        key: &DocKey,
        chunks: Vec<Bytes>,
        operations: u64,
    ) {
        let Some(doc) = self.docs.get_mut(key) else { return };
        if !self.budget.begin_upload(connection, chunks_bytes(&chunks)) {
            return self.close(connection, 1013, "busy taking in another large document, try again");
        }
        doc.intakes += 1;
        doc.at_opener += 1;
        let existing = doc.head.is_some() || doc.graph.is_some();
        self.jobs.push(Job::Intake { key: key.clone(), connection, chunks, operations, existing });
    }

    pub(super) fn extract(
        &mut self,
        connection: ConnectionId,
        key: &DocKey,
        have: Vec<ChangeHash>,
        skip: u64,
    ) {
        let Some(head) = self.docs.get(key).and_then(|doc| doc.head.as_ref()) else { return };
        let snapshot = head.snapshot.as_ref().map_or_else(Vec::new, |info| info.heads.clone());
        if let Some(state) = self.connections.get_mut(&connection) {
            state.extracting = Some(key.clone());
        }
        self.jobs.push(Job::Extract { key: key.clone(), connection, snapshot, have, skip });
    }

    /// Start a compaction if the tail has outgrown the snapshot and devices away for a while had their time.
    pub(super) fn compact_if_due(&mut self, key: &DocKey, storage: &dyn Storage, now: Millis) {
        let (floor, grace) = (self.options.compact_floor, self.options.compact_grace_ms);
        let Some(doc) = self.docs.get_mut(key) else { return };
        let Some(head) =
            doc.head.as_ref().filter(|_| !doc.compacting && !doc.stays_closed && doc.broken.is_none())
        else {
            return;
        };
        let snapshot = head.snapshot.as_ref().map_or(0, |info| info.changes);
        let due = head.tail_changes >= floor.max(snapshot) && now >= doc.compact_after;
        let overdue = head.tail_changes >= LONG_TAIL.max(snapshot / 8);
        if !due && !overdue {
            return;
        }
        // The graph stays in memory until the snapshot is swapped in, so that nothing is read between two states.
        if let Err(fault) = doc.load(storage, true) {
            return self.faulty(key, None, &fault);
        }
        let below = doc.durable_end();
        doc.compacting = true;
        doc.compact_after = now + grace;
        self.jobs.push(Job::Compact { key: key.clone(), below });
        self.recount(key);
    }

    pub(super) fn take_done(&mut self, done: Done, storage: &dyn Storage, now: Millis) {
        match done {
            Done::Intake { key, connection, chunks, operations, result } => {
                let again = Upload { chunks, operations };
                self.intake_done(&key, connection, again, result, storage, now)
            }
            Done::Refused(job) => self.refused(job, storage, now),
            Done::Extract { key, connection, result } => self.extract_done(&key, connection, result),
            Done::Compact { key, below, result } => match result {
                Ok(Some(snapshot)) => {
                    if self.docs.get(&key).is_some_and(|doc| doc.compacting) {
                        self.snapshots.push(Snapshotting { key, below, snapshot, connection: None });
                    }
                }
                Ok(None) => {
                    if let Some(doc) = self.docs.get_mut(&key) {
                        doc.compacting = false;
                    }
                }
                Err(reason) => self.quarantine(&key, reason),
            },
        }
    }

    fn intake_done(
        &mut self,
        key: &DocKey,
        connection: ConnectionId,
        upload: Upload,
        result: Result<Intake, String>,
        storage: &dyn Storage,
        now: Millis,
    ) {
        let client = self.connections.get(&connection).map(|connection| connection.info.client.clone());
        let Some(doc) = self.docs.get_mut(key) else { return };
        if doc.stale_intakes > 0 {
            doc.stale_intakes -= 1;
            return self.forget_if_idle(key);
        }
        if doc.broken.is_some() {
            return self.intake_over(key, storage, now);
        }
        match result {
            Ok(Intake::Snapshot(snapshot)) if doc.head.is_none() && doc.graph.is_none() => {
                // Still counts as an intake until it is durable.
                self.snapshots.push(Snapshotting {
                    key: key.clone(),
                    below: 1,
                    snapshot,
                    connection: Some(connection),
                });
                return;
            }
            Ok(Intake::Snapshot(_)) => {
                doc.at_opener += 1;
                let Upload { chunks, operations } = upload;
                // Ended a moment ago, so it fits again.
                self.budget.begin_upload(connection, chunks_bytes(&chunks));
                self.jobs.push(Job::Intake {
                    key: key.clone(),
                    connection,
                    chunks,
                    operations,
                    existing: true,
                });
                return;
            }
            Ok(Intake::Changes(changes)) => match doc.take_changes(connection, changes, storage) {
                Ok(received) => {
                    if received.appended > 0 {
                        doc.writer = client.or(doc.writer.take());
                        self.dirty.mark(doc);
                    }
                    if let Some(misfit) = received.misfit {
                        self.misfit(connection, key, misfit);
                    }
                }
                Err(fault) => self.faulty(key, Some(connection), &fault),
            },
            Err(reason) => {
                self.error(connection, format!("document {}: {reason}; it was not taken", key.document))
            }
        }
        self.intake_over(key, storage, now);
    }

    pub(super) fn intake_over(&mut self, key: &DocKey, storage: &dyn Storage, now: Millis) {
        if let Some(doc) = self.docs.get_mut(key) {
            doc.intakes = doc.intakes.saturating_sub(1);
        }
        self.release_held(key, storage, now);
        self.recount(key);
        self.ask_or_tell(key, now);
        self.queue(key);
        self.forget_if_idle(key);
    }

    /// The owner allows the document to be opened again.
    pub fn retry(&mut self, key: &DocKey) {
        if let Some(doc) = self.docs.get_mut(key) {
            doc.stays_closed = false;
        }
    }

    /// The opener refuses the document. It stays as rows and snapshot, and goes on syncing as far as that takes no opening.
    fn refused(&mut self, job: Job, storage: &dyn Storage, now: Millis) {
        let key = job.key().clone();
        let Some(doc) = self.docs.get_mut(&key) else { return };
        doc.stays_closed = true;
        match job {
            Job::Compact { .. } => doc.compacting = false,
            Job::Intake { .. } if doc.stale_intakes > 0 => doc.stale_intakes -= 1,
            Job::Intake { connection, .. } => {
                self.error(
                    connection,
                    format!("document {}: {STAYS_CLOSED}; it was not taken", key.document),
                );
                return self.intake_over(&key, storage, now);
            }
            Job::Extract { connection, .. } => {
                if let Some(peer) = doc.peer(connection) {
                    peer.send_whole();
                }
                self.extract_over(connection);
            }
        }
        self.queue(&key);
        self.forget_if_idle(&key);
    }

    fn extract_done(
        &mut self,
        key: &DocKey,
        connection: ConnectionId,
        result: Result<Option<(Vec<Bytes>, bool)>, String>,
    ) {
        if let Err(reason) = &result {
            self.quarantine(key, reason.clone());
        }
        if let Some(peer) = self.docs.get_mut(key).and_then(|doc| doc.peer(connection))
            && let Base::Part(extract) = &mut peer.base
            && extract.running
        {
            extract.running = false;
            match result {
                Ok(Some((parts, done))) => {
                    extract.taken += parts.len() as u64;
                    extract.parts.extend(parts);
                    extract.done = done;
                }
                Ok(None) => peer.stale = true,
                Err(_) => {}
            }
        }
        self.queue(key);
        self.extract_over(connection);
    }

    /// The opener is free for the connection's other documents.
    fn extract_over(&mut self, connection: ConnectionId) {
        let waiting = self.connections.get_mut(&connection).map_or_else(Vec::new, |state| {
            state.extracting = None;
            std::mem::take(&mut state.waiting)
        });
        for key in waiting {
            self.queue(&key);
        }
    }
}

/// Why a document chunk is refused, for the device that sent it.
const STAYS_CLOSED: &str = "the server ended twice while it opened this document, so the document stays closed until the owner allows another try (groundmist-sync docs retry)";

/// A tail of so many changes (and an eighth of the snapshot's) is compacted even within the grace period.
pub const LONG_TAIL: u64 = 16_384;
