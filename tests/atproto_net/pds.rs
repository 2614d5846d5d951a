//! Calls to a PDS: what each kind of answer means, and what is sent.

use groundmist_sync::atproto::pds::{describe_server, probe, relay_get_session};
use groundmist_sync::atproto::repo::get_record;
use groundmist_sync::atproto::{Hidden, PdsError, PdsSession, Probe, RecordKey, Relay};
use serde_json::json;
use std::time::Duration;
use url::Url;

use crate::world::{Reply, World, ok, status};

const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
const TOKEN: &str = "eyJ.hunter2.sig";

fn pds() -> Url {
    "https://pds.internal".parse().unwrap()
}

/// What the reference PDS answers: header and body of a 401.
fn refusal(code: &str, message: &str) -> Reply {
    let header = format!("DPoP error=\"{code}\", error_description=\"{message}\"");
    let body = json!({ "error": code, "message": message }).to_string();
    Reply::Whole(401, vec![("www-authenticate", header), ("dpop-nonce", "nonce-1".into())], body)
}

#[tokio::test]
async fn a_relayed_token_is_vouched_for_or_not() {
    let odd = |reason: &str| Relay::Odd(reason.into());
    let cases: Vec<(Reply, Relay)> = vec![
        (ok(json!({ "did": DID, "handle": "alice.internal" })), Relay::Is(DID.parse().unwrap())),
        (refusal("use_dpop_nonce", "Authorization server requires nonce"), Relay::UseNonce("nonce-1".into())),
        (refusal("invalid_token", "Invalid token"), Relay::Refused("invalid_token".into())),
        (status(403, json!({ "error": "ScopeMissing" })), Relay::Refused("ScopeMissing".into())),
        (
            status(401, json!({ "error": "use_dpop_nonce" })),
            odd("HTTP status 401, use_dpop_nonce without a nonce"),
        ),
        (ok(json!({ "did": "alice" })), odd("HTTP status 200, without a DID")),
        (
            ok(format!(r#"{{"did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","did":"{DID}"}}"#)),
            odd("HTTP status 200, without a DID"),
        ),
        (ok("<html>"), odd("HTTP status 200, without a DID")),
        (status(204, ""), odd("HTTP status 204, no error code")),
        (status(401, json!({ "error": "two words" })), odd("HTTP status 401, no error code")),
        (status(500, json!({ "error": "InternalServerError" })), odd("HTTP status 500, InternalServerError")),
        (status(429, json!({ "error": "RateLimitExceeded" })), odd("HTTP status 429, RateLimitExceeded")),
    ];
    for (reply, meaning) in cases {
        let reply = std::sync::Mutex::new(Some(reply));
        let world = World::new(move |_| reply.lock().unwrap().take().unwrap()).await;
        assert_eq!(relay_get_session(&world.http(), &pds(), TOKEN, "proof").await, Ok(meaning));
        let asked = world.last();
        assert_eq!(asked.line, "GET pds.internal /xrpc/com.atproto.server.getSession");
        assert_eq!(
            (asked.headers["authorization"].as_str(), asked.headers["dpop"].as_str()),
            ("DPoP eyJ.hunter2.sig", "proof")
        );
    }
}

#[tokio::test]
async fn a_probed_token_is_genuine_forged_or_in_doubt() {
    let odd = |reason: &str| Probe::Odd(reason.into());
    let cases: Vec<(Reply, Probe)> = vec![
        (refusal("invalid_dpop_proof", "DPoP proof required"), Probe::Genuine),
        (refusal("invalid_token", "signature verification failed"), Probe::Forged),
        (refusal("invalid_dpop_proof", "DPoP \"ath\" mismatch"), odd("HTTP status 401, invalid_dpop_proof")),
        (
            status(400, json!({ "error": "invalid_dpop_proof", "message": "DPoP proof required" })),
            odd("HTTP status 400, invalid_dpop_proof"),
        ),
        (status(400, json!({ "error": "invalid_token" })), odd("HTTP status 400, invalid_token")),
        (ok(json!({ "did": DID })), odd("HTTP status 200, no error code")),
        (status(401, "invalid_token"), odd("HTTP status 401, no error code")),
    ];
    for (reply, meaning) in cases {
        let reply = std::sync::Mutex::new(Some(reply));
        let world = World::new(move |_| reply.lock().unwrap().take().unwrap()).await;
        assert_eq!(probe(&world.http(), &pds(), TOKEN).await, Ok(meaning));
        assert_eq!(world.last().headers["authorization"], "DPoP eyJ.hunter2.sig");
        assert!(!world.last().headers.contains_key("dpop"));
    }
}

/// No answer is neither yes nor no, and no error repeats a token.
#[tokio::test]
async fn a_pds_without_a_whole_answer_is_an_error() {
    for (name, part) in [("silence", "did not answer"), ("endless", "more than"), ("redirect", "redirect")] {
        let mut world = World::new(move |_| match name {
            "silence" => Reply::Silence,
            "endless" => Reply::Endless,
            _ => Reply::Whole(307, vec![("location", "https://app.internal/".into())], String::new()),
        })
        .await;
        if name == "silence" {
            world.options.request_time = Duration::from_millis(500);
        }
        let relayed = relay_get_session(&world.http(), &pds(), TOKEN, "proof").await.unwrap_err();
        let probed = probe(&world.http(), &pds(), TOKEN).await.unwrap_err();
        let shown = format!("{relayed} {relayed:?} {probed} {probed:?}");
        assert!(relayed.to_string().contains(part) && !shown.contains("hunter2"), "{shown}");
        assert!(
            world.lines().iter().all(|line| line.starts_with("GET pds.internal /xrpc/")),
            "sent nowhere else"
        );
    }
    let world = World::new(|_| ok("{}")).await;
    let error = probe(&world.http(), &pds(), "hunter2\nx: y").await.unwrap_err();
    assert!(matches!(error, PdsError::NotAToken(_)) && !format!("{error:?}").contains("hunter2"));
    assert!(world.lines().is_empty());
}

#[tokio::test]
async fn a_pds_says_its_did() {
    let world =
        World::new(|_| ok(json!({ "did": "did:web:pds.internal", "availableUserDomains": [] }))).await;
    let did = describe_server(&world.http(), &pds()).await.unwrap();
    assert_eq!(did.as_str(), "did:web:pds.internal");
    for reply in ["{}", r#"{"did":"pds"}"#, "[]", "", "{\"did\":7}"] {
        let world = World::new(move |_| ok(reply)).await;
        assert!(matches!(describe_server(&world.http(), &pds()).await, Err(PdsError::Odd { .. })), "{reply}");
    }
}

#[tokio::test]
async fn a_record_is_written_read_and_removed() {
    let session = json!({ "did": DID, "handle": "alice.internal", "accessJwt": "access-hunter2", "refreshJwt": "refresh-hunter2" });
    let world =
        World::new(move |asked| match asked.line.split('?').next().unwrap().rsplit('.').next().unwrap() {
            "createSession" if asked.json()["password"] == "pass-hunter2" => ok(&session),
            "createSession" => refusal("AuthenticationRequired", "Invalid identifier or password"),
            "putRecord" => ok(json!({ "uri": "at://x/y/z", "cid": "c" })),
            "getRecord" => ok(json!({ "uri": "at://x/y/z", "value": { "host": "sync.example" } })),
            "deleteRecord" => ok("{}"),
            _ => Reply::Whole(200, vec![], String::new()),
        })
        .await;
    let http = world.http();
    let key =
        RecordKey { repo: DID.parse().unwrap(), collection: "xyz.groundmist.sync".into(), rkey: DID.into() };
    let wrong =
        PdsSession::create(&http, &pds(), "alice.internal", &Hidden::new("wrong".into())).await.unwrap_err();
    assert!(matches!(wrong, PdsError::WrongPassword(_)), "{wrong}");

    let password = Hidden::new("pass-hunter2".into());
    let session = PdsSession::create(&http, &pds(), "alice.internal", &password).await.unwrap();
    assert_eq!(session.did().as_str(), DID);
    assert!(!format!("{session:?} {password:?} {session:#?}").contains("hunter2"));
    let uri = session.put_record(&http, &key, &json!({ "host": "sync.example" })).await.unwrap();
    assert_eq!(uri, "at://x/y/z");
    let asked = world.last();
    assert_eq!(asked.headers["authorization"], "Bearer access-hunter2");
    assert_eq!(
        asked.json(),
        json!({ "repo": DID, "collection": "xyz.groundmist.sync", "rkey": DID, "record": { "host": "sync.example" } })
    );
    assert_eq!(get_record(&http, &pds(), &key).await.unwrap(), Some(json!({ "host": "sync.example" })));
    assert!(world.last().line.ends_with("getRecord?repo=did%3Aplc%3Aewvi7nxzyoun6zhxrhs64oiz&collection=xyz.groundmist.sync&rkey=did%3Aplc%3Aewvi7nxzyoun6zhxrhs64oiz"));
    assert!(!world.last().headers.contains_key("authorization"));
    session.delete_record(&http, &key).await.unwrap();
    assert_eq!(world.last().json(), json!({ "repo": DID, "collection": "xyz.groundmist.sync", "rkey": DID }));
    session.delete(&http).await.unwrap();
    assert_eq!(world.last().headers["authorization"], "Bearer refresh-hunter2");
    assert_eq!(world.last().line, "POST pds.internal /xrpc/com.atproto.server.deleteSession");
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let key =
        RecordKey { repo: DID.parse().unwrap(), collection: "xyz.groundmist.sync".into(), rkey: DID.into() };
    let missing = World::new(|_| {
        status(400, json!({ "error": "RecordNotFound", "message": "Could not locate record" }))
    })
    .await;
    assert_eq!(get_record(&missing.http(), &pds(), &key).await, Ok(None));
    let factor = World::new(|_| refusal("AuthFactorTokenRequired", "A sign in code has been sent")).await;
    let password = Hidden::new("hunter2".into());
    let error = PdsSession::create(&factor.http(), &pds(), "alice", &password).await.unwrap_err();
    assert!(error.to_string().contains("app password"), "{error}");
    let long = format!("bad\u{1b}[31m{}", "x".repeat(5000));
    let rude = World::new(move |_| status(400, json!({ "error": "InvalidRequest", "message": long }))).await;
    let error = get_record(&rude.http(), &pds(), &key).await.unwrap_err().to_string();
    assert!(
        error.contains("InvalidRequest (bad[31mxx") && error.len() < 400 && !error.contains('\u{1b}'),
        "{error}"
    );
}
