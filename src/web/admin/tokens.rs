//! `/api/tokens`: sync tokens that the owner makes for devices.

use std::time::Duration;

use hyper::StatusCode;
use hyper::body::{Body, Bytes};
use serde::{Deserialize, Serialize};

use super::Admin;
use super::answer::{Answer, json, namespace, percent_decoded, read};
use crate::access::{LOCAL_CLIENT, LOCAL_DID, NewSession, Session};

/// Answer to `GET /api/tokens`. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Oldest first.
    pub tokens: Vec<Session>,
}

/// Body of `POST /api/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What people call the device.
    pub name: String,
    /// The app's lexicon authority domain.
    pub namespace: String,
    /// Changes from it are ignored.
    #[serde(default)]
    pub read_only: bool,
    /// Life in seconds; `access.token_life` if missing.
    #[serde(default)]
    pub expires_in: Option<u64>,
}

/// Answer to `POST /api/tokens`: the only time the token is told.
#[derive(Clone, Serialize, Deserialize)]
pub struct CreatedToken {
    /// The sync token.
    pub token: String,
    /// What it stands for.
    pub session: Session,
}

/// Answer to `DELETE /api/tokens/{id or name}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedToken {
    /// Id of the session that is gone.
    pub revoked: String,
}

pub(super) fn list(admin: &Admin) -> Answer {
    let sessions = admin.access.sessions().into_iter().map(|(session, _)| session);
    Ok(json(StatusCode::OK, &Tokens { tokens: sessions.filter(Session::is_local).collect() }))
}

pub(super) async fn create<B>(admin: &Admin, body: B) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let wanted: CreateToken = read(body).await?;
    let namespace = namespace(&wanted.namespace)?;
    let new = NewSession {
        namespace,
        name: wanted.name,
        did: admin.ownership.did().map_or_else(|_| LOCAL_DID.into(), |did| did.to_string()),
        client_id: LOCAL_CLIENT.into(),
        read_only: wanted.read_only,
        life: wanted.expires_in.map(Duration::from_secs),
    };
    let (token, session) = admin.access.create(new).await?;
    tracing::info!(name = %session.name, namespace = %session.namespace, read_only = session.read_only, session = %session.id, "made a sync token");
    Ok(json(StatusCode::CREATED, &CreatedToken { token, session }))
}

pub(super) async fn revoke(admin: &Admin, target: &str) -> Answer {
    let revoked = admin.access.revoke_token(&percent_decoded(target)?).await?;
    tracing::info!(session = %revoked, "revoked a sync token and closed its connections");
    Ok(json(StatusCode::OK, &RevokedToken { revoked }))
}
