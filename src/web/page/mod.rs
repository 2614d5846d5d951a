//! The pages, as they stand in the program: no build step, nothing from elsewhere.
//!
//! They are the same for everybody; what they show they ask for (`/api`), and get only when the owner is signed in.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::answer::Answer;

/// A file of the pages.
struct File {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The owner's page.
const HOME: File = File { name: "index.html", kind: HTML, text: include_str!("index.html") };
/// Where she lets an app in.
#[allow(dead_code)] // Served by `/connect`, which is being built.
const CONNECT: File = File { name: "connect.html", kind: HTML, text: include_str!("connect.html") };
/// What both need, at `/page/NAME`.
const FILES: &[File] = &[
    File { name: "page.css", kind: CSS, text: include_str!("page.css") },
    File { name: "page.js", kind: SCRIPT, text: include_str!("page.js") },
    File { name: "connect.js", kind: SCRIPT, text: include_str!("connect.js") },
];

/// Scripts and styles from here only, no frame around it, forms and requests only to here (CSP level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The owner's page.
pub fn home(asked: &HeaderMap) -> Answer {
    let mut answer = serve(&HOME, asked);
    // `curl` gets text at the same path.
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    answer
}

/// The page on which she lets an app in.
#[allow(dead_code)]
pub fn connect(asked: &HeaderMap) -> Answer {
    serve(&CONNECT, asked)
}

/// A file of theirs, if there is one of that name.
pub fn file(name: &str, asked: &HeaderMap) -> Option<Answer> {
    FILES.iter().find(|file| file.name == name).map(|file| serve(file, asked))
}

/// Whether a browser asks, to show what it gets.
pub fn is_wanted(asked: &HeaderMap) -> bool {
    let accept = asked.get(hyper::header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// Headers that every answer has which a browser may show.
pub fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: with it some requests of the page itself come from the origin `null`.
        (REFERRER_POLICY, "same-origin"),
        (OPENER, "same-origin"),
        (RESOURCE, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn serve(file: &File, asked: &HeaderMap) -> Answer {
    let digest = Sha256::digest(file.text);
    let tag = format!("\"{}\"", bs58::encode(&digest[..12]).into_string());
    let known =
        asked.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).is_some_and(|tags| tags.contains(&tag));
    let mut answer = if known {
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    } else {
        Response::new(Full::new(Bytes::from_static(file.text.as_bytes())))
    };
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
    // Asked for again each time, and not sent again: an upgrade shows at once.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    protect(headers);
    answer
}
