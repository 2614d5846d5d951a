//! The trail tells what happened, and survives.

use groundmist_sync::access::{Decision, MAX_AUDIT, UsedToken, What};
use groundmist_sync::types::DocumentId;

use crate::entering::{CLIENT, app, asks, enter, enters};
use crate::journal::held_place;
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
async fn what_happened_and_its_trail_are_one_commit() {
    let (place, journal) = held_place().await;
    place.access.decide(&app(CLIENT), Decision::ReadWrite).await.unwrap();
    assert_eq!(journal.commits(), 1);
    let mut entering = asks(CLIENT);
    entering.used = vec![UsedToken { id: "once".into(), expires: now() + 60_000 }];
    entering.root_doc_url = Some("automerge:".to_owned() + &DocumentId([1; 16]).to_string());
    enters(&place, entering).await;
    assert_eq!(journal.commits(), 2, "session, used token, root document and trail");
    place.access.decide(&app(CLIENT), Decision::Denied).await.unwrap();
    assert_eq!(journal.commits(), 3, "decision, end of the session and trail");
    for (kind, rows) in [
        (RecordKind::Grant, 1),
        (RecordKind::Session, 0),
        (RecordKind::UsedToken, 1),
        (RecordKind::RootDocument, 1),
        (RecordKind::Audit, 3),
    ] {
        assert_eq!(place.store.records(kind).unwrap().len(), rows, "{kind:?}");
    }
}

#[tokio::test]
async fn it_is_bounded() {
    let place = Place::new();
    for n in 0..MAX_AUDIT {
        enter(&place, asks(&format!("https://{n}.example/c"))).await.err().unwrap();
    }
    for _ in 0..MAX_AUDIT {
        place.access.decide(&app(CLIENT), Decision::Denied).await.unwrap();
    }
    place.access.flush().await.unwrap();
    assert_eq!(place.access.audit().len(), MAX_AUDIT);
    assert_eq!(place.store.records(RecordKind::Audit).unwrap().len(), MAX_AUDIT);
}
