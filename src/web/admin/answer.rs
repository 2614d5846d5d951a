//! Reading requests and writing answers of the admin API.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::access::AccessError;
use crate::types::{NameError, Namespace};
use crate::web::body::read_json;
use crate::web::percent::percent_decode;

/// A refusal on its way out.
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    allow: Option<&'static str>,
}

pub(super) type Answer = Result<Response<Full<Bytes>>, Failure>;

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl ToString) -> Self {
        Self { status, code, message: message.to_string(), allow: None }
    }

    pub(super) fn method(allow: &'static str) -> Self {
        let message = format!("this path takes {allow}");
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            code: "method_not_allowed",
            message,
            allow: Some(allow),
        }
    }

    pub(super) fn store(reason: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_failed", reason)
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let body = serde_json::json!({ "error": self.code, "message": self.message });
        let mut response = json(self.status, &body);
        if let Some(methods) = self.allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        }
        response
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        let status = match error {
            AccessError::Name(_) | AccessError::Life(_) | AccessError::ClientId(_) => StatusCode::BAD_REQUEST,
            AccessError::NotFound(_) | AccessError::NoApp { .. } | AccessError::NoRootDocument { .. } => {
                StatusCode::NOT_FOUND
            }
            AccessError::TooMany
            | AccessError::TooManyApps
            | AccessError::RevokedMeanwhile
            | AccessError::SecretConfigured
            | AccessError::Ambiguous { .. } => StatusCode::CONFLICT,
            AccessError::Pin | AccessError::Read { .. } | AccessError::Commit { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            AccessError::Crypto { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.code(), error)
    }
}

/// The request's body.
pub(super) async fn read<T: serde::de::DeserializeOwned, B>(body: B) -> Result<T, Failure>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    read_json(body).await.map_err(|error| {
        let (status, code) = error.code();
        Failure::new(status, code, error)
    })
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    // Our own plain structs: numbers, texts and lists of them always have a JSON form.
    let mut text = serde_json::to_vec(body).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What stands in a path after its last slash.
pub(super) fn percent_decoded(text: &str) -> Result<String, Failure> {
    percent_decode(text).ok_or_else(|| {
        Failure::new(StatusCode::BAD_REQUEST, "bad_path", "the id or name is not percent-encoded UTF-8")
    })
}

/// A namespace as a request names it.
pub(super) fn namespace(text: &str) -> Result<Namespace, Failure> {
    text.parse().map_err(|error: NameError| Failure::new(StatusCode::BAD_REQUEST, "bad_namespace", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::CommitError;

    #[test]
    fn the_owner_is_told_of_a_full_disk_and_what_helps() {
        let full = CommitError::Full { operation: "commit", object: "groundmist.redb".into() };
        let of_access = AccessError::Commit { what: "making a token", source: full.clone() };
        for failure in [Failure::from(of_access), Failure::store(full)] {
            assert_eq!((failure.status, failure.code), (StatusCode::SERVICE_UNAVAILABLE, "store_failed"));
            let message = failure.message;
            assert!(message.contains("the server's disk is full; free some space on it"), "{message}");
        }
    }
}
