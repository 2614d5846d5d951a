//! What `/authenticate` and its neighbours answer to who gets nowhere, and what pages of other origins may see of it.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Said, Server, Start, wait_for};

const AUTHENTICATE: &str = "/authenticate";
const XRPC: &str = "/xrpc/xyz.groundmist.sync.authenticate";
const OWNER: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
const BODY: &str = r#"{"lexiconAuthorityDomain":"xyz.example"}"#;

impl Said {
    /// Status and code of a refusal that a page of any origin can read, and that no client takes for the end of its session.
    fn refusal(&self) -> (u16, &str) {
        assert!(self.is_open() && !self.head.contains("invalid_token"), "{}", self.head);
        assert!(self.body["message"].as_str().is_some_and(|text| text.len() > 5), "{}", self.body);
        (self.status, self.body["error"].as_str().unwrap())
    }

    fn is_open(&self) -> bool {
        let exposed = self.header("access-control-expose-headers").unwrap_or_default();
        self.header("access-control-allow-origin") == Some("*")
            && ["dpop-nonce", "www-authenticate"].iter().all(|name| exposed.contains(name))
    }
}

fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &str) -> Said {
    Said::read(&server.http_with_body("POST", path, headers, body))
}

#[test]
fn pages_of_any_origin_may_ask() {
    let server = Server::start();
    for path in [AUTHENTICATE, XRPC] {
        let preflight = [("Origin", "https://app.example"), ("Access-Control-Request-Method", "POST")];
        let said = Said::read(&server.http("OPTIONS", path, &preflight));
        assert!(said.status == 204 && said.is_open(), "{}", said.head);
        assert_eq!(said.header("access-control-allow-methods"), Some("post"));
        assert_eq!(said.header("access-control-allow-headers"), Some("authorization, content-type, dpop"));
        assert_eq!(said.header("access-control-allow-credentials"), None, "no cookies are involved");
        let said = Said::read(&server.http("GET", path, &[]));
        assert_eq!(
            (said.refusal(), said.header("allow")),
            ((405, "method_not_allowed"), Some("post, options"))
        );
    }
    let other = Said::read(&server.http("OPTIONS", "/healthz", &[]));
    assert_eq!((other.status, other.header("access-control-allow-origin")), (405, None));
    let unknown = server.http("POST", "/xrpc/xyz.groundmist.sync.other", &[]);
    assert_eq!(Said::read(&unknown).status, 404);
}

#[test]
fn credentials_are_one_token_of_a_kind_that_is_taken_there() {
    let server = Start::default().set("OWNER", OWNER).run();
    let (bearer, dpop) = (("Authorization", "Bearer a.b.c"), ("Authorization", "DPoP a.b.c"));
    for path in [AUTHENTICATE, XRPC] {
        for (headers, code) in [
            (vec![], "no_credentials"),
            (vec![bearer, bearer], "no_credentials"),
            (vec![bearer, dpop, ("DPoP", "a.b.c")], "no_credentials"),
            (vec![("Authorization", "Basic YTpi")], "no_credentials"),
            (vec![("Authorization", "Bearer")], "no_credentials"),
            (vec![("Authorization", "Bearer ")], "no_credentials"),
            (vec![("Authorization", "bearer  a.b.c")], "invalid_service_token"),
            (vec![bearer, ("DPoP", "a.b.c")], "invalid_service_token"),
        ] {
            let said = post(&server, path, &headers, BODY);
            assert_eq!(said.refusal(), (401, code), "{path} {headers:?}");
            assert!(said.header("www-authenticate").unwrap().starts_with("dpop algs="), "{}", said.head);
        }
    }
    for proofs in [vec![], vec!["a.b.c", "a.b.c"], vec!["a.b.c"], vec![""]] {
        let headers: Vec<_> = [dpop].into_iter().chain(proofs.iter().map(|proof| ("DPoP", *proof))).collect();
        let said = post(&server, AUTHENTICATE, &headers, BODY);
        assert_eq!(said.refusal(), (401, "invalid_dpop_proof"), "{proofs:?}");
        assert!(said.header("dpop-nonce").is_some_and(|nonce| nonce.len() > 40), "{}", said.head);
        assert_eq!(post(&server, XRPC, &headers, BODY).refusal(), (401, "no_credentials"), "{proofs:?}");
    }
}

#[test]
fn bodies_are_bounded_and_of_their_form() {
    let server = Start::default().set("OWNER", OWNER).run();
    let huge = format!("{}{BODY}", " ".repeat(64 * 1024 - BODY.len()));
    for (body, refused) in [
        ("", (400, "bad_body")),
        ("nonsense", (400, "bad_body")),
        ("[]", (400, "bad_body")),
        (r#"{"lexiconAuthorityDomain":7}"#, (400, "bad_body")),
        (r#"{"lexiconAuthorityDomain":"a.b","lexiconAuthorityDomain":"c.d"}"#, (400, "bad_body")),
        (r#"{"lexiconAuthorityDomain":"../.."}"#, (400, "bad_namespace")),
        (&"[".repeat(60_000), (400, "bad_body")),
        (&huge, (401, "invalid_service_token")),
        (&format!(" {huge}"), (413, "body_too_large")),
    ] {
        let said = post(&server, AUTHENTICATE, &[("Authorization", "Bearer a.b.c")], body);
        assert_eq!(said.refusal(), refused, "{body:.60}");
    }
}

#[test]
fn nobody_gets_in_without_an_owner() {
    let server = Server::start();
    let said = post(&server, AUTHENTICATE, &[("Authorization", "Bearer a.b.c")], BODY);
    assert_eq!(said.refusal(), (503, "owner_unknown"));
}

#[test]
fn too_many_are_told_when_to_come_again() {
    let server = Start::default().set("LIMITS__AUTHENTICATE", "1").run();
    let refused = wait_for("one too many", || {
        let said = post(&server, AUTHENTICATE, &[], BODY);
        (said.status == 429).then_some(said)
    });
    assert_eq!(refused.refusal(), (429, "too_many_requests"));
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    assert!(server.http("GET", "/healthz", &[]).starts_with("HTTP/1.1 200"));
}

#[test]
fn the_did_document_names_the_service_at_the_domain() {
    let path = "/.well-known/did.json";
    let server = Start::default().set("DOMAIN", "Sync.example.org").set("TLS", "off").run();
    let said = Said::read(&server.http("GET", path, &[]));
    assert!(said.status == 200 && said.is_open(), "{}", said.head);
    assert_eq!(said.body["id"], "did:web:sync.example.org");
    let service = serde_json::json!([{
        "id": "#groundmist_sync", "type": "GroundmistSync", "serviceEndpoint": "https://sync.example.org",
    }]);
    assert_eq!(said.body["service"], service);
    let nameless = Said::read(&Server::start().http("GET", path, &[]));
    assert_eq!((nameless.status, nameless.body["error"].as_str()), (404, Some("not_found")));
}
