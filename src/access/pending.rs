//! Apps that proved the owner's DID and wait for her decision.
//!
//! Kept in memory and written now and then (`flush`): an app that asks a thousand times must not cost a thousand fsyncs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::entering::{Checked, Proof};
use super::{AccessError, App};
use crate::store::{Op, Record, RecordKind};
use crate::types::{Millis, Namespace};

/// Most requests that are remembered; beyond it the one that asked longest ago gives way.
pub const MAX_PENDING: usize = 200;
/// Most namespaces that one `client_id` may wait for, likewise.
pub const MAX_PENDING_PER_CLIENT: usize = 20;
/// `Pin` record of the next number: a number that the owner has read never comes to mean another app.
const NEXT_NUMBER: &[u8] = b"next_pending_number";

/// An app that waits. Its JSON is the row in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What the owner may call it; never used for another.
    pub number: u64,
    /// Which app.
    pub client_id: String,
    /// What it wants to see.
    #[serde(with = "super::session::namespace_text")]
    pub namespace: Namespace,
    /// On whose behalf it asked, proved.
    pub did: String,
    /// It asked to read only.
    pub read_only: bool,
    /// How it proved that.
    pub how: Proof,
    /// When it first asked.
    pub first_asked: Millis,
    /// When it last asked.
    pub last_asked: Millis,
    /// How often it asked.
    pub count: u64,
    /// From where it last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// With what it last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

impl Pending {
    /// What a decision would be about.
    pub fn app(&self) -> App {
        App { client_id: self.client_id.clone(), namespace: self.namespace.clone() }
    }
}

/// All that wait.
#[derive(Debug, Default)]
pub(super) struct PendingApps {
    apps: BTreeMap<App, Pending>,
    next_number: u64,
    /// Whose rows are not as in memory.
    dirty: BTreeSet<App>,
}

impl PendingApps {
    pub(super) fn load(rows: &[Record], next_number: Option<&[u8]>) -> Self {
        let apps: BTreeMap<App, Pending> = rows
            .iter()
            .filter_map(|(key, row)| {
                let pending: Pending = serde_json::from_slice(row).ok()?;
                let app = pending.app();
                (app.key() == *key).then_some((app, pending))
            })
            .collect();
        let stored = next_number.and_then(|row| row.try_into().ok()).map_or(1, u64::from_be_bytes);
        let highest = apps.values().map(|pending| pending.number).max().unwrap_or(0);
        Self { apps, next_number: stored.max(highest.saturating_add(1)), dirty: BTreeSet::new() }
    }

    /// Remembers that an app asked; true if it was not waiting before.
    pub(super) fn ask(&mut self, asked: &Checked, now: Millis) -> bool {
        let app = &asked.app;
        let known = self.apps.contains_key(app);
        if !known {
            self.make_room(&app.client_id);
        }
        let pending = self.apps.entry(app.clone()).or_insert_with(|| {
            let number = self.next_number;
            self.next_number = number.saturating_add(1);
            Pending {
                number,
                client_id: app.client_id.clone(),
                namespace: app.namespace.clone(),
                did: String::new(),
                read_only: false,
                how: asked.how,
                first_asked: now,
                last_asked: now,
                count: 0,
                address: None,
                user_agent: None,
            }
        });
        pending.did.clone_from(&asked.did);
        pending.read_only = asked.read_only_wanted;
        pending.how = asked.how;
        pending.last_asked = now;
        pending.count = pending.count.saturating_add(1);
        pending.address = asked.address;
        pending.user_agent.clone_from(&asked.user_agent);
        self.dirty.insert(app.clone());
        !known
    }

    fn make_room(&mut self, client_id: &str) {
        let of_client = self.apps.keys().filter(|app| app.client_id == client_id).count();
        let only = (of_client >= MAX_PENDING_PER_CLIENT).then_some(client_id);
        if only.is_none() && self.apps.len() < MAX_PENDING {
            return;
        }
        let oldest = self
            .apps
            .iter()
            .filter(|(app, _)| only.is_none_or(|client_id| app.client_id == client_id))
            .min_by_key(|(_, pending)| (pending.last_asked, pending.number))
            .map(|(app, _)| app.clone());
        if let Some(app) = oldest {
            self.forget(&app);
        }
    }

    /// It no longer waits.
    pub(super) fn forget(&mut self, app: &App) {
        if self.apps.remove(app).is_some() {
            self.dirty.insert(app.clone());
        }
    }

    /// By number.
    pub(super) fn len(&self) -> usize {
        self.apps.len()
    }

    pub(super) fn list(&self) -> Vec<Pending> {
        let mut all: Vec<Pending> = self.apps.values().cloned().collect();
        all.sort_by_key(|pending| pending.number);
        all
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The operations that bring the store up to date, and whose rows they are.
    pub(super) fn flush(&mut self) -> Result<(Vec<Op>, BTreeSet<App>), AccessError> {
        let mut ops = Vec::new();
        for app in &self.dirty {
            let row = self.apps.get(app).map(serde_json::to_vec).transpose().map_err(AccessError::json)?;
            ops.push(Op::Record { kind: RecordKind::Pending, key: app.key(), row });
        }
        if !ops.is_empty() {
            let row = Some(self.next_number.to_be_bytes().to_vec());
            ops.push(Op::Record { kind: RecordKind::Pin, key: NEXT_NUMBER.to_vec(), row });
        }
        Ok((ops, std::mem::take(&mut self.dirty)))
    }

    /// A flush failed.
    pub(super) fn unflushed(&mut self, apps: BTreeSet<App>) {
        self.dirty.extend(apps);
    }

    /// Key of the next number among the `Pin` records.
    pub(super) fn next_number_key() -> &'static [u8] {
        NEXT_NUMBER
    }
}
