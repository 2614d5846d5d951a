//! The rows behind tokens: revoked, damaged, named, cleared away.

use groundmist_sync::access::{AccessError, MAX_NAME_BYTES};
use groundmist_sync::store::Op;

use crate::*;

#[tokio::test]
async fn revoked_is_out_and_stays_out_after_a_restart() {
    let place = Place::new();
    let (token, session) = place.token("laptop").await;
    let (kept, _) = place.token("phone").await;
    assert_eq!(place.access.revoke("laptop").await.unwrap(), session.id);
    assert_eq!(place.refused(&token), Refused::Revoked);
    assert!(matches!(place.access.revoke("laptop").await, Err(AccessError::NotFound(_))));
    let Place { store, access, dir } = place;
    drop((store, access));
    let store = open(&dir);
    let access = access_on(&store);
    assert_eq!(access.verify(&token, now()), Err(Refused::Revoked));
    assert!(access.verify(&kept, now()).is_ok(), "the other token survives the restart");
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
    for (row, refusal) in rows {
        place.store.commit(&[Op::Session { id: session.id.clone(), row: row.map(<[u8]>::to_vec) }]).unwrap();
        assert_eq!(place.refused(&token), refusal);
    }
    assert!(place.access.list().unwrap().is_empty());
    assert_eq!(
        place.access.revoke(&session.id).await.unwrap(),
        session.id,
        "a damaged row can be removed by id"
    );
}

#[tokio::test]
async fn names_are_checked_and_ambiguity_is_said() {
    let place = Place::new();
    for bad in ["", " laptop", "laptop\n", "a\u{7}", &"x".repeat(MAX_NAME_BYTES + 1)] {
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
        let row = serde_json::to_vec(&old).unwrap();
        place.store.commit(&[Op::Session { id: id.into(), row: Some(row) }]).unwrap();
    }
    place.token("new").await;
    ids.extend(place.access.list().unwrap().into_iter().map(|s| s.id));
    assert!(ids.contains(&"lately".into()) && !ids.contains(&"long-ago".into()) && ids.len() == 3, "{ids:?}");
}
