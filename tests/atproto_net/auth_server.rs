//! From a PDS to who issues its access tokens.

use groundmist_sync::atproto::AuthServers;
use groundmist_sync::net::Freshness;
use serde_json::{Value, json};

use crate::world::{Reply, World, ok, status};

const KEY: &str = r#"{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#;

/// The three documents and the keys, as a PDS and an entryway give them.
#[derive(Clone)]
struct Documents {
    server: Value,
    resource: Value,
    issuer: Value,
    keys: String,
}

fn good() -> Documents {
    Documents {
        server: json!({ "did": "did:web:pds.internal" }),
        resource: json!({ "resource": "https://pds.internal", "authorization_servers": ["https://auth.internal"] }),
        issuer: json!({
            "issuer": "https://auth.internal", "jwks_uri": "https://auth.internal/oauth/jwks",
            "authorization_endpoint": "https://auth.internal/oauth/authorize",
            "token_endpoint": "https://auth.internal/oauth/token",
            "pushed_authorization_request_endpoint": "https://auth.internal/oauth/par",
            "revocation_endpoint": "https://auth.internal/oauth/revoke", "scopes_supported": ["atproto"],
        }),
        keys: format!("{{\"keys\":[{KEY}]}}"),
    }
}

async fn world(documents: Documents) -> World {
    World::new(move |asked| match asked.line.as_str() {
        "GET pds.internal /xrpc/com.atproto.server.describeServer" => ok(&documents.server),
        "GET pds.internal /.well-known/oauth-protected-resource" => ok(&documents.resource),
        "GET auth.internal /.well-known/oauth-authorization-server" => ok(&documents.issuer),
        "GET auth.internal /oauth/jwks" => match documents.keys.as_str() {
            "moved" => Reply::Whole(302, vec![("location", "https://app.internal/".into())], String::new()),
            keys => ok(keys),
        },
        _ => status(404, ""),
    })
    .await
}

#[tokio::test]
async fn a_pds_names_its_issuer_and_the_issuer_itself() {
    let world = world(good()).await;
    let servers = AuthServers::new(world.http());
    let pds = "https://pds.internal".parse().unwrap();
    for freshness in [Freshness::Cached, Freshness::Cached, Freshness::Fresh, Freshness::Fresh] {
        let found = servers.of_pds(&pds, freshness).await.unwrap();
        assert_eq!(
            (found.pds_did.as_str(), found.issuer.as_str()),
            ("did:web:pds.internal", "https://auth.internal")
        );
        assert!(!found.jwks.is_empty());
        let path = |url: &Option<url::Url>| url.as_ref().unwrap().path().to_owned();
        assert_eq!(path(&found.authorization_endpoint), "/oauth/authorize");
        assert_eq!(path(&found.token_endpoint), "/oauth/token");
        assert_eq!(path(&found.pushed_authorization_request_endpoint), "/oauth/par");
        assert_eq!(path(&found.revocation_endpoint), "/oauth/revoke");
    }
    assert_eq!(world.lines().len(), 2 * 4, "once, and once afresh; the rest is from memory");
}

#[tokio::test]
async fn keys_may_be_kept_secret() {
    for (jwks_uri, keys) in [(Value::Null, ""), (json!("https://auth.internal/oauth/jwks"), r#"{"keys":[]}"#)]
    {
        let mut documents = Documents { keys: keys.into(), ..good() };
        documents.issuer["jwks_uri"] = jwks_uri.clone();
        if jwks_uri.is_null() {
            documents.issuer.as_object_mut().unwrap().remove("jwks_uri");
        }
        let world = world(documents).await;
        let found = AuthServers::new(world.http())
            .of_pds(&"https://pds.internal".parse().unwrap(), Freshness::Cached)
            .await;
        assert!(found.unwrap().jwks.is_empty());
    }
}

#[tokio::test]
async fn contradictions_are_refused() {
    let resource = |change: Value| {
        let mut documents = good();
        documents.resource.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        documents
    };
    let issuer = |change: Value| {
        let mut documents = good();
        documents.issuer.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        documents
    };
    for (documents, part) in [
        (resource(json!({ "resource": "https://app.internal" })), "not the PDS"),
        (resource(json!({ "resource": "https://pds.internal/path" })), "not the PDS"),
        (resource(json!({ "resource": null })), "not the PDS"),
        (resource(json!({ "authorization_servers": [] })), "exactly one"),
        (
            resource(json!({ "authorization_servers": ["https://auth.internal", "https://app.internal"] })),
            "exactly one",
        ),
        (resource(json!({ "authorization_servers": "https://auth.internal" })), "exactly one"),
        (resource(json!({ "authorization_servers": ["https://auth.internal/"] })), "origin"),
        (resource(json!({ "authorization_servers": ["https://auth.internal/path"] })), "origin"),
        (resource(json!({ "authorization_servers": ["http://auth.internal"] })), "origin"),
        (resource(json!({ "authorization_servers": ["https://127.0.0.1"] })), "public internet"),
        (resource(json!({ "authorization_servers": ["https://app.internal"] })), "404"),
        (issuer(json!({ "issuer": "https://app.internal" })), "its issuer is not"),
        (issuer(json!({ "issuer": "https://auth.internal/" })), "its issuer is not"),
        (issuer(json!({ "issuer": null })), "its issuer is not"),
        (issuer(json!({ "token_endpoint": "token" })), "token_endpoint is not a URL"),
        (issuer(json!({ "jwks_uri": 7 })), "jwks_uri is not a URL"),
        (issuer(json!({ "jwks_uri": "http://auth.internal/oauth/jwks" })), "only https"),
        (issuer(json!({ "jwks_uri": "https://10.0.0.1/" })), "public internet"),
        (Documents { keys: "moved".into(), ..good() }, "redirect"),
        (Documents { keys: "{}".into(), ..good() }, "keys of the authorization server"),
        (Documents { resource: json!([]), ..good() }, "not a JSON object"),
        (Documents { issuer: json!("x"), ..good() }, "not a JSON object"),
        (Documents { server: json!({}), ..good() }, "does not say its DID"),
    ] {
        let world = world(documents).await;
        let pds = "https://pds.internal".parse().unwrap();
        let error =
            AuthServers::new(world.http()).of_pds(&pds, Freshness::Cached).await.unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
}
