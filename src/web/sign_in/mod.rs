//! The owner signs in at her PDS ([`crate::atproto::oauth`]), and may have the record written that names this server.
//!
//! | request | answer |
//! |---|---|
//! | `GET /oauth/client-metadata.json` | what this server is to her PDS, as an app |
//! | `POST /oauth/sign-in` `{"return_to": "/"}` | `{"redirect": url}`: her PDS's page; from our own page only |
//! | `POST /oauth/publish` | the same, to write the record; for who is signed in |
//! | `GET /oauth/callback?…` | 303, signed in or with a code that says why not |
//! | `GET /sign-in/CODE` | a page with a button: looking at a link does not use it up |
//! | `POST /sign-in/CODE` | 303, signed in by a link that was made on the machine; from that page only |

use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, HeaderMap, HeaderValue, LOCATION, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, empty, error, json as answer, with};
use super::body::read_json;
use super::caller::Caller;
use super::routes::not_allowed;
use super::throttle::Throttle;
use super::{Web, gate};
use crate::access::What;
use crate::atproto::Verifier;
use crate::atproto::declaration;
use crate::atproto::oauth::{
    CALLBACK, Callback, METADATA, OauthClient, OauthError, Purpose, Registration, Started,
};
use crate::types::{now, secret};
use refusal::refusal;
use return_to::ReturnTo;
use waiting::{WAIT_LIFE_MS, Waiting};

mod link;
mod refusal;
mod return_to;
mod waiting;

const SIGN_IN: &str = "/oauth/sign-in";
const PUBLISH: &str = "/oauth/publish";
/// Name of the cookie of a browser with which a sign-in has begun.
const COOKIE: &str = "groundmist-sign-in";
/// Sign-ins that one address may begin in a minute.
pub const BEGUN_PER_ADDRESS: u64 = 10;
/// Sign-ins that all together may begin in a minute: each asks the owner's PDS.
pub const BEGUN_PER_MINUTE: u64 = 60;

/// What signing in needs.
pub struct SignInDesk {
    client: OauthClient,
    throttle: Throttle,
    waiting: Waiting<(Started, Then)>,
    links: Throttle,
}

impl SignInDesk {
    /// Of the server that browsers reach at `origin`.
    pub fn new(origin: &str, verifier: &Verifier) -> Self {
        Self {
            client: verifier.oauth_client(Registration::at(origin)),
            throttle: Throttle::per_minute(BEGUN_PER_ADDRESS, BEGUN_PER_MINUTE),
            waiting: Waiting::new(),
            links: Throttle::per_minute(link::TRIED_PER_ADDRESS, link::TRIED_PER_MINUTE),
        }
    }
}

/// What happens once she has signed in.
enum Then {
    Return(ReturnTo),
    Published,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    return_to: ReturnTo,
}

/// Whether a path is answered here.
pub fn is_here(path: &str) -> bool {
    matches!(path, METADATA | SIGN_IN | PUBLISH | CALLBACK) || path.starts_with(link::PATH)
}

/// Answers a request whose path [`is_here`].
pub async fn route(request: Request<Incoming>, web: &Web, caller: Caller) -> Answer {
    let (head, body) = request.into_parts();
    let reads = head.method == Method::GET;
    match head.uri.path() {
        METADATA if reads || head.method == Method::HEAD => metadata(web),
        METADATA => not_allowed("use GET", "GET, HEAD"),
        CALLBACK if reads => callback(&head, web, &caller).await,
        CALLBACK => not_allowed("use GET", "GET"),
        path if path.starts_with(link::PATH) => link::answer(&head, web, &caller),
        _ if head.method != Method::POST => not_allowed("use POST", "POST"),
        PUBLISH => publish(&head, web, &caller).await.unwrap_or_else(|refusal| refusal),
        _ => sign_in(&head, body, web, &caller).await.unwrap_or_else(|refusal| refusal),
    }
}

fn metadata(web: &Web) -> Answer {
    match web.shared.sign_in.client.registration().metadata() {
        Some(metadata) => answer(StatusCode::OK, metadata),
        None => error(
            StatusCode::NOT_FOUND,
            "not_found",
            "this server has no domain, and signs in as a client of this machine",
        ),
    }
}

async fn sign_in(head: &Parts, body: Incoming, web: &Web, caller: &Caller) -> Result<Answer, Answer> {
    gate::own_page(&head.method, &head.headers, web)?;
    let Wanted { return_to } = read_json(body).await.map_err(|wrong| {
        let (status, code) = wrong.code();
        error(status, code, &wrong.to_string())
    })?;
    begin(&head.headers, web, caller, Purpose::SignIn, Then::Return(return_to)).await
}

async fn publish(head: &Parts, web: &Web, caller: &Caller) -> Result<Answer, Answer> {
    gate::pass(&head.method, &head.headers, web)?;
    let Some(domain) = &web.shared.domain else {
        let message =
            "this server has no domain that apps could find it by: set `domain` in its configuration";
        return Err(error(StatusCode::CONFLICT, "no_domain", message));
    };
    let record = Purpose::Publish(declaration::record(domain));
    begin(&head.headers, web, caller, record, Then::Published).await
}

/// Where to send the browser, and a cookie by which it is known when it comes back.
async fn begin(
    headers: &HeaderMap,
    web: &Web,
    caller: &Caller,
    purpose: Purpose,
    then: Then,
) -> Result<Answer, Answer> {
    let desk = &web.shared.sign_in;
    desk.throttle.enter(caller.place).map_err(|wait| {
        let mut refusal = refusal("busy", None);
        refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        refusal
    })?;
    let _spared = caller.half_open.spare();
    let owner = web.shared.door.owner.did().map_err(|unknown| {
        tracing::warn!(%unknown, "the owner cannot sign in");
        let message = "this server does not know its owner yet: `groundmist-sync doctor` says why, and `groundmist-sync sign-in` on its machine prints a link that signs you in all the same";
        error(StatusCode::SERVICE_UNAVAILABLE, "owner_unknown", message)
    })?;
    let (redirect, started) = desk.client.start(&owner, purpose).await.map_err(|reason| {
        tracing::warn!(%reason, "a sign-in at the owner's PDS could not begin");
        // Whether the PDS has read the metadata cannot be told from a stranger's having read it.
        let registration = desk.client.registration();
        refusal(reason.code(), registration.metadata().map(|_| registration.client_id()))
    })?;
    let at = now();
    let page = &web.shared.page;
    let known = page.cookie(headers, COOKIE).filter(|cookie| desk.waiting.knows(cookie, at));
    let unavailable = || {
        error(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "the server cannot do this now: try again later",
        )
    };
    let cookie = known.map_or_else(secret, |known| Ok(known.to_owned())).map_err(|_| unavailable())?;
    let line = page.set_cookie(COOKIE, &cookie, WAIT_LIFE_MS / 1000).ok_or_else(unavailable)?;
    desk.waiting.add(cookie, started.state().to_owned(), caller.place, (started, then), at);
    let mut begun = answer(StatusCode::OK, &json!({ "redirect": redirect.as_str() }));
    begun.headers_mut().insert(SET_COOKIE, line);
    Ok(begun)
}

/// The browser is back from the PDS.
async fn callback(head: &Parts, web: &Web, caller: &Caller) -> Answer {
    let _spared = caller.half_open.spare();
    let (desk, page) = (&web.shared.sign_in, &web.shared.page);
    let headers = &head.headers;
    let found = page.cookie(headers, COOKIE).ok_or("expired").and_then(|cookie| {
        let callback = Callback::parse(head.uri.query().unwrap_or_default());
        let callback = callback.map_err(|reason| reason.code())?;
        let (started, then) = desk.waiting.take(cookie, callback.state(), now()).ok_or("expired")?;
        Ok((callback, started, then, cookie))
    });
    let (callback, started, then, cookie) = match found {
        Ok(found) => found,
        Err(code) => {
            // Anybody can ask for this, as often as they like.
            tracing::debug!(reason = code, address = ?caller.address, "a callback belongs to no sign-in of this browser");
            return see_other(&format!("/?sign_in={code}"));
        }
    };
    let owner = started.owner().clone();
    let signed_in = matches!(then, Then::Return(_)) || gate::signed_in(headers, web).is_some();
    let done = if signed_in { finish(web, started, callback).await } else { Err("expired") };
    let still_hers = || web.shared.door.owner.did().is_ok_and(|now| now == owner);
    let done = done.and_then(|()| if still_hers() { Ok(()) } else { Err("not_owner") });
    let mut answer = match (done, then) {
        (Ok(()), Then::Return(return_to)) => match gate::sign_in(headers, web) {
            Ok(cookie) => {
                web.shared.access.note(What::SignedIn, caller.address);
                tracing::info!(address = ?caller.address, "the owner signed in at her PDS");
                let mut answer = see_other(return_to.as_str());
                answer.headers_mut().insert(SET_COOKIE, cookie);
                answer
            }
            Err(refusal) => refusal,
        },
        (Ok(()), Then::Published) => {
            tracing::info!("the record that names this server was published");
            page.admin.record.published();
            see_other("/?published=yes")
        }
        (Err(code), then) => {
            if code == "not_owner" {
                web.shared.access.note(What::SignInRefused, caller.address);
            }
            let what = if matches!(then, Then::Published) { "publish" } else { "sign_in" };
            see_other(&format!("/?{what}={code}"))
        }
    };
    // Unless another tab is under way.
    if !desk.waiting.knows(cookie, now())
        && let Some(line) = page.set_cookie(COOKIE, "", 0)
    {
        answer.headers_mut().append(SET_COOKIE, line);
    }
    answer
}

/// To its end, even if the browser hangs up: the token has to be given back.
async fn finish(web: &Web, started: Started, callback: Callback) -> Result<(), &'static str> {
    let web = web.clone();
    let work = tokio::spawn(async move { web.shared.sign_in.client.finish(started, callback).await });
    let done = work.await.map_err(|_| "bad_answer")?;
    done.map_err(|reason| {
        if reason == OauthError::Denied {
            tracing::info!("a sign-in was declined at the owner's PDS");
        } else {
            tracing::warn!(%reason, "a sign-in at the owner's PDS came to nothing");
        }
        reason.code()
    })
}

/// Sends the browser to a place of our own. The address that it leaves holds a code.
fn see_other(place: &str) -> Answer {
    let answer = with(empty(StatusCode::SEE_OTHER), REFERRER_POLICY, "no-referrer");
    let mut answer = with(answer, CACHE_CONTROL, "no-store");
    // Our own texts, and what `ReturnTo` has checked.
    if let Ok(place) = HeaderValue::try_from(place) {
        answer.headers_mut().insert(LOCATION, place);
    }
    answer
}
