//! The forms an HTTP answer takes.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

/// What every route answers with.
pub type Answer = Response<Full<Bytes>>;

/// Plain text.
pub fn text(status: StatusCode, text: &'static str) -> Answer {
    answer(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

/// `{"error": code, "message": what to do}`.
pub fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    json(status, &serde_json::json!({ "error": code, "message": message }))
}

/// Any JSON.
pub fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    answer(status, "application/json", Bytes::from(body.to_string()))
}

/// No body.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

/// The same answer with one more header.
pub fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
