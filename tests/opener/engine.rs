//! An engine with a program of the test's own in the place of the opener.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use automerge::{AutoCommit, ObjType, ROOT, transaction::Transactable as _};
use bytes::Bytes;
use groundmist_sync::engine::{BringError, Brought, Engine, EngineOptions, OpenerOptions};
use groundmist_sync::store::{Store, StoreOptions};
use groundmist_sync::sync::parcel::Parcel;
use groundmist_sync::sync::price::Limits;
use groundmist_sync::types::{DocKey, DocumentId};

/// The real program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_groundmist-sync");

pub struct Lab {
    pub engine: Engine,
    pub store: Arc<Store>,
    dir: tempfile::TempDir,
}

impl Lab {
    pub fn new(program: &Path, memory_bytes: u64) -> Self {
        Self::at(tempfile::tempdir().unwrap(), program, memory_bytes)
    }

    fn at(dir: tempfile::TempDir, program: &Path, memory_bytes: u64) -> Self {
        let options = StoreOptions { cache_bytes: 8 << 20 };
        let store = Arc::new(Store::open(&dir.path().join("store"), &options).unwrap());
        let opener = OpenerOptions {
            memory_bytes,
            program: Some(program.to_owned()),
            // A process that hangs is ended after twice that and a little for its memory.
            patience: Duration::from_secs(1),
        };
        let options = EngineOptions {
            shards: 1,
            memory_budget: 64 << 20,
            outbox_bytes: 1 << 20,
            outboxes_bytes: 32 << 20,
            inbox_bytes: 40 << 20,
            message_bytes: 32 << 20,
            max_documents: 1_000,
            max_requests: 100,
            price: Limits::default(),
            request_timeout_ms: 100,
            announce: false,
            compact_grace_ms: 0,
            compact_floor: 2,
            opener,
        };
        let engine = Engine::start(store.clone(), options).unwrap();
        Self { engine, store, dir }
    }

    /// Stops and starts again, with another program.
    pub async fn again(self, program: &Path, memory_bytes: u64) -> Self {
        let Self { engine, store, dir } = self;
        engine.shutdown().await;
        drop(engine);
        while Arc::strong_count(&store) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(store);
        Self::at(dir, program, memory_bytes)
    }

    /// Has the engine take a document in, whole.
    pub async fn bring(&self, key: &DocKey, doc: &mut AutoCommit) -> Result<Brought, BringError> {
        let mut parcel = Parcel::default();
        parcel.add(&Bytes::from(doc.save()), &Limits::default().for_files()).unwrap();
        self.engine.bring(&self.store, key, parcel).await
    }

    /// Has the engine take changes in, one by one.
    pub async fn bring_changes(&self, key: &DocKey, doc: &mut AutoCommit) -> Brought {
        let mut parcel = Parcel::default();
        for mut change in doc.get_changes(&[]) {
            parcel.add(&Bytes::from(change.bytes().into_owned()), &Limits::default()).unwrap();
        }
        self.engine.bring(&self.store, key, parcel).await.unwrap()
    }
}

pub fn key(n: u8) -> DocKey {
    DocKey { namespace: "xyz.example".parse().unwrap(), document: DocumentId([n; 16]) }
}

/// A text of so many characters in one change: an operation each, and few bytes.
pub fn text(characters: usize) -> AutoCommit {
    let mut doc = AutoCommit::new();
    let object = doc.put_object(ROOT, "text", ObjType::Text).unwrap();
    doc.splice_text(&object, 0, 0, &"x".repeat(characters)).unwrap();
    doc.commit();
    doc
}

/// Enough operations that a process opens them, and not so many that it takes long.
pub const LARGE: usize = 200_000;
pub const MEMORY: u64 = 1 << 30;
