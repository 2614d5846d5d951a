//! What becomes of the engine when a part of it fails.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use tempfile::TempDir;

use super::heart::STUCK_MS;
use super::*;
use crate::store::{BIN_LIFE_MS, Disposal, RecordKind, Row, StoreOptions};
use crate::sync::shard::shard_of;
use crate::types::{ChangeHash, DocKey, DocumentId, Millis, Now};

fn engine() -> (TempDir, Arc<Store>, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { cache_bytes: 1 << 20 };
    let store = Arc::new(Store::open(&dir.path().join("store"), &options).unwrap());
    let engine = engine_on(&store);
    (dir, store, engine)
}

fn engine_on(store: &Arc<Store>) -> Engine {
    let options = EngineOptions {
        shards: 2,
        memory_budget: 1 << 20,
        outbox_bytes: 1 << 16,
        outboxes_bytes: 1 << 22,
        inbox_bytes: 1 << 20,
        message_bytes: 1 << 20,
        max_documents: 10,
        max_requests: 10,
        price: Limits::default(),
        request_timeout_ms: 100,
        announce: false,
        compact_grace_ms: 0,
        compact_floor: 1024,
        opener: OpenerOptions::with_memory(64 << 20),
    };
    Engine::start(store.clone(), options).unwrap()
}

/// A disk that is full for as long as the test says so.
#[derive(Debug, Clone)]
struct SmallDisk {
    bytes: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
}

impl SmallDisk {
    fn has_room(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for SmallDisk {
    fn len(&self) -> io::Result<u64> {
        self.bytes.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.has_room()?;
        self.bytes.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.bytes.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.has_room()?;
        self.bytes.write(offset, data)
    }
}

fn record(key: &[u8]) -> Vec<Op> {
    vec![Op::Record { kind: RecordKind::Pin, key: key.into(), row: Some(b"value".to_vec()) }]
}

fn info(peer: &str) -> ConnectionInfo {
    let (namespace, peer) = ("xyz.example".parse().unwrap(), peer.parse().unwrap());
    ConnectionInfo {
        namespace,
        client: "https://app.example/".into(),
        peer,
        read_only: false,
        session: None,
        storage: None,
        token: 0,
        counts: Default::default(),
    }
}

#[tokio::test]
async fn a_shard_that_dies_is_told_and_the_rest_is_saved() {
    let (_dir, store, engine) = engine();
    let (_inbound, mut outbound) = engine.join(info("peer"));
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
    assert!(matches!(lost.await, Err(CommitError::Stopped)));
    assert!(matches!(engine.commit(record(b"key")).await, Err(CommitError::Stopped)));
    // A shard with a commit under way hears of it too: else this would never end.
    let (sender, receiver) = oneshot::channel();
    engine.core.journal.commit(record(b"key"), Reply::shard(engine.core.shards[0].clone()));
    engine.core.shards[0].send(Input::Stop(sender)).map_err(drop).unwrap();
    receiver.await.unwrap();
    engine.shutdown().await;
}

/// Both wait for the same commit if the journal is fast enough, and each hears of its own failure either way.
#[tokio::test]
async fn a_refused_step_does_not_look_like_a_full_disk() {
    let full = Arc::new(AtomicBool::new(false));
    let disk = SmallDisk { bytes: Arc::new(InMemoryBackend::new()), full: full.clone() };
    let options = StoreOptions { cache_bytes: 1 << 20 };
    let store = Store::open_backend(move || Ok(Box::new(disk.clone())), &options).unwrap();
    let store = Arc::new(store);
    deleted(&store, "xyz.one", 1, 1, 1);
    let engine = engine_on(&store);
    let document =
        |n: u128| DocKey { namespace: "xyz.one".parse().unwrap(), document: DocumentId(n.to_be_bytes()) };
    let unfit = || vec![Op::Dispose { key: document(2), what: Disposal::Delete, now: 1 }];

    full.store(true, Ordering::SeqCst);
    let (refused, no_room) = (engine.commit(unfit()), engine.commit(record(b"key")));
    let refused = refused.await.unwrap_err();
    assert!(matches!(refused, CommitError::Refused(_)), "{refused}");
    assert!(refused.to_string().contains(&document(2).document.to_string()), "{refused}");
    let no_room = no_room.await.unwrap_err();
    assert!(matches!(no_room, CommitError::Full { .. }), "{no_room}");
    assert_eq!(engine.status().journal_error, Some(no_room.to_string()));
    let disposed = engine.dispose(&document(1), Disposal::Restore).await.unwrap_err();
    assert!(matches!(disposed, CommitError::Full { .. }), "by way of the document's shard: {disposed}");

    full.store(false, Ordering::SeqCst);
    engine.dispose(&document(1), Disposal::Restore).await.unwrap();
    assert!(matches!(engine.commit(unfit()).await, Err(CommitError::Refused(_))));
    engine.commit(record(b"key")).await.unwrap();
    assert_eq!(engine.status().journal_error, None);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_shard_that_hangs_is_not_alive() {
    let (_dir, _store, engine) = engine();
    let (until, hang) = mpsc::channel();
    engine.core.shards[0].send(Input::Hang(hang)).map_err(drop).unwrap();
    assert!(engine.is_alive_at(Now::at(1_000).steady));
    while engine.core.hearts[0].is_asked() || engine.core.hearts[2].is_asked() {
        tokio::task::yield_now().await;
    }
    assert!(
        !engine.is_alive_at(Now::at(1_000 + STUCK_MS).steady),
        "the hung shard was asked at 1,000 and is silent since"
    );
    drop(until);
    while !engine.is_alive_at(Now::at(1_000 + STUCK_MS).steady) {
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
    let (_inbound, mut other) = engine.join(info("other"));
    let (theirs, here) = (engine.clone(), engine.clone());
    let task = tokio::spawn(async move {
        let _halves = theirs.join(info("one"));
        assert_eq!(theirs.status().connections, 2);
        panic!("a fault");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(here.status().connections, 1);
    engine.shutdown().await;
    assert!(matches!(other.next().await, Some(Outgoing::Close(1001, _))));
}

#[tokio::test]
async fn a_peer_id_of_another_device_disconnects_nobody() {
    let (_dir, _store, engine) = engine();
    let of = |session: &str, read_only| ConnectionInfo {
        session: Some(session.into()),
        read_only,
        ..info("peer")
    };
    let (_first, mut old) = engine.join(of("writer", false));
    let (_other, mut reader) = engine.join(of("reader", true));
    assert_eq!(engine.status().connections, 2);
    let again = engine.join(of("writer", false));
    assert!(matches!(old.next().await, Some(Outgoing::Close(1000, _))), "the same device replaces its own");
    drop((_first, old));
    assert_eq!(engine.status().connections, 2);
    drop(again);
    assert_eq!(engine.status().connections, 1);
    engine.shutdown().await;
    assert!(matches!(reader.next().await, Some(Outgoing::Close(1001, _))), "it was there all the time");
}

/// So many documents, deleted at this time; the first of them by id is number `first`.
fn deleted(store: &Store, namespace: &str, first: u128, count: u128, now: Millis) {
    let mut ops = Vec::new();
    for n in first..first + count {
        let document = DocumentId(n.to_be_bytes());
        let key = DocKey { namespace: namespace.parse().unwrap(), document };
        let hash = ChangeHash([7; 32]);
        let rows = vec![Row { row: 0, hash, max_op: 1, bytes: vec![1; 10].into() }];
        ops.push(Op::Append { key: key.clone(), rows, heads: vec![hash], by: None, now: 1 });
        ops.push(Op::Dispose { key, what: Disposal::Delete, now });
    }
    store.commit(&ops).unwrap();
}

#[tokio::test]
async fn the_bin_is_emptied_after_30_days_and_not_before() {
    const DELETED: Millis = 1_000_000;
    let (_dir, store, engine) = engine();
    let old = PURGE_PAGE as u128 + 10;
    // Those whose time has come are behind a page of others.
    deleted(&store, "xyz.one", 0, old, DELETED + 1);
    deleted(&store, "xyz.one", old, 2, DELETED);
    deleted(&store, "xyz.two", 0, 1, DELETED);
    deleted(&store, "xyz.two", 1, 1, DELETED + 1);
    let left = |name: &str| store.deleted(&name.parse().unwrap(), None, usize::MAX).unwrap().len() as u128;
    assert_eq!(engine.empty_bin(&store, DELETED + BIN_LIFE_MS - 1).await.unwrap(), 0);
    assert_eq!((left("xyz.one"), left("xyz.two")), (old + 2, 2));
    assert_eq!(engine.empty_bin(&store, DELETED + BIN_LIFE_MS).await.unwrap(), 3);
    assert_eq!((left("xyz.one"), left("xyz.two")), (old, 1));
    for (namespace, n) in [("xyz.one", old), ("xyz.one", old + 1), ("xyz.two", 0)] {
        let key = DocKey { namespace: namespace.parse().unwrap(), document: DocumentId(n.to_be_bytes()) };
        assert!(store.head(&key).unwrap().unwrap().purged, "{namespace} {n}");
        assert_eq!(store.whole(&key).unwrap().unwrap().2, []);
    }
    // A page and more of them.
    assert_eq!(engine.empty_bin(&store, DELETED + 1 + BIN_LIFE_MS).await.unwrap(), old as u64 + 1);
    assert_eq!((left("xyz.one"), left("xyz.two")), (0, 0));
    engine.shutdown().await;
}

/// The document is restored, or restored and deleted anew, after it was found in the bin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_restored_while_the_bin_is_emptied_stays() {
    for again in [false, true] {
        let (_dir, store, engine) = engine();
        deleted(&store, "xyz.one", 1, 1, 1);
        let document = DocumentId(1u128.to_be_bytes());
        let key = DocKey { namespace: "xyz.one".parse().unwrap(), document };
        let shard = &engine.core.shards[shard_of(&document, engine.core.shards.len())];
        let (until, hang) = mpsc::channel();
        shard.send(Input::Hang(hang)).map_err(drop).unwrap();
        let waiting = async |wanted| {
            while engine.figures().waiting[0].1 != wanted {
                tokio::task::yield_now().await;
            }
        };
        waiting(0).await;
        let mut told = Vec::new();
        let owner = [Disposal::Restore, Disposal::Delete];
        for what in owner.into_iter().take(1 + usize::from(again)) {
            let (sender, receiver) = oneshot::channel();
            shard.send(Input::Dispose(key.clone(), what, sender)).map_err(drop).unwrap();
            told.push(receiver);
        }
        let (emptying, bin) = (engine.clone(), store.clone());
        let emptied = tokio::spawn(async move { emptying.empty_bin(&bin, 1 + BIN_LIFE_MS).await });
        waiting(told.len() + 1).await;
        drop(until);
        emptied.await.unwrap().unwrap();
        for receiver in told {
            receiver.await.unwrap().unwrap();
        }
        let (head, _, rows) = store.whole(&key).unwrap().unwrap();
        assert_eq!((head.deleted.is_some(), head.purged, rows.len()), (again, false, 1));
        engine.shutdown().await;
    }
}
