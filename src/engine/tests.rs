//! What becomes of the engine when a part of it fails.

use std::sync::mpsc;

use tempfile::TempDir;

use super::heart::STUCK_MS;
use super::*;
use crate::store::{RecordKind, StoreOptions};

fn engine() -> (TempDir, Arc<Store>, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { cache_bytes: 1 << 20 };
    let store = Arc::new(Store::open(&dir.path().join("store"), &options).unwrap());
    let options = EngineOptions {
        shards: 2,
        memory_budget: 1 << 20,
        outbox_bytes: 1 << 16,
        inbox_bytes: 1 << 20,
        max_documents: 10,
        max_requests: 10,
        max_inflated_bytes: 1 << 20,
        request_timeout_ms: 100,
        announce: false,
        compact_grace_ms: 0,
        compact_floor: 1024,
    };
    let engine = Engine::start(store.clone(), options).unwrap();
    (dir, store, engine)
}

fn record(key: &[u8]) -> Vec<Op> {
    vec![Op::Record { kind: RecordKind::Pin, key: key.into(), row: Some(b"value".to_vec()) }]
}

fn joining(peer: &str) -> Joining {
    let (namespace, peer) = ("xyz.example".parse().unwrap(), peer.parse().unwrap());
    Joining { namespace, client: "https://app.example/".into(), peer, read_only: false, storage: None }
}

#[tokio::test]
async fn a_shard_that_dies_is_told_and_the_rest_is_saved() {
    let (_dir, store, engine) = engine();
    let (_inbound, mut outbound) = engine.join(joining("peer"));
    engine.core.shards[1].send(Input::Panic).map_err(drop).unwrap();
    assert_eq!(engine.died().await, "shard-1");
    assert_eq!(engine.died().await, "shard-1", "whoever asks later is told too");
    let saved = engine.commit(record(b"key"));
    engine.shutdown().await;
    saved.await.unwrap();
    assert!(store.record(RecordKind::Pin, b"key").unwrap().is_some());
    assert!(matches!(outbound.next().await, Some(Outgoing::Close(1001, _))));
}

#[tokio::test]
async fn a_journal_that_dies_is_told_and_nobody_waits_for_it() {
    let (_dir, _store, engine) = engine();
    engine.core.journal.panic();
    let lost = engine.commit(record(b"key"));
    assert_eq!(engine.died().await, "journal");
    assert_eq!(lost.await.unwrap_err(), "the journal has stopped");
    assert_eq!(engine.commit(record(b"key")).await.unwrap_err(), "the journal has stopped");
    // A shard with a commit under way hears of it too: else this would never end.
    let (sender, receiver) = oneshot::channel();
    engine.core.journal.commit(record(b"key"), Reply::shard(engine.core.shards[0].clone()));
    engine.core.shards[0].send(Input::Stop(sender)).map_err(drop).unwrap();
    receiver.await.unwrap();
    engine.shutdown().await;
}

#[tokio::test]
async fn a_shard_that_hangs_is_not_alive() {
    let (_dir, _store, engine) = engine();
    let (until, hang) = mpsc::channel();
    engine.core.shards[0].send(Input::Hang(hang)).map_err(drop).unwrap();
    assert!(engine.is_alive_at(1_000));
    while engine.core.hearts[0].is_asked() || engine.core.hearts[2].is_asked() {
        tokio::task::yield_now().await;
    }
    assert!(!engine.is_alive_at(1_000 + STUCK_MS), "the hung shard was asked at 1,000 and is silent since");
    drop(until);
    while !engine.is_alive_at(1_000 + STUCK_MS) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn asking_whether_it_lives_does_not_keep_the_journal_from_settling() {
    let (_dir, _store, engine) = engine();
    engine.commit(record(b"key")).await.unwrap();
    while !engine.core.journal.has_settled() {
        engine.core.journal.ping();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn a_connections_task_that_panics_ends_that_connection_only() {
    let (_dir, _store, engine) = engine();
    let (_inbound, mut other) = engine.join(joining("other"));
    let (theirs, here) = (engine.clone(), engine.clone());
    let task = tokio::spawn(async move {
        let _halves = theirs.join(joining("one"));
        assert_eq!(theirs.status().connections, 2);
        panic!("a fault");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(here.status().connections, 1);
    engine.shutdown().await;
    assert!(matches!(other.next().await, Some(Outgoing::Close(1001, _))));
}
