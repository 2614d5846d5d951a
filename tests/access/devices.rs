//! One session for each device, however often it authenticates.

use groundmist_sync::access::{Decision, EnterError, Entered, Entering, ExchangeError, Proof, UsedToken};

use serde_json::json;

use crate::entering::{CLIENT, app, approved, asks, enter, enters};
use crate::journal::{held_and_approved, spawned};
use crate::*;

/// What one browser sends at each load of a page.
pub(crate) fn device(key: &str) -> Entering {
    Entering { jkt: Some(key.into()), ..asks(CLIENT) }
}

fn reading(key: &str) -> Entering {
    Entering { read_only_wanted: true, ..device(key) }
}

fn holds(place: &Place, entered: &Entered) -> bool {
    place.access.verify(&entered.token, now()).is_ok()
}

fn reads_only(place: &Place, entered: &Entered) -> bool {
    place.access.verify(&entered.token, now()).unwrap().read_only
}

fn rows(place: &Place) -> usize {
    place.store.records(RecordKind::Session).unwrap().len()
}

#[tokio::test]
async fn a_device_that_authenticates_again_and_again_has_one_session_and_one_row() {
    let place = approved().await;
    let first = enters(&place, device("laptop")).await;
    let mut lease = place.access.admit(&first.token).unwrap();
    let mut all = vec![first];
    for n in 0..600 {
        let renewed = enters(&place, Entering { name: Some(format!("load {n}")), ..device("laptop") }).await;
        assert_eq!(renewed.session.id, all[0].session.id);
        if n % 100 == 0 {
            all.push(renewed);
        }
    }
    assert_eq!((rows(&place), place.access.sessions().len()), (1, 1));
    assert_eq!(place.access.sessions()[0].0.name, "load 599", "what it last said of itself");
    let still = tokio::time::timeout(Duration::from_millis(20), lease.ended()).await;
    assert!(still.is_err(), "no reload disconnects another tab: {still:?}");
    assert!(all.iter().all(|entered| holds(&place, entered)));
    drop(lease);
    let place = place.restart();
    assert!(all.iter().all(|entered| holds(&place, entered)), "after a restart too");
    enters(&place, device("phone")).await;
    assert_eq!(rows(&place), 2, "another key is another device");
    let other_did = Entering { did: "did:plc:next".into(), ..device("laptop") };
    assert_ne!(enters(&place, other_did).await.session.id, all[0].session.id, "another owner's");
}

#[tokio::test]
async fn an_app_has_no_room_too_little_for_a_device_that_it_has() {
    use groundmist_sync::access::MAX_SESSIONS_PER_APP;
    let place = approved().await;
    let mut leases = Vec::new();
    for n in 0..MAX_SESSIONS_PER_APP {
        let entered = enters(&place, device(&n.to_string())).await;
        leases.push(place.access.admit(&entered.token).unwrap());
    }
    assert!(matches!(enter(&place, device("one-more")).await, Err(EnterError::TooMany(_))));
    enters(&place, device("7")).await;
    // A device that authenticated is in use, though it has not connected yet.
    drop(leases);
    let unused = now();
    until(|| (now() > unused).then_some(())).await;
    let again = enters(&place, device("7")).await;
    for n in 0..MAX_SESSIONS_PER_APP - 1 {
        enters(&place, device(&format!("new-{n}"))).await;
    }
    assert!(holds(&place, &again));
}

#[tokio::test]
async fn only_dpop_makes_a_device() {
    let place = approved().await;
    for (how, jkt, sessions) in [
        (Proof::ServiceAuth, None, 2),
        // No such proof has a key today. If one had, it would be the app's and not a device's.
        (Proof::ServiceAuth, Some("key"), 4),
        (Proof::Probe, Some("key"), 5),
        (Proof::Relay, Some("key"), 5),
        (Proof::IssuerKey, Some("key"), 5),
    ] {
        for _ in 0..2 {
            enters(&place, Entering { how, jkt: jkt.map(str::to_owned), ..asks(CLIENT) }).await;
        }
        assert_eq!(place.access.sessions().len(), sessions, "{how:?} {jkt:?}");
    }
}

#[tokio::test]
async fn a_token_may_do_what_it_was_asked_for_whatever_the_device_asks_for_later() {
    let place = approved().await;
    let reader = enters(&place, reading("laptop")).await;
    assert!(reader.session.read_only && place.access.sessions()[0].0.read_only);
    let writer = enters(&place, device("laptop")).await;
    let later = enters(&place, reading("laptop")).await;
    let check = |place: &Place| {
        assert_eq!(place.access.sessions().len(), 1);
        let all = [&reader, &writer, &later].map(|entered| reads_only(place, entered));
        assert_eq!(all, [true, false, true]);
    };
    assert!(!writer.session.read_only && later.session.read_only);
    check(&place);
    let place = place.restart();
    check(&place);
    place.access.decide(&app(CLIENT), Decision::ReadOnly).await.unwrap();
    assert!(reads_only(&place, &writer), "never more than the approval");
    place.access.decide(&app(CLIENT), Decision::ReadWrite).await.unwrap();
    check(&place);
    // What it may do stands in the token, and the token is signed; what ties it to the session is known to no one else.
    for (claim, wrong) in [("key", json!("guess")), ("key", json!(null)), ("more", json!(1))] {
        let forged = place.resigned(&writer.token, |claims| claims["device"][claim] = wrong.clone());
        assert!(matches!(place.refused(&forged), Refused::Invalid(_)), "{claim}: {wrong}");
    }
    let without =
        place.resigned(&writer.token, |claims| drop(claims.as_object_mut().unwrap().remove("device")));
    assert!(matches!(place.refused(&without), Refused::Invalid(_)));
    let (other, _) = place.token("local").await;
    let claim = claims(&writer.token)["device"].clone();
    let foreign = place.resigned(&other, |claims| claims["device"] = claim);
    assert!(
        matches!(place.refused(&foreign), Refused::Invalid(_)),
        "a session that is no device's has one token"
    );
}

#[tokio::test]
async fn a_revoked_device_comes_back_as_a_new_session_and_its_old_tokens_do_not() {
    let place = approved().await;
    let (one, two) = (enters(&place, device("laptop")).await, enters(&place, device("laptop")).await);
    let mut leases = [&one, &two].map(|entered| place.access.admit(&entered.token).unwrap());
    place.access.revoke(&one.session.id).await.unwrap();
    for lease in &mut leases {
        assert_eq!(tokio::time::timeout(PATIENCE, lease.ended()).await.unwrap(), Refused::Revoked);
    }
    drop(leases);
    let back = enters(&place, device("laptop")).await;
    assert_ne!(back.session.id, one.session.id);
    let place = place.restart();
    for old in [&one, &two] {
        assert_eq!(place.refused(&old.token), Refused::Revoked);
    }
    assert!(holds(&place, &back));
}

#[tokio::test]
async fn a_device_signs_out_by_any_token_but_by_none_that_may_do_less() {
    let place = approved().await;
    let (reader, writer) = (enters(&place, reading("laptop")).await, enters(&place, device("laptop")).await);
    let refused = place.access.give_back(&reader.token, None).await;
    assert!(matches!(refused, Err(ExchangeError::Reader)));
    assert!(holds(&place, &reader) && holds(&place, &writer));
    place.access.give_back(&writer.token, None).await.unwrap();
    assert!(!holds(&place, &reader) && !holds(&place, &writer));
    let alone = enters(&place, reading("laptop")).await;
    place.access.give_back(&alone.token, None).await.unwrap();
    assert!(!holds(&place, &alone));
}

#[tokio::test]
async fn a_session_that_ended_stays_ended_and_leaves_one_row() {
    let place = approved().await;
    let long = Settings { session_max: 10 * LIFE, ..settings() };
    place.access.reconfigure(long.clone());
    let old = enters(&place, device("laptop")).await;
    let row = place.store.record(RecordKind::Session, old.session.id.as_bytes()).unwrap().unwrap();
    let mut ended: Value = serde_json::from_slice(&row).unwrap();
    ended["expires"] = json!(now() / 1000 * 1000 - 1000);
    write_row(&place.store, &old.session.id, Some(serde_json::to_vec(&ended).unwrap()));
    let place = place.restart_with(long);
    assert_eq!(place.refused(&old.token), Refused::Expired, "though the token itself could last longer");
    let new = enters(&place, device("laptop")).await;
    assert_ne!(new.session.id, old.session.id);
    assert!(place.refused_or_not(&old.token) && holds(&place, &new));
    assert_eq!(rows(&place), 1);
}

#[tokio::test]
async fn two_tabs_that_load_at_once_share_a_session_even_if_the_first_commit_fails() {
    for broken in [false, true] {
        let (place, journal) = held_and_approved().await;
        journal.hold();
        let first = spawned!(place, enter(reading("laptop")));
        journal.until_waiting(1).await;
        let second = spawned!(place, enter(device("laptop")));
        journal.until_waiting(2).await;
        assert!(place.access.sessions().is_empty(), "nothing counts before it is durable");
        journal.go_on_after_failing(usize::from(broken));
        assert_eq!(first.await.unwrap().is_err(), broken);
        let second = second.await.unwrap().unwrap();
        assert!(holds(&place, &second) && !reads_only(&place, &second), "{broken}");
        assert_eq!((rows(&place), place.access.sessions().len()), (1, 1));
        drop(journal);
        let place = place.restart();
        assert!(holds(&place, &second));
    }
}

#[tokio::test]
async fn a_renewal_that_fails_changes_nothing() {
    let (place, journal) = held_and_approved().await;
    let reader = enters(&place, reading("laptop")).await;
    let before = place.access.sessions();
    journal.set_broken(true);
    assert!(matches!(enter(&place, device("laptop")).await, Err(EnterError::Access(_))));
    journal.set_broken(false);
    assert!(holds(&place, &reader) && reads_only(&place, &reader));
    assert_eq!(place.access.sessions(), before);
    let writer = enters(&place, device("laptop")).await;
    assert!(!writer.session.read_only && reads_only(&place, &reader));
}

#[tokio::test]
async fn a_revocation_beats_a_renewal_that_is_on_its_way() {
    let (place, journal) = held_and_approved().await;
    let first = enters(&place, device("laptop")).await;
    journal.hold();
    let renewing = spawned!(place, enter(device("laptop")));
    journal.until_waiting(1).await;
    let id = first.session.id.clone();
    let revoking = spawned!(place, revoke(&id));
    journal.until_waiting(2).await;
    // Behind it the device is a new one.
    let behind = spawned!(place, enter(device("laptop")));
    journal.until_waiting(3).await;
    journal.go_on();
    assert!(matches!(renewing.await.unwrap(), Err(EnterError::NotApproved(_))));
    revoking.await.unwrap().unwrap();
    let behind = behind.await.unwrap().unwrap();
    assert_ne!(behind.session.id, first.session.id);
    assert_eq!(place.refused(&first.token), Refused::Revoked);
    assert_eq!((rows(&place), holds(&place, &behind)), (1, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_renewals_at_once_leave_what_memory_says() {
    let place = approved().await;
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let used = vec![UsedToken { id: format!("proof {n}"), expires: now() + 60_000 }];
            let entering = Entering { used, ..if n % 2 == 0 { device("laptop") } else { reading("laptop") } };
            spawned!(place, enter(entering))
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap().unwrap());
    }
    let before = place.access.sessions();
    assert_eq!((rows(&place), before.len()), (1, 1));
    let place = place.restart();
    assert_eq!(place.access.sessions(), before);
    for (n, entered) in all.iter().enumerate() {
        assert_eq!(reads_only(&place, entered), n % 2 == 1);
    }
}

#[tokio::test]
async fn a_deletion_that_fails_leaves_no_second_session_of_the_device() {
    // The deletion alone fails, or the device's authentication behind it too.
    for failing in [1, 2] {
        let (place, journal) = held_and_approved().await;
        let old = enters(&place, device("laptop")).await;
        journal.hold();
        let id = old.session.id.clone();
        let revoking = spawned!(place, revoke(&id));
        journal.until_waiting(1).await;
        let entering = spawned!(place, enter(device("laptop")));
        journal.until_waiting(2).await;
        journal.go_on_after_failing(failing);
        assert!(revoking.await.unwrap().is_err());
        let entered = entering.await.unwrap();
        assert_eq!(entered.is_ok(), failing == 1);
        assert_eq!((rows(&place), place.access.sessions().len()), (1, 1), "{failing}");
        // Of the two the one that is there is whole.
        let standing = entered.unwrap_or(old);
        assert!(holds(&place, &standing), "{failing}");
        assert_eq!(enters(&place, device("laptop")).await.session.id, standing.session.id, "{failing}");
        place.access.revoke(&standing.session.id).await.unwrap();
        assert_eq!((rows(&place), place.refused(&standing.token)), (0, Refused::Revoked));
    }
}
