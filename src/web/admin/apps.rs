//! `/api/apps` and `/api/audit`: what the owner decided about apps, which of them wait, and what happened.

use std::collections::HashMap;

use hyper::StatusCode;
use hyper::body::{Body, Bytes};
use serde::{Deserialize, Serialize};

use super::Admin;
use super::answer::{Answer, Failure, json, namespace, read};
use crate::access::{App, Decision, Event, Grant, Pending};

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
    let counted = |grant: Grant| {
        let (sessions, connections) = counts.get(&grant.app()).copied().unwrap_or_default();
        DecidedApp { grant, sessions, connections }
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

pub(super) fn audit(admin: &Admin) -> Answer {
    Ok(json(StatusCode::OK, &AuditTrail { events: admin.access.audit() }))
}
