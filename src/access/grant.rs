//! What the owner decided about apps: `client_id` x namespace to a decision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::AccessError;
use crate::store::{Op, RecordKind};
use crate::types::{Millis, Namespace};

/// Most decisions that are kept. Beyond it new ones are refused: forgetting one could let somebody in.
pub const MAX_GRANTS: usize = 1_000;

/// One app in one namespace: what a decision is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct App {
    /// Which app (its OAuth `client_id`).
    pub client_id: String,
    /// Where.
    pub namespace: Namespace,
}

impl App {
    /// Key of its rows. A namespace has no line break, so two apps never share one.
    pub(super) fn key(&self) -> Vec<u8> {
        format!("{}\n{}", self.namespace, self.client_id).into_bytes()
    }
}

/// What the owner decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It may read and write.
    ReadWrite,
    /// It may read.
    ReadOnly,
    /// It is refused without being remembered as pending.
    Denied,
    /// Its approval was taken back: it is pending when it asks again, whatever `access.approve` says.
    Revoked,
}

impl Decision {
    /// It lets the app in.
    pub fn lets_in(self) -> bool {
        matches!(self, Self::ReadWrite | Self::ReadOnly)
    }
}

/// A decision about one app. Its JSON is the row in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Which app.
    pub client_id: String,
    /// Where.
    #[serde(with = "super::session::namespace_text")]
    pub namespace: Namespace,
    /// What was decided last.
    pub decision: Decision,
    /// When that was.
    pub decided: Millis,
    /// When something was first decided about it.
    pub since: Millis,
}

impl Grant {
    /// What it is about.
    pub fn app(&self) -> App {
        App { client_id: self.client_id.clone(), namespace: self.namespace.clone() }
    }

    pub(super) fn read(key: &[u8], row: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(row).ok().filter(|grant| grant.app().key() == key)
    }

    /// What a row that cannot be read is taken for: somebody decided something, and it was not for good.
    pub(super) fn unreadable(key: &[u8]) -> Option<Self> {
        let (namespace, client_id) = std::str::from_utf8(key).ok()?.split_once('\n')?;
        let namespace = namespace.parse().ok()?;
        tracing::warn!(client_id, "a decision about an app cannot be read; it has to be approved again");
        Some(Self {
            client_id: client_id.into(),
            namespace,
            decision: Decision::Revoked,
            decided: 0,
            since: 0,
        })
    }

    pub(super) fn write(&self) -> Result<Op, AccessError> {
        let row = serde_json::to_vec(self).map_err(AccessError::json)?;
        Ok(Op::Record { kind: RecordKind::Grant, key: self.app().key(), row: Some(row) })
    }
}

/// All decisions.
#[derive(Debug, Default)]
pub(super) struct Grants(BTreeMap<App, Grant>);

impl Grants {
    pub(super) fn get(&self, app: &App) -> Option<Decision> {
        self.0.get(app).map(|grant| grant.decision)
    }

    /// The row that a decision makes.
    pub(super) fn decided(&self, app: &App, decision: Decision, now: Millis) -> Result<Grant, AccessError> {
        let since = match self.0.get(app) {
            Some(old) => old.since,
            None if self.0.len() >= MAX_GRANTS => return Err(AccessError::TooManyApps),
            None => now,
        };
        let (client_id, namespace) = (app.client_id.clone(), app.namespace.clone());
        Ok(Grant { client_id, namespace, decision, decided: now, since })
    }

    /// Returns what was decided before.
    pub(super) fn set(&mut self, grant: Grant) -> Option<Decision> {
        self.0.insert(grant.app(), grant).map(|old| old.decision)
    }

    pub(super) fn forget(&mut self, app: &App) {
        self.0.remove(app);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Grant> {
        self.0.values()
    }

    /// Namespaces in which something is decided about a client.
    pub(super) fn of_client(&self, client_id: &str) -> usize {
        self.0.keys().filter(|app| app.client_id == client_id).count()
    }
}
