//! The admin API on the Unix socket, for the commands and for curl. Who may open the socket is root or the owner.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/status` | [`Status`] |
//! | `GET /api/tokens` | [`Tokens`] |
//! | `POST /api/tokens` with [`CreateToken`] | 201, [`CreatedToken`] |
//! | `DELETE /api/tokens/{id or name, percent-encoded}` | [`RevokedToken`] |
//! | `GET /healthz` | 200 `ok`, or 503 |
//!
//! Errors are `{"error": code, "message": what to do}`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Body;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::access::{Access, AccessError, LOCAL_CLIENT, LOCAL_DID, NewSession, Session};
use crate::engine::{Engine, EngineStatus};
use crate::store::{Store, StoreStats};
use crate::types::{NameError, Namespace};

/// Largest request body in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Longest that a body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// What the admin API speaks for.
pub struct Admin {
    /// Sessions and tokens.
    pub access: Arc<Access>,
    /// For its counters.
    pub engine: Engine,
    /// For its size.
    pub store: Arc<Store>,
    /// The owner's DID, on whose behalf new tokens speak.
    pub owner_did: Option<String>,
    /// Where the server listens.
    pub listen: SocketAddr,
    /// `memory.budget` in bytes.
    pub memory_budget: usize,
    /// When the server started.
    pub started: Instant,
}

/// Answer to `GET /api/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of the running server.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Where it listens.
    pub listen: String,
    /// Its stable storage id.
    pub storage_id: String,
    /// Shards and journal answer in time.
    pub alive: bool,
    /// Memory of the process in bytes, as the system counts it; 0 where it does not say.
    pub rss_bytes: u64,
    /// `memory.budget` in bytes.
    pub memory_budget_bytes: u64,
    /// The engine's counters; `journal_error` among them.
    pub engine: EngineStatus,
    /// The store's size.
    pub storage: StoreStats,
}

/// Answer to `GET /api/tokens`. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Oldest first.
    pub tokens: Vec<Session>,
}

/// Body of `POST /api/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What people call the device.
    pub name: String,
    /// The app's lexicon authority domain.
    pub namespace: String,
    /// Changes from it are ignored.
    #[serde(default)]
    pub read_only: bool,
    /// Life in seconds; `access.token_life` if missing.
    #[serde(default)]
    pub expires_in: Option<u64>,
}

/// Answer to `POST /api/tokens`: the only time the token is told.
#[derive(Clone, Serialize, Deserialize)]
pub struct CreatedToken {
    /// The sync token.
    pub token: String,
    /// What it stands for.
    pub session: Session,
}

/// Answer to `DELETE /api/tokens/{id or name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedToken {
    /// Id of the session that is gone.
    pub revoked: String,
}

/// Answers one request.
pub async fn handle<B>(admin: &Admin, request: Request<B>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let one = head.uri.path().strip_prefix("/api/tokens/");
    let answer = match (head.uri.path(), &head.method) {
        ("/api/status", &Method::GET) => status(admin).await,
        ("/api/status", _) => Err(Failure::method("GET")),
        ("/api/tokens", &Method::GET) => list(admin),
        ("/api/tokens", &Method::POST) => create(admin, body).await,
        ("/api/tokens", _) => Err(Failure::method("GET, POST")),
        ("/healthz", &Method::GET) => health(admin),
        _ => match (one, &head.method) {
            (Some(target), &Method::DELETE) => revoke(admin, target).await,
            (Some(_), _) => Err(Failure::method("DELETE")),
            (None, _) => Err(Failure::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "there is no such path: the admin API has /api/status and /api/tokens",
            )),
        },
    };
    answer.unwrap_or_else(Failure::into_response)
}

/// A refusal on its way out.
struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    allow: Option<&'static str>,
}

type Answer = Result<Response<Full<Bytes>>, Failure>;

impl Failure {
    fn new(status: StatusCode, code: &'static str, message: impl ToString) -> Self {
        Self { status, code, message: message.to_string(), allow: None }
    }

    fn method(allow: &'static str) -> Self {
        let message = format!("this path takes {allow}");
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            code: "method_not_allowed",
            message,
            allow: Some(allow),
        }
    }

    fn store(reason: impl ToString) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_failed", reason)
    }

    fn into_response(self) -> Response<Full<Bytes>> {
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
            AccessError::Name(_) | AccessError::Life(_) => StatusCode::BAD_REQUEST,
            AccessError::NotFound(_) => StatusCode::NOT_FOUND,
            AccessError::TooMany | AccessError::Ambiguous { .. } => StatusCode::CONFLICT,
            AccessError::Read { .. } | AccessError::Commit { .. } => StatusCode::SERVICE_UNAVAILABLE,
            AccessError::Crypto { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.code(), error)
    }
}

fn health(admin: &Admin) -> Answer {
    if admin.engine.is_alive() {
        return Ok(json(StatusCode::OK, &"ok"));
    }
    let message = "the engine does not answer in time; the log says more";
    Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not_alive", message))
}

async fn status(admin: &Admin) -> Answer {
    let store = Arc::clone(&admin.store);
    // Counting pages reads the disk.
    let stats = tokio::task::spawn_blocking(move || store.stats()).await;
    let storage = match stats {
        Ok(Ok(stats)) => stats,
        Ok(Err(error)) => return Err(Failure::store(error)),
        Err(_) => return Err(Failure::store("the server is stopping")),
    };
    let status = Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        uptime_seconds: admin.started.elapsed().as_secs(),
        listen: admin.listen.to_string(),
        storage_id: admin.store.storage_id().to_string(),
        alive: admin.engine.is_alive(),
        rss_bytes: rss_bytes().unwrap_or_default(),
        memory_budget_bytes: admin.memory_budget as u64,
        engine: admin.engine.status(),
        storage,
    };
    Ok(json(StatusCode::OK, &status))
}

fn list(admin: &Admin) -> Answer {
    Ok(json(StatusCode::OK, &Tokens { tokens: admin.access.list()? }))
}

async fn create<B>(admin: &Admin, body: B) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let wanted: CreateToken = read(body).await?;
    let namespace: Namespace = wanted
        .namespace
        .parse()
        .map_err(|error: NameError| Failure::new(StatusCode::BAD_REQUEST, "bad_namespace", error))?;
    let new = NewSession {
        namespace,
        name: wanted.name,
        did: admin.owner_did.clone().unwrap_or_else(|| LOCAL_DID.into()),
        client_id: LOCAL_CLIENT.into(),
        read_only: wanted.read_only,
        life: wanted.expires_in.map(Duration::from_secs),
    };
    let (token, session) = admin.access.create(new).await?;
    tracing::info!(name = %session.name, namespace = %session.namespace, read_only = session.read_only, session = %session.id, "made a sync token");
    Ok(json(StatusCode::CREATED, &CreatedToken { token, session }))
}

async fn revoke(admin: &Admin, target: &str) -> Answer {
    let Some(target) = percent_decode(target) else {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "bad_path",
            "the id or name is not percent-encoded UTF-8",
        ));
    };
    let revoked = admin.access.revoke(&target).await?;
    tracing::info!(session = %revoked, "revoked a sync token and closed its connections");
    Ok(json(StatusCode::OK, &RevokedToken { revoked }))
}

async fn read<T: serde::de::DeserializeOwned, B>(body: B) -> Result<T, Failure>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bytes = match tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("the body is larger than {MAX_BODY_BYTES} bytes");
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message));
        }
        Ok(Err(_)) | Err(_) => {
            return Err(Failure::new(
                StatusCode::REQUEST_TIMEOUT,
                "no_body",
                "the body did not arrive: send it again",
            ));
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(StatusCode::BAD_REQUEST, "bad_body", format!("the body cannot be used: {error}"))
    })
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    // Our own plain structs: numbers, texts and lists of them always have a JSON form.
    let mut text = serde_json::to_vec(body).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Resident memory of this process, from Linux's `/proc`.
fn rss_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone() {
        assert_eq!(percent_decode("my%20lap%2Ftop%c3%A9"), Some("my lap/topé".into()));
        for bad in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(rss_bytes().unwrap() > 100_000);
    }
}
