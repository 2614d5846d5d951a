//! Any origin may ask to be let in: what lets it in are tokens, never cookies (Fetch standard, "CORS protocol").

use hyper::StatusCode;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
};

use super::answer::{Answer, empty, with};

/// Lets a page of any origin read the answer, and in it the headers that OAuth clients look for.
pub fn open(answer: Answer) -> Answer {
    let answer = with(answer, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    with(answer, ACCESS_CONTROL_EXPOSE_HEADERS, "DPoP-Nonce, WWW-Authenticate, Retry-After")
}

/// The answer to a preflight.
pub fn preflight(methods: &'static str) -> Answer {
    let answer = with(empty(StatusCode::NO_CONTENT), ACCESS_CONTROL_ALLOW_METHODS, methods);
    let answer = with(answer, ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, DPoP");
    open(with(answer, ACCESS_CONTROL_MAX_AGE, "86400"))
}
