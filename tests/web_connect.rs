//! `/connect` over HTTP: what the owner and an app get, and what others try. The app is one on localhost, which needs no
//! server of its own; one with metadata at an address goes the same way in `tests/atproto`.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "web_connect/key.rs"]
mod key;
#[path = "web_connect/owners.rs"]
mod owners;

use common::peer::new_document;
use common::{Peer, Said, Server, Start, wait_for};
use groundmist_sync::types::DocumentId;
use serde_json::{Value, json};
use url::form_urlencoded;

const OWNER: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
const CLIENT: &str = "http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2Fback";
const BACK: &str = "http://127.0.0.1:7777/back";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

const ASKED: &[(&str, &str)] = &[
    ("response_type", "code"),
    ("client_id", CLIENT),
    ("redirect_uri", BACK),
    ("code_challenge", CHALLENGE),
    ("code_challenge_method", "S256"),
    ("state", "a state"),
    ("scope", "sync:xyz.example"),
];

/// The pairs, with some put in place of those of the same name, or added; an empty value takes one out.
fn with<'a>(pairs: &[(&'a str, &'a str)], changes: &[(&'a str, &'a str)]) -> String {
    let kept = pairs.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    let changed = changes.iter().filter(|(_, value)| !value.is_empty());
    form_urlencoded::Serializer::new(String::new()).extend_pairs(kept.chain(changed)).finish()
}

impl Said {
    fn text(&self, name: &str) -> String {
        self.body[name]
            .as_str()
            .unwrap_or_else(|| panic!("no {name}: {} {}", self.status, self.body))
            .to_owned()
    }

    /// Where the owner's browser is sent, and the parameters.
    fn redirect(&self) -> (String, Vec<(String, String)>) {
        let redirect = self.text("redirect");
        let (uri, query) = redirect.split_once('?').unwrap();
        (uri.to_owned(), form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }
}

fn value(pairs: &[(String, String)], name: &str) -> String {
    let mut found = pairs.iter().filter(|(found, _)| found == name);
    let value = found.next().unwrap_or_else(|| panic!("no {name}: {pairs:?}")).1.clone();
    assert!(found.next().is_none(), "{name} twice");
    value
}

fn start() -> Start {
    Start::default().set("OWNER", OWNER).set("ACCESS__ALLOW_LOOPBACK_CLIENTS", "true")
}

/// A server, and the owner's browser, signed in.
struct Scene {
    server: Server,
    origin: String,
    cookie: String,
}

impl Scene {
    fn begin() -> Self {
        Self::of(start())
    }

    fn of(start: Start) -> Self {
        let server = start.run();
        let origin = format!("http://{}", server.address);
        let answer = server.redeem_link(&[]);
        let line = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        let cookie = line.split(';').next().unwrap().to_owned();
        Self { server, origin, cookie }
    }

    fn ask(&self, query: &str) -> Said {
        let path = format!("/api/connect?{query}");
        Said::read(&self.server.http("GET", &path, &[("Cookie", &self.cookie)]))
    }

    fn decide(&self, query: &str, decision: &str, read_only: bool) -> Said {
        let body = json!({ "query": query, "decision": decision, "read_only": read_only }).to_string();
        let headers = [("Cookie", self.cookie.as_str()), ("Origin", &self.origin)];
        Said::read(&self.server.http_with_body("POST", "/api/connect", &headers, &body))
    }

    /// The code that an approval gives.
    fn code(&self) -> String {
        let (uri, pairs) = self.decide(&with(ASKED, &[]), "approve", false).redirect();
        assert_eq!((uri.as_str(), value(&pairs, "state").as_str()), (BACK, "a state"));
        assert_eq!(value(&pairs, "iss"), self.origin);
        value(&pairs, "code")
    }

    fn post(&self, path: &str, headers: &[(&str, &str)], form: &str) -> Said {
        let said = Said::read(&self.server.http_with_body("POST", path, headers, form));
        assert_eq!(said.header("access-control-allow-origin"), Some("*"), "{}", said.head);
        assert!(
            said.status == 200 && said.body.is_null() || said.header("cache-control") == Some("no-store")
        );
        if said.status >= 400 {
            assert!(
                said.body["error_description"].as_str().is_some_and(|text| text.len() > 5),
                "{}",
                said.body
            );
        }
        said
    }

    fn token(&self, form: &str) -> Said {
        self.post("/oauth/token", &[], form)
    }

    fn by_code(&self, code: &str, changes: &[(&str, &str)]) -> Said {
        self.token(&by_code(code, changes))
    }

    fn refresh(&self, token: &str) -> Said {
        self.token(&refresh(token))
    }

    fn first(&self) -> Said {
        let said = self.by_code(&self.code(), &[]);
        assert_eq!(said.status, 200, "{}", said.body);
        said
    }

    fn opens(&self, token: &str) -> bool {
        self.server.connect(token).is_ok()
    }
}

fn by_code(code: &str, changes: &[(&str, &str)]) -> String {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("client_id", CLIENT),
        ("redirect_uri", BACK),
        ("code_verifier", VERIFIER),
    ];
    with(&form, changes)
}

fn refresh(token: &str) -> String {
    with(&[("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", CLIENT)], &[])
}

#[test]
fn the_owner_says_yes_and_the_app_syncs_and_stays() {
    let scene = Scene::begin();
    let page = scene.server.http("GET", &format!("/connect?{}", with(ASKED, &[])), &[]);
    let said = Said::read(&page);
    assert!(said.status == 200 && said.head.contains("text/html") && page.contains("<!doctype html>"));
    assert!(
        said.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"),
        "{}",
        said.head
    );
    assert_eq!(said.header("x-frame-options"), Some("deny"));

    let shown = scene.ask(&with(ASKED, &[]));
    let expected = json!({
        "client_id": CLIENT, "client_name": null, "client_uri": null, "redirect_uri": BACK,
        "namespace": "xyz.example", "access": "write", "decision": null,
    });
    assert_eq!((shown.status, shown.body), (200, expected));

    let root = "automerge:pEbmSWqJdBuPadRGm8tDZXgWR6";
    let said = scene.by_code(&scene.code(), &[("root_doc_url", root), ("name", "Anna's phone")]);
    assert_eq!(said.status, 200, "{}", said.body);
    let (token, refresh_token) = (said.text("access_token"), said.text("refresh_token"));
    assert_eq!([said.text("token_type"), said.text("sub")], ["Bearer", OWNER]);
    assert_eq!([said.text("scope"), said.text("rootDocUrl")], ["sync:xyz.example", root]);
    assert!(scene.opens(&token));
    let (_, sessions) = scene.server.admin_get("/api/sessions");
    assert!(sessions.contains("Anna's phone") && sessions.contains(CLIENT), "{sessions}");
    let sessions: Value = serde_json::from_str(&sessions).unwrap();
    let sessions = sessions["sessions"].as_array().unwrap();
    let session = sessions.iter().find(|session| session["client_id"] == CLIENT).unwrap();
    let life = session["expires"].as_u64().unwrap() - session["created"].as_u64().unwrap();
    assert_eq!(life, 30 * 86_400_000);
    // What is left of it when it is told: never more, and never none.
    let left = said.body["expires_in"].as_u64().unwrap();
    assert!(left > 0 && left <= life / 1000, "{left}");
    assert_eq!(scene.ask(&with(ASKED, &[])).body["decision"], "read_write");

    let next = scene.refresh(&refresh_token);
    assert_eq!((next.status, next.text("rootDocUrl").as_str()), (200, root));
    assert!(scene.opens(&next.text("access_token")));
    let log = scene.server.log();
    for secret in [&token, &refresh_token, &next.text("refresh_token")] {
        assert!(!log.contains(secret.as_str()), "a secret is in the log");
    }
}

/// A device of the app with its refresh token, and a document of its own.
struct Device {
    name: &'static str,
    document: DocumentId,
    refresh: String,
    root: String,
    token: String,
}

impl Device {
    fn come(scene: &Scene, name: &'static str) -> Self {
        let document = new_document();
        let own = format!("automerge:{document}");
        let said = scene.by_code(&scene.code(), &[("root_doc_url", &own), ("name", name)]);
        let (refresh, root) = (said.text("refresh_token"), said.text("rootDocUrl"));
        Self { name, document, refresh, root, token: said.text("access_token") }
    }

    /// The page is loaded again: a new token, and the root document that the device has is offered.
    fn reload(&mut self, scene: &Scene) {
        let pairs = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &self.refresh),
            ("client_id", CLIENT),
            ("root_doc_url", &self.root),
        ];
        let said = scene.token(&with(&pairs, &[]));
        self.root = said.text("rootDocUrl");
        (self.refresh, self.token) = (said.text("refresh_token"), said.text("access_token"));
    }

    fn uploads(&self, scene: &Scene) {
        let mut peer = Peer::join_with(&scene.server, &self.token, self.name).unwrap();
        peer.store(self.document, "made by", self.name);
    }

    fn sees(&self, scene: &Scene, document: DocumentId) -> String {
        Peer::join_with(&scene.server, &self.token, self.name).unwrap().find(document, "made by")
    }
}

#[test]
fn two_devices_at_once_end_at_one_document_and_lose_nothing() {
    for (first_uploads, restarts) in [(true, false), (false, true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut scene = Scene::of(start().data_dir(dir.path()));
        let mut devices = [Device::come(&scene, "one"), Device::come(&scene, "two")];
        let root = format!("automerge:{}", devices[0].document);
        assert_eq!([&devices[0].root, &devices[1].root], [&root, &root], "the first offer is told to both");
        let order = if first_uploads { [0, 1] } else { [1, 0] };
        for index in order {
            devices[index].uploads(&scene);
            for device in &mut devices {
                device.reload(&scene);
                assert_eq!(device.root, root, "{first_uploads} {}", device.name);
            }
        }
        if restarts {
            scene.server.terminate();
            scene = Scene::of(start().data_dir(dir.path()));
            for device in &mut devices {
                device.reload(&scene);
                assert_eq!(device.root, root);
            }
        }
        for device in &devices {
            for made in &devices {
                assert_eq!(device.sees(&scene, made.document), made.name);
            }
        }
    }
}

#[test]
fn reading_is_what_the_app_asks_or_the_owner_allows() {
    let scene = Scene::begin();
    let read = with(ASKED, &[("scope", "sync:xyz.example?access=read")]);
    assert_eq!(scene.ask(&read).body["access"], "read");
    for (query, read_only) in [(read.as_str(), false), (&with(ASKED, &[]), true)] {
        let (_, pairs) = scene.decide(query, "approve", read_only).redirect();
        let said = scene.by_code(&value(&pairs, "code"), &[]);
        assert_eq!(said.text("scope"), "sync:xyz.example?access=read", "{query}");
        assert_eq!(scene.ask(query).body["decision"], "read_only");
    }
}

#[test]
fn no_is_told_to_the_app_and_decides_nothing() {
    let scene = Scene::begin();
    let (uri, pairs) = scene.decide(&with(ASKED, &[]), "deny", false).redirect();
    assert_eq!((uri.as_str(), value(&pairs, "error").as_str()), (BACK, "access_denied"));
    assert_eq!([value(&pairs, "state"), value(&pairs, "iss")], ["a state".to_owned(), scene.origin.clone()]);
    assert_eq!(scene.ask(&with(ASKED, &[])).body["decision"], Value::Null);
}

#[test]
fn nobody_is_sent_anywhere_but_to_the_app() {
    let scene = Scene::begin();
    let port = scene.server.address.port();
    let [ours, also_ours] = ["127.0.0.1", "[::1]"].map(|host| format!("http://{host}:{port}/back"));
    let long = format!("https://evil.example/{}", "c".repeat(1_100));
    for (name, bad, code) in [
        ("client_id", long.as_str(), "bad_client_id"),
        ("redirect_uri", &ours, "bad_redirect_uri"),
        ("redirect_uri", &also_ours, "bad_redirect_uri"),
        ("client_id", "", "bad_client_id"),
        ("client_id", "evil", "bad_client_id"),
        ("client_id", "https://evil.example/", "bad_client_id"),
        ("client_id", "http://evil.example/c", "bad_client_id"),
        ("client_id", "local:command-line", "bad_client_id"),
        ("redirect_uri", "", "bad_redirect_uri"),
        ("redirect_uri", "https://evil.example/back", "bad_redirect_uri"),
        ("redirect_uri", "http://127.0.0.1:7777/back/", "bad_redirect_uri"),
        ("redirect_uri", "http://127.0.0.1:7777/Back", "bad_redirect_uri"),
        ("redirect_uri", "http://127.0.0.1:7777/x/../back", "bad_redirect_uri"),
        ("redirect_uri", "http://127.0.0.1:7777/back#x", "bad_redirect_uri"),
        ("redirect_uri", "http://u@127.0.0.1:7777/back", "bad_redirect_uri"),
        ("redirect_uri", "http://127.0.0.1:7777@evil.example/back", "bad_redirect_uri"),
        ("redirect_uri", "http://localhost:7777/back", "bad_redirect_uri"),
        ("redirect_uri", "javascript:alert(1)", "bad_redirect_uri"),
    ] {
        let query = with(ASKED, &[(name, bad)]);
        for said in
            [scene.ask(&query), scene.decide(&query, "approve", false), scene.decide(&query, "deny", false)]
        {
            assert_eq!(said.error(), (400, code), "{query}");
            assert!(said.body["redirect"].is_null(), "{}", said.body);
        }
    }
    for name in ["client_id", "redirect_uri"] {
        let twice = format!("{}&{name}={}", with(ASKED, &[]), "https%3A%2F%2Fevil.example%2Fc");
        assert!(scene.ask(&twice).body["redirect"].is_null());
    }
    // Not to be found, so nobody knows where it wants its users.
    let nowhere = scene.ask(&with(ASKED, &[("client_id", "https://app.invalid/c")]));
    assert_eq!(nowhere.error(), (403, "invalid_client_metadata"));
    let strict = Scene::of(Start::default().set("OWNER", OWNER));
    let said = strict.decide(&with(ASKED, &[]), "approve", false);
    assert_eq!(said.error(), (403, "loopback_client"));
    assert!(said.body["redirect"].is_null());
}

#[test]
fn the_address_that_is_shown_is_the_one_that_the_browser_goes_to() {
    let scene = Scene::begin();
    let asked = "http://127.0.0.1:80/back";
    let query = with(ASKED, &[("redirect_uri", asked)]);
    let shown = scene.ask(&query).text("redirect_uri");
    let (uri, pairs) = scene.decide(&query, "approve", false).redirect();
    assert_eq!([shown.as_str(), &uri], ["http://127.0.0.1/back"; 2]);
    let given = scene.by_code(&value(&pairs, "code"), &[("redirect_uri", asked)]);
    assert_eq!(given.status, 200, "the app names it as it did before: {}", given.body);
}

#[test]
fn what_else_is_wrong_the_app_is_told() {
    let scene = Scene::begin();
    for (name, bad, code) in [
        ("response_type", "token", "unsupported_response_type"),
        ("code_challenge", "", "invalid_request"),
        ("code_challenge_method", "", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("scope", "atproto", "invalid_scope"),
        ("scope", "sync:xyz.example sync:xyz.other", "invalid_scope"),
    ] {
        let query = with(ASKED, &[(name, bad)]);
        for said in [scene.ask(&query), scene.decide(&query, "approve", false)] {
            assert_eq!(said.error(), (400, code), "{query}");
            let (uri, pairs) = said.redirect();
            assert_eq!((uri.as_str(), value(&pairs, "error").as_str()), (BACK, code));
            assert_eq!(
                [value(&pairs, "state"), value(&pairs, "iss")],
                ["a state".to_owned(), scene.origin.clone()]
            );
        }
    }
}

#[test]
fn no_other_page_and_no_other_browser_says_yes() {
    let scene = Scene::begin();
    let body = json!({ "query": with(ASKED, &[]), "decision": "approve" }).to_string();
    let (cookie, ours) = (("Cookie", scene.cookie.as_str()), ("Origin", scene.origin.as_str()));
    for (headers, refused) in [
        (vec![ours], (401, "not_signed_in")),
        (vec![ours, ("Cookie", "groundmist=nonsense")], (401, "not_signed_in")),
        (vec![cookie], (403, "cross_origin")),
        (vec![cookie, ("Origin", "https://evil.example")], (403, "cross_origin")),
        (vec![cookie, ("Origin", "null")], (403, "cross_origin")),
        (vec![cookie, ours, ("Sec-Fetch-Site", "cross-site")], (403, "cross_origin")),
    ] {
        let answer = scene.server.http_with_body("POST", "/api/connect", &headers, &body);
        assert_eq!(Said::read(&answer).error(), refused, "{headers:?}");
    }
    let path = format!("/api/connect?{}", with(ASKED, &[]));
    assert_eq!(Said::read(&scene.server.http("GET", &path, &[])).error(), (401, "not_signed_in"));
    let cross = [cookie, ("Sec-Fetch-Site", "cross-site")];
    assert_eq!(Said::read(&scene.server.http("GET", &path, &cross)).error(), (403, "cross_origin"));
    // Nor by opening an address, nor with a body that says something else besides.
    let headers = [cookie, ours];
    assert_eq!(Said::read(&scene.server.http("PUT", "/api/connect", &headers)).status, 405);
    for odd in
        ["", "{}", r#"{"query":"","decision":"yes"}"#, r#"{"query":"","decision":"approve","client_id":"x"}"#]
    {
        let answer = scene.server.http_with_body("POST", "/api/connect", &headers, odd);
        assert_eq!(Said::read(&answer).status, 400, "{odd}");
    }
    let (_, apps) = scene.server.admin_get("/api/apps");
    assert!(!apps.contains("localhost"), "{apps}");
}

#[test]
fn a_code_is_for_one_use_by_the_app_that_asked() {
    let scene = Scene::begin();
    let given = scene.first();
    for (changes, refused) in [
        ([("code", "nonsense")], "invalid_grant"),
        ([("code_verifier", CHALLENGE)], "invalid_grant"),
        ([("code_verifier", "short")], "invalid_grant"),
        ([("client_id", "https://evil.example/c")], "invalid_grant"),
        ([("client_id", "http://localhost")], "invalid_grant"),
        ([("redirect_uri", "http://127.0.0.1:7777/back/")], "invalid_grant"),
        ([("redirect_uri", "http://127.0.0.1:7778/back")], "invalid_grant"),
        ([("redirect_uri", "http://127.0.0.1:7777/Back")], "invalid_grant"),
    ] {
        let code = scene.code();
        assert_eq!(scene.by_code(&code, &changes).error(), (400, refused), "{changes:?}");
        if changes[0].0 != "code" {
            assert_eq!(
                scene.by_code(&code, &[]).error(),
                (400, "invalid_grant"),
                "{changes:?}: it is used up"
            );
        }
    }
    for missing in ["code", "client_id", "redirect_uri", "code_verifier", "grant_type"] {
        let code = scene.code();
        assert_eq!(scene.by_code(&code, &[(missing, "")]).error(), (400, "invalid_request"), "{missing}");
    }
    assert!(scene.opens(&given.text("access_token")), "others' attempts do not matter to it");

    let code = scene.code();
    let first = scene.by_code(&code, &[]);
    let mut socket = scene.server.connect(&first.text("access_token")).unwrap();
    assert_eq!(scene.by_code(&code, &[]).error(), (400, "invalid_grant"));
    socket.closed();
    assert!(!scene.opens(&first.text("access_token")), "what a copied code gave has ended");
    assert_eq!(scene.refresh(&first.text("refresh_token")).error(), (400, "invalid_grant"));
}

#[test]
fn a_code_is_worth_nothing_when_the_owner_has_taken_back_her_word() {
    let scene = Scene::begin();
    for verb in ["deny", "revoke"] {
        let code = scene.code();
        let output = scene.server.command(&["apps", verb, CLIENT, "--namespace", "xyz.example"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(scene.by_code(&code, &[]).error(), (400, "invalid_grant"), "{verb}");
    }
    let given = scene.first();
    assert!(scene.server.command(&["sessions", "revoke", "--all"]).status.success());
    assert_eq!(scene.refresh(&given.text("refresh_token")).error(), (400, "invalid_grant"));
}

#[test]
fn a_refresh_token_that_was_used_ends_everything() {
    let scene = Scene::begin();
    let one = scene.first();
    let two = scene.refresh(&one.text("refresh_token"));
    let mut socket = scene.server.connect(&two.text("access_token")).unwrap();
    let stolen = scene.refresh(&one.text("refresh_token"));
    assert_eq!(stolen.error(), (400, "invalid_grant"));
    socket.closed();
    assert_eq!(scene.refresh(&two.text("refresh_token")).error(), (400, "invalid_grant"));
    let log = String::from_utf8(scene.server.command(&["apps", "log"]).stdout).unwrap();
    assert!(log.contains("used twice"), "{log}");
}

#[test]
fn an_app_signs_out() {
    let scene = Scene::begin();
    for name in ["refresh_token", "access_token"] {
        let given = scene.first();
        let mut socket = scene.server.connect(&given.text("access_token")).unwrap();
        let other =
            with(&[("token", given.text(name).as_str()), ("client_id", "https://evil.example/c")], &[]);
        assert_eq!(scene.post("/oauth/revoke", &[], &other).error(), (400, "invalid_grant"));
        let form = with(&[("token", given.text(name).as_str()), ("client_id", CLIENT)], &[]);
        assert_eq!(scene.post("/oauth/revoke", &[], &form).status, 200);
        socket.closed();
        assert_eq!(scene.refresh(&given.text("refresh_token")).error(), (400, "invalid_grant"));
        assert_eq!(scene.post("/oauth/revoke", &[], &form).status, 200, "and once more does no harm");
    }
    assert_eq!(scene.post("/oauth/revoke", &[], "token=nonsense").status, 200);
    let given = scene.first();
    let token = given.text("refresh_token");
    let family = token.split_once('.').unwrap().0;
    for half in [format!("{family}."), format!("{family}.nonsense"), token[..token.len() - 1].to_owned()] {
        assert_eq!(scene.post("/oauth/revoke", &[], &with(&[("token", half.as_str())], &[])).status, 200);
        assert!(scene.opens(&given.text("access_token")), "{half} is not the token");
    }
    assert_eq!(scene.post("/oauth/revoke", &[], "").error(), (400, "invalid_request"));
    assert!(scene.opens(&scene.server.token), "the command line's tokens are not an app's");
    let form = format!("token={}", scene.server.token);
    assert_eq!(scene.post("/oauth/revoke", &[], &form).status, 200);
    assert!(scene.opens(&scene.server.token));
}

#[test]
fn requests_are_bounded_and_of_their_form() {
    let scene = Scene::begin();
    let huge = format!("grant_type=refresh_token&client_id={}", "a".repeat(64 * 1024));
    for (form, refused) in [
        ("", (400, "invalid_request")),
        ("{\"grant_type\":\"refresh_token\"}", (400, "invalid_request")),
        ("grant_type=password&client_id=a", (400, "unsupported_grant_type")),
        ("grant_type=refresh_token&grant_type=refresh_token", (400, "invalid_request")),
        ("grant_type=refresh_token&refresh_token=a.b", (400, "invalid_request")),
        ("grant_type=refresh_token&refresh_token=a.b&client_id=a", (400, "invalid_grant")),
        (&huge, (413, "invalid_request")),
    ] {
        assert_eq!(scene.token(form).error(), refused, "{form:.80}");
    }
    assert_eq!(scene.by_code(&scene.code(), &[("root_doc_url", "https://evil.example/")]).error().0, 400);
    for path in ["/oauth/token", "/oauth/revoke"] {
        let said = Said::read(&scene.server.http("GET", path, &[]));
        assert_eq!((said.status, said.header("allow")), (405, Some("post, options")));
        let said = Said::read(&scene.server.http("OPTIONS", path, &[("Origin", "https://app.example")]));
        assert!(said.status == 204 && said.header("access-control-allow-headers").unwrap().contains("dpop"));
    }
    let few = Scene::of(Start::default().set("OWNER", OWNER).set("LIMITS__AUTHENTICATE", "1"));
    let refused = wait_for("one too many", || {
        let said = few.token("");
        (said.status == 429).then_some(said)
    });
    assert_eq!(refused.error(), (429, "too_many_requests"));
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn what_it_can_do_stands_at_the_known_address() {
    let scene = Scene::begin();
    let said = Said::read(&scene.server.http("GET", "/.well-known/oauth-authorization-server", &[]));
    assert_eq!((said.status, said.header("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(said.text("issuer"), scene.origin);
    for (name, path) in [
        ("authorization_endpoint", "/connect"),
        ("token_endpoint", "/oauth/token"),
        ("revocation_endpoint", "/oauth/revoke"),
    ] {
        assert_eq!(said.text(name), format!("{}{path}", scene.origin));
    }
    assert_eq!(said.body["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(said.body["authorization_response_iss_parameter_supported"], true);
    assert_eq!(said.body["client_id_metadata_document_supported"], true);
}
