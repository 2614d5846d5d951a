//! Which path does what for whom.

use hyper::body::Incoming;
use hyper::header::{
    ALLOW, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, VARY, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout;

use super::admission::{Full, Rank};
use super::answer::{Answer, error, text, with};
use super::authenticate::{AUTHENTICATE, LXM, authenticate};
use super::caller::{Caller, Connection};
use super::held::{AnyBody, any};
use super::protect::protect;
use super::token::{self, SUBPROTOCOL, TokenError};
use super::{Web, api, connect, cors, page, sign_in, socket, well_known};
use crate::access::{AccessError, Lease, Refused, copied_after};
use crate::listen::{BAD_HOST, has_its_host};

const HOME: &str = "A groundmist-sync server runs here. Apps connect by WebSocket with a sync token.\n";

/// Answers one request; an accepted upgrade goes on in a task of its own.
pub async fn route(request: Request<Incoming>, web: &Web, connection: &Connection) -> Response<AnyBody> {
    protect(answer(request, web, connection).await, web.shared.page.is_secure())
}

async fn answer(request: Request<Incoming>, web: &Web, connection: &Connection) -> Response<AnyBody> {
    if !has_its_host(&request) {
        return any(error(StatusCode::BAD_REQUEST, "bad_host", BAD_HOST));
    }
    let Some(caller) = web.shared.proxies.caller(request.headers(), connection) else {
        return any(too_many_of_one_address());
    };
    if request.uri().path().starts_with("/api/") {
        return api::api(request, web, caller).await;
    }
    any(open(request, web, caller).await)
}

/// What anyone may ask for.
async fn open(mut request: Request<Incoming>, web: &Web, caller: Caller) -> Answer {
    let path = request.uri().path();
    let upgrade = fastwebsockets::upgrade::is_upgrade_request(&request);
    #[cfg(test)]
    assert!(path != super::PANIC, "asked to");
    if path == AUTHENTICATE || path.strip_prefix("/xrpc/") == Some(LXM) {
        return match *request.method() {
            Method::POST => authenticate(request, web, caller).await,
            Method::OPTIONS => cors::preflight("POST"),
            _ => cors::open(not_allowed("use POST", "POST, OPTIONS")),
        };
    }
    if connect::is_here(path) {
        return connect::answer(request, web, caller).await;
    }
    if sign_in::is_here(path) {
        return sign_in::route(request, web, caller).await;
    }
    let file = path.strip_prefix("/page/").map(|name| page::file(name, request.headers()));
    let is_there =
        matches!(file, Some(Some(_))) || matches!(path, "/" | "/sync" | "/healthz" | "/.well-known/did.json");
    if !is_there {
        let message = "there is nothing at this path: apps connect to /sync, the owner's page is at /";
        return error(StatusCode::NOT_FOUND, "not_found", message);
    }
    let sync = path == "/sync" || (path == "/" && upgrade);
    let read = request.method() == Method::GET || (request.method() == Method::HEAD && !sync);
    if !read {
        let allowed = if sync { "GET" } else { "GET, HEAD" };
        return not_allowed("use GET", allowed);
    }
    if let Some(file) = file.flatten() {
        return file;
    }
    match path {
        _ if sync && upgrade => accept(&mut request, web, caller).await,
        "/sync" => upgrade_required(),
        "/.well-known/did.json" => well_known::did_document(web.shared.domain.as_deref()),
        "/healthz" if web.shared.engine.is_alive() => text(StatusCode::OK, "ok\n"),
        "/healthz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        _ if page::is_wanted(request.headers()) => page::home(request.headers()),
        _ => with(text(StatusCode::OK, HOME), VARY, "Accept"),
    }
}

pub(super) fn not_allowed(message: &str, allowed: &'static str) -> Answer {
    with(error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message), ALLOW, allowed)
}

fn upgrade_required() -> Answer {
    let answer =
        error(StatusCode::UPGRADE_REQUIRED, "upgrade_required", "connect by WebSocket, with a sync token");
    with(answer, UPGRADE, "websocket")
}

fn too_many_of_one_address() -> Answer {
    let message = "this address has as many connections as one address may have (limits.connections_per_address): close some, or try again later";
    let answer = error(StatusCode::TOO_MANY_REQUESTS, "too_many_connections_of_address", message);
    cors::open(with(answer, RETRY_AFTER, "10"))
}

/// Verifies the token, then lets the connection become a WebSocket.
async fn accept(request: &mut Request<Incoming>, web: &Web, caller: Caller) -> Answer {
    let lease = match admit(request, web, &caller).await {
        Ok(lease) => lease,
        Err(refusal) => return refuse(&refusal, web),
    };
    if *web.stopping.borrow() {
        web.shared.doors.refused.count("stopping");
        return busy("stopping", "the server is stopping: try again in a moment");
    }
    let echo = token::offers_subprotocol(request.headers());
    let Ok((response, upgraded)) = fastwebsockets::upgrade::upgrade(request) else {
        web.shared.doors.refused.count("bad_upgrade");
        let answer = error(
            StatusCode::BAD_REQUEST,
            "bad_upgrade",
            "a WebSocket upgrade needs Sec-WebSocket-Version 13 and a Sec-WebSocket-Key",
        );
        return with(answer, SEC_WEBSOCKET_VERSION, "13");
    };
    // The last check: another client's connection may be closed for this one.
    let place = match web.shared.connections.admit(&lease.session().party(), Rank::of(&lease)) {
        Ok(place) => place,
        Err(full) => return refuse_full(full, web),
    };
    let web = web.clone();
    // Not its place among those that are no WebSocket.
    let seat = caller.seat;
    tokio::spawn(async move {
        let upgraded = timeout(web.shared.limits.handshake_timeout, upgraded).await;
        if let Ok(Ok(websocket)) = upgraded {
            socket::run(websocket.into_inner(), lease, &place, web).await;
        }
        drop((place, seat));
    });
    let answer = response.map(|_| Default::default());
    if echo { with(answer, SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) } else { answer }
}

/// Why a client may not connect.
enum Refusal {
    NoToken(TokenError),
    Token(Refused),
    OwnerUnknown,
}

async fn admit(request: &Request<Incoming>, web: &Web, caller: &Caller) -> Result<Lease, Refusal> {
    let token = token::find(request.uri(), request.headers()).map_err(Refusal::NoToken)?;
    let mut lease = web.shared.access.admit(&token).map_err(Refusal::Token)?;
    let session = lease.session();
    // Tokens made by command are the machine's.
    if !session.is_local() {
        match web.shared.door.owner.did() {
            Ok(owner) if owner.as_str() == session.did => {}
            // Whoever was the owner when the app came in is not any more. Told that it has ended, the session stays ended when
            // that owner comes back.
            Ok(_) => {
                return match web.shared.access.end_of_former_owner(&session.id).await {
                    Ok(()) => Err(Refusal::Token(Refused::Revoked)),
                    // It is about to end.
                    Err(AccessError::RevokedMeanwhile) => Err(Refusal::Token(Refused::Unverifiable)),
                    Err(reason) => {
                        tracing::error!(%reason, "a session of a former owner could not be ended");
                        Err(Refusal::Token(Refused::Unverifiable))
                    }
                };
            }
            Err(_) => return Err(Refusal::OwnerUnknown),
        }
    }
    lease.seen_from(caller.address, copied_after(web.shared.limits.ping_interval));
    Ok(lease)
}

fn refuse(refusal: &Refusal, web: &Web) -> Answer {
    let (code, message) = match refusal {
        Refusal::NoToken(refused) => (refused.code(), refused.to_string()),
        Refusal::Token(refused) => (refused.code(), refused.to_string()),
        Refusal::OwnerUnknown => {
            let message =
                "this server does not know its owner yet: she finds the reason with `groundmist-sync doctor`";
            ("owner_unknown", message.to_owned())
        }
    };
    web.shared.doors.refused.count(code);
    tracing::debug!(reason = code, "a client was refused");
    match refusal {
        Refusal::NoToken(TokenError::Different) => error(StatusCode::BAD_REQUEST, code, &message),
        Refusal::OwnerUnknown | Refusal::Token(Refused::Unverifiable) => busy(code, &message),
        _ => with(error(StatusCode::UNAUTHORIZED, code, &message), WWW_AUTHENTICATE, "Bearer"),
    }
}

fn refuse_full(full: Full, web: &Web) -> Answer {
    web.shared.doors.refused.count(full.code());
    tracing::debug!(reason = full.code(), "a client was refused");
    match full {
        Full::Server => busy(full.code(), &full.to_string()),
        Full::Session => {
            let answer = error(StatusCode::TOO_MANY_REQUESTS, full.code(), &full.to_string());
            with(answer, RETRY_AFTER, "10")
        }
    }
}

fn busy(code: &str, message: &str) -> Answer {
    with(error(StatusCode::SERVICE_UNAVAILABLE, code, message), RETRY_AFTER, "10")
}
