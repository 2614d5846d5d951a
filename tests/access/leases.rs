//! What holds while a socket is open.

use crate::devices::device;
use crate::entering::{approved, enters};
use crate::journal::held_place;
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
    let new = NewSession { life: Some(Duration::from_secs(5)), ..wanted("short") };
    let (token, session) = place.access.create(new).await.unwrap();
    let mut lease = place.access.admit(&token).unwrap();
    let refused = tokio::time::timeout(PATIENCE, lease.ended()).await.unwrap();
    assert_eq!(refused, Refused::Expired);
    assert!(now() >= session.expires, "not before its time");
}

#[tokio::test]
async fn last_use_is_exact_in_memory_and_noted_once_an_hour_on_disk() {
    let place = Place::new();
    let (token, session) = place.token("laptop").await;
    let row = |place: &Place| place.store.record(RecordKind::Session, session.id.as_bytes()).unwrap();
    let noted =
        |place: &Place| row(place).and_then(|row| serde_json::from_slice::<Session>(&row).unwrap().last_used);
    let first = {
        let _lease = place.access.admit(&token).unwrap();
        until(|| noted(&place)).await
    };
    let in_use = |place: &Place| place.access.sessions()[0].0.last_used;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let written = row(&place);
    drop(place.access.admit(&token).unwrap());
    assert!(in_use(&place).unwrap() > first, "exact in memory");
    place.access.flush().await.unwrap();
    assert_eq!(row(&place), written, "a second socket within the hour writes nothing");
    let old = Session { last_used: Some(first - 3_600_000), ..session.clone() };
    write_row(&place.store, &session.id, Some(serde_json::to_vec(&old).unwrap()));
    let place = place.restart();
    drop(place.access.admit(&token).unwrap());
    until(|| noted(&place).filter(|used| *used >= first)).await;
}

#[tokio::test]
async fn a_token_in_use_from_two_networks_is_noted_until_its_session_ends() {
    let together = Duration::from_millis(50);
    let place = approved().await;
    let entered = enters(&place, device("laptop")).await;
    let (by_command, _) = place.token("a script on two machines").await;
    let by = |token: &str, address: &str| {
        let mut lease = place.access.admit(token).unwrap();
        lease.seen_from(Some(address.parse().unwrap()), together);
        lease
    };
    let from = |address: &str| by(&entered.token, address);
    let (mut here, mut neighbour) = (from("203.0.113.7"), from("203.0.113.8"));
    let mut six = from("2001:db8::1");
    // As the sockets' tasks do.
    let watching = async |mut leases: Vec<&mut groundmist_sync::access::Lease>| {
        for lease in &mut leases {
            let _ = tokio::time::timeout(4 * together, lease.ended()).await;
        }
    };
    watching(vec![&mut here, &mut neighbour, &mut six]).await;
    assert!(place.access.copied_sessions().is_empty(), "neighbours, and the other kind of address");
    // It moved: the old connection is found to be dead.
    drop((neighbour, here));
    let mut there = from("198.51.100.9");
    watching(vec![&mut there, &mut six]).await;
    assert!(place.access.copied_sessions().is_empty());
    let mut back = from("203.0.113.7");
    let mut scripts = [by(&by_command, "198.51.100.9"), by(&by_command, "203.0.113.7")];
    watching(vec![&mut back, &mut scripts[1]]).await;
    assert_eq!(
        place.access.copied_sessions().len(),
        1,
        "a token made by command is often meant for two machines"
    );
    let copied = place.access.copied_sessions()[0].copied.clone().unwrap();
    assert_eq!(copied.addresses.map(|address| address.to_string()), ["198.51.100.9", "203.0.113.7"]);
    place.access.flush().await.unwrap();
    drop((there, six, back, scripts));
    let place = place.restart();
    assert_eq!(place.access.copied_sessions()[0].copied, Some(copied), "over a restart");
    assert_eq!(place.access.sessions().iter().filter(|(session, _)| session.copied.is_some()).count(), 1);
    place.access.revoke(&entered.session.id).await.unwrap();
    assert!(place.access.copied_sessions().is_empty());
}

#[tokio::test]
async fn open_sockets_are_counted() {
    let place = Place::new();
    let (token, _) = place.token("laptop").await;
    let live = || place.access.sessions()[0].1;
    assert_eq!(live(), 0);
    let (one, two) = (place.access.admit(&token).unwrap(), place.access.admit(&token).unwrap());
    assert_eq!(live(), 2);
    drop(one);
    assert_eq!(live(), 1);
    drop(two);
    assert_eq!(live(), 0);
}

#[tokio::test]
async fn a_late_note_of_use_does_not_bring_a_revoked_session_back() {
    let (place, journal) = held_place().await;
    let (token, session) = place.token("laptop").await;
    journal.hold();
    let _lease = place.access.admit(&token).unwrap();
    journal.until_waiting(1).await;
    let revoking = tokio::spawn({
        let (access, id) = (place.access.clone(), session.id.clone());
        async move { access.revoke(&id).await }
    });
    journal.until_waiting(2).await;
    assert!(place.access.verify(&token, now()).is_ok(), "not revoked durably, so not revoked");
    journal.go_on();
    tokio::time::timeout(PATIENCE, revoking).await.unwrap().unwrap().unwrap();
    place.access.flush().await.unwrap();
    assert_eq!(place.store.record(RecordKind::Session, session.id.as_bytes()).unwrap(), None);
    assert_eq!(place.refused(&token), Refused::Revoked);
}
