//! The owner's page over HTTP: who gets what, and what others try with her browser.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read as _, Write as _};

use common::{PATIENCE, Peer, Server};
use groundmist_sync::access::MAX_LINKS;
use groundmist_sync::web::MAX_LIVE_PER_SIGN_IN;
use serde_json::Value;

/// Status, head in small letters, body.
fn parts(answer: &str) -> (u16, String, String) {
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

fn code(answer: &str) -> (u16, String) {
    let (status, _, body) = parts(answer);
    let json: Value = serde_json::from_str(&body).unwrap_or_default();
    (status, json["error"].as_str().unwrap_or_default().to_owned())
}

fn origin(server: &Server) -> String {
    format!("http://{}", server.address)
}

/// Opens the link that the server printed; the cookie that the browser then has.
fn sign_in(server: &Server) -> String {
    let answer = server.redeem_link(&[]);
    let (status, head, _) = parts(&answer);
    assert!(status == 303 && head.contains("\r\nlocation: /\r\n"), "{answer}");
    cookie_of(&answer)
}

fn cookie_of(answer: &str) -> String {
    let line = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(
        line.contains("; HttpOnly") && line.contains("; SameSite=Lax") && line.contains("; Path=/"),
        "{line}"
    );
    line.split(';').next().unwrap().to_owned()
}

#[test]
fn a_browser_gets_the_page_and_curl_a_line() {
    let server = Server::start();
    let (status, head, body) = parts(&server.http("GET", "/", &[("Accept", "text/html,*/*;q=0.8")]));
    assert!(status == 200 && head.contains("text/html") && body.starts_with("<!doctype html>"), "{head}");
    for line in [
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        "x-frame-options: deny",
        "x-content-type-options: nosniff",
        "referrer-policy: same-origin",
        "cross-origin-opener-policy: same-origin",
        "vary: accept",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    let (_, head, body) = parts(&server.http("GET", "/", &[("Accept", "*/*")]));
    assert!(head.contains("text/plain") && body.contains("groundmist-sync"), "{head}");
    let page = server.http("GET", "/page/page.js", &[]);
    let (status, head, _) = parts(&page);
    assert!(status == 200 && head.contains("text/javascript"), "{head}");
    let tag = page.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    assert_eq!(parts(&server.http("GET", "/page/page.js", &[("If-None-Match", tag)])).0, 304);
    for path in ["/page/", "/page/nothing.js", "/page/index.html", "/page/../mod.rs", "/page/page.js/"] {
        assert_eq!(code(&server.http("GET", path, &[])), (404, "not_found".into()), "{path}");
    }
}

#[test]
fn whatever_a_browser_may_show_can_do_nothing() {
    let server = Server::start();
    let cookie = sign_in(&server);
    for path in [
        "/",
        "/nothing",
        "/healthz",
        "/sync",
        "/oauth/callback",
        "/oauth/token",
        "/authenticate",
        "/api/me",
        "/api/nothing",
        "/api/backup",
    ] {
        let (status, head, _) = parts(&server.http("GET", path, &[("Cookie", &cookie)]));
        for line in [
            "content-security-policy: default-src 'none'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
        ] {
            assert!(head.lines().any(|found| found == line), "{path} {status} {line}: {head}");
        }
        assert!(!head.contains("strict-transport-security"), "{path}: {head}");
    }
}

#[test]
fn a_callback_of_nobody_leaves_no_line_in_the_log() {
    let server = Server::start();
    for path in ["/oauth/callback", "/oauth/callback?state=a&code=b"] {
        let answer = server.http("GET", path, &[("Cookie", "groundmist-sign-in=chosen")]);
        assert!(parts(&answer).1.contains("\r\nlocation: /?sign_in="), "{answer}");
    }
    assert!(!server.log().contains("callback"), "{}", server.log());
}

#[test]
fn over_https_browsers_are_told_to_stay_there() {
    let server = common::Start::default().set("DOMAIN", "sync.example.com").run();
    for accept in ["text/html", "*/*"] {
        let (_, head, _) = parts(&server.http("GET", "/", &[("Accept", accept)]));
        let line = "strict-transport-security: max-age=31536000";
        assert!(head.lines().any(|found| found == line), "{head}");
        assert_eq!(head.matches("content-security-policy:").count(), 1, "{head}");
    }
}

#[test]
fn a_further_page_of_a_sign_in_takes_the_place_of_its_oldest() {
    let server = Server::start();
    let cookie = sign_in(&server);
    let open = || {
        let mut stream = live(&server, &cookie);
        read_until(&mut stream, &mut String::new(), "topics");
        stream
    };
    let mut streams: Vec<_> = (0..=MAX_LIVE_PER_SIGN_IN).map(|_| open()).collect();
    let mut rest = String::new();
    streams.remove(0).read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "the oldest ends: {rest}");
    server.new_token("phone", "xyz.example", &[]);
    for stream in &mut streams {
        read_until(stream, &mut String::new(), r#""sessions""#);
    }
}

#[test]
fn a_link_signs_in_once() {
    let server = Server::start();
    let cookie = sign_in(&server);
    let me = server.http("GET", "/api/me", &[("Cookie", &cookie)]);
    let (status, head, body) = parts(&me);
    assert!(status == 200 && head.contains("cache-control: no-store"), "{me}");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["dev"], true);
    let used = server.redeem_link(&[]);
    let (status, head, _) = parts(&used);
    assert!(
        status == 303 && head.contains("location: /?sign_in=link_used") && !head.contains("cookie"),
        "{used}"
    );
    let path = server.link.strip_prefix(&origin(&server)).unwrap();
    assert!(!server.log().contains(path.rsplit('/').next().unwrap()), "the log has the link's code");
}

/// The path of a link that the command printed.
fn made_link(server: &Server) -> String {
    let output = server.command(&["sign-in", "--json"]);
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    made["link"].as_str().unwrap().strip_prefix(&origin(server)).unwrap().to_owned()
}

#[test]
fn looking_at_a_link_does_not_use_it_up() {
    let server = Server::start();
    let (path, ours) = (made_link(&server), origin(&server));
    for method in ["GET", "GET", "HEAD"] {
        let (status, head, body) = parts(&server.http(method, &path, &[]));
        assert!(status == 200 && !head.contains("set-cookie") && !body.contains("script"), "{head}");
        assert!(head.contains("form-action 'self'; frame-ancestors 'none'"), "{head}");
        assert!(method == "HEAD" || body.contains("<form method=post"), "{body}");
    }
    // Nor do other sites and programs that cannot say where they are.
    for (origin, site) in [
        (None, None),
        (Some("null"), None),
        (Some("https://evil.example"), Some("cross-site")),
        (Some(ours.as_str()), Some("cross-site")),
    ] {
        let headers = [("Origin", origin), ("Sec-Fetch-Site", site)];
        let headers: Vec<_> = headers.iter().filter_map(|(name, value)| Some((*name, (*value)?))).collect();
        assert_eq!(code(&server.http("POST", &path, &headers)), (403, "cross_origin".into()), "{headers:?}");
    }
    assert_eq!(code(&server.http("PUT", &path, &[])), (405, "method_not_allowed".into()));
    let answer = server.http("POST", &path, &[("Origin", &ours)]);
    let cookie = cookie_of(&answer);
    assert_eq!(parts(&server.http("GET", "/api/me", &[("Cookie", &cookie)])).0, 200, "{answer}");
    let audit = server.admin_get("/api/audit").1;
    assert!(audit.contains(r#""link_made""#) && audit.contains(r#""signed_in_by_link""#), "{audit}");
    let log = server.log();
    assert!(log.contains("a link was made") && log.contains("signed in by a link"), "{log}");
    assert!(!log.contains(path.rsplit('/').next().unwrap()), "the log has the link's code");
}

#[test]
fn few_links_wait_few_are_made_and_a_browser_makes_none() {
    let server = Server::start();
    let (cookie, ours) = (sign_in(&server), origin(&server));
    let links: Vec<_> = (0..=MAX_LINKS).map(|_| made_link(&server)).collect();
    let redeem = |path: &str| parts(&server.http("POST", path, &[("Origin", &ours)])).1;
    assert!(redeem(&links[0]).contains("link_used"), "the oldest gave way");
    assert!(redeem(&links[1]).contains("location: /\r\n"));
    let headers = [("Cookie", cookie.as_str()), ("Origin", ours.as_str())];
    assert_eq!(code(&server.http("POST", "/api/sign-in-link", &headers)), (403, "not_from_here".into()));
    let out = server.http("POST", "/api/sign-out-everywhere", &headers);
    assert!(parts(&out).0 == 200 && redeem(&links[2]).contains("link_used"), "signed out everywhere: {out}");
    let made = (0..20).map(|_| server.command(&["sign-in"])).find(|made| !made.status.success()).unwrap();
    assert!(String::from_utf8(made.stderr).unwrap().contains("too many links were made"));
}

#[test]
fn nobody_else_gets_anything() {
    let server = Server::start();
    let cookie = sign_in(&server);
    let name = cookie.split('=').next().unwrap();
    for path in
        ["/api/me", "/api/status", "/api/sessions", "/api/documents", "/api/live", "/api/nothing", "/api/"]
    {
        let none = code(&server.http("GET", path, &[]));
        assert_eq!(none, (401, "not_signed_in".into()), "{path}");
        for wrong in [
            format!("{name}=nonsense"),
            format!("{name}="),
            format!("other{cookie}"),
            format!("__Host-{cookie}"),
            format!("{cookie}x"),
            format!("{cookie}; {name}=nonsense"),
        ] {
            let refused = code(&server.http("GET", path, &[("Cookie", &wrong)]));
            assert_eq!(refused, (401, "not_signed_in".into()), "{path} {wrong}");
        }
    }
    assert_eq!(code(&server.http("GET", "/api/nothing", &[("Cookie", &cookie)])), (404, "not_found".into()));
}

#[test]
fn another_site_cannot_ride_on_the_cookie() {
    let server = Server::start();
    let (cookie, ours) = (sign_in(&server), origin(&server));
    let body = r#"{"client_id":"https://app.example/c.json","namespace":"xyz.example"}"#;
    for path in ["/api/apps/approve", "/api/sign-out", "/api/sign-out-everywhere", "/api/tokens"] {
        for (origin, site) in [
            (None, None),
            (None, Some("same-origin")),
            (Some("null"), None),
            (Some("https://evil.example"), Some("cross-site")),
            (Some(ours.as_str()), Some("cross-site")),
            (Some(ours.as_str()), Some("same-site")),
        ] {
            let origin = origin.map(|origin| ("Origin", origin));
            let site = site.map(|site| ("Sec-Fetch-Site", site));
            let headers: Vec<_> =
                [Some(("Cookie", cookie.as_str())), origin, site].into_iter().flatten().collect();
            let answer = server.http_with_body("POST", path, &headers, body);
            assert_eq!(code(&answer), (403, "cross_origin".into()), "{path} {headers:?}");
            assert!(!answer.to_lowercase().contains("access-control-"), "{answer}");
        }
    }
    let read = [("Cookie", cookie.as_str()), ("Sec-Fetch-Site", "cross-site")];
    assert_eq!(code(&server.http("GET", "/api/status", &read)), (403, "cross_origin".into()));
    let apps = server.http("GET", "/api/apps", &[("Cookie", &cookie)]);
    assert!(!apps.contains("app.example"), "{apps}");
    let right = [("Cookie", cookie.as_str()), ("Origin", ours.as_str()), ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(parts(&server.http_with_body("POST", "/api/apps/approve", &right, body)).0, 200);
    assert!(server.http("GET", "/api/apps", &[("Cookie", &cookie)]).contains("app.example"));
}

#[test]
fn where_an_app_starts_is_forgotten_from_the_page_by_the_owner_only() {
    let server = Server::start();
    let cookie = sign_in(&server);
    let body = r#"{"client_id":"https://app.example/c.json","namespace":"xyz.example"}"#;
    let forget = |headers: &[(&str, &str)]| {
        code(&server.http_with_body("POST", "/api/apps/forget-root", headers, body))
    };
    assert_eq!(forget(&[("Origin", &origin(&server))]), (401, "not_signed_in".into()));
    assert_eq!(forget(&[("Cookie", &cookie)]), (403, "cross_origin".into()));
    let own = [("Cookie", cookie.as_str()), ("Origin", &origin(&server))];
    assert_eq!(forget(&own), (404, "not_found".into()), "there is none");
    assert_eq!(code(&server.http("GET", "/api/apps/forget-root", &own)), (405, "method_not_allowed".into()));
}

#[test]
fn what_would_give_all_away_is_not_done_from_a_browser() {
    let server = Server::start();
    let (cookie, ours) = (sign_in(&server), origin(&server));
    let headers = [("Cookie", cookie.as_str()), ("Origin", ours.as_str())];
    for (method, path) in [("GET", "/api/backup"), ("POST", "/api/backup/kept"), ("POST", "/api/reload")] {
        assert_eq!(code(&server.http(method, path, &headers)), (403, "not_from_here".into()), "{path}");
    }
    assert_eq!(code(&server.http("GET", "/metrics", &headers)), (404, "not_found".into()));
}

#[test]
fn signing_out_ends_the_cookie() {
    let server = Server::start();
    let (cookie, ours) = (sign_in(&server), origin(&server));
    let headers = [("Cookie", cookie.as_str()), ("Origin", ours.as_str())];
    assert_eq!(code(&server.http("GET", "/api/sign-out", &headers)), (405, "method_not_allowed".into()));
    let out = server.http("POST", "/api/sign-out", &headers);
    assert!(parts(&out).0 == 200 && out.contains("Max-Age=0"), "{out}");
    assert_eq!(code(&server.http("GET", "/api/me", &headers)), (401, "not_signed_in".into()));
}

#[test]
fn signing_in_again_gives_another_cookie_and_ends_the_old_one() {
    let server = Server::start();
    // A cookie that somebody else chose is never taken over.
    let answer = server.redeem_link(&[("Cookie", "groundmist=chosen-by-somebody")]);
    let cookie = cookie_of(&answer);
    assert_ne!(cookie, "groundmist=chosen-by-somebody");
    assert_eq!(code(&server.http("GET", "/api/me", &[("Cookie", "groundmist=chosen-by-somebody")])).0, 401);
    assert_eq!(parts(&server.http("GET", "/api/me", &[("Cookie", &cookie)])).0, 200);
}

/// Asks to be told what changes, as an open page does.
fn live(server: &Server, cookie: &str) -> common::Line {
    let mut stream = server.line().unwrap();
    let request = format!(
        "GET /api/live HTTP/1.1\r\nConnection: close\r\nHost: {}\r\nCookie: {cookie}\r\n\r\n",
        server.address
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Reads until `wanted` is there; what came.
fn read_until(stream: &mut common::Line, came: &mut String, wanted: &str) {
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut buffer = [0; 4096];
    while !came.contains(wanted) {
        assert!(std::time::Instant::now() < deadline, "no {wanted} in {came}");
        match stream.read(&mut buffer) {
            Ok(0) => panic!("it ended before {wanted}: {came}"),
            Ok(read) => came.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
            Err(error) => panic!("{error}: no {wanted} in {came}"),
        }
    }
}

#[test]
fn the_page_is_told_what_changes_until_it_is_signed_out() {
    let server = Server::start();
    let (cookie, ours) = (sign_in(&server), origin(&server));
    let mut stream = live(&server, &cookie);
    let mut came = String::new();
    read_until(&mut stream, &mut came, r#"{"topics":["status","apps","sessions","documents","activity"]}"#);
    assert!(came.to_lowercase().contains("content-type: text/event-stream"), "{came}");
    came.clear();
    let peer = Peer::join(&server, "device");
    read_until(&mut stream, &mut came, r#""sessions""#);
    drop(peer);
    let headers = [("Cookie", cookie.as_str()), ("Origin", ours.as_str())];
    assert_eq!(parts(&server.http("POST", "/api/sign-out", &headers)).0, 200);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "the stream ends: {rest}");
}

#[test]
fn a_stop_does_not_wait_for_open_pages() {
    let mut server = Server::start();
    let cookie = sign_in(&server);
    let mut stream = live(&server, &cookie);
    read_until(&mut stream, &mut String::new(), "topics");
    assert!(server.terminate().success());
    assert!(!server.log().contains("did not hang up"), "{}", server.log());
}

#[test]
fn what_a_page_asks_by_itself_keeps_nobody_signed_in() {
    let server = Server::start();
    let cookie = sign_in(&server);
    let until = |more: &[(&str, &str)]| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        let headers = [&[("Cookie", cookie.as_str())], more].concat();
        let (_, _, body) = parts(&server.http("GET", "/api/me", &headers));
        serde_json::from_str::<Value>(&body).unwrap()["idle_until"].as_u64().unwrap()
    };
    let used = until(&[]);
    // A later moment, were it a use.
    std::thread::sleep(std::time::Duration::from_millis(5));
    let mut stream = live(&server, &cookie);
    read_until(&mut stream, &mut String::new(), "topics");
    assert_eq!(until(&[("Groundmist-Idle", "1")]), used);
    assert!(until(&[]) > used);
}
