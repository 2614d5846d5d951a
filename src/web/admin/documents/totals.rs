//! `GET /api/namespaces` and `GET /api/growth`: what each namespace holds and held. Kept up by the store, never counted.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Answer, DocumentsApi};
use crate::store::GROWTH_DAYS;
use crate::types::{DAY_MS, Millis, civil, now};
use crate::web::admin::answer::{Failure, json};

/// Days of growth, unless others are asked for.
const DAYS: u32 = 90;

/// Answer to `GET /api/namespaces`, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// All that anything was ever stored in.
    pub namespaces: Vec<NamespaceNow>,
}

/// What a namespace holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceNow {
    /// Its name.
    pub namespace: String,
    /// Documents, without deleted ones.
    pub documents: u64,
    /// Their changes.
    pub changes: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When one of them last changed or was deleted or restored, in milliseconds since the Unix epoch; 0 for never.
    pub modified: Millis,
    /// Deleted documents that can be restored.
    pub deleted: u64,
}

/// Answer to `GET /api/growth`, by namespace and day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Growth {
    /// A day on which nothing changed has no point: it is as the one before.
    pub points: Vec<Point>,
}

/// What a namespace held at the end of a day, or holds now. A namespace's first point may be older than its day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// In UTC, such as `2026-11-27`.
    pub day: String,
    /// Its name.
    pub namespace: String,
    /// Documents, without deleted ones.
    pub documents: u64,
    /// Their changes.
    pub changes: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl DocumentsApi {
    pub(super) async fn namespaces(&self) -> Answer {
        let totals = self.read(crate::store::Store::totals).await?;
        let namespaces = totals.into_iter().map(|(namespace, totals)| NamespaceNow {
            namespace: namespace.to_string(),
            documents: totals.documents,
            changes: totals.changes,
            bytes: totals.bytes,
            modified: totals.modified,
            deleted: totals.deleted,
        });
        Ok(json(StatusCode::OK, &Namespaces { namespaces: namespaces.collect() }).map(Into::into))
    }

    pub(super) async fn growth(&self, query: &str) -> Answer {
        let days = match query.split_once('=') {
            None if query.is_empty() => Some(DAYS),
            Some(("days", days)) => days.parse().ok().filter(|days| (1..=GROWTH_DAYS).contains(days)),
            _ => None,
        };
        let days = days.ok_or_else(|| {
            let message = format!("the query takes days, a number from 1 to {GROWTH_DAYS}");
            Failure::new(StatusCode::BAD_REQUEST, "bad_query", message)
        })?;
        let points = self.read(move |store| store.growth(days, now())).await?;
        let points = points.into_iter().map(|point| {
            let (year, month, day, ..) = civil(Millis::from(point.day) * DAY_MS);
            Point {
                day: format!("{year:04}-{month:02}-{day:02}"),
                namespace: point.namespace.to_string(),
                documents: point.totals.documents,
                changes: point.totals.changes,
                bytes: point.totals.bytes,
            }
        });
        Ok(json(StatusCode::OK, &Growth { points: points.collect() }).map(Into::into))
    }
}
