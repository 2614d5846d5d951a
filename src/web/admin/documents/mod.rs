//! `/api/documents`: what is stored, out of the server and into it. Serves the admin socket, and commands that open the
//! store themselves while the server is stopped.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/documents?namespace=&after=&limit=&state=&order=` | [`Documents`], a page |
//! | `DELETE /api/documents/{namespace}/{document}` | [`Deleted`]: in the bin for 30 days |
//! | `POST /api/documents/{namespace}/{document}/restore` | [`Document`]: out of the bin |
//! | `POST /api/documents/{namespace}/{document}/purge` | [`Purged`]: deleted for good, its id is never taken again |
//! | `POST /api/documents/{namespace}/{document}/retry` | [`Retried`]: what went wrong with a document is forgotten, and it may be opened again |
//! | `GET /api/namespaces` | [`Namespaces`] |
//! | `GET /api/growth?days=` | [`Growth`] |
//! | `GET /api/documents/{namespace}/{document}` | [`Document`] |
//! | `GET /api/documents/{namespace}/{document}/automerge` | its bytes, as automerge loads them |
//! | `POST /api/documents/{namespace}/{document}/automerge` with such bytes | [`Merged`] |
//!
//! In the query, `state` is `kept` (what there is without it) or `deleted`; `order` is `id` (so without it), `recent` or
//! `largest`, which give the first `limit` (at most 100) and take no `after`. `days` is 1 to 400, without it 90.
//! Refusals with 409: `quarantined` and `deleted` (nothing is taken in), `not_deleted` (only what is deleted can be restored or
//! purged), `changed_meanwhile` (two at the same document); with 410: `purged`.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Body;
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::answer::{Failure, json, namespace};
use crate::access::Access;
use crate::engine::Engine;
use crate::store::{Head, Store, StoreError};
use crate::types::{DocKey, Millis, NameError};

mod dispose;
mod export;
mod import;
mod list;
mod pieces;
mod totals;

pub use dispose::{Deleted, Purged, Retried};
pub use list::Documents;
pub use pieces::Pieces;
pub use totals::{Growth, NamespaceNow, Namespaces, Point};

/// Most bytes that a document may have on its way in, or all of them together.
pub const MAX_DOCUMENT_BYTES: usize = 256 << 20;
const ROOT: &str = "/api/documents";
const NAMESPACES: &str = "/api/namespaces";
const GROWTH: &str = "/api/growth";
/// What the bytes in hand are counted in.
const ROOM_UNIT: usize = 1024;

/// A stored document. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Where it is.
    pub namespace: String,
    /// Its id.
    pub document: String,
    /// Its heads in hexadecimal; not in a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads: Option<Vec<String>>,
    /// All its changes.
    pub changes: u64,
    /// Those of them that are in its snapshot.
    pub snapshot_changes: u64,
    /// Bytes of snapshot and changes.
    pub bytes: u64,
    /// Those of the snapshot.
    pub snapshot_bytes: u64,
    /// When it was first stored.
    pub created: Millis,
    /// When a change was last stored.
    pub modified: Millis,
    /// Why it is kept aside and not synced, if it is.
    pub quarantined: Option<String>,
    /// When it was deleted, if it was; it can be restored.
    pub deleted: Option<Millis>,
    /// When it goes for good, if it is deleted.
    pub purge_at: Option<Millis>,
    /// The `client_id` of the app that last changed it, `local:command-line` for a token of this server,
    /// `local:import` for a file; `null` if it last changed before this was recorded.
    pub written_by: Option<String>,
}

impl Document {
    fn of(key: &DocKey, head: &Head) -> Self {
        let (snapshot_changes, snapshot_bytes) =
            head.snapshot.as_ref().map_or((0, 0), |info| (info.changes, info.bytes));
        Self {
            namespace: key.namespace.to_string(),
            document: key.document.to_string(),
            heads: None,
            changes: head.changes(),
            snapshot_changes,
            bytes: head.bytes(),
            snapshot_bytes,
            created: head.created,
            modified: head.modified,
            quarantined: head.quarantined.clone(),
            deleted: head.deleted,
            purge_at: head.purge_at(),
            written_by: head.written_by.as_deref().map(str::to_owned),
        }
    }
}

/// Answer to `POST /api/documents/{namespace}/{document}/automerge`: what is there is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merged {
    /// The document was not there before.
    pub new: bool,
    /// It has changes that it did not have before.
    pub changed: bool,
    /// Its heads now, in hexadecimal.
    pub heads: Vec<String>,
    /// Changes left out: what they rest on is neither in what was sent nor in the store.
    pub left_out: usize,
    /// Why a part was refused.
    pub refused: Vec<String>,
}

/// Answers for the documents of one store.
#[derive(Clone)]
pub struct DocumentsApi {
    engine: Engine,
    store: Arc<Store>,
    /// Room for what is in hand, in [`ROOM_UNIT`]s: one largest document, or many small ones.
    room: Arc<Semaphore>,
    /// Where what the owner does is noted; not while the server is stopped.
    trail: Option<Arc<Access>>,
}

pub(super) type Answer = Result<Response<Pieces>, Failure>;

impl DocumentsApi {
    /// `engine` runs on `store`.
    pub fn new(engine: Engine, store: Arc<Store>) -> Self {
        let room = Arc::new(Semaphore::new(MAX_DOCUMENT_BYTES / ROOM_UNIT));
        Self { engine, store, room, trail: None }
    }

    /// With deletions noted in the audit trail.
    pub fn noted_in(self, trail: Arc<Access>) -> Self {
        Self { trail: Some(trail), ..self }
    }

    /// Answers one request.
    /// # Errors
    /// Its path is somebody else's: here it is back.
    pub async fn answer<B>(&self, request: Request<B>) -> Result<Response<Pieces>, Request<B>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = request.uri().path();
        if !path.starts_with(ROOT) && ![NAMESPACES, GROWTH].contains(&path) {
            return Err(request);
        }
        let (head, body) = request.into_parts();
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let names = path.strip_prefix(ROOT).unwrap_or_default().split('/').collect::<Vec<_>>();
        let answer = match (&names[..], &head.method) {
            _ if path == NAMESPACES && head.method == Method::GET => self.namespaces().await,
            _ if path == GROWTH && head.method == Method::GET => self.growth(query).await,
            _ if path == NAMESPACES || path == GROWTH => Err(Failure::method("GET")),
            ([""], &Method::GET) => self.list(query).await,
            (["", namespace, document], &Method::GET) => self.show(key(namespace, document)).await,
            (["", namespace, document], &Method::DELETE) => self.delete(key(namespace, document)).await,
            (["", namespace, document, "restore"], &Method::POST) => {
                self.restore(key(namespace, document)).await
            }
            (["", namespace, document, "purge"], &Method::POST) => self.purge(key(namespace, document)).await,
            (["", namespace, document, "retry"], &Method::POST) => self.retry(key(namespace, document)).await,
            (["", namespace, document, "automerge"], &Method::GET) => {
                self.export(key(namespace, document)).await
            }
            (["", namespace, document, "automerge"], &Method::POST) => {
                self.import(key(namespace, document), body).await
            }
            (["", _, _, "automerge"], _) => Err(Failure::method("GET, POST")),
            (["", _, _, "restore" | "purge" | "retry"], _) => Err(Failure::method("POST")),
            (["", _, _], _) => Err(Failure::method("GET, DELETE")),
            ([""], _) => Err(Failure::method("GET")),
            _ => {
                let message = "there is no such path: use /api/documents/NAMESPACE/DOCUMENT";
                Err(Failure::new(StatusCode::NOT_FOUND, "not_found", message))
            }
        };
        Ok(answer.unwrap_or_else(|failure| failure.into_response().map(Pieces::from)))
    }

    async fn show(&self, key: Result<DocKey, Failure>) -> Answer {
        let key = key?;
        let head = self.head(&key).await?;
        Ok(shown(&key, &head))
    }

    async fn head(&self, key: &DocKey) -> Result<Head, Failure> {
        let wanted = key.clone();
        let head = self.read(move |store| store.head(&wanted)).await?.ok_or_else(|| unknown(key))?;
        if head.purged { Err(purged(key)) } else { Ok(head) }
    }

    /// Reads block; they run where they may.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || read(&store)).await;
        read.map_err(|_| Failure::store("the server is stopping"))?.map_err(Failure::store)
    }
}

fn shown(key: &DocKey, head: &Head) -> Response<Pieces> {
    let heads = Some(head.heads.iter().map(ToString::to_string).collect());
    json(StatusCode::OK, &Document { heads, ..Document::of(key, head) }).map(Pieces::from)
}

fn purged(key: &DocKey) -> Failure {
    let message = format!("document {} in {} was deleted for good", key.document, key.namespace);
    Failure::new(StatusCode::GONE, "purged", message)
}

fn unknown(key: &DocKey) -> Failure {
    let message =
        format!("there is no document {} in {}: `docs list` shows all", key.document, key.namespace);
    Failure::new(StatusCode::NOT_FOUND, "no_such_document", message)
}

/// Neither grammar has anything that a path would encode.
fn key(in_namespace: &str, document: &str) -> Result<DocKey, Failure> {
    let bad = |error: NameError| Failure::new(StatusCode::BAD_REQUEST, "bad_document", error);
    Ok(DocKey { namespace: namespace(in_namespace)?, document: document.parse().map_err(bad)? })
}
