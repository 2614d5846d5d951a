//! The trail tells what happened, and survives.

use groundmist_sync::access::{Decision, MAX_AUDIT, UsedToken, What};

use crate::entering::{CLIENT, app, asks, enter, enters};
use crate::*;

#[tokio::test]
async fn it_tells_what_happened_in_order_also_after_a_restart() {
    let place = Place::new();
    enter(&place, asks(CLIENT)).await.err().unwrap();
    enter(&place, asks(CLIENT)).await.err().unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    place.access.decide(&app(CLIENT), Decision::ReadWrite).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    let mut entering = asks(CLIENT);
    entering.used = vec![UsedToken { id: "once".into(), expires: now() + 60_000 }];
    let entered = enters(&place, entering.clone()).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    enter(&place, entering).await.err().unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    place.access.revoke(&entered.session.id).await.unwrap();
    place.access.flush().await.unwrap();
    let events = place.access.audit();
    let told: Vec<_> = events.iter().map(|event| (event.what, event.count)).collect();
    let expected = [
        (What::NotApproved, 2),
        (What::Approved, 1),
        (What::Entered, 1),
        (What::RefusedReplay, 1),
        (What::SessionRevoked, 1),
    ];
    assert_eq!(told, expected);
    assert!(events.iter().all(|event| event.client_id.as_deref() == Some(CLIENT)));
    assert_eq!(events[4].session.as_deref(), Some(entered.session.id.as_str()));
    assert_eq!(place.restart().access.audit(), events);
}

#[tokio::test]
async fn what_was_decided_and_its_trail_are_one_commit() {
    // A power cut right after the answer: everything but the files is lost.
    let place = Place::new();
    place.access.decide(&app(CLIENT), Decision::Denied).await.unwrap();
    let place = place.restart();
    assert_eq!(place.access.audit()[0].what, What::Denied);
    assert_eq!(place.access.grants()[0].decision, Decision::Denied);
}

#[tokio::test]
async fn it_is_bounded() {
    let place = Place::new();
    for n in 0..MAX_AUDIT {
        enter(&place, asks(&format!("https://{n}.example/"))).await.err().unwrap();
    }
    for _ in 0..MAX_AUDIT {
        place.access.decide(&app(CLIENT), Decision::Denied).await.unwrap();
    }
    place.access.flush().await.unwrap();
    assert_eq!(place.access.audit().len(), MAX_AUDIT);
    assert_eq!(place.store.records(RecordKind::Audit).unwrap().len(), MAX_AUDIT);
}
