//! Which document an app's devices start from, with sessions, a store, and documents in it.

use groundmist_sync::access::{AccessError, Decision, Entered, Entering, RootState, What};
use groundmist_sync::store::{Disposal, Row};
use groundmist_sync::types::{ChangeHash, DocKey, DocumentId, Millis};
use serde_json::json;

use crate::entering::{CLIENT, app, approved, asks, enters};
use crate::*;

const HOUR: Millis = 3_600_000;
const DID: &str = "did:plc:owner";

fn url(n: u8) -> String {
    format!("automerge:{}", DocumentId([n; 16]))
}

fn key(n: u8) -> DocKey {
    DocKey { namespace: "xyz.example".parse().unwrap(), document: DocumentId([n; 16]) }
}

/// What a device that offers document `n` is told, and its session.
async fn offers(place: &Place, n: u8) -> Entered {
    enters(place, Entering { root_doc_url: Some(url(n)), ..asks(CLIENT) }).await
}

async fn told(place: &Place, n: u8) -> Option<String> {
    offers(place, n).await.root_doc_url
}

async fn newcomer(place: &Place) -> Option<String> {
    enters(place, asks(CLIENT)).await.root_doc_url
}

/// A document arrives: its first change.
fn store(place: &Place, n: u8) {
    let row = Row { row: 0, hash: ChangeHash([n; 32]), max_op: 1, bytes: vec![1, 2, 3].into() };
    let heads = vec![row.hash];
    place.store.commit(&[Op::Append { key: key(n), rows: vec![row], heads, by: None, now: 1 }]).unwrap();
}

fn dispose(place: &Place, n: u8, what: Disposal) {
    place.store.commit(&[Op::Dispose { key: key(n), what, now: 2 }]).unwrap();
}

/// The row as the store has it, changed.
fn change_row(place: &Place, change: impl FnOnce(&mut Value)) {
    let (key, row) = place.store.records(RecordKind::RootDocument).unwrap().remove(0);
    let mut row: Value = serde_json::from_slice(&row).unwrap();
    change(&mut row);
    let row = Some(serde_json::to_vec(&row).unwrap());
    place.store.commit(&[Op::Record { kind: RecordKind::RootDocument, key, row }]).unwrap();
}

fn state(place: &Place) -> Option<RootState> {
    place.access.root_document(&app(CLIENT), Some(DID)).map(|root| root.state)
}

/// As if the device had offered its document so long ago.
fn age(place: Place, hours: Millis) -> Place {
    change_row(&place, |row| {
        let seen = &mut row["offers"][0]["device"]["seen"];
        *seen = json!(seen.as_u64().unwrap() - hours * HOUR);
    });
    place.restart()
}

/// As if its sessions had last been connected so long ago.
fn age_sessions(place: &Place, hours: Millis) {
    for (key, row) in place.store.records(RecordKind::Session).unwrap() {
        let mut row: Value = serde_json::from_slice(&row).unwrap();
        let then = json!(now() - hours * HOUR);
        row["last_used"] = then.clone();
        if let Some(authenticated) = row.get_mut("authenticated") {
            *authenticated = then;
        }
        let row = Some(serde_json::to_vec(&row).unwrap());
        place.store.commit(&[Op::Record { kind: RecordKind::Session, key, row }]).unwrap();
    }
}

#[tokio::test]
async fn an_offer_whose_device_stays_away_gives_way_over_a_restart() {
    let place = approved().await;
    assert_eq!(told(&place, 1).await, Some(url(1)));
    assert_eq!(told(&place, 2).await, Some(url(1)));
    assert_eq!(state(&place), Some(RootState::Awaited));
    age_sessions(&place, 25);
    let place = age(place, 23);
    assert_eq!(newcomer(&place).await, Some(url(1)), "a day is not over");
    let place = age(place, 1);
    assert_eq!(state(&place), Some(RootState::Lapsed));
    store(&place, 2);
    assert_eq!(newcomer(&place).await, Some(url(2)));
    assert_eq!(state(&place), Some(RootState::Held));
    store(&place, 1);
    let place = place.restart();
    assert_eq!(told(&place, 1).await, Some(url(2)), "a binding whose document is held stays");
}

#[tokio::test]
async fn a_device_that_is_connected_is_waited_for() {
    let place = approved().await;
    let first = offers(&place, 1).await;
    drop(place.access.admit(&first.token).unwrap());
    place.access.flush().await.unwrap();
    let place = age(place, 25);
    assert_eq!(newcomer(&place).await, Some(url(1)), "it was connected a moment ago, before the restart");
    age_sessions(&place, 25);
    let place = place.restart();
    let lease = place.access.admit(&first.token).unwrap();
    assert_eq!(newcomer(&place).await, Some(url(1)), "it is connected");
    place.access.revoke(&first.session.id).await.unwrap();
    drop(lease);
    assert_eq!(newcomer(&place).await, Some(url(1)), "revoked, a day counts from then on");
    let place = place.restart();
    assert_eq!(newcomer(&place).await, Some(url(1)), "after a restart too");
    let place = age(place, 24);
    assert_eq!(newcomer(&place).await, None);
    assert_eq!(told(&place, 1).await, None, "an echo of another device");
    assert_eq!(told(&place, 2).await, Some(url(2)));
}

#[tokio::test]
async fn a_device_is_known_by_its_key() {
    let place = approved().await;
    let by = |jkt: &str| Entering { jkt: Some(jkt.into()), root_doc_url: Some(url(1)), ..asks(CLIENT) };
    enters(&place, by("mine")).await;
    age_sessions(&place, 25);
    let place = age(place, 25);
    assert_eq!(enters(&place, by("another")).await.root_doc_url, None);
    assert_eq!(enters(&place, by("mine")).await.root_doc_url, Some(url(1)));
    assert_eq!(newcomer(&place).await, Some(url(1)));
}

#[tokio::test]
async fn deleting_and_purging_release_and_restoring_in_time_binds_again() {
    let place = approved().await;
    told(&place, 1).await;
    store(&place, 1);
    for what in [Disposal::Delete, Disposal::Purge { deleted_by: 2 }] {
        dispose(&place, 1, what);
        assert_eq!(state(&place), Some(RootState::Deleted));
        assert_eq!((newcomer(&place).await, told(&place, 1).await), (None, None));
    }
    assert_eq!(told(&place, 2).await, Some(url(2)));
    store(&place, 2);
    dispose(&place, 2, Disposal::Delete);
    let place = place.restart();
    assert_eq!(newcomer(&place).await, None, "a crash between the two loses nothing: it is looked up");
    dispose(&place, 2, Disposal::Restore);
    assert_eq!(newcomer(&place).await, Some(url(2)));
}

#[tokio::test]
async fn a_document_in_quarantine_is_held() {
    let place = approved().await;
    told(&place, 1).await;
    store(&place, 1);
    place.store.commit(&[Op::Quarantine { key: key(1), reason: "bad".into() }]).unwrap();
    age_sessions(&place, 25);
    let place = age(place, 25);
    assert_eq!(told(&place, 2).await, Some(url(1)));
}

#[tokio::test]
async fn the_owner_forgets_durably_and_the_first_stored_offer_takes_over() {
    let place = approved().await;
    let nothing = place.access.forget_root(&app(CLIENT), Some(DID)).await;
    assert!(matches!(nothing, Err(AccessError::NoRootDocument { .. })));
    for n in 1..4 {
        assert_eq!(told(&place, n).await, Some(url(1)));
    }
    store(&place, 3);
    let other_account = place.access.forget_root(&app(CLIENT), Some("did:plc:other")).await;
    assert!(matches!(other_account, Err(AccessError::NoRootDocument { .. })));
    let forgotten = place.access.forget_root(&app(CLIENT), Some(DID)).await.unwrap();
    assert_eq!((forgotten.url, forgotten.next), (url(1), Some(url(3))));
    let event = place.access.audit().pop().unwrap();
    assert_eq!(event.what, What::RootForgotten);
    assert_eq!(event.document, Some(DocumentId([1; 16]).to_string()));
    let place = place.restart();
    assert_eq!(newcomer(&place).await, Some(url(3)));
    let forgotten = place.access.forget_root(&app(CLIENT), None).await.unwrap();
    assert_eq!((forgotten.url, forgotten.next), (url(3), None));
    assert_eq!(state(&place), None);
    assert_eq!(told(&place, 1).await, None, "forgotten, and not stored");
    assert_eq!(told(&place, 4).await, Some(url(4)), "the next offer");
}

#[tokio::test]
async fn who_only_reads_binds_what_is_stored_only() {
    let place = approved().await;
    let reader = |n| Entering { read_only_wanted: true, root_doc_url: Some(url(n)), ..asks(CLIENT) };
    assert_eq!(enters(&place, reader(1)).await.root_doc_url, Some(url(1)));
    assert_eq!(newcomer(&place).await, None);
    place.access.decide(&app(CLIENT), Decision::ReadOnly).await.unwrap();
    told(&place, 1).await;
    assert_eq!(newcomer(&place).await, None, "the owner lets it read only");
    store(&place, 1);
    assert_eq!(enters(&place, reader(1)).await.root_doc_url, Some(url(1)));
    assert_eq!(newcomer(&place).await, Some(url(1)));
}

#[tokio::test]
async fn rows_of_the_version_before_hold() {
    let place = approved().await;
    told(&place, 1).await;
    let (key, _) = place.store.records(RecordKind::RootDocument).unwrap().remove(0);
    let row = Some(url(1).into_bytes());
    place.store.commit(&[Op::Record { kind: RecordKind::RootDocument, key, row }]).unwrap();
    let place = place.restart();
    assert_eq!(state(&place), Some(RootState::Awaited));
    assert_eq!(told(&place, 2).await, Some(url(1)));
    age_sessions(&place, 25);
    let place = age(place, 24);
    assert_eq!(newcomer(&place).await, None, "the day counted from the first look at it");
}
