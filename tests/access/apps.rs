//! What the owner decided about apps, and what that does to their sessions.

use groundmist_sync::access::{AccessError, App, Decision, EnterError, MAX_PENDING, MAX_PENDING_PER_CLIENT};
use groundmist_sync::atproto::MAX_CLIENT_ID_BYTES;

use crate::entering::{CLIENT, app, asks, enter, enters};
use crate::*;

async fn decide(place: &Place, decision: Decision) -> usize {
    place.access.decide(&app(CLIENT), decision).await.unwrap().sessions_ended
}

#[tokio::test]
async fn an_unknown_app_is_pending_until_approved() {
    let place = Place::new();
    for _ in 0..3 {
        assert!(matches!(enter(&place, asks(CLIENT)).await, Err(EnterError::NotApproved(_))));
    }
    let pending = place.access.pending();
    assert_eq!(pending.len(), 1);
    let one = &pending[0];
    assert_eq!((one.client_id.as_str(), one.namespace.as_str(), one.count), (CLIENT, "xyz.example", 3));
    assert_eq!((one.did.as_str(), one.user_agent.as_deref()), ("did:plc:owner", Some("Mozilla/5.0")));
    assert_eq!(one.address, Some("203.0.113.7".parse().unwrap()));
    assert!(place.access.sessions().is_empty());
    place.access.flush().await.unwrap();
    let place = place.restart();
    assert_eq!(place.access.pending(), pending, "it survives a restart");
    decide(&place, Decision::ReadWrite).await;
    assert!(place.access.pending().is_empty());
    let place = place.restart();
    assert!(place.access.pending().is_empty(), "and so does the decision");
    let entered = enters(&place, asks(CLIENT)).await;
    let session = place.access.verify(&entered.token, now()).unwrap();
    assert!(!session.read_only && session.client_id == CLIENT && session.did == "did:plc:owner");
    assert_eq!(session, entered.session);
}

#[tokio::test]
async fn an_approval_is_for_one_app_in_one_namespace() {
    let place = Place::new();
    decide(&place, Decision::ReadWrite).await;
    let mut elsewhere = asks(CLIENT);
    elsewhere.namespace = "xyz.example.sub".parse().unwrap();
    for other in [elsewhere, asks("https://app.example/client-metadata.json2"), asks("https://app.example/c")]
    {
        assert!(matches!(enter(&place, other).await, Err(EnterError::NotApproved(_))));
    }
    enters(&place, asks(CLIENT)).await;
}

#[tokio::test]
async fn a_numbered_request_never_becomes_another() {
    let place = Place::new();
    for client in ["https://a.example/c", "https://b.example/c"] {
        enter(&place, asks(client)).await.err().unwrap();
    }
    assert_eq!(place.access.pending()[1].number, 2);
    place.access.decide(&app("https://b.example/c"), Decision::Denied).await.unwrap();
    place.access.flush().await.unwrap();
    let place = place.restart();
    enter(&place, asks("https://c.example/c")).await.err().unwrap();
    let numbers: Vec<u64> = place.access.pending().iter().map(|pending| pending.number).collect();
    assert_eq!(numbers, [1, 3]);
}

#[tokio::test]
async fn revoked_waits_again_and_denied_does_not() {
    let place = Place::new();
    decide(&place, Decision::ReadWrite).await;
    let (one, two) = (enters(&place, asks(CLIENT)).await, enters(&place, asks(CLIENT)).await);
    let mut lease = place.access.admit(&one.token).unwrap();
    let (local, _) = place.token("laptop").await;
    assert_eq!(decide(&place, Decision::Revoked).await, 2);
    assert_eq!(tokio::time::timeout(PATIENCE, lease.ended()).await.unwrap(), Refused::Revoked);
    drop(lease);
    let place = place.restart();
    for token in [&one.token, &two.token] {
        assert_eq!(place.refused(token), Refused::Revoked);
    }
    assert!(place.access.verify(&local, now()).is_ok(), "others stay");
    assert!(matches!(enter(&place, asks(CLIENT)).await, Err(EnterError::NotApproved(_))));
    assert_eq!(place.access.pending().len(), 1);
    decide(&place, Decision::Denied).await;
    let error = enter(&place, asks(CLIENT)).await.err().unwrap();
    assert!(matches!(error, EnterError::Denied(_)) && error.code() == "app_denied");
    assert!(place.access.pending().is_empty());
    decide(&place, Decision::ReadWrite).await;
    assert_eq!(
        place.refused(&one.token),
        Refused::Revoked,
        "an old session does not come back with an approval"
    );
    enters(&place, asks(CLIENT)).await;
}

#[tokio::test]
async fn the_grant_itself_is_looked_at() {
    // A session row whose app is not approved, as no code path leaves it: the token is still refused.
    let place = Place::new();
    decide(&place, Decision::ReadWrite).await;
    let entered = enters(&place, asks(CLIENT)).await;
    let key = format!("xyz.example\n{CLIENT}").into_bytes();
    let write = |row: Option<&[u8]>| {
        let (kind, key, row) = (RecordKind::Grant, key.clone(), row.map(<[u8]>::to_vec));
        place.store.commit(&[Op::Record { kind, key, row }]).unwrap();
    };
    write(None);
    let without = access_on(&place.store);
    assert_eq!(without.verify(&entered.token, now()), Err(Refused::Revoked));
    write(Some(b"{"));
    let damaged = access_on(&place.store);
    assert_eq!(damaged.verify(&entered.token, now()), Err(Refused::Revoked));
    assert_eq!(
        damaged.grants()[0].decision,
        Decision::Revoked,
        "a decision that cannot be read is asked for again"
    );
}

#[tokio::test]
async fn read_only_comes_and_goes_with_the_same_token() {
    let place = Place::new();
    decide(&place, Decision::ReadWrite).await;
    let entered = enters(&place, asks(CLIENT)).await;
    let reader = enters(&place, {
        let mut a = asks(CLIENT);
        a.read_only_wanted = true;
        a
    })
    .await;
    assert!(reader.session.read_only);
    for (decision, read_only) in [(Decision::ReadOnly, true), (Decision::ReadWrite, false)] {
        let mut lease = place.access.admit(&entered.token).unwrap();
        assert_eq!(lease.session().read_only, !read_only);
        assert_eq!(decide(&place, decision).await, 0);
        assert_eq!(tokio::time::timeout(PATIENCE, lease.ended()).await.unwrap(), Refused::Changed);
        let mut lease = place.access.admit(&entered.token).unwrap();
        assert_eq!(lease.session().read_only, read_only, "it comes back with the new rights");
        let still = tokio::time::timeout(Duration::from_millis(50), lease.ended()).await;
        assert!(still.is_err(), "and stays: {still:?}");
        assert!(
            place.access.verify(&reader.token, now()).unwrap().read_only,
            "who asked to read only reads only"
        );
    }
    decide(&place, Decision::ReadOnly).await;
    assert!(enters(&place, asks(CLIENT)).await.session.read_only);
    let mut lease = place.access.admit(&entered.token).unwrap();
    decide(&place, Decision::ReadOnly).await;
    let still = tokio::time::timeout(Duration::from_millis(50), lease.ended()).await;
    assert!(still.is_err(), "deciding the same again disturbs nobody: {still:?}");
}

#[tokio::test]
async fn settings_changed_while_it_runs_count_from_then_on() {
    let place = Place::new();
    let (_, before) = place.token("before").await;
    assert!(matches!(enter(&place, asks(CLIENT)).await, Err(EnterError::NotApproved(_))));
    assert_eq!(place.access.counts(), (1, 1), "a session, and an app that waits");
    let life = LIFE * 2;
    place.access.reconfigure(Settings { approve: Approve::FirstUse, token_life: life, ..settings() });
    let entered = enters(&place, asks(CLIENT)).await.session;
    let lives = |session: &Session| Duration::from_millis(session.expires - session.created);
    assert_eq!((lives(&before), lives(&entered)), (LIFE, life), "what was given out before stays");
    place.access.reconfigure(settings());
    let other = "https://other.example/client-metadata.json";
    assert!(matches!(enter(&place, asks(other)).await, Err(EnterError::NotApproved(_))));
    enters(&place, asks(CLIENT)).await;
}

#[tokio::test]
async fn first_use_approves_once_and_not_against_the_owner() {
    let place = Place::new().restart_with(Settings { approve: Approve::FirstUse, ..settings() });
    enters(&place, asks(CLIENT)).await;
    assert_eq!(place.access.grants()[0].decision, Decision::ReadWrite);
    decide(&place, Decision::Revoked).await;
    assert!(matches!(enter(&place, asks(CLIENT)).await, Err(EnterError::NotApproved(_))));
    decide(&place, Decision::Denied).await;
    assert!(matches!(enter(&place, asks(CLIENT)).await, Err(EnterError::Denied(_))));
    let loopback = enter(&place, asks("http://localhost/")).await;
    assert!(matches!(loopback, Err(EnterError::Loopback)));
    // One app does not fill the list of decisions by naming namespaces.
    let mut approved = 0;
    for n in 0..30 {
        let mut entering = asks("https://greedy.example/c");
        entering.namespace = format!("ns{n}.example").parse().unwrap();
        approved += usize::from(enter(&place, entering).await.is_ok());
    }
    assert_eq!(approved, groundmist_sync::access::MAX_FIRST_USES);
}

#[tokio::test]
async fn apps_on_localhost_need_the_setting_and_their_own_approval() {
    const LOCAL: &str = "http://localhost?scope=atproto";
    let place = Place::new();
    place.access.decide(&app(LOCAL), Decision::ReadWrite).await.unwrap();
    let error = enter(&place, asks(LOCAL)).await.err().unwrap();
    assert!(matches!(error, EnterError::Loopback) && error.code() == "loopback_client");
    assert!(place.access.pending().is_empty());
    let allowed = Settings { allow_loopback_clients: true, approve: Approve::FirstUse, ..settings() };
    let place = place.restart_with(allowed);
    enters(&place, asks(LOCAL)).await;
    assert!(matches!(enter(&place, asks("http://localhost/")).await, Err(EnterError::NotApproved(_))));
    assert_eq!(place.access.pending().len(), 1, "asking is possible, approving is the owner's");
}

#[tokio::test]
async fn what_is_no_app_is_not_decided_about() {
    let place = Place::new();
    let long = format!("{CLIENT}{}", "a".repeat(MAX_CLIENT_ID_BYTES));
    for id in [
        "",
        "app",
        LOCAL_CLIENT,
        "http://app.example/c",
        "https://user@app.example/c",
        "https://app.example",
        "https://app.example/",
        "https://app.example/c#f",
        "https://APP.example/c",
        "https://app.example:443/c",
        "https://localhost/c",
        "https://127.0.0.1/c",
        "https:/app.example/c",
        "http://localhost:3000",
        "http://127.0.0.1/",
        &long,
    ] {
        let decided = place.access.decide(&app(id), Decision::ReadWrite).await;
        assert!(matches!(decided, Err(AccessError::ClientId(_))), "{id}");
        assert!(matches!(enter(&place, asks(id)).await, Err(EnterError::Invalid(_))), "{id}");
    }
    let decided = place.access.decide(&app(CLIENT), Decision::Revoked).await;
    assert!(matches!(decided, Err(AccessError::NoApp { .. })));
}

#[tokio::test]
async fn an_approval_that_an_earlier_version_took_for_no_app_can_be_taken_back() {
    const OLD: &str = "http://localhost:3000/";
    let place = Place::new();
    decide(&place, Decision::ReadWrite).await;
    let record = |key: String, row| Op::Record { kind: RecordKind::Grant, key: key.into_bytes(), row };
    let row = place.store.record(RecordKind::Grant, format!("xyz.example\n{CLIENT}").as_bytes()).unwrap();
    place.store.commit(&[record(format!("xyz.example\n{OLD}"), row)]).unwrap();
    let place = place.restart();
    place.access.decide(&app(OLD), Decision::Revoked).await.unwrap();
    assert_eq!(place.access.decision(&app(OLD)), Some(Decision::Revoked));
    assert!(place.access.decide(&app(OLD), Decision::ReadWrite).await.is_err(), "but not given again");
}

#[tokio::test]
async fn what_waits_is_bounded_and_one_app_cannot_fill_it() {
    let place = Place::new();
    enter(&place, asks(CLIENT)).await.err().unwrap();
    for n in 0..2 * MAX_PENDING_PER_CLIENT {
        let mut entering = asks("https://greedy.example/c");
        entering.namespace = format!("ns{n}.example").parse().unwrap();
        enter(&place, entering).await.err().unwrap();
    }
    let pending = place.access.pending();
    assert_eq!(pending.len(), 1 + MAX_PENDING_PER_CLIENT);
    assert_eq!(
        pending[1].namespace.as_str(),
        format!("ns{MAX_PENDING_PER_CLIENT}.example"),
        "its own oldest gave way"
    );
    for n in 0..MAX_PENDING {
        enter(&place, asks(&format!("https://{n}.example/c"))).await.err().unwrap();
    }
    let pending = place.access.pending();
    assert_eq!(pending.len(), MAX_PENDING);
    assert!(pending.iter().all(|pending| pending.client_id != CLIENT), "the oldest gave way");
    place.access.flush().await.unwrap();
    assert_eq!(place.store.records(RecordKind::Pending).unwrap().len(), MAX_PENDING, "on disk too");
}

#[tokio::test]
async fn decisions_are_bounded_and_none_is_forgotten() {
    use groundmist_sync::access::{Grant, MAX_GRANTS};
    let place = Place::new();
    let ops: Vec<Op> = (0..MAX_GRANTS)
        .map(|n| {
            let (client_id, namespace) = (format!("https://{n}.example/c"), "xyz.example".parse().unwrap());
            let grant = Grant { client_id, namespace, decision: Decision::Denied, decided: 1, since: 1 };
            let key = format!("xyz.example\nhttps://{n}.example/c").into_bytes();
            Op::Record { kind: RecordKind::Grant, key, row: Some(serde_json::to_vec(&grant).unwrap()) }
        })
        .collect();
    place.store.commit(&ops).unwrap();
    let place = place.restart();
    let more: App = app(CLIENT);
    assert!(matches!(place.access.decide(&more, Decision::ReadWrite).await, Err(AccessError::TooManyApps)));
    place.access.decide(&app("https://7.example/c"), Decision::ReadWrite).await.unwrap();
    assert_eq!(place.access.grants().len(), MAX_GRANTS);
}
