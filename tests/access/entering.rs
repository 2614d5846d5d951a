//! An app that enters: what it brings, what it gets, what is refused.

use groundmist_sync::access::{
    App, Decision, EnterError, Entered, Entering, MAX_NAME_BYTES, MAX_TOKEN_BYTES, MAX_USED_LIFE_MS,
    MAX_USER_AGENT_BYTES, Proof, UsedToken,
};
use groundmist_sync::atproto::MAX_CLIENT_ID_BYTES;
use groundmist_sync::types::DocumentId;

use crate::*;

pub(crate) const CLIENT: &str = "https://app.example/client-metadata.json";

pub(crate) fn app(client_id: &str) -> App {
    App { client_id: client_id.into(), namespace: "xyz.example".parse().unwrap() }
}

pub(crate) fn asks(client_id: &str) -> Entering {
    Entering {
        did: "did:plc:owner".into(),
        client_id: client_id.into(),
        namespace: "xyz.example".parse().unwrap(),
        read_only_wanted: false,
        jkt: None,
        name: None,
        root_doc_url: None,
        address: Some("203.0.113.7".parse().unwrap()),
        user_agent: Some("Mozilla/5.0".into()),
        used: Vec::new(),
        how: Proof::Probe,
    }
}

pub(crate) async fn enter(place: &Place, entering: Entering) -> Result<Entered, EnterError> {
    place.access.enter(entering).await
}

pub(crate) async fn enters(place: &Place, entering: Entering) -> Entered {
    enter(place, entering).await.unwrap()
}

pub(crate) async fn approved() -> Place {
    let place = Place::new();
    place.access.decide(&app(CLIENT), Decision::ReadWrite).await.unwrap();
    place
}

fn url(n: u8) -> String {
    format!("automerge:{}", DocumentId([n; 16]))
}

fn used(id: &str, expires: u64) -> Vec<UsedToken> {
    vec![UsedToken { id: id.into(), expires }]
}

#[tokio::test]
async fn a_strangers_words_are_bounded_and_cleaned() {
    let place = approved().await;
    let entering = Entering {
        name: Some(format!("\u{202e}Anna's\u{1b}[31m phone{}", "x".repeat(100))),
        user_agent: Some(format!("Mozilla\r\n{}", "é".repeat(400))),
        jkt: Some("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I".into()),
        ..asks(CLIENT)
    };
    let session = enters(&place, entering).await.session;
    assert!(session.name.starts_with("Anna's[31m phonexx") && session.name.len() == MAX_NAME_BYTES);
    let agent = session.user_agent.unwrap();
    assert!(agent.starts_with("Mozilla éé") && agent.len() <= MAX_USER_AGENT_BYTES, "{agent}");
    assert!(session.jkt.is_some() && session.address.is_some());
    let nameless = enters(&place, asks(CLIENT)).await.session;
    assert_eq!(nameless.name, "app.example", "who gives no name is called by the app's host");
    let place = place.restart();
    assert_eq!(place.access.sessions()[0].0.address, session.address, "kept");
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_before_anything_is_remembered() {
    let place = approved().await;
    let long = format!("https://app.example/{}", "a".repeat(MAX_CLIENT_ID_BYTES));
    let soon = now() + 60_000;
    for (case, entering) in [
        ("client_id too long", asks(&long)),
        ("client_id of the command line", asks(LOCAL_CLIENT)),
        ("client_id without TLS", asks("http://app.example/")),
        ("no DID", Entering { did: "owner".into(), ..asks(CLIENT) }),
        ("huge DID", Entering { did: format!("did:web:{}", "a".repeat(5000)), ..asks(CLIENT) }),
        ("huge thumbprint", Entering { jkt: Some("a".repeat(100)), ..asks(CLIENT) }),
        ("no document", Entering { root_doc_url: Some("https://evil.example/c".into()), ..asks(CLIENT) }),
        ("cut document", Entering { root_doc_url: Some(url(1)[..20].into()), ..asks(CLIENT) }),
        ("expired token", Entering { used: used("a", now()), ..asks(CLIENT) }),
        ("token for ever", Entering { used: used("a", soon + MAX_USED_LIFE_MS), ..asks(CLIENT) }),
        ("many tokens", Entering { used: vec![used("a", soon).remove(0); 9], ..asks(CLIENT) }),
    ] {
        let refused = enter(&place, entering).await;
        assert!(matches!(refused, Err(EnterError::Invalid(_))), "{case}");
    }
    assert!(place.access.pending().is_empty() && place.access.sessions().is_empty());
    let most = format!("https://app.example/{}", "a".repeat(MAX_CLIENT_ID_BYTES - 20));
    place.access.decide(&app(&most), Decision::ReadWrite).await.unwrap();
    let did = format!("did:web:{}", "a".repeat(248));
    let longest = enters(&place, Entering { did, ..asks(&most) }).await;
    assert!(longest.token.len() <= MAX_TOKEN_BYTES && place.access.verify(&longest.token, now()).is_ok());
}

#[tokio::test]
async fn the_first_root_document_is_told_to_all_later_devices() {
    let place = approved().await;
    let with = |n| Entering { root_doc_url: Some(url(n)), ..asks(CLIENT) };
    assert_eq!(enters(&place, asks(CLIENT)).await.root_doc_url, None);
    assert_eq!(enters(&place, with(1)).await.root_doc_url, Some(url(1)));
    assert_eq!(enters(&place, with(2)).await.root_doc_url, Some(url(1)));
    let place = place.restart();
    assert_eq!(enters(&place, asks(CLIENT)).await.root_doc_url, Some(url(1)));
    // Another DID, app or namespace has its own.
    place.access.decide(&app("https://other.example/c"), Decision::ReadWrite).await.unwrap();
    let mut elsewhere = with(3);
    elsewhere.namespace = "xyz.other".parse().unwrap();
    let there = App { client_id: CLIENT.into(), namespace: elsewhere.namespace.clone() };
    place.access.decide(&there, Decision::ReadWrite).await.unwrap();
    assert_eq!(enters(&place, elsewhere).await.root_doc_url, Some(url(3)));
    let other_app = Entering { root_doc_url: Some(url(4)), ..asks("https://other.example/c") };
    assert_eq!(enters(&place, other_app).await.root_doc_url, Some(url(4)));
    let other_did = Entering { did: "did:plc:next".into(), ..with(5) };
    assert_eq!(enters(&place, other_did).await.root_doc_url, Some(url(5)));
    // Revoking the app does not lose her documents.
    place.access.decide(&app(CLIENT), Decision::Revoked).await.unwrap();
    place.access.decide(&app(CLIENT), Decision::ReadWrite).await.unwrap();
    assert_eq!(enters(&place, with(6)).await.root_doc_url, Some(url(1)));
}

#[tokio::test]
async fn an_app_that_is_refused_stores_no_root_document() {
    let place = Place::new();
    enter(&place, Entering { root_doc_url: Some(url(1)), ..asks(CLIENT) }).await.err().unwrap();
    place.access.decide(&app(CLIENT), Decision::ReadWrite).await.unwrap();
    assert_eq!(enters(&place, asks(CLIENT)).await.root_doc_url, None);
}

#[tokio::test]
async fn a_token_is_used_once_also_after_a_restart() {
    let place = approved().await;
    let with = |id| Entering { used: used(id, now() + 60_000), ..asks(CLIENT) };
    enters(&place, with("service-auth did:plc:owner 1")).await;
    let error = enter(&place, with("service-auth did:plc:owner 1")).await.err().unwrap();
    assert!(matches!(error, EnterError::Replayed) && error.code() == "token_replayed");
    let place = place.restart();
    assert!(matches!(enter(&place, with("service-auth did:plc:owner 1")).await, Err(EnterError::Replayed)));
    enters(&place, with("service-auth did:plc:owner 2")).await;
    assert_eq!(place.access.sessions().len(), 2);
}

#[tokio::test]
async fn used_tokens_are_cleared_away_when_they_have_expired() {
    let place = approved().await;
    let over = now() + 5_000;
    for n in 0..5 {
        enters(&place, Entering { used: used(&n.to_string(), over), ..asks(CLIENT) }).await;
    }
    let stored = || place.store.records(RecordKind::UsedToken).unwrap().len();
    assert_eq!(stored(), 5);
    until(|| (now() > over).then_some(())).await;
    enters(&place, Entering { used: used("last", now() + 60_000), ..asks(CLIENT) }).await;
    assert_eq!(stored(), 1);
}
