//! A disk or journal that fails: nobody gets in by it, and nothing is promised.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use groundmist_sync::access::AccessError;
use groundmist_sync::store::CommitError;

use crate::journal::held_place;
use crate::*;

#[tokio::test]
async fn what_is_not_durable_is_not_promised() {
    let (place, journal) = held_place().await;
    let (token, session) = place.token("laptop").await;
    let mut lease = place.access.admit(&token).unwrap();
    settle(&place.access).await;
    journal.set_broken(true);
    let error = place.access.create(wanted("phone")).await.unwrap_err();
    assert!(matches!(error, AccessError::Commit { source: CommitError::Full { .. }, .. }), "{error}");
    assert!(error.to_string().contains("the server's disk is full; free some space on it"), "{error}");
    let public = error.public_message();
    assert!(public.contains("disk is full") && !public.contains("the store"), "{public}");
    assert_eq!(place.access.sessions().len(), 1);
    assert!(place.access.revoke(&session.id).await.is_err());
    assert!(place.access.verify(&token, now()).is_ok(), "not revoked durably, so not revoked");
    let still = tokio::time::timeout(Duration::from_millis(200), lease.ended()).await;
    assert!(still.is_err(), "and its socket stays: {still:?}");
    journal.set_broken(false);
    place.access.revoke(&session.id).await.unwrap();
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
async fn a_revocation_of_unknown_outcome_lets_nobody_in() {
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
    let error = access.create(wanted("phone")).await.unwrap_err();
    assert!(matches!(error, AccessError::Commit { source: CommitError::Storage(_), .. }), "{error}");
    assert!(!error.public_message().contains("disk"), "only that the disk is full is said to everyone");
    assert!(access.revoke("laptop").await.is_err());
    // Whether it is revoked cannot be read: no socket stays open on a guess.
    let refused = tokio::time::timeout(PATIENCE, lease.ended()).await.unwrap();
    assert_eq!(refused, Refused::Unverifiable);
    assert!(!refused.to_string().contains("broken"), "clients are not told about the disk: {refused}");
    assert_eq!(access.verify(&token, now()), Err(Refused::Unverifiable));
    assert!(access.admit(&token).is_err());
    broken.store(false, Ordering::SeqCst);
    assert!(access.verify(&token, now()).is_ok(), "it recovers without a restart");
    access.revoke("laptop").await.unwrap();
    assert_eq!(access.verify(&token, now()), Err(Refused::Revoked));
}

#[tokio::test]
async fn a_store_that_cannot_be_read_starts_nothing() {
    let broken = Arc::new(AtomicBool::new(false));
    let disk = Disk { bytes: Arc::new(redb::backends::InMemoryBackend::new()), broken: broken.clone() };
    let store =
        Store::open_backend(move || Ok(Box::new(disk.clone())), &StoreOptions { cache_bytes: 0 }).unwrap();
    let store = Arc::new(store);
    broken.store(true, Ordering::SeqCst);
    let opened = Access::open(store.clone(), Arc::new(store), &secret_of(SECRET), settings());
    assert!(matches!(opened, Err(AccessError::Read { .. })));
}
