//! What apps say of themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use groundmist_sync::atproto::{ClientError, ClientId, Clients};
use groundmist_sync::net::Freshness;
use groundmist_sync::net::cache::LIFE;
use serde_json::{Value, json};

use crate::world::{Reply, World, ok, status};

const ID: &str = "https://app.internal/client-metadata.json";
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

fn metadata(more: Value) -> String {
    let mut all = json!({ "client_id": ID, "client_name": "App", "redirect_uris": ["https://app.internal/"], "dpop_bound_access_tokens": true });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all.to_string()
}

fn id() -> ClientId {
    ID.parse().unwrap()
}

#[tokio::test]
async fn metadata_and_keys_are_fetched_and_remembered() {
    let keys: Value = KEYS.parse().unwrap();
    for (more, has_keys, requests) in [
        (json!({}), false, 1),
        (json!({ "jwks": keys }), true, 1),
        (json!({ "jwks_uri": "https://app.internal/jwks" }), true, 2),
    ] {
        let document = metadata(more.clone());
        let world = World::new(move |asked| match asked.line.as_str() {
            "GET app.internal /client-metadata.json" => ok(&document),
            "GET app.internal /jwks" => ok(KEYS),
            _ => status(404, ""),
        })
        .await;
        let clients = Clients::new(world.http());
        for freshness in [Freshness::Cached, Freshness::Fresh, Freshness::Fresh] {
            assert_eq!(clients.metadata(&id(), freshness).await.unwrap().client_name.as_deref(), Some("App"));
            assert_eq!(!clients.keys(&id(), freshness).await.unwrap().is_empty(), has_keys, "{more:.40}");
        }
        assert_eq!(world.lines().len(), 2 * requests, "once, and once afresh");
    }
}

/// What SECURITY.md says under T13.
#[tokio::test]
async fn a_key_that_was_taken_out_counts_for_five_minutes_at_most() {
    let keys: Value = KEYS.parse().unwrap();
    for more in [json!({ "jwks": keys }), json!({ "jwks_uri": "https://app.internal/jwks" })] {
        let taken_out = Arc::new(AtomicBool::new(false));
        let (is_out, document, without) = (Arc::clone(&taken_out), metadata(more), metadata(json!({})));
        let in_set = document.contains("jwks_uri");
        let world = World::new(move |asked| match (asked.line.as_str(), is_out.load(Ordering::SeqCst)) {
            ("GET app.internal /jwks", true) => ok(r#"{"keys":[]}"#),
            ("GET app.internal /jwks", false) => ok(KEYS),
            (_, true) if !in_set => ok(&without),
            _ => ok(&document),
        })
        .await;
        let clients = Clients::new(world.http());
        let after = async |time| {
            tokio::time::pause();
            tokio::time::advance(time).await;
            tokio::time::resume();
        };
        clients.metadata(&id(), Freshness::Cached).await.unwrap();
        after(LIFE * 2 / 3).await;
        assert!(!clients.keys(&id(), Freshness::Cached).await.unwrap().is_empty());
        taken_out.store(true, Ordering::SeqCst);
        // Metadata is the older of the two; the set at an address of its own was just fetched.
        after(if in_set { LIFE } else { LIFE / 2 }).await;
        assert!(clients.keys(&id(), Freshness::Cached).await.unwrap().is_empty(), "{in_set}");
    }
}

#[tokio::test]
async fn what_an_app_may_not_make_the_server_do() {
    let world = World::new(|asked| match asked.line.as_str() {
        "GET app.internal /redirect" => Reply::Whole(301, vec![("location", ID.into())], String::new()),
        "GET app.internal /endless" => Reply::Endless,
        "GET app.internal /gone" => status(404, ""),
        _ => ok(metadata(json!({ "jwks_uri": "https://169.254.169.254/latest/meta-data" }))),
    })
    .await;
    let clients = Clients::new(world.http());
    for (path, part) in
        [("redirect", "redirect"), ("endless", "more than"), ("gone", "404"), ("other", "of another app")]
    {
        let id: ClientId = format!("https://app.internal/{path}").parse().unwrap();
        let error = clients.metadata(&id, Freshness::Cached).await.unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(id.as_str()), "{error}");
    }
    let error = clients.keys(&id(), Freshness::Cached).await.unwrap_err().to_string();
    assert!(error.contains("169.254.169.254 is not an address on the public internet"), "{error}");
    let asked = world.lines().len();
    for loopback in ["http://localhost", "http://localhost?scope=atproto"] {
        let id: ClientId = loopback.parse().unwrap();
        let error = clients.keys(&id, Freshness::Cached).await.unwrap_err();
        assert_eq!(error, ClientError::Loopback(id));
    }
    assert_eq!(world.lines().len(), asked);
}
