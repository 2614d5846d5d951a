//! Bounds: sessions of one app, of all, and what a flood costs.

use std::collections::BTreeSet;

use groundmist_sync::access::{
    AccessError, Decision, EnterError, FLUSH_EVERY, MAX_SESSIONS, MAX_SESSIONS_PER_APP,
};

use crate::entering::{CLIENT, app, approved, asks, enter, enters};
use crate::journal::held_place;
use crate::*;

/// Sessions like `model` as rows in the store, last used at the given times.
fn write_like(place: &Place, model: &Session, last_used: impl Iterator<Item = u64>) {
    let ops: Vec<Op> = last_used
        .enumerate()
        .map(|(n, used)| {
            let session = Session { id: format!("s{n}"), last_used: Some(used), ..model.clone() };
            let row = Some(serde_json::to_vec(&session).unwrap());
            Op::Record { kind: RecordKind::Session, key: session.id.into(), row }
        })
        .collect();
    place.store.commit(&ops).unwrap();
}

#[tokio::test]
async fn the_session_longest_out_of_use_gives_way_but_none_that_is_connected() {
    let place = approved().await;
    let connected = enters(&place, asks(CLIENT)).await;
    let later = now() + 3_600_000;
    write_like(&place, &connected.session, (1..MAX_SESSIONS_PER_APP as u64).map(|n| later + n));
    let place = place.restart();
    let has = |id: &str| place.access.sessions().iter().any(|(session, _)| session.id == id);
    let lease = place.access.admit(&connected.token).unwrap();
    let (first, _) = (enters(&place, asks(CLIENT)).await, ());
    assert!(has(&connected.session.id) && !has("s0") && has("s1"));
    drop(lease);
    enters(&place, asks(CLIENT)).await;
    assert!(has("s1") && !has(&first.session.id), "never used, so out of use since it began");
    enters(&place, asks(CLIENT)).await;
    assert_eq!(place.access.sessions().len(), MAX_SESSIONS_PER_APP);
    assert_eq!(place.store.records(RecordKind::Session).unwrap().len(), MAX_SESSIONS_PER_APP);
    // Other apps, and tokens for devices, are not touched by it.
    place.token("laptop").await;
    assert_eq!(place.access.sessions().len(), MAX_SESSIONS_PER_APP + 1);
}

#[tokio::test]
async fn of_sessions_that_begin_in_the_same_second_the_first_gives_way() {
    let place = approved().await;
    let mut begun = Vec::new();
    for _ in 0..MAX_SESSIONS_PER_APP + 50 {
        begun.push(enters(&place, asks(CLIENT)).await.session.id);
    }
    let staying: BTreeSet<_> = place.access.sessions().into_iter().map(|(session, _)| session.id).collect();
    assert_eq!(staying, begun.into_iter().skip(50).collect());
}

#[tokio::test]
async fn an_app_all_of_whose_sessions_are_connected_gets_no_more() {
    let place = approved().await;
    let mut leases = Vec::new();
    for _ in 0..MAX_SESSIONS_PER_APP {
        let entered = enters(&place, asks(CLIENT)).await;
        leases.push(place.access.admit(&entered.token).unwrap());
    }
    assert!(matches!(enter(&place, asks(CLIENT)).await, Err(EnterError::TooMany(_))));
    leases.pop();
    enters(&place, asks(CLIENT)).await;
}

#[tokio::test]
async fn sessions_are_bounded_and_long_expired_ones_make_room() {
    let place = Place::new();
    let (_, model) = place.token("laptop").await;
    write_like(&place, &model, (1..MAX_SESSIONS as u64).map(|_| now()));
    let place = place.restart();
    assert!(matches!(place.access.create(wanted("one more")).await, Err(AccessError::TooMany)));
    let long_ago = Session { id: "s7".into(), expires: now() - 8 * 86_400_000, ..model };
    write_row(&place.store, "s7", Some(serde_json::to_vec(&long_ago).unwrap()));
    let place = place.restart();
    place.token("one more").await;
    assert!(matches!(place.access.create(wanted("and another")).await, Err(AccessError::TooMany)));
}

#[tokio::test]
async fn a_flood_of_refusals_is_a_handful_of_commits() {
    let (place, journal) = held_place().await;
    place.access.decide(&app("https://denied.example/c"), Decision::Denied).await.unwrap();
    let (before, begun) = (journal.commits(), std::time::Instant::now());
    for n in 0..2_000 {
        let client = format!("https://{}.example/c", n % 50);
        assert!(matches!(enter(&place, asks(&client)).await, Err(EnterError::NotApproved(_))));
        let denied = enter(&place, asks("https://denied.example/c")).await;
        assert!(matches!(denied, Err(EnterError::Denied(_))));
        tokio::task::yield_now().await;
    }
    let most = 2 + (begun.elapsed().as_millis() / FLUSH_EVERY.as_millis()) as usize;
    assert!(journal.commits() - before <= most, "{} commits", journal.commits() - before);
    place.access.flush().await.unwrap();
    let counts: u64 = place.access.pending().iter().map(|pending| pending.count).sum();
    assert_eq!(counts, 2_000, "and all are counted");
}

#[tokio::test]
async fn who_asks_first_is_written_at_once() {
    let (place, journal) = held_place().await;
    let before = journal.commits();
    enter(&place, asks(CLIENT)).await.err().unwrap();
    until(|| (journal.commits() > before).then_some(())).await;
    assert_eq!(place.store.records(RecordKind::Pending).unwrap().len(), 1);
}

#[tokio::test]
async fn what_could_not_be_flushed_is_flushed_later() {
    let (place, journal) = held_place().await;
    journal.set_broken(true);
    enter(&place, asks(CLIENT)).await.err().unwrap();
    assert!(place.access.flush().await.is_err());
    journal.set_broken(false);
    place.access.flush().await.unwrap();
    assert_eq!(place.store.records(RecordKind::Pending).unwrap().len(), 1);
    assert!(!place.store.records(RecordKind::Audit).unwrap().is_empty());
}
