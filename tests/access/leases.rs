//! What holds while a socket is open.

use groundmist_sync::access::{Commit, CommitFuture};
use groundmist_sync::store::Op;
use tokio::sync::Notify;

use crate::*;

#[tokio::test]
async fn a_lease_ends_when_revoked_and_others_do_not() {
    let place = Place::new();
    let (token, session) = place.token("laptop").await;
    let (other, _) = place.token("phone").await;
    let mut lease = place.access.admit(&token).unwrap();
    let mut second = place.access.admit(&token).unwrap();
    let mut kept = place.access.admit(&other).unwrap();
    assert_eq!(lease.session().id, session.id);
    let waiting = tokio::spawn(async move { lease.ended().await });
    place.access.revoke(&session.id).await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap(), Refused::Revoked);
    // One that was not listening at that moment hears it too.
    assert_eq!(tokio::time::timeout(PATIENCE, second.ended()).await.unwrap(), Refused::Revoked);
    let still = tokio::time::timeout(Duration::from_millis(200), kept.ended()).await;
    assert!(still.is_err(), "the other session goes on: {still:?}");
    assert_eq!(place.access.admit(&token).unwrap_err(), Refused::Revoked);
}

#[tokio::test]
async fn a_lease_ends_when_its_token_expires() {
    let place = Place::new();
    let new = NewSession { life: Some(Duration::from_secs(2)), ..wanted("short") };
    let (token, session) = place.access.create(new).await.unwrap();
    let mut lease = place.access.admit(&token).unwrap();
    let refused = tokio::time::timeout(PATIENCE, lease.ended()).await.unwrap();
    assert_eq!(refused, Refused::Expired);
    assert!(now() >= session.expires, "not before its time");
}

#[tokio::test]
async fn last_use_is_noted_once_an_hour_at_most() {
    let place = Place::new();
    let (token, session) = place.token("laptop").await;
    let row = || place.store.session(&session.id).unwrap();
    let used = || row().and_then(|row| serde_json::from_slice::<Session>(&row).unwrap().last_used);
    let first = {
        let _lease = place.access.admit(&token).unwrap();
        until(used).await
    };
    // A second socket within the hour writes nothing, one after it does.
    let written = row();
    drop(place.access.admit(&token).unwrap());
    settle(&place.access).await;
    assert_eq!(row(), written);
    let old = Session { last_used: Some(first - 3_600_000), ..session.clone() };
    let bytes = serde_json::to_vec(&old).unwrap();
    place.store.commit(&[Op::Session { id: session.id.clone(), row: Some(bytes.clone()) }]).unwrap();
    drop(place.access.admit(&token).unwrap());
    until(|| used().filter(|used| *used >= first)).await;
}

/// A journal that holds rows back until it is told to go on, and lets deletions pass.
struct Held {
    store: Arc<Store>,
    reached: Notify,
    go_on: Notify,
}

impl Commit for Held {
    fn make_durable(&self, ops: Vec<Op>) -> CommitFuture<'_> {
        Box::pin(async move {
            if ops.iter().any(|op| matches!(op, Op::Session { row: Some(_), .. })) {
                self.reached.notify_one();
                self.go_on.notified().await;
            }
            self.store.commit(&ops).map_err(|error| error.to_string())
        })
    }
}

#[tokio::test]
async fn a_late_note_of_use_does_not_bring_a_revoked_session_back() {
    let place = Place::new();
    let (token, session) = place.token("laptop").await;
    let journal = Arc::new(Held { store: place.store.clone(), reached: Notify::new(), go_on: Notify::new() });
    let access = Access::new(place.store.clone(), journal.clone(), &secret_of(SECRET), LIFE);
    let _lease = access.admit(&token).unwrap();
    tokio::time::timeout(PATIENCE, journal.reached.notified()).await.expect("the note is on its way");
    let revoking = tokio::spawn({
        let (access, id) = (access.clone(), session.id.clone());
        async move { access.revoke(&id).await }
    });
    // All the time it wants to overtake the note.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    journal.go_on.notify_one();
    tokio::time::timeout(PATIENCE, revoking).await.unwrap().unwrap().unwrap();
    settle(&access).await;
    assert_eq!(place.store.session(&session.id).unwrap(), None);
    assert_eq!(access.verify(&token, now()), Err(Refused::Revoked));
}
