//! `/api/apps` and `/api/audit`: what the owner decided about apps, which of them wait, where their devices start, and what happened.

use std::collections::HashMap;

use hyper::StatusCode;
use hyper::body::{Body, Bytes};
use serde::{Deserialize, Serialize};

use super::Admin;
use super::answer::{Answer, Failure, json, namespace, read};
use crate::access::{App, Decision, Event, Grant, Pending, RootDocument};

/// Answer to `GET /api/apps`. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apps {
    /// By `client_id` and namespace.
    pub apps: Vec<DecidedApp>,
    /// By number.
    pub pending: Vec<Pending>,
}

/// An app that the owner decided about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidedApp {
    /// The decision.
    #[serde(flatten)]
    pub grant: Grant,
    /// Its sessions.
    pub sessions: usize,
    /// Its open connections.
    pub connections: usize,
    /// The document that its devices are told to start from, if one of them offered any.
    pub root_document: Option<RootDocument>,
}

/// Body of `POST /api/apps/approve`, `deny` and `revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// Which app, in full.
    pub client_id: String,
    /// Where.
    pub namespace: String,
    /// To `approve`: it may only read.
    #[serde(default)]
    pub read_only: bool,
}

/// Answer to `POST /api/apps/…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecidedNow {
    /// Which app.
    pub client_id: String,
    /// Where.
    pub namespace: String,
    /// What holds from now on.
    pub decision: Decision,
    /// Sessions that ended by it.
    pub sessions_ended: usize,
}

/// Body of `POST /api/apps/forget-root`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetRoot {
    /// The app's `client_id`, in full.
    pub client_id: String,
    /// The namespace.
    pub namespace: String,
}

/// Answer to `POST /api/apps/forget-root`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootForgotten {
    /// The app's `client_id`.
    pub client_id: String,
    /// The namespace.
    pub namespace: String,
    /// URL of the document that devices are no longer told to start from. The document itself stays.
    pub forgotten: String,
    /// URL of the stored document that they are told now; otherwise the next one that a device offers.
    pub next: Option<String>,
}

/// Answer to `GET /api/audit`. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditTrail {
    /// The latest last.
    pub events: Vec<Event>,
}

pub(super) fn list(admin: &Admin) -> Answer {
    let mut counts: HashMap<App, (usize, usize)> = HashMap::new();
    for (session, live) in admin.access.sessions() {
        let app = App { client_id: session.client_id, namespace: session.namespace };
        let (sessions, connections) = counts.entry(app).or_default();
        *sessions += 1;
        *connections += live;
    }
    let owner = owner(admin);
    let counted = |grant: Grant| {
        let app = grant.app();
        let (sessions, connections) = counts.get(&app).copied().unwrap_or_default();
        let root_document = admin.access.root_document(&app, owner.as_deref());
        DecidedApp { grant, sessions, connections, root_document }
    };
    let apps = admin.access.grants().into_iter().map(counted).collect();
    Ok(json(StatusCode::OK, &Apps { apps, pending: admin.access.pending() }))
}

/// `verb` is what stands after `/api/apps/`.
pub(super) async fn decide<B>(admin: &Admin, verb: &str, body: B) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let wanted: Decide = read(body).await?;
    let decision = match (verb, wanted.read_only) {
        ("approve", false) => Decision::ReadWrite,
        ("approve", true) => Decision::ReadOnly,
        ("deny", false) => Decision::Denied,
        ("revoke", false) => Decision::Revoked,
        _ => {
            let message = "read_only goes with approve only";
            return Err(Failure::new(StatusCode::BAD_REQUEST, "bad_body", message));
        }
    };
    let app = App { client_id: wanted.client_id, namespace: namespace(&wanted.namespace)? };
    let decided = admin.access.decide(&app, decision).await?;
    tracing::info!(client_id = app.client_id, namespace = %app.namespace, ?decision, sessions_ended = decided.sessions_ended, "the owner decided about an app");
    let (client_id, namespace) = (app.client_id, app.namespace.to_string());
    let sessions_ended = decided.sessions_ended;
    Ok(json(StatusCode::OK, &DecidedNow { client_id, namespace, decision, sessions_ended }))
}

/// Whose root documents are meant; of every account while the owner is not known.
fn owner(admin: &Admin) -> Option<String> {
    admin.ownership.did().ok().map(|did| did.to_string())
}

pub(super) async fn forget_root<B>(admin: &Admin, body: B) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let wanted: ForgetRoot = read(body).await?;
    let app = App { client_id: wanted.client_id, namespace: namespace(&wanted.namespace)? };
    let done = admin.access.forget_root(&app, owner(admin).as_deref()).await?;
    tracing::info!(client_id = app.client_id, namespace = %app.namespace, document = done.url, next = done.next, "the owner forgot the document that an app's devices start from");
    let (client_id, namespace) = (app.client_id, app.namespace.to_string());
    let answer = RootForgotten { client_id, namespace, forgotten: done.url, next: done.next };
    Ok(json(StatusCode::OK, &answer))
}

/// Fingerprint material of `GET /api/apps` that only the store knows: what became of root documents.
pub(in crate::web) fn root_documents(admin: &Admin) -> Vec<Option<RootDocument>> {
    let owner = owner(admin);
    let grants = admin.access.grants();
    grants.iter().map(|grant| admin.access.root_document(&grant.app(), owner.as_deref())).collect()
}

pub(super) fn audit(admin: &Admin) -> Answer {
    Ok(json(StatusCode::OK, &AuditTrail { events: admin.access.audit() }))
}
