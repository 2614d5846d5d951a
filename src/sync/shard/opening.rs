//! Work that takes an open document: what the opener is asked for, and what follows from its results.

use std::fmt::Display;

use bytes::Bytes;

use super::Shard;
use super::next_commit::{Bringer, PendingSnapshot};
use crate::sync::doc::Tail;
use crate::sync::job::{Done, Intake, Job, NotExtracted, Refusal, chunks_bytes};
use crate::sync::storage::Storage;
use crate::types::{ChangeHash, ConnectionId, DocKey, Now};

/// What an intake was given, for another try.
struct Upload {
    chunks: Vec<Bytes>,
    operations: u64,
}

impl Shard {
    /// Has the opener take in document chunks that a connection sent.
    pub(super) fn intake(
        &mut self,
        connection: ConnectionId,
        key: &DocKey,
        chunks: Vec<Bytes>,
        operations: u64,
    ) {
        let Some(doc) = self.documents.get_mut(key) else { return };
        if !self.budget.begin_upload(connection, chunks_bytes(&chunks)) {
            return self.close(connection, 1013, "busy taking in another large document, try again");
        }
        doc.opener.begin_intake();
        let existing = !doc.is_unknown();
        self.jobs.push(Job::Intake { key: key.clone(), connection, chunks, operations, existing });
    }

    /// Has the opener take changes out of the snapshot for a connection.
    pub(super) fn extract(
        &mut self,
        connection: ConnectionId,
        key: &DocKey,
        have: Vec<ChangeHash>,
        skip: u64,
    ) {
        let Some(head) = self.documents.get(key).and_then(|doc| doc.head()) else { return };
        let snapshot = head.snapshot.as_ref().map_or_else(Vec::new, |info| info.heads.clone());
        if let Some(state) = self.connections.get_mut(&connection) {
            state.begin_extraction(key.clone());
        }
        self.jobs.push(Job::Extract { key: key.clone(), connection, snapshot, have, skip });
    }

    /// Starts a compaction if the tail has outgrown the snapshot and devices away for a while had their time.
    pub(super) fn compact_if_due(&mut self, key: &DocKey, storage: &dyn Storage, now: Now) {
        let (floor, grace) = (self.options.compact_floor, self.options.compact_grace_ms);
        let Some(doc) = self.documents.get_mut(key) else { return };
        let Some(head) = doc.head().filter(|_| doc.is_synced()) else { return };
        let snapshot = head.snapshot.as_ref().map_or(0, |info| info.changes);
        if !doc.opener.may_compact(now.steady, Tail::of(head.tail_changes, snapshot, floor)) {
            return;
        }
        // The graph stays in memory until the snapshot is swapped in, so that nothing is read between two states.
        if let Err(fault) = doc.load(storage, true) {
            return self.faulty(key, None, &fault);
        }
        let below = doc.durable_end();
        doc.opener.begin_compaction(now.steady, grace);
        self.jobs.push(Job::Compact { key: key.clone(), below });
        self.recount(key);
    }

    /// The owner allows another try.
    pub(super) fn allow_opening(&mut self, key: &DocKey) {
        self.documents.allow_opening(key);
        let Some(doc) = self.documents.get(key) else { return };
        let refused = doc.peers().iter().filter(|peer| peer.is_refused());
        for id in refused.map(|peer| peer.connection()).collect::<Vec<_>>() {
            self.close(id, 1012, "the server's owner allows another try at a document, connect again");
        }
    }

    /// Follows a result of the opener.
    pub(super) fn take_done(&mut self, done: Done, storage: &dyn Storage, now: Now) {
        match done {
            Done::Intake { key, connection, chunks, operations, result } => {
                let again = Upload { chunks, operations };
                self.intake_done(&key, connection, again, result, storage, now)
            }
            Done::Refused(job, why) => self.refused(job, &why, storage, now),
            Done::Extract { key, connection, result } => self.extract_done(&key, connection, result),
            Done::Compact { key, below, result } => match result {
                Ok(Some(snapshot)) => {
                    if let Some(doc) = self.documents.get_mut(&key).filter(|doc| doc.opener.is_compacting()) {
                        doc.opener.compaction_made(now.steady);
                        self.next_commit.write_snapshot(PendingSnapshot {
                            key,
                            below,
                            snapshot,
                            bringer: None,
                        });
                    }
                }
                // The store could not read it.
                Ok(None) => self.not_compacted(&key, now),
                Err(reason) => {
                    tracing::warn!(document = %key.document, namespace = %key.namespace, reason, "a document could not be compacted: it stays as single changes and syncs on");
                    self.not_compacted(&key, now);
                }
            },
        }
    }

    /// A compaction came to nothing. The rows and the old snapshot are what they were, so the document syncs on; another
    /// attempt right away would most likely fail the same way.
    fn not_compacted(&mut self, key: &DocKey, now: Now) {
        let grace = self.options.compact_grace_ms;
        if let Some(doc) = self.documents.get_mut(key) {
            doc.opener.compaction_failed(now.steady + grace);
        }
        self.recount(key);
        self.queue(key);
        self.forget_if_idle(key);
    }

    fn intake_done(
        &mut self,
        key: &DocKey,
        connection: ConnectionId,
        upload: Upload,
        result: Result<Intake, String>,
        storage: &dyn Storage,
        now: Now,
    ) {
        let approval = self.connections.get(&connection).map(|conn| conn.info().approval());
        let client = approval.as_ref().map(|approval| approval.client_id.clone());
        let Some(doc) = self.documents.get_mut(key) else { return };
        if !doc.opener.intake_returned() {
            return self.forget_if_idle(key);
        }
        if !doc.is_synced() {
            return self.intake_over(key, storage, now);
        }
        match result {
            Ok(Intake::Snapshot(snapshot)) if doc.is_unknown() => {
                // Still counts as an intake until it is durable.
                doc.opener.snapshot_waits(snapshot.bytes());
                if let Some(approval) = approval {
                    self.budget.wrote(key, || approval);
                }
                let bringer = Some(Bringer { connection, client });
                self.next_commit.write_snapshot(PendingSnapshot {
                    key: key.clone(),
                    below: 1,
                    snapshot,
                    bringer,
                });
                return self.recount(key);
            }
            Ok(Intake::Snapshot(_)) => {
                doc.opener.repeat_intake();
                let Upload { chunks, operations } = upload;
                // Ended a moment ago, so it fits again.
                let _ = self.budget.begin_upload(connection, chunks_bytes(&chunks));
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
                        doc.written_by(client);
                        if let Some(approval) = approval {
                            self.budget.wrote(key, || approval);
                        }
                        self.next_commit.mark_dirty(key);
                    }
                    if let Some(misfit) = received.misfit {
                        self.misfit(connection, key, misfit);
                    }
                }
                Err(fault) => self.faulty(key, Some(connection), &fault),
            },
            Err(reason) => self.not_taken(key, connection, &reason),
        }
        self.intake_over(key, storage, now);
    }

    /// An upload was not taken, and the device is told why.
    fn not_taken(&mut self, key: &DocKey, connection: ConnectionId, why: &impl Display) {
        if let Some(peer) = self.documents.get_mut(key).and_then(|doc| doc.peer(connection)) {
            peer.refuse();
        }
        self.error(connection, format!("document {}: {why}; it was not taken", key.document));
    }

    /// What a chunk brought is durable, or it was not taken: goes on with what waited for it.
    pub(super) fn intake_over(&mut self, key: &DocKey, storage: &dyn Storage, now: Now) {
        if let Some(doc) = self.documents.get_mut(key) {
            doc.opener.end_intake();
        }
        self.release_held(key, storage, now);
        self.recount(key);
        self.ask_or_tell(key, now);
        self.queue(key);
        self.forget_if_idle(key);
    }

    /// The opener refuses the document. It stays as rows and snapshot, and goes on syncing as far as that takes no opening.
    fn refused(&mut self, job: Job, why: &Refusal, storage: &dyn Storage, now: Now) {
        let key = job.key().clone();
        let Some(doc) = self.documents.get_mut(&key) else { return };
        if *why == Refusal::StaysClosed {
            doc.opener.close();
        }
        match job {
            Job::Compact { .. } => return self.not_compacted(&key, now),
            Job::Intake { .. } if !doc.opener.intake_returned() => {}
            Job::Intake { connection, .. } => {
                self.not_taken(&key, connection, why);
                if !self.ask_singly(connection, &key) {
                    self.end_writing(connection, &key, storage, now);
                }
                return self.intake_over(&key, storage, now);
            }
            Job::Extract { connection, .. } => {
                if let Some(peer) = doc.peer(connection) {
                    peer.extraction_refused();
                }
                self.extract_over(connection);
            }
        }
        self.queue(&key);
        self.forget_if_idle(&key);
    }

    /// The document is too much to take in whole: from the connection's next life on the device is to send its changes one by
    /// one. On this one it would send the whole document again with every edit, for it was told that we understand that. False
    /// if that does not help.
    fn ask_singly(&mut self, connection: ConnectionId, key: &DocKey) -> bool {
        let Some(doc) = self.documents.get_mut(key) else { return false };
        let Some(peer) = doc.peer(connection).filter(|peer| peer.may_send_singly()) else {
            return false;
        };
        let (heads, was_asked) = (peer.their_heads().to_vec(), peer.was_asked_singly());
        doc.opener.wants_singly();
        self.wholes.refuse(key, &heads);
        // A device that sends the whole document all the same would come back for ever.
        if !was_asked {
            self.close(connection, 1013, "a document is too large to be taken in whole: send its changes");
        }
        !was_asked
    }

    /// New changes of the document are durable. If they have brought all that was refused, that is no trouble any more.
    pub(super) fn note_if_came_singly(&mut self, key: &DocKey) {
        let Some(refused) = self.wholes.refused(key) else { return };
        let came = self.documents.get(key).is_some_and(|doc| doc.knows_all(refused));
        if came {
            self.came_singly.push(key.clone());
        }
    }

    fn extract_done(
        &mut self,
        key: &DocKey,
        connection: ConnectionId,
        result: Result<Option<(Vec<Bytes>, bool)>, NotExtracted>,
    ) {
        match &result {
            Ok(_) => {}
            Err(damage @ NotExtracted::Damaged(_)) => self.quarantine(key, damage.to_string()),
            Err(failure @ NotExtracted::Failed(_)) => {
                tracing::warn!(document = %key.document, namespace = %key.namespace, %failure, "a device gets all of a document, and one that cannot read that nothing");
            }
        }
        if let Some(peer) = self.documents.get_mut(key).and_then(|doc| doc.peer(connection)) {
            peer.extracted(result);
        }
        self.queue(key);
        self.extract_over(connection);
    }

    /// The opener is free for the connection's other documents.
    fn extract_over(&mut self, connection: ConnectionId) {
        let conn = self.connections.get_mut(&connection);
        let waiting = conn.map_or_else(Vec::new, |conn| conn.end_extraction(None));
        for key in waiting {
            self.queue(&key);
        }
    }
}
