//! `/api` on the public port: the admin API for the owner's page, behind the gate; and what is about her being signed in.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/me` | [`Me`] |
//! | `GET /api/live` | events that say what has changed ([`super::live`]) |
//! | `/api/connect` | what an app wants, and the owner's answer ([`connect::consent`]) |
//! | `POST /api/sign-out` | `{}`: this browser is signed out |
//! | `POST /api/sign-out-everywhere` | [`SignedOut`] |
//! | `/api/backup…`, `/api/reload`, `/api/secret/rotate`, `/api/sign-in-link` | 403: by command on the machine only |
//! | all else | [`super::admin`] |

use hyper::body::Incoming;
use hyper::header::SET_COOKIE;
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::answer::{Answer, error, json};
use super::caller::Caller;
use super::held::{AnyBody, Held, any};
use super::{Web, admin, connect, gate, live};
use crate::access::{SignIn, What};
use crate::types::Millis;

/// Answer to `GET /api/me`. Times are milliseconds since the Unix epoch.
#[derive(Debug, Serialize)]
pub struct Me {
    /// The owner.
    did: Option<String>,
    /// Her handle, if the configuration names her by it.
    handle: Option<String>,
    /// When she signed in.
    since: Millis,
    /// When she is signed out if nothing more is asked.
    idle_until: Millis,
    /// `serve --dev`.
    dev: bool,
}

/// Answer to `POST /api/sign-out-everywhere`.
#[derive(Debug, Serialize)]
pub struct SignedOut {
    /// In how many browsers.
    signed_out: usize,
}

/// Answers a request whose path starts with `/api/`.
pub async fn api(request: Request<Incoming>, web: &Web, caller: Caller) -> Response<AnyBody> {
    // `EventSource`, with which a page asks for it, sends no header of ours.
    let by_itself = request.uri().path() == "/api/live";
    let pass = if by_itself { gate::look } else { gate::pass };
    let sign_in = match pass(request.method(), request.headers(), web) {
        Ok(sign_in) => sign_in,
        Err(refusal) => return any(refusal),
    };
    let spared = caller.half_open.spare();
    let page = &web.shared.page;
    let answer = match (request.uri().path(), request.method()) {
        ("/api/me", &Method::GET) => any(me(web, &sign_in)),
        ("/api/live", &Method::GET) => live::stream(request.headers(), web),
        ("/api/sign-out", &Method::POST) => {
            if let Some(cookie) = gate::sign_in_cookie(request.headers(), web) {
                page.sign_ins.end(cookie);
            }
            web.shared.access.note(What::SignedOut, caller.address);
            any(out(web, &serde_json::json!({})))
        }
        ("/api/sign-out-everywhere", &Method::POST) => {
            let signed_out = page.sign_ins.end_all();
            web.shared.access.note(What::SignedOut, caller.address);
            tracing::info!(browsers = signed_out, "the owner signed out everywhere");
            any(out(web, &serde_json::json!(SignedOut { signed_out })))
        }
        (connect::consent::CONNECT, _) => any(connect::consent::consent(request, web).await),
        ("/api/me" | "/api/live", _) => any(super::routes::not_allowed("use GET", "GET")),
        ("/api/sign-out" | "/api/sign-out-everywhere", _) => {
            any(super::routes::not_allowed("use POST", "POST"))
        }
        (path, _)
            if path.starts_with("/api/backup")
                || matches!(path, "/api/reload" | "/api/secret/rotate" | "/api/sign-in-link") =>
        {
            let message = "this is done on the server itself, with the groundmist-sync command";
            any(error(StatusCode::FORBIDDEN, "not_from_here", message))
        }
        _ => any(admin::handle(&page.admin, request).await),
    };
    // It counts among its address's, and is not dropped for others, until all of it is sent.
    any(answer.map(|body| Held::new(body, (spared, caller.seat))))
}

fn me(web: &Web, sign_in: &SignIn) -> Answer {
    let page = &web.shared.page;
    let owner = &page.admin.ownership;
    let me = Me {
        did: owner.did().ok().map(|did| did.to_string()),
        handle: owner.handle().map(ToString::to_string),
        since: sign_in.since,
        idle_until: sign_in.until,
        dev: page.dev,
    };
    json(StatusCode::OK, &serde_json::json!(me))
}

fn out(web: &Web, body: &serde_json::Value) -> Answer {
    let mut answer = json(StatusCode::OK, body);
    if let Some(cookie) = gate::signed_out(web) {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    answer
}
