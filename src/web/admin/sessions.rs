//! `/api/sessions`: all sessions, those of apps and those behind tokens for devices; and `POST /api/secret/rotate`, a new secret for
//! all of them.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::answer::{Answer, json, percent_decoded};
use crate::access::Session;

/// Answer to `GET /api/sessions`. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// Oldest first.
    pub sessions: Vec<OpenSession>,
}

/// A session and its connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// Who may do what.
    #[serde(flatten)]
    pub session: Session,
    /// Open connections.
    pub connections: usize,
}

/// Answer to `DELETE /api/sessions/{id or name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedSession {
    /// Id of the session that is gone.
    pub revoked: String,
}

/// Answer to `DELETE /api/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedSessions {
    /// How many are gone: all.
    pub revoked: usize,
}

pub(super) fn list(admin: &Admin) -> Answer {
    let open = |(session, connections)| OpenSession { session, connections };
    Ok(json(StatusCode::OK, &Sessions { sessions: admin.access.sessions().into_iter().map(open).collect() }))
}

pub(super) async fn revoke(admin: &Admin, target: &str) -> Answer {
    let revoked = admin.access.revoke(&percent_decoded(target)?).await?;
    tracing::info!(session = %revoked, "revoked a session and closed its connections");
    Ok(json(StatusCode::OK, &RevokedSession { revoked }))
}

pub(super) async fn revoke_all(admin: &Admin) -> Answer {
    let revoked = admin.access.revoke_all().await?;
    tracing::warn!(sessions = revoked, "revoked all sessions and tokens, and closed their connections");
    Ok(json(StatusCode::OK, &RevokedSessions { revoked }))
}

pub(super) async fn rotate_secret(admin: &Admin) -> Answer {
    let rotated = admin.access.rotate_secret(&admin.secret).await?;
    tracing::warn!(
        sessions = rotated.sessions,
        tokens = rotated.tokens,
        "the signing secret is a new one: ended all sessions and tokens, and closed their connections"
    );
    Ok(json(StatusCode::OK, &rotated))
}
