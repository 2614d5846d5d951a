//! What stands between the owners of state.

use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, ROOT};

use super::*;
use crate::store::{Store, StoreOptions};
use crate::sync::connection::ConnectionInfo;
use crate::sync::job::{Intake, Refusal};
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

fn key() -> DocKey {
    DocKey { namespace: "xyz.one".parse().unwrap(), document: DocumentId([1; 16]) }
}

fn info() -> ConnectionInfo {
    ConnectionInfo {
        namespace: key().namespace,
        client: "https://app.example/".into(),
        peer: "one".parse().unwrap(),
        read_only: false,
        session: None,
        storage: None,
        token: 0,
        counts: Default::default(),
    }
}

/// A new document in one piece, large enough to be kept as a snapshot.
fn upload() -> Event {
    let mut doc = AutoCommit::new();
    for n in 0..400 {
        doc.put(ROOT, "n", n).unwrap();
        doc.commit();
    }
    let (heads, saved) = (doc.get_heads(), doc.save().into());
    let whole = Draft { heads: &heads, chunks: &[saved], have: Some(&heads), v2: true, ..Draft::default() };
    let data: bytes::Bytes = whole.encode().into();
    Event::Sync { document: key().document, message: SyncMessage::decode(&data, &Limits::default()).unwrap() }
}

/// The opener has told of a new document, whose snapshot waits for a commit or is in one: nothing more is to be told.
#[test]
fn a_new_document_that_starts_over_before_it_is_durable_is_let_go_of() {
    for in_commit in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), &StoreOptions { cache_bytes: 1 << 20 }).unwrap();
        let (mut shard, one, key) = (Shard::new(options()), ConnectionId(1), key());
        shard.join(one, info(), Now::at(0));
        shard.receive(one, upload(), &store, Now::at(0));
        for job in shard.take_jobs() {
            let done = Opener::new(|| [0; 16]).run(job, &store);
            assert!(matches!(&done, Done::Intake { result: Ok(Intake::Snapshot(_)), .. }), "{done:?}");
            shard.job_done(done, &store, Now::at(0));
        }
        if in_commit {
            store.commit(&shard.take_ops(Now::at(0))).unwrap();
        }
        shard.start_over(&key);
        shard.committed(&store, Now::at(0));
        shard.leave(one, Now::at(0));
        assert!(!shard.documents.contains(&key), "in a commit: {in_commit}");
        assert_eq!(store.head(&key).unwrap().is_some(), in_commit);
    }
}

/// The opener refuses a chunk: it has nothing more to report, so the document is not kept for it.
#[test]
fn a_document_whose_chunk_the_opener_refuses_is_let_go_of() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), &StoreOptions { cache_bytes: 1 << 20 }).unwrap();
    let (mut shard, one) = (Shard::new(options()), ConnectionId(1));
    shard.join(one, info(), Now::at(0));
    shard.receive(one, upload(), &store, Now::at(0));
    for job in shard.take_jobs() {
        shard.job_done(Done::Refused(job, Refusal::StaysClosed), &store, Now::at(0));
    }
    assert!(shard.documents.contains(&key()));
    shard.leave(one, Now::at(0));
    assert!(!shard.documents.contains(&key()));
    assert_eq!((shard.held(), shard.unfinished(), shard.memory()), (0, 0, (0, 0)));
}
