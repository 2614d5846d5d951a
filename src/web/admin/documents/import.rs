//! A document's bytes into the store, merged with what is there.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Body;

use super::{Answer, DocumentsApi, MAX_DOCUMENT_BYTES, Merged};
use crate::engine::BringError;
use crate::sync::parcel::Parcel;
use crate::types::{ChangeHash, DocKey};
use crate::web::admin::answer::{Failure, json};
use crate::web::body::read_bytes;

impl DocumentsApi {
    pub(super) async fn import<B>(&self, key: Result<DocKey, Failure>, body: B) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let key = key?;
        let size = body.size_hint().upper().and_then(|size| usize::try_from(size).ok());
        let _room = self.room(size.unwrap_or(MAX_DOCUMENT_BYTES)).await?;
        let bytes = read_bytes(body, MAX_DOCUMENT_BYTES).await.map_err(|error| {
            let (status, code) = error.code();
            Failure::new(status, code, error)
        })?;
        let limits = self.engine.file_limits();
        let parcel = tokio::task::spawn_blocking(move || {
            let mut parcel = Parcel::default();
            parcel.add(&bytes, &limits).map(|()| parcel)
        });
        let parcel = parcel.await.map_err(|_| Failure::store("the server is stopping"))?;
        let parcel = parcel.map_err(|bad| {
            let message = format!(
                "this is not an automerge document, or a damaged one: {bad}; nothing of it was taken"
            );
            Failure::new(StatusCode::BAD_REQUEST, "bad_document", message)
        })?;
        let brought = self.engine.bring(&self.store, &key, parcel).await.map_err(|error| match error {
            BringError::Quarantined => Failure::new(StatusCode::CONFLICT, "quarantined", error),
            BringError::Deleted => Failure::new(StatusCode::CONFLICT, "deleted", error),
            BringError::Purged => Failure::new(StatusCode::GONE, "purged", error),
            error => Failure::store(error),
        })?;
        if brought.heads != brought.before {
            tracing::info!(document = %key.document, namespace = %key.namespace, "imported a document");
        }
        let merged = Merged {
            new: brought.before.is_empty() && !brought.heads.is_empty(),
            changed: brought.heads != brought.before,
            heads: brought.heads.iter().map(ChangeHash::to_string).collect(),
            left_out: brought.left_out,
            refused: brought.refused,
        };
        Ok(json(StatusCode::OK, &merged).map(Into::into))
    }
}
