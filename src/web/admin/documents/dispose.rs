//! Documents into the bin, out of it, and out of the world.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Answer, DocumentsApi, purged, shown};
use crate::access::What;
use crate::store::{Disposal, Head};
use crate::types::{DocKey, Millis};
use crate::web::admin::answer::{Failure, json};

/// Answer to `DELETE /api/documents/{namespace}/{document}`: it is durable. A document that was deleted before stays so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// When it was deleted.
    pub deleted: Millis,
    /// Until when it can be restored.
    pub purge_at: Millis,
}

/// Answer to `POST /api/documents/{namespace}/{document}/purge`: it is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// True.
    pub purged: bool,
}

impl DocumentsApi {
    pub(super) async fn delete(&self, key: Result<DocKey, Failure>) -> Answer {
        let key = key?;
        let mut head = self.head(&key).await?;
        if head.deleted.is_none() {
            head = self.dispose(&key, Disposal::Delete, What::DocumentDeleted).await?;
        }
        match (head.deleted, head.purge_at()) {
            (_, _) if head.purged => Err(purged(&key)),
            (Some(deleted), Some(purge_at)) => {
                Ok(json(StatusCode::OK, &Deleted { deleted, purge_at }).map(Into::into))
            }
            _ => Err(meanwhile("restored")),
        }
    }

    pub(super) async fn restore(&self, key: Result<DocKey, Failure>) -> Answer {
        let key = key?;
        in_bin(&key, &self.head(&key).await?)?;
        let head = self.dispose(&key, Disposal::Restore, What::DocumentRestored).await?;
        match head.deleted {
            None => Ok(shown(&key, &head)),
            Some(_) if head.purged => Err(purged(&key)),
            Some(_) => Err(meanwhile("deleted")),
        }
    }

    pub(super) async fn purge(&self, key: Result<DocKey, Failure>) -> Answer {
        let key = key?;
        in_bin(&key, &self.head(&key).await?)?;
        let purge = Disposal::Purge { deleted_by: Millis::MAX };
        let head = self.dispose(&key, purge, What::DocumentPurged).await?;
        match head.purged {
            true => Ok(json(StatusCode::OK, &Purged { purged: true }).map(Into::into)),
            false => Err(meanwhile("restored")),
        }
    }

    /// What the store says when it is done.
    async fn dispose(&self, key: &DocKey, what: Disposal, noted: What) -> Result<Head, Failure> {
        self.engine.dispose(key, what).await.map_err(Failure::store)?;
        tracing::info!(document = %key.document, namespace = %key.namespace, ?what, "the owner has disposed of a document");
        if let Some(trail) = &self.trail {
            trail.note_document(noted, key);
        }
        let wanted = key.clone();
        self.read(move |store| store.head(&wanted)).await?.ok_or_else(|| super::unknown(key))
    }
}

/// Somebody else was faster.
fn meanwhile(what: &str) -> Failure {
    let message = format!("the document was {what} at the same time: look at it again");
    Failure::new(StatusCode::CONFLICT, "changed_meanwhile", message)
}

fn in_bin(key: &DocKey, head: &Head) -> Result<(), Failure> {
    if head.deleted.is_some() {
        return Ok(());
    }
    let message = format!(
        "document {} in {} is not deleted: only what is deleted can be restored or purged",
        key.document, key.namespace
    );
    Err(Failure::new(StatusCode::CONFLICT, "not_deleted", message))
}
