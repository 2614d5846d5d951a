//! A disk or journal that fails: nobody gets in by it, and nothing is promised.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use groundmist_sync::access::{AccessError, Commit, CommitFuture};
use groundmist_sync::store::Op;

use crate::*;

/// A journal that can be told to fail.
struct Failing {
    store: Arc<Store>,
    broken: AtomicBool,
}

impl Commit for Failing {
    fn make_durable(&self, ops: Vec<Op>) -> CommitFuture<'_> {
        if self.broken.load(Ordering::SeqCst) {
            return Box::pin(async { Err("the disk is full".to_owned()) });
        }
        Box::pin(async move { self.store.commit(&ops).map_err(|error| error.to_string()) })
    }
}

#[tokio::test]
async fn what_is_not_durable_is_not_promised() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let journal = Arc::new(Failing { store: store.clone(), broken: AtomicBool::new(false) });
    let access = Access::new(store.clone(), journal.clone(), &secret_of(SECRET), LIFE);
    let (token, session) = access.create(wanted("laptop")).await.unwrap();
    let mut lease = access.admit(&token).unwrap();
    settle(&access).await;
    journal.broken.store(true, Ordering::SeqCst);
    let error = access.create(wanted("phone")).await.unwrap_err();
    assert!(matches!(&error, AccessError::Commit { reason, .. } if reason == "the disk is full"), "{error}");
    assert_eq!(access.list().unwrap().len(), 1);
    assert!(access.revoke(&session.id).await.is_err());
    assert!(access.verify(&token, now()).is_ok(), "not revoked durably, so not revoked");
    let still = tokio::time::timeout(Duration::from_millis(200), lease.ended()).await;
    assert!(still.is_err(), "and its socket stays: {still:?}");
    journal.broken.store(false, Ordering::SeqCst);
    access.revoke(&session.id).await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, lease.ended()).await.unwrap(), Refused::Revoked);
}

/// A disk whose reads can be made to fail.
#[derive(Debug, Clone)]
struct Disk {
    bytes: Arc<redb::backends::InMemoryBackend>,
    broken: Arc<AtomicBool>,
}

impl Disk {
    fn works(&self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) { Err(io::Error::other("the disk is broken")) } else { Ok(()) }
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.works()?;
        self.bytes.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.works()?;
        self.bytes.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.works()?;
        self.bytes.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.works()?;
        self.bytes.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.works()?;
        self.bytes.write(offset, data)
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_read_lets_nobody_in() {
    let broken = Arc::new(AtomicBool::new(false));
    let disk = Disk { bytes: Arc::new(redb::backends::InMemoryBackend::new()), broken: broken.clone() };
    // No cache, so that every look-up meets the disk.
    let store =
        Store::open_backend(move || Ok(Box::new(disk.clone())), &StoreOptions { cache_bytes: 0 }).unwrap();
    let store = Arc::new(store);
    let access = access_on(&store);
    let (token, _) = access.create(wanted("laptop")).await.unwrap();
    let mut lease = access.admit(&token).unwrap();
    settle(&access).await;
    broken.store(true, Ordering::SeqCst);
    let refused = access.verify(&token, now()).unwrap_err();
    assert_eq!(refused, Refused::Unverifiable);
    assert!(!refused.to_string().contains("broken"), "clients are not told about the disk: {refused}");
    assert!(access.admit(&token).is_err());
    assert!(matches!(access.create(wanted("phone")).await, Err(AccessError::Read { .. })));
    // A revocation that cannot be read from the disk leaves no socket open on a guess.
    assert!(access.revoke("laptop").await.is_err());
    broken.store(false, Ordering::SeqCst);
    assert!(access.verify(&token, now()).is_ok(), "the store recovers without a restart");
    access.revoke("laptop").await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, lease.ended()).await.unwrap(), Refused::Revoked);
}
