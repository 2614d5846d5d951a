//! The admin API: on the Unix socket for the commands and for curl, and behind [`super::gate`] for the owner's page. Who may open
//! the socket is root or the owner.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/status` | [`Status`] |
//! | `GET /api/tokens` | [`Tokens`] |
//! | `POST /api/tokens` with [`CreateToken`] | 201, [`CreatedToken`] |
//! | `DELETE /api/tokens/{id or name, percent-encoded}` | [`RevokedToken`] |
//! | `GET /api/sessions` | [`Sessions`] |
//! | `DELETE /api/sessions/{id or name, percent-encoded}` | [`RevokedSession`] |
//! | `DELETE /api/sessions` | [`RevokedSessions`] |
//! | `GET /api/apps` | [`Apps`] |
//! | `POST /api/apps/approve`, `/deny`, `/revoke` with [`Decide`] | [`DecidedNow`] |
//! | `POST /api/apps/forget-root` with [`ForgetRoot`] | [`RootForgotten`] |
//! | `GET /api/owner` | [`OwnerNow`] |
//! | `POST /api/secret/rotate` | [`Rotated`](crate::access::Rotated) |
//! | `POST /api/sign-in-link` | 201, [`SignInLink`] |
//! | `POST /api/record/look` | [`RecordNow`], looked at anew |
//! | `GET /api/audit` | [`AuditTrail`] |
//! | `GET /api/backup` | a backup (`store::backup`), or 409 while another is made |
//! | `POST /api/backup/kept` with [`LastBackup`](crate::store::LastBackup) | the same; `status` tells of it from then on |
//! | `POST /api/reload` | [`Reloaded`], or 422 and nothing was changed |
//! | `/api/documents…`, `/api/namespaces`, `/api/growth` | see [`DocumentsApi`] |
//! | `GET /metrics` | Prometheus text |
//! | `GET /healthz` | 200 `ok`, or 503 |
//!
//! Errors are `{"error": code, "message": what to do}`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Either;
use hyper::body::Body;
use hyper::{Method, Request, Response, StatusCode};

use crate::access::{Access, Ownership, SigningSecret};
use crate::engine::Engine;
use crate::listen::{BAD_HOST, Certificate, Listening};
use crate::store::Store;
use crate::web::metrics::{self, Metrics};
use answer::{Answer, Failure, json};

mod answer;
mod apps;
mod backup;
mod documents;
mod ends;
mod openings;
mod owner;
mod record;
mod reload;
mod sessions;
mod sign_in_link;
mod status;
mod tokens;
mod warnings;

pub(super) use apps::root_documents;
pub use apps::{Apps, AuditTrail, Decide, DecidedApp, DecidedNow, ForgetRoot, RootForgotten};
pub use backup::{BackupBody, BackupNow, Backups};
pub use documents::{
    Deleted, Document, Documents, DocumentsApi, Growth, MAX_DOCUMENT_BYTES, Merged, NamespaceNow, Namespaces,
    Pieces, Point, Purged, Retried,
};
pub use ends::{ENDS_LIFE_MS, Evidence, MOST_ENDS, NamedDocument, UncleanEnd};
pub use owner::OwnerNow;
pub use record::{RecordNow, RecordState, RecordWatch};
pub use reload::{Changed, Reload, ReloadFuture, Reloaded};
pub use sessions::{OpenSession, RevokedSession, RevokedSessions, Sessions};
pub use sign_in_link::{LINKS_PER_MINUTE, SignInLink, SignInLinks};
pub use status::{CopiedSession, Disk, MAX_COPIED, Status};
pub use tokens::{CreateToken, CreatedToken, RevokedToken, Tokens};
pub use warnings::{LITTLE_FREE, Warning, certificate_trouble};

#[cfg(test)]
pub(crate) use status::tests;

/// What the admin API speaks for.
pub struct Admin {
    /// Apps, sessions and tokens.
    pub access: Arc<Access>,
    /// For its counters.
    pub engine: Engine,
    /// For its size.
    pub store: Arc<Store>,
    /// What it keeps.
    pub documents: DocumentsApi,
    /// Who the owner is, on whose behalf new tokens speak.
    pub ownership: Arc<Ownership>,
    /// What signs sync tokens.
    pub secret: Arc<SigningSecret>,
    /// Makes links that sign her in.
    pub sign_in_links: SignInLinks,
    /// Whether her account tells apps where this server is.
    pub record: Arc<RecordWatch>,
    /// The server's name.
    pub domain: Option<String>,
    /// How browsers reach it.
    pub origin: String,
    /// Where the server listens, the most important socket first.
    pub listen: Vec<Listening>,
    /// What is shown there; none without TLS.
    pub certificate: Option<Arc<Certificate>>,
    /// `memory.budget` in bytes.
    pub memory_budget: usize,
    /// When the server started.
    pub started: Instant,
    /// How the server ended before, if that was unclean and in the last week, the oldest first.
    pub unclean_ends: Vec<UncleanEnd>,
    /// Makes backups.
    pub backups: Arc<Backups>,
    /// Reads the configuration again.
    pub reload: Reload,
    /// Its figures.
    pub metrics: Arc<Metrics>,
}

/// What is answered: at once, or a backup piece by piece.
pub type AdminBody = Either<Pieces, BackupBody>;

/// Answers one request.
pub async fn handle<B>(admin: &Admin, request: Request<B>) -> Response<AdminBody>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if (request.uri().path(), request.method()) == ("/api/backup", &Method::GET) {
        return backup::stream(admin);
    }
    at_once(admin, request).await.map(Either::Left)
}

/// The answer to a request without a usable `Host`.
pub fn bad_host() -> Response<AdminBody> {
    let refusal = Failure::new(StatusCode::BAD_REQUEST, "bad_host", BAD_HOST);
    refusal.into_response().map(Pieces::from).map(Either::Left)
}

async fn at_once<B>(admin: &Admin, request: Request<B>) -> Response<Pieces>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = match admin.documents.answer(request).await {
        Ok(answer) => return answer,
        Err(request) => request.into_parts(),
    };
    let path = head.uri.path();
    let answer = match (path, &head.method) {
        ("/api/status", &Method::GET) => status::status(admin).await,
        ("/api/tokens", &Method::GET) => tokens::list(admin),
        ("/api/tokens", &Method::POST) => tokens::create(admin, body).await,
        ("/api/sessions", &Method::GET) => sessions::list(admin),
        ("/api/sessions", &Method::DELETE) => sessions::revoke_all(admin).await,
        ("/api/apps", &Method::GET) => apps::list(admin),
        ("/api/owner", &Method::GET) => owner::owner(admin),
        ("/api/audit", &Method::GET) => apps::audit(admin),
        ("/healthz", &Method::GET) => health(admin),
        ("/metrics", &Method::GET) => Ok(metrics::answer(&admin.metrics).await),
        ("/api/reload", &Method::POST) => reload::reload(admin).await,
        ("/api/backup/kept", &Method::POST) => backup::kept(admin, body).await,
        ("/api/secret/rotate", &Method::POST) => sessions::rotate_secret(admin).await,
        ("/api/sign-in-link", &Method::POST) => sign_in_link::make(admin),
        ("/api/record/look", &Method::POST) => record::look(admin).await,
        ("/api/apps/forget-root", &Method::POST) => apps::forget_root(admin, body).await,
        (
            "/api/reload"
            | "/api/backup/kept"
            | "/api/record/look"
            | "/api/secret/rotate"
            | "/api/sign-in-link"
            | "/api/apps/forget-root",
            _,
        ) => Err(Failure::method("POST")),
        ("/api/tokens", _) => Err(Failure::method("GET, POST")),
        ("/api/sessions", _) => Err(Failure::method("GET, DELETE")),
        (
            "/api/status" | "/api/backup" | "/api/apps" | "/api/owner" | "/api/audit" | "/healthz"
            | "/metrics",
            _,
        ) => Err(Failure::method("GET")),
        _ => match (path.rsplit_once('/'), &head.method) {
            (Some(("/api/tokens", target)), &Method::DELETE) => tokens::revoke(admin, target).await,
            (Some(("/api/sessions", target)), &Method::DELETE) => sessions::revoke(admin, target).await,
            (Some(("/api/tokens" | "/api/sessions", _)), _) => Err(Failure::method("DELETE")),
            (Some(("/api/apps", verb @ ("approve" | "deny" | "revoke"))), &Method::POST) => {
                apps::decide(admin, verb, body).await
            }
            (Some(("/api/apps", "approve" | "deny" | "revoke")), _) => Err(Failure::method("POST")),
            _ => Err(Failure::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "there is no such path: the admin API has /api/status, /api/tokens, /api/sessions, /api/apps, /api/documents, /api/owner, /api/audit, /api/backup and /api/reload",
            )),
        },
    };
    answer.unwrap_or_else(Failure::into_response).map(Pieces::from)
}

fn health(admin: &Admin) -> Answer {
    if admin.engine.is_alive() {
        return Ok(json(StatusCode::OK, &"ok"));
    }
    let message = "the engine does not answer in time; the log says more";
    Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "not_alive", message))
}
