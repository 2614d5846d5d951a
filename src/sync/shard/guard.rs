//! Documents that cannot be worked with: damaged ones, and those at which the program itself fails. They are not synced,
//! their bytes stay, and nothing else suffers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Shard;
use crate::store::{Op, StoreError};
use crate::sync::connection::Out;
use crate::sync::doc::{Doc, Fault};
use crate::sync::event::Event;
use crate::sync::job::{Done, Job, chunks_bytes};
use crate::sync::peer::Peer;
use crate::sync::storage::Storage;
use crate::types::{ConnectionId, DocKey, Millis};

impl Shard {
    /// A message has come.
    pub fn receive(&mut self, id: ConnectionId, event: Event, storage: &dyn Storage, now: Millis) {
        let document = event.document();
        let work = AssertUnwindSafe(|| self.take_in(id, event, storage, now));
        if catch_unwind(work).is_err() {
            let namespace = self.connections.get(&id).map(|conn| conn.info.namespace.clone());
            let key = namespace.zip(document).map(|(namespace, document)| DocKey { namespace, document });
            self.failed_at(id, key.as_ref());
        }
    }

    /// Make the next message for a connection, of `room` bytes at most unless it is about no document.
    pub fn next(&mut self, id: ConnectionId, storage: &dyn Storage, now: Millis, room: usize) -> Option<Out> {
        let mut at = None;
        let work = AssertUnwindSafe(|| self.make_next(id, &mut at, storage, (now, room)));
        catch_unwind(work).unwrap_or_else(|_| {
            self.failed_at(id, at.as_ref());
            self.make_ready(id);
            None
        })
    }

    /// The opener has finished a job.
    pub fn job_done(&mut self, done: Done, storage: &dyn Storage, now: Millis) {
        let key = done.key().clone();
        if let Done::Intake { connection, chunks, .. }
        | Done::Refused(Job::Intake { connection, chunks, .. }) = &done
        {
            self.budget.end_upload(*connection, chunks_bytes(chunks));
        }
        if let (Done::Intake { .. }, Some(doc)) = (&done, self.docs.get_mut(&key)) {
            doc.at_opener = doc.at_opener.saturating_sub(1);
        }
        let work = AssertUnwindSafe(|| self.take_done(done, storage, now));
        if catch_unwind(work).is_err() {
            self.start_over(&key);
        }
        self.enforce_budget(now);
    }

    /// The program failed while it worked for a connection, on a document if it was that far.
    fn failed_at(&mut self, id: ConnectionId, key: Option<&DocKey>) {
        match key.filter(|key| self.docs.contains_key(key)) {
            Some(key) => self.start_over(key),
            None => self.close(id, 1011, "a fault in the server; its owner finds the reason in its log"),
        }
    }

    /// The program failed while it worked on a document: whatever it made of it in memory is thrown away, its peers are
    /// told that it is unavailable, and it is read anew when all of them have left. What is durable stays as it is.
    pub(super) fn start_over(&mut self, key: &DocKey) {
        tracing::error!(document = %key.document, namespace = %key.namespace, "the server failed at a document: kept as stored, not synced until all who have it open have left");
        self.counters.quarantines += 1;
        if let Some(doc) = self.docs.get_mut(key) {
            doc.broken = Some("the server failed at it".into());
        }
        self.throw_away(key);
    }

    /// Throws away what is made of a document in memory: it is as its head says, or stays broken as it is. Who has it open
    /// is told that it is unavailable.
    pub(super) fn throw_away(&mut self, key: &DocKey) {
        self.snapshots.retain(|waiting| waiting.key != *key);
        self.absent.forget(key);
        if let Some(doc) = self.docs.get_mut(key) {
            let mut fresh = Doc::new(key.clone(), doc.head.take());
            fresh.taken = doc.taken.max(fresh.taken);
            fresh.broken = fresh.broken.or(doc.broken.take());
            for peer in &doc.peers {
                self.budget.change(peer.payer, peer.counted, 0);
            }
            for (of, message) in &doc.held {
                self.budget.change(*of, message.bytes(), 0);
            }
            // Others are over: what they gave is thrown away, or in the commit under way.
            (fresh.at_opener, fresh.stale_intakes) = (doc.at_opener, doc.at_opener);
            **doc = fresh;
        }
        self.memory = self.docs.values().map(|doc| doc.counted).sum();
        self.loaded = self.docs.values().filter(|doc| doc.counted > 0).count();
        for id in self.shares(key) {
            self.share_anew(id, key);
        }
        self.queue(key);
    }

    /// Close the connections with a share in the document.
    pub(super) fn send_away(&mut self, key: &DocKey, code: u16, reason: &'static str) {
        for id in self.shares(key) {
            self.close(id, code, reason);
        }
    }

    /// The connections with a share in the document, also when it has lost its peers.
    fn shares(&self, key: &DocKey) -> Vec<ConnectionId> {
        self.connections.iter().filter(|(_, conn)| conn.docs.contains(key)).map(|(id, _)| *id).collect()
    }

    /// A connection's share in a document that starts over. Its queue may have lost its place, so it is looked at.
    fn share_anew(&mut self, id: ConnectionId, key: &DocKey) {
        let Some(conn) = self.connections.get(&id) else { return };
        let writer = !conn.info.read_only;
        self.attach(id, key, Peer { writer, tell_unavailable: true, ..Peer::default() });
        let Some(conn) = self.connections.get_mut(&id) else { return };
        let waits = |key| {
            let peers = self.docs.get(key).map_or(&[][..], |doc| &doc.peers);
            peers.iter().any(|peer| peer.connection == id && peer.wants)
        };
        let requests = conn.docs.iter().filter(|key| waits(key)).count();
        conn.info.counts.answer(conn.requests - requests);
        conn.requests = requests;
        if conn.extracting.as_ref() == Some(key) {
            conn.extracting = None;
            for waiting in std::mem::take(&mut conn.waiting) {
                self.queue(&waiting);
            }
        }
        self.make_ready(id);
    }

    /// Something about the document cannot be read: the one who asked starts over, or all are told it is unavailable.
    pub(super) fn faulty(&mut self, key: &DocKey, id: Option<ConnectionId>, fault: &Fault) {
        match fault {
            Fault::Moving(_) => {}
            Fault::Damaged { .. } | Fault::Store(StoreError::Corrupt { .. }) => {
                return self.quarantine(key, fault.to_string());
            }
            Fault::Store(error) => {
                tracing::error!(document = %key.document, %error, "cannot read a document")
            }
        }
        match id {
            Some(id) => self.close(id, 1011, "storage is not readable now, try again"),
            None => tracing::debug!(document = %key.document, %fault, "try again later"),
        }
    }

    /// Stop syncing a harmful or damaged document; its bytes stay.
    pub(super) fn quarantine(&mut self, key: &DocKey, reason: String) {
        tracing::error!(document = %key.document, namespace = %key.namespace, reason, "document is quarantined: kept, no longer synced");
        self.absent.forget(key);
        self.end_wait(key, true);
        let Some(doc) = self.docs.get_mut(key) else { return };
        self.counters.quarantines += u64::from(doc.broken.is_none());
        doc.broken = Some(reason.clone());
        doc.compacting = false;
        doc.peers.iter_mut().for_each(|peer| peer.tell_unavailable = true);
        if doc.head.is_some() {
            self.ops.push(Op::Quarantine { key: key.clone(), reason });
        }
        self.queue(key);
    }
}

#[cfg(test)]
mod tests {
    use automerge::transaction::Transactable as _;
    use automerge::{AutoCommit, ROOT};

    use super::*;
    use crate::store::{Store, StoreOptions};
    use crate::sync::connection::ConnectionInfo;
    use crate::sync::job::Intake;
    use crate::sync::message::{Draft, SyncMessage};
    use crate::sync::opener::Opener;
    use crate::sync::price::Limits;
    use crate::sync::shard::ShardOptions;
    use crate::types::DocumentId;

    fn options() -> ShardOptions {
        ShardOptions {
            storage: "server".parse().unwrap(),
            shard: 0,
            shards: 1,
            memory_budget: 1 << 20,
            held_budget: 1 << 20,
            max_documents: 10,
            max_requests: 10,
            request_timeout_ms: 50,
            announce: false,
            compact_grace_ms: 0,
            compact_floor: 1 << 40,
        }
    }

    /// The opener has told of a new document, whose snapshot waits for a commit or is in one: nothing more is to be told.
    #[test]
    fn a_new_document_that_starts_over_before_it_is_durable_is_let_go_of() {
        for in_commit in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let store =
                Store::open(&dir.path().join("store"), &StoreOptions { cache_bytes: 1 << 20 }).unwrap();
            let (mut shard, one) = (Shard::new(options()), ConnectionId(1));
            let key = DocKey { namespace: "xyz.one".parse().unwrap(), document: DocumentId([1; 16]) };
            let info = ConnectionInfo {
                namespace: key.namespace.clone(),
                client: "https://app.example/".into(),
                peer: "one".parse().unwrap(),
                read_only: false,
                session: None,
                storage: None,
                counts: Default::default(),
            };
            shard.join(one, info, 0);
            let mut doc = AutoCommit::new();
            for n in 0..400 {
                doc.put(ROOT, "n", n).unwrap();
                doc.commit();
            }
            let (heads, saved) = (doc.get_heads(), doc.save().into());
            let whole =
                Draft { heads: &heads, chunks: &[saved], have: Some(&heads), v2: true, ..Draft::default() };
            let data: bytes::Bytes = whole.encode().into();
            let message = SyncMessage::decode(&data, &Limits::default()).unwrap();
            shard.receive(one, Event::Sync { document: key.document, message }, &store, 0);
            for job in shard.take_jobs() {
                let done = Opener::new(|| [0; 16]).run(job, &store);
                assert!(matches!(&done, Done::Intake { result: Ok(Intake::Snapshot(_)), .. }), "{done:?}");
                shard.job_done(done, &store, 0);
            }
            if in_commit {
                store.commit(&shard.take_ops(0)).unwrap();
            }
            shard.start_over(&key);
            shard.committed(&store, 0);
            shard.leave(one, 0);
            assert!(!shard.docs.contains_key(&key), "in a commit: {in_commit}");
            assert_eq!(store.head(&key).unwrap().is_some(), in_commit);
        }
    }
}
