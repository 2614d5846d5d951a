//! `GET /api/documents`: all documents, a page at a time, by namespace and id.

use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Answer, Document, DocumentsApi, key};
use crate::store::{Head, Store, StoreError};
use crate::types::{DocKey, Namespace};
use crate::web::admin::answer::{Failure, json, namespace};
use crate::web::percent::percent_decode;

/// Documents on a page, unless fewer are asked for. A row has some 300 bytes.
const PAGE: usize = 1000;
/// Most documents in an order other than by id.
const RANKED: usize = 100;

/// Answer to `GET /api/documents`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documents {
    /// By namespace and id.
    pub documents: Vec<Document>,
    /// What to give as `after` for the next page, if there may be one.
    pub next: Option<String>,
}

/// What a query asks for.
struct Wanted {
    namespace: Option<Namespace>,
    after: Option<DocKey>,
    limit: Option<usize>,
    deleted: bool,
    rank: Option<fn(&Head) -> u64>,
}

impl DocumentsApi {
    pub(super) async fn list(&self, query: &str) -> Answer {
        let wanted = wanted(query)?;
        let page = self.read(move |store| page(store, &wanted)).await?;
        Ok(json(StatusCode::OK, &page)).map(|answer: Response<_>| answer.map(Into::into))
    }
}

fn page(store: &Store, wanted: &Wanted) -> Result<Documents, StoreError> {
    if let Some(rank) = wanted.rank {
        let limit = wanted.limit.unwrap_or(RANKED);
        let ranked = store.ranked(wanted.namespace.as_ref(), wanted.deleted, rank, limit)?;
        let documents = ranked.iter().map(|(key, head)| Document::of(key, head)).collect();
        return Ok(Documents { documents, next: None });
    }
    let limit = wanted.limit.unwrap_or(PAGE);
    let mut documents = Vec::new();
    let mut last = None;
    for namespace in store.namespaces()? {
        if wanted.namespace.as_ref().is_some_and(|only| *only != namespace)
            || wanted.after.as_ref().is_some_and(|after| after.namespace > namespace)
        {
            continue;
        }
        let after = wanted.after.as_ref().filter(|after| after.namespace == namespace);
        let left = limit - documents.len();
        let after = after.map(|after| after.document);
        let found = match wanted.deleted {
            true => store.deleted(&namespace, after, left)?,
            false => store.documents(&namespace, after, left)?,
        };
        for (document, head) in found {
            let key = DocKey { namespace: namespace.clone(), document };
            documents.push(Document::of(&key, &head));
            last = Some(key);
        }
        if documents.len() == limit {
            let next = last.map(|key| format!("{}/{}", key.namespace, key.document));
            return Ok(Documents { documents, next });
        }
    }
    Ok(Documents { documents, next: None })
}

fn wanted(query: &str) -> Result<Wanted, Failure> {
    let bad = |message: &str| Failure::new(StatusCode::BAD_REQUEST, "bad_query", message);
    let mut wanted = Wanted { namespace: None, after: None, limit: None, deleted: false, rank: None };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode(value).ok_or_else(|| bad("the query is not percent-encoded UTF-8"))?;
        match name {
            "namespace" => wanted.namespace = Some(namespace(&value)?),
            "after" => {
                let (place, document) = value
                    .split_once('/')
                    .ok_or_else(|| bad("after is NAMESPACE/DOCUMENT, as next says it"))?;
                wanted.after = Some(key(place, document)?);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=PAGE).contains(limit));
                wanted.limit = Some(limit.ok_or_else(|| bad("limit is a number from 1 to 1000"))?);
            }
            "state" => {
                wanted.deleted = match &value[..] {
                    "kept" => false,
                    "deleted" => true,
                    _ => return Err(bad("state is kept or deleted")),
                };
            }
            "order" => {
                wanted.rank = match &value[..] {
                    "id" => None,
                    "recent" => Some(|head: &Head| head.deleted.unwrap_or(head.modified)),
                    "largest" => Some(Head::bytes),
                    _ => return Err(bad("order is id, recent or largest")),
                };
            }
            _ => return Err(bad("the query takes namespace, after, limit, state and order")),
        }
    }
    if wanted.rank.is_some() && (wanted.after.is_some() || wanted.limit > Some(RANKED)) {
        return Err(bad("with order recent or largest, limit is at most 100 and there is no after"));
    }
    Ok(wanted)
}
