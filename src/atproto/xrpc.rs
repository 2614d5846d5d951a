//! XRPC calls to a PDS (atproto HTTP API spec): the request, the answer, and its error code. OAuth answers are read alike.

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, StatusCode};
use serde_json::Value;
use url::Url;

use super::json;
use crate::net::{Http, HttpError, Kind, without_query};
use crate::types::is_misleading;

/// Largest answer in bytes; a session has about 2 kB.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Longest error code that is repeated, and longest message.
const MAX_CODE_BYTES: usize = 64;
const MAX_MESSAGE_CHARS: usize = 200;

/// Why a call to a PDS did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PdsError {
    /// It could not be asked, or gave no whole answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A token or proof that no HTTP header can carry.
    #[error("{0} was not asked: the token or proof for it has characters that no token has")]
    NotAToken(String),
    /// The account wants a second proof.
    #[error(
        "the account at {0} asks for a code by e-mail with its own password: make an app password in the account's settings and use that"
    )]
    SecondFactor(String),
    /// Name or password are wrong.
    #[error("{0} does not accept that account and password: check the handle, and make a new app password")]
    WrongPassword(String),
    /// It says no.
    #[error("{call} was refused: {code} ({message})")]
    Refused {
        /// Which.
        call: String,
        /// XRPC error code.
        code: String,
        /// The PDS's own words.
        message: String,
    },
    /// Not an answer that such a call has.
    #[error("{call} gave an answer that is not understood: {reason}")]
    Odd {
        /// Which.
        call: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A call's answer, whatever it is.
pub(super) struct Said {
    /// URL of the call, without its query.
    pub(super) call: String,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// An object in which each name occurs once, or `Null`.
    pub(super) body: Value,
}

/// A query (GET).
pub(super) fn query(pds: &Url, nsid: &str, parameters: &[(&str, &str)]) -> Request {
    let mut url = endpoint(pds, nsid);
    if !parameters.is_empty() {
        url.query_pairs_mut().extend_pairs(parameters);
    }
    Request::new(Method::GET, url)
}

/// A procedure (POST).
pub(super) fn procedure(pds: &Url, nsid: &str, input: Option<&Value>) -> Request {
    let mut request = Request::new(Method::POST, endpoint(pds, nsid));
    if let Some(input) = input {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(input.to_string().into());
    }
    request
}

/// URL of a call, as a DPoP proof for it names it.
pub fn endpoint(pds: &Url, nsid: &str) -> Url {
    let mut url = pds.clone();
    url.set_path(&format!("/xrpc/{nsid}"));
    url
}

/// Adds `Authorization: SCHEME TOKEN`.
pub(super) fn authorize(request: &mut Request, scheme: &str, token: &str) -> Result<(), PdsError> {
    secret_header(request, AUTHORIZATION, &format!("{scheme} {token}"))
}

/// Adds a header that is never shown.
pub(super) fn secret_header(request: &mut Request, name: HeaderName, value: &str) -> Result<(), PdsError> {
    let mut value =
        HeaderValue::from_str(value).map_err(|_| PdsError::NotAToken(without_query(request.url())))?;
    value.set_sensitive(true);
    request.headers_mut().insert(name, value);
    Ok(())
}

/// Makes the call.
pub(super) async fn send(http: &Http, request: Request) -> Result<Said, PdsError> {
    let call = without_query(request.url());
    let answer = http.send(Kind::Pds, request, MAX_ANSWER_BYTES).await?;
    let body = json::object(&answer.body).map_or(Value::Null, Value::Object);
    Ok(Said { call, status: answer.status, headers: answer.headers, body })
}

impl Said {
    /// The XRPC error code, if it has one that looks like one.
    pub(super) fn code(&self) -> Option<&str> {
        let code = self.body.get("error")?.as_str()?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        ((1..=MAX_CODE_BYTES).contains(&code.len()) && code.bytes().all(plain)).then_some(code)
    }

    /// The PDS's own words, cut and without characters that hide or turn others.
    pub(super) fn message(&self) -> String {
        self.words("message")
    }

    fn words(&self, name: &str) -> String {
        let words = self.body.get(name).and_then(Value::as_str).unwrap_or("no message");
        words.chars().filter(|c| !is_misleading(*c)).take(MAX_MESSAGE_CHARS).collect()
    }

    /// A text in a successful answer.
    pub(super) fn text(&self, name: &'static str) -> Result<&str, PdsError> {
        let text = self.body.get(name).and_then(Value::as_str);
        text.ok_or_else(|| self.odd(format!("it has no {name}")))
    }

    /// The body of a 200, or of the 201 to a pushed request (RFC 9126, 2.2), or why there is none.
    pub(super) fn success(self) -> Result<Self, PdsError> {
        if matches!(self.status, StatusCode::OK | StatusCode::CREATED) {
            return Ok(self);
        }
        match self.code() {
            Some(code) if self.status.is_client_error() => {
                let oauth = self.body.get("error_description").is_some();
                let message = self.words(if oauth { "error_description" } else { "message" });
                Err(PdsError::Refused { code: code.to_owned(), message, call: self.call })
            }
            _ => Err(self.odd(format!("HTTP status {}", self.status.as_u16()))),
        }
    }

    pub(super) fn odd(&self, reason: String) -> PdsError {
        PdsError::Odd { call: self.call.clone(), reason }
    }
}
