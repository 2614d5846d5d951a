//! Documents into the bin, out of it, and out of the world; and those that stay closed, for another try.

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

/// Answer to `POST /api/documents/{namespace}/{document}/retry`: it is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// Something was recorded of the document; false if nothing was, so that nothing changes.
    pub retried: bool,
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

    /// What went wrong with a document is forgotten, and it may be opened again. It need not be stored: a device may have
    /// brought it in vain.
    pub(super) async fn retry(&self, key: Result<DocKey, Failure>) -> Answer {
        let retried = self.engine.retry(&key?).await.map_err(Failure::store)?;
        Ok(json(StatusCode::OK, &Retried { retried }).map(Into::into))
    }

    /// What the store says when it is done. It is noted if it was this that was done, not what somebody else did meanwhile.
    async fn dispose(&self, key: &DocKey, what: Disposal, noted: What) -> Result<Head, Failure> {
        self.engine.dispose(key, what).await.map_err(Failure::store)?;
        let wanted = key.clone();
        let head = self.read(move |store| store.head(&wanted)).await;
        // If the store cannot say now, it was done as far as is known.
        let done = head.as_ref().map_or(true, |head| head.as_ref().is_some_and(|head| is_done(what, head)));
        if done {
            tracing::info!(document = %key.document, namespace = %key.namespace, ?what, "the owner has disposed of a document");
            if let Some(trail) = &self.trail {
                trail.note_document(noted, key);
            }
        }
        head?.ok_or_else(|| super::unknown(key))
    }
}

fn is_done(what: Disposal, head: &Head) -> bool {
    match what {
        Disposal::Delete => head.deleted.is_some() && !head.purged,
        Disposal::Restore => head.deleted.is_none(),
        Disposal::Purge { .. } => head.purged,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Op, Row};
    use crate::types::{ChangeHash, DocumentId};
    use crate::web::testing::Parts;

    #[tokio::test]
    async fn what_somebody_else_was_faster_with_is_not_noted() {
        let parts = Parts::start();
        let (store, engine, access) = (parts.store.clone(), parts.engine.clone(), parts.access.clone());
        let api = DocumentsApi::new(engine.clone(), store.clone()).noted_in(access.clone());
        let key = DocKey { namespace: "xyz.one".parse().unwrap(), document: DocumentId([1; 16]) };
        let hash = ChangeHash([7; 32]);
        let rows = vec![Row { row: 0, hash, max_op: 1, bytes: vec![1; 10].into() }];
        store.commit(&[Op::Append { key: key.clone(), rows, heads: vec![hash], by: None, now: 1 }]).unwrap();
        let noted = || access.audit().iter().map(|event| event.what).collect::<Vec<_>>();

        // Both found it in the bin; the one restores it, the other purges it: before it, or after it.
        api.delete(Ok(key.clone())).await.ok().unwrap();
        api.restore(Ok(key.clone())).await.ok().unwrap();
        let all = Disposal::Purge { deleted_by: Millis::MAX };
        assert!(api.dispose(&key, all, What::DocumentPurged).await.is_ok_and(|head| !head.purged));
        assert_eq!(noted(), [What::DocumentDeleted, What::DocumentRestored]);
        api.delete(Ok(key.clone())).await.ok().unwrap();
        api.purge(Ok(key.clone())).await.ok().unwrap();
        let late = [(Disposal::Restore, What::DocumentRestored), (Disposal::Delete, What::DocumentDeleted)];
        for (what, note) in late {
            assert!(api.dispose(&key, what, note).await.is_ok_and(|head| head.purged));
        }
        let done =
            [What::DocumentDeleted, What::DocumentRestored, What::DocumentDeleted, What::DocumentPurged];
        assert_eq!(noted(), done);
        engine.shutdown().await;
    }
}
