//! `/connect`: any app's way in, as an authorization server has it (OAuth 2.1, authorization code flow with PKCE; the app's
//! `client_id` is the address of its metadata, draft-ietf-oauth-client-id-metadata-document).
//!
//! | request | by whom | |
//! |---|---|---|
//! | `GET /connect?…` | the owner's browser, sent by an app | the consent page |
//! | `GET`, `POST /api/connect` | that page | [`consent`] |
//! | `POST /oauth/token`, `/oauth/revoke` | the app | [`token`] |
//! | `GET /.well-known/oauth-authorization-server` | the app | [`metadata`] |

use hyper::body::Incoming;
use hyper::{Method, Request};

use super::answer::Answer;
use super::caller::Caller;
use super::routes::not_allowed;
use super::{Web, cors, page};

mod asked;
pub mod consent;
mod metadata;
mod token;

/// Where apps exchange codes and refresh tokens.
const TOKEN: &str = "/oauth/token";
/// Where they give them back.
const REVOKE: &str = "/oauth/revoke";
/// What they can read of that.
const METADATA: &str = "/.well-known/oauth-authorization-server";
/// Longest query of `/connect` in bytes, also on its way through a sign-in: all its parts at their longest, encoded.
pub const MAX_QUERY_BYTES: usize = 8 * 1024;
/// Where they send the owner.
const CONNECT: &str = "/connect";

/// Whether a path is one of these.
pub fn is_here(path: &str) -> bool {
    matches!(path, CONNECT | TOKEN | REVOKE | METADATA)
}

/// Answers a request for one of them.
pub async fn answer(request: Request<Incoming>, web: &Web, caller: Caller) -> Answer {
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    match (request.uri().path(), request.method()) {
        (CONNECT, _) if read => page::connect(request.headers()),
        (CONNECT, _) => not_allowed("use GET", "GET, HEAD"),
        (METADATA, _) if read => cors::open(metadata::metadata(&web.shared.page.origin)),
        (METADATA, &Method::OPTIONS) => cors::preflight("GET"),
        (METADATA, _) => cors::open(not_allowed("use GET", "GET, HEAD, OPTIONS")),
        (_, &Method::POST) => token::answer_to(request, web, caller).await,
        (_, &Method::OPTIONS) => cors::preflight("POST"),
        _ => cors::open(not_allowed("use POST", "POST, OPTIONS")),
    }
}
