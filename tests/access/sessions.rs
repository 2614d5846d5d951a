//! The rows behind tokens: revoked, damaged, named, cleared away.

use groundmist_sync::access::{AccessError, MAX_NAME_BYTES};

use groundmist_sync::access::What;
use serde_json::json;

use crate::entering::{CLIENT, approved, asks, enters};
use crate::*;

#[tokio::test]
async fn revoked_is_out_and_stays_out_after_a_restart() {
    let place = Place::new();
    let (token, session) = place.token("laptop").await;
    let (kept, _) = place.token("phone").await;
    assert_eq!(place.access.revoke("laptop").await.unwrap(), session.id);
    assert_eq!(place.refused(&token), Refused::Revoked);
    assert!(matches!(place.access.revoke("laptop").await, Err(AccessError::NotFound(_))));
    let place = place.restart();
    assert_eq!(place.refused(&token), Refused::Revoked);
    assert!(place.access.verify(&kept, now()).is_ok(), "the other token survives the restart");
}

#[tokio::test]
async fn rows_that_are_gone_or_damaged_refuse() {
    let place = Place::new();
    let (token, session) = place.token("laptop").await;
    let rows: [(Option<&[u8]>, Refused); 3] = [
        (None, Refused::Revoked),
        (Some(b"{"), Refused::Unverifiable),
        (Some(b"{\"id\":\"other\"}"), Refused::Unverifiable),
    ];
    let mut place = place;
    for (row, refusal) in rows {
        write_row(&place.store, &session.id, row.map(<[u8]>::to_vec));
        place = place.restart();
        assert_eq!(place.refused(&token), refusal);
    }
    assert!(place.access.sessions().is_empty());
    let revoked = place.access.revoke(&session.id).await.unwrap();
    assert_eq!(revoked, session.id, "a damaged row can be removed by id");
    assert_eq!(place.refused(&token), Refused::Revoked);
}

#[tokio::test]
async fn names_are_checked_and_ambiguity_is_said() {
    let place = Place::new();
    for bad in ["", " laptop", "laptop\n", "a\u{7}", "\u{200b}\u{3164}", &"x".repeat(MAX_NAME_BYTES + 1)] {
        assert!(matches!(place.access.create(wanted(bad)).await, Err(AccessError::Name(_))), "{bad:?}");
    }
    for life in [Duration::ZERO, Duration::from_secs(4000 * 86_400)] {
        let new = NewSession { life: Some(life), ..wanted("laptop") };
        assert!(matches!(place.access.create(new).await, Err(AccessError::Life(_))), "{life:?}");
    }
    let (_, one) = place.token("laptop").await;
    let (_, two) = place.token("laptop").await;
    let error = place.access.revoke("laptop").await.unwrap_err().to_string();
    assert!(error.contains(&one.id) && error.contains(&two.id) && error.contains("xyz.example"), "{error}");
    place.access.revoke(&one.id).await.unwrap();
    assert_eq!(place.access.revoke("laptop").await.unwrap(), two.id);
}

#[tokio::test]
async fn sessions_long_expired_are_cleared_away() {
    let place = Place::new();
    let (_, session) = place.token("old").await;
    let day = 86_400_000;
    let mut ids = Vec::new();
    for (id, ago) in [("lately", day), ("long-ago", 8 * day)] {
        let old = Session { id: id.into(), expires: now() - ago, created: 0, ..session.clone() };
        write_row(&place.store, id, Some(serde_json::to_vec(&old).unwrap()));
    }
    let place = place.restart();
    place.token("new").await;
    ids.extend(place.access.sessions().into_iter().map(|(s, _)| s.id));
    assert_eq!(place.store.records(RecordKind::Session).unwrap().len(), 3);
    assert!(ids.contains(&"lately".into()) && !ids.contains(&"long-ago".into()) && ids.len() == 3, "{ids:?}");
}

#[tokio::test]
async fn all_sessions_go_at_once() {
    let place = Place::new();
    let (one, _) = place.token("laptop").await;
    let (two, _) = place.token("phone").await;
    let mut lease = place.access.admit(&one).unwrap();
    assert_eq!(place.access.revoke_all().await.unwrap(), 2);
    assert_eq!(tokio::time::timeout(PATIENCE, lease.ended()).await.unwrap(), Refused::Revoked);
    drop(lease);
    let place = place.restart();
    for token in [one, two] {
        assert_eq!(place.refused(&token), Refused::Revoked);
    }
    assert_eq!(place.access.revoke_all().await.unwrap(), 0);
}

#[tokio::test]
async fn the_end_of_a_former_owners_session_stands_in_the_activity() {
    let place = Place::new();
    let (token, session) = place.token("laptop").await;
    place.access.end_of_former_owner(&session.id).await.unwrap();
    assert_eq!(place.refused(&token), Refused::Revoked);
    // What has ended ends once.
    place.access.end_of_former_owner(&session.id).await.unwrap();
    let place = place.restart();
    let ended: Vec<_> =
        place.access.audit().into_iter().filter(|event| event.what == What::FormerOwnerEnded).collect();
    let [event] = &ended[..] else { panic!("{ended:?}") };
    assert_eq!(event.session.as_deref(), Some(session.id.as_str()));
    assert_eq!((event.client_id.as_deref(), event.count), (Some(LOCAL_CLIENT), 1));
}

#[tokio::test]
async fn only_a_copy_that_was_noticed_lately_and_of_an_app_is_listed() {
    const DAY: u64 = 86_400_000;
    let place = approved().await;
    let entered = enters(&place, asks(CLIENT)).await;
    let (_, local) = place.token("laptop").await;
    let mut place = place;
    for (session, days, listed) in
        [(&entered.session, 6, true), (&entered.session, 8, false), (&local, 1, false)]
    {
        let row = place.store.record(RecordKind::Session, session.id.as_bytes()).unwrap().unwrap();
        let mut row: Value = serde_json::from_slice(&row).unwrap();
        row["copied"] = json!({ "at": now() - days * DAY, "addresses": ["203.0.113.7", "198.51.100.9"] });
        write_row(&place.store, &session.id, Some(row.to_string().into_bytes()));
        place = place.restart();
        let all = place.access.sessions();
        let (found, _) = all.iter().find(|(found, _)| found.id == session.id).unwrap();
        assert_eq!(found.copied.is_some(), listed, "{days}");
    }
}
