//! Whether the owner's account tells apps where this server is, for `status`: what was seen lately, without waiting for her PDS.
//!
//! `POST /api/record/look` looks again at once and waits for it: the `publish` command asks for that when it has written.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::answer::{Answer, json};
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

impl Seen {
    /// A look begins: its number. Others who ask meanwhile do not look too.
    fn begin(&mut self) -> u64 {
        self.due = Some(Instant::now() + RETRY);
        self.look += 1;
        self.look
    }

    /// A look ends, and counts unless a later one has begun.
    fn end(&mut self, look: u64, now: &RecordNow) {
        if look == self.look {
            let good = now.state != RecordState::Unknown;
            self.due = Some(Instant::now() + if good { GOOD_FOR } else { RETRY });
            self.now = now.clone();
        }
    }
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
    /// Number of the newest look. One that began before another must not overwrite what that one saw.
    look: u64,
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
        let (domain, did) = match self.subject() {
            Ok(subject) => subject,
            Err(unknown) => return unknown,
        };
        let mut seen = self.seen();
        if seen.due.is_none_or(|due| Instant::now() >= due) {
            let look = seen.begin();
            let this = Arc::clone(self);
            tokio::spawn(async move { this.look(look, &did, &domain).await });
        }
        seen.now.clone()
    }

    /// Looks at the record now, whatever was seen lately, and waits for what is there.
    pub async fn look_now(&self) -> RecordNow {
        let (domain, did) = match self.subject() {
            Ok(subject) => subject,
            Err(unknown) => return unknown,
        };
        let look = self.seen().begin();
        self.look(look, &did, &domain).await
    }

    /// This server's name and the owner, or why there is nothing to look at.
    fn subject(&self) -> Result<(String, Did), RecordNow> {
        let domain = self.domain.clone().ok_or_else(|| unknown("this server has no domain"))?;
        let did = self.ownership.did().map_err(|_| unknown("the owner is not known"))?;
        Ok((domain, did))
    }

    /// It was written, and read back.
    pub fn published(&self) {
        let now = RecordNow { state: RecordState::Published, host: self.domain.clone(), reason: None };
        let mut seen = self.seen();
        let look = seen.begin();
        seen.end(look, &now);
    }

    async fn look(&self, look: u64, did: &Did, domain: &str) -> RecordNow {
        let now = self.ask(did, domain).await;
        self.seen().end(look, &now);
        now
    }

    async fn ask(&self, did: &Did, domain: &str) -> RecordNow {
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

pub(super) async fn look(admin: &Admin) -> Answer {
    Ok(json(StatusCode::OK, &admin.record.look_now().await))
}

fn unknown(reason: impl ToString) -> RecordNow {
    RecordNow { reason: Some(reason.to_string()), ..RecordNow::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_began_earlier_does_not_overwrite_a_later_one() {
        let state = |state| RecordNow { state, ..RecordNow::default() };
        let mut seen = Seen::default();
        let (early, late) = (seen.begin(), seen.begin());
        seen.end(late, &state(RecordState::Published));
        seen.end(early, &state(RecordState::Missing));
        assert_eq!(seen.now.state, RecordState::Published);
        assert!(seen.due.is_some_and(|due| due > Instant::now() + RETRY), "it is good for long");
    }
}
