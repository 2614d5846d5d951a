//! Whether the owner's account tells apps where this server is, for `status`: what was seen lately, without waiting for her PDS.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::access::Ownership;
use crate::atproto::repo::get_record;
use crate::atproto::{Resolver, declaration};
use crate::net::{Freshness, Http};
use crate::types::Did;

/// What was seen is looked at again after this, when somebody asks.
const GOOD_FOR: Duration = Duration::from_secs(600);
/// What could not be seen, after this.
const RETRY: Duration = Duration::from_secs(60);

/// What the owner's account says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordState {
    /// Apps are told this server.
    Published,
    /// They are told another one.
    Other,
    /// They are told none.
    Missing,
    /// It was not seen yet, or cannot be, or this server has no name to compare.
    #[default]
    Unknown,
}

/// What is known of the record that names the owner's server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordNow {
    /// What it says.
    pub state: RecordState,
    /// The host that it names.
    pub host: Option<String>,
    /// Why it is not known.
    pub reason: Option<String>,
}

/// Looks at the record now and then.
pub struct RecordWatch {
    http: Http,
    resolver: Arc<Resolver>,
    ownership: Arc<Ownership>,
    domain: Option<String>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    now: RecordNow,
    due: Option<Instant>,
}

impl RecordWatch {
    /// Has seen nothing yet; `domain` is this server's name.
    pub fn new(
        http: Http,
        resolver: Arc<Resolver>,
        ownership: Arc<Ownership>,
        domain: Option<String>,
    ) -> Arc<Self> {
        Arc::new(Self { http, resolver, ownership, domain, seen: Mutex::default() })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen last; if that is long ago, it is looked at again for the next who asks.
    pub fn now(self: &Arc<Self>) -> RecordNow {
        let Some(domain) = self.domain.clone() else { return unknown("this server has no domain") };
        let Ok(did) = self.ownership.did() else { return unknown("the owner is not known") };
        let mut seen = self.seen();
        if seen.due.is_none_or(|due| Instant::now() >= due) {
            // Others who ask meanwhile do not look too.
            seen.due = Some(Instant::now() + RETRY);
            let this = Arc::clone(self);
            tokio::spawn(async move {
                let now = this.look(&did, &domain).await;
                let good = now.state != RecordState::Unknown;
                let due = Some(Instant::now() + if good { GOOD_FOR } else { RETRY });
                *this.seen() = Seen { now, due };
            });
        }
        seen.now.clone()
    }

    /// It was written, and read back.
    pub fn published(&self) {
        let now = RecordNow { state: RecordState::Published, host: self.domain.clone(), reason: None };
        *self.seen() = Seen { now, due: Some(Instant::now() + GOOD_FOR) };
    }

    async fn look(&self, did: &Did, domain: &str) -> RecordNow {
        let document = match self.resolver.document(did, Freshness::Cached).await {
            Ok(document) => document,
            Err(error) => return unknown(error),
        };
        let Some(pds) = document.pds() else { return unknown("your DID document names no PDS") };
        match get_record(&self.http, pds, &declaration::key(did)).await {
            Ok(None) => RecordNow { state: RecordState::Missing, ..RecordNow::default() },
            Ok(Some(record)) => {
                let host = declaration::host(&record);
                let ours = host.as_deref().is_some_and(|host| host.eq_ignore_ascii_case(domain));
                let state = match (ours, &host) {
                    (true, _) => RecordState::Published,
                    (false, Some(_)) => RecordState::Other,
                    (false, None) => RecordState::Missing,
                };
                RecordNow { state, host, reason: None }
            }
            Err(error) => unknown(error),
        }
    }
}

fn unknown(reason: impl ToString) -> RecordNow {
    RecordNow { reason: Some(reason.to_string()), ..RecordNow::default() }
}
