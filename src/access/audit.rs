//! The audit trail: what the owner decided, who entered, who was refused. Bounded: two rings of rows in the store.
//!
//! Decisions have a ring of their own, so that no flood of refusals can push them out, and what repeats within an
//! hour is counted, not written again.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{AccessError, App};
use crate::store::{Op, Record, RecordKind, Store};
use crate::types::{DocKey, DocumentId, Millis};

/// Most events that are kept; the oldest give way.
pub const MAX_AUDIT: usize = 2 * RING;
/// Half of it for decisions, half for all else.
const RING: usize = 500;
/// Events alike within this time are one event with a count.
const MERGE_MS: Millis = 3_600_000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The owner let an app read and write.
    Approved,
    /// The owner let an app read.
    ApprovedReadOnly,
    /// `access.approve = "first-use"` let an app in.
    ApprovedOnFirstUse,
    /// The owner refused an app for good.
    Denied,
    /// The owner took an approval back; its sessions ended.
    Revoked,
    /// The owner made a token for a device.
    TokenMade,
    /// The owner ended one session or token.
    SessionRevoked,
    /// The owner ended every session and token.
    AllSessionsRevoked,
    /// The owner had a new signing secret made; every session and token ended.
    SecretRotated,
    /// The owner deleted a document.
    DocumentDeleted,
    /// The owner brought a deleted document back.
    DocumentRestored,
    /// The owner had a deleted document go for good.
    DocumentPurged,
    /// The owner had the document forgotten that an app's devices start from.
    RootForgotten,
    /// An app got a session.
    Entered,
    /// An app was turned away because it is not approved.
    NotApproved,
    /// A denied app was turned away.
    RefusedDenied,
    /// An app on loopback was turned away: any program could claim to be it.
    RefusedLoopback,
    /// A token was used twice: somebody may have copied it.
    RefusedReplay,
    /// A code or refresh token was used twice: somebody may have copied it. What it gave ended.
    EndedByReplay,
    /// An app gave its tokens back.
    AppSignedOut,
    /// A session of a former owner ended when its token or refresh token came.
    FormerOwnerEnded,
    /// A link that signs in once was made on the machine.
    LinkMade,
    /// The owner signed in by such a link.
    SignedInByLink,
    /// The owner signed in on her page.
    SignedIn,
    /// Somebody else signed in at the owner's PDS, and was turned away.
    SignInRefused,
    /// The owner signed out, in one browser or everywhere.
    SignedOut,
}

impl What {
    fn is_decision(self) -> bool {
        !matches!(
            self,
            Self::Entered
                | Self::NotApproved
                | Self::RefusedDenied
                | Self::RefusedLoopback
                | Self::RefusedReplay
                | Self::EndedByReplay
                | Self::SignedIn
                | Self::SignedInByLink
                | Self::SignInRefused
                | Self::AppSignedOut
                | Self::FormerOwnerEnded
                | Self::SignedOut
        )
    }
}

/// One thing that happened, or several alike. Its JSON is the row in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts the events of its ring.
    #[serde(rename = "n")]
    number: u64,
    /// When it first happened.
    pub at: Millis,
    /// When it last happened.
    pub last: Millis,
    /// How often.
    pub count: u64,
    /// What.
    pub what: What,
    /// Which app, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// In which namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Which session, the last one if several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Which document, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// From where, lastly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

impl Event {
    /// About nothing in particular.
    pub(super) fn new(what: What, now: Millis) -> Self {
        Self {
            number: 0,
            at: now,
            last: now,
            count: 1,
            what,
            client_id: None,
            namespace: None,
            session: None,
            document: None,
            address: None,
        }
    }

    /// About an app.
    pub(super) fn about(what: What, app: &App, now: Millis) -> Self {
        let client_id = Some(app.client_id.clone());
        Self { client_id, namespace: Some(app.namespace.to_string()), ..Self::new(what, now) }
    }

    /// About a document.
    pub(super) fn document(what: What, key: &DocKey, now: Millis) -> Self {
        let (namespace, document) = (Some(key.namespace.to_string()), Some(key.document.to_string()));
        Self { namespace, document, ..Self::new(what, now) }
    }

    /// About a document of an app.
    pub(super) fn on_document(self, document: DocumentId) -> Self {
        Self { document: Some(document.to_string()), ..self }
    }

    pub(super) fn session(self, id: &str) -> Self {
        Self { session: Some(id.into()), ..self }
    }

    pub(super) fn from(self, address: Option<IpAddr>) -> Self {
        Self { address, ..self }
    }

    fn place(&self) -> Place {
        Place { decision: self.what.is_decision(), slot: (self.number % RING as u64) as u16 }
    }

    fn repeats(&self, old: &Self) -> bool {
        self.what == old.what
            && self.client_id == old.client_id
            && self.namespace == old.namespace
            && self.at.saturating_sub(old.at) < MERGE_MS
    }
}

/// Where an event is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    decision: bool,
    slot: u16,
}

impl Place {
    fn key(self) -> Vec<u8> {
        let [high, low] = self.slot.to_be_bytes();
        vec![u8::from(self.decision), high, low]
    }
}

/// Both rings.
#[derive(Debug, Default)]
pub(super) struct Audit {
    decisions: VecDeque<Event>,
    others: VecDeque<Event>,
    /// Events whose rows are not as in memory.
    dirty: BTreeSet<Place>,
}

impl Audit {
    pub(super) fn load(rows: &[Record]) -> Self {
        let mut events: Vec<Event> = rows
            .iter()
            .filter_map(|(key, row)| {
                let event: Event = serde_json::from_slice(row).ok()?;
                (event.place().key() == *key).then_some(event)
            })
            .collect();
        events.sort_by_key(|event| event.number);
        let (decisions, others) = events.into_iter().partition(|event| event.what.is_decision());
        Self { decisions, others, dirty: BTreeSet::new() }
    }

    /// Adds an event that is not worth a commit: it is written by the next flush.
    pub(super) fn note(&mut self, event: Event) {
        let place = self.add(event);
        self.dirty.insert(place);
    }

    /// Adds an event; the operation goes into the commit of what it tells.
    pub(super) fn write(&mut self, event: Event) -> Result<(Place, Op), AccessError> {
        let place = self.add(event);
        Ok((place, self.op(place)?))
    }

    fn add(&mut self, mut event: Event) -> Place {
        let decision = event.what.is_decision();
        let ring = if decision { &mut self.decisions } else { &mut self.others };
        if !decision && let Some(old) = ring.iter_mut().rev().find(|old| event.repeats(old)) {
            old.count = old.count.saturating_add(1);
            old.last = event.last;
            old.address = event.address;
            old.session = event.session;
            return old.place();
        }
        event.number = ring.back().map_or(0, |last| last.number.saturating_add(1));
        let (place, number) = (event.place(), event.number);
        ring.push_back(event);
        while ring.front().is_some_and(|oldest| oldest.number + RING as u64 <= number) {
            ring.pop_front();
        }
        place
    }

    fn op(&self, place: Place) -> Result<Op, AccessError> {
        let ring = if place.decision { &self.decisions } else { &self.others };
        let event = ring.iter().rev().find(|event| event.place() == place);
        let row = event.map(serde_json::to_vec).transpose().map_err(AccessError::json)?;
        Ok(Op::Record { kind: RecordKind::Audit, key: place.key(), row })
    }

    /// The commit of an event failed: what counts is what the store says.
    pub(super) fn reload(&mut self, place: Place, store: &Store) {
        let stored = store.record(RecordKind::Audit, &place.key()).ok().flatten();
        let stored = stored.and_then(|row| serde_json::from_slice::<Event>(&row).ok());
        let ring = if place.decision { &mut self.decisions } else { &mut self.others };
        let Some(at) = ring.iter().rposition(|event| event.place() == place) else { return };
        match stored {
            Some(event) if event.number == ring[at].number => ring[at] = event,
            _ => drop(ring.remove(at)),
        }
    }

    /// In the order of their last time, the latest last.
    pub(super) fn list(&self) -> Vec<Event> {
        let mut all: Vec<Event> = self.decisions.iter().chain(&self.others).cloned().collect();
        all.sort_by_key(|event| (event.last, event.number));
        all
    }

    /// Whether a session of an app (`client_id` and namespace) was taken back or given back, as far as is remembered, after a
    /// token of it was given out.
    pub(super) fn has_ended(&self, session: &str, app: (&str, &str), given: Millis) -> bool {
        let is_of_app = |event: &Event| {
            let of = (event.client_id.as_deref(), event.namespace.as_deref());
            of == (Some(app.0), Some(app.1)) && given <= event.last
        };
        self.decisions.iter().chain(&self.others).any(|event| match event.what {
            What::AllSessionsRevoked => given <= event.last,
            What::Revoked | What::Denied => is_of_app(event),
            What::SessionRevoked | What::AppSignedOut | What::FormerOwnerEnded | What::EndedByReplay => {
                // Several alike are one event, which names the last session only.
                event.session.as_deref() == Some(session) || (event.count > 1 && is_of_app(event))
            }
            _ => false,
        })
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The operations that bring the store up to date, and their places.
    pub(super) fn flush(&mut self) -> Result<(Vec<Op>, BTreeSet<Place>), AccessError> {
        let ops = self.dirty.iter().map(|place| self.op(*place)).collect::<Result<_, _>>()?;
        Ok((ops, std::mem::take(&mut self.dirty)))
    }

    /// A flush failed.
    pub(super) fn unflushed(&mut self, places: BTreeSet<Place>) {
        self.dirty.extend(places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(n: usize) -> App {
        App { client_id: format!("https://{n}.example/"), namespace: "xyz.example".parse().unwrap() }
    }

    /// What a store would hold after all writes.
    fn stored(writes: Vec<Op>) -> Vec<Record> {
        let mut rows = std::collections::BTreeMap::new();
        for write in writes {
            let Op::Record { key, row: Some(row), .. } = write else { panic!("{write:?}") };
            rows.insert(key, row);
        }
        rows.into_iter().collect()
    }

    #[test]
    fn a_flood_of_refusals_leaves_decisions_alone() {
        let mut audit = Audit::default();
        let mut writes = vec![audit.write(Event::about(What::Approved, &app(0), 1)).unwrap().1];
        for n in 0..3 * RING {
            writes.push(audit.write(Event::about(What::NotApproved, &app(n), 2)).unwrap().1);
        }
        let list = audit.list();
        assert_eq!(list.len(), RING + 1);
        assert_eq!(
            (list[0].what, list[1].client_id.clone()),
            (What::Approved, Some(app(2 * RING).client_id))
        );
        let rows = stored(writes);
        assert_eq!(rows.len(), RING + 1, "the store is bounded likewise");
        assert_eq!(Audit::load(&rows).list(), list);
    }

    #[test]
    fn what_repeats_within_an_hour_is_counted() {
        let mut audit = Audit::default();
        for (at, what) in
            [(0, What::Entered), (10, What::NotApproved), (20, What::Entered), (MERGE_MS, What::Entered)]
        {
            audit.note(Event::about(what, &app(0), at));
        }
        let counts: Vec<_> = audit.list().iter().map(|event| (event.at, event.last, event.count)).collect();
        assert_eq!(counts, [(10, 10, 1), (0, 20, 2), (MERGE_MS, MERGE_MS, 1)]);
        let (ops, _) = audit.flush().unwrap();
        assert_eq!((ops.len(), audit.is_dirty()), (3, false));
        assert_eq!(Audit::load(&stored(ops)).list(), audit.list());
    }

    #[test]
    fn decisions_are_never_merged() {
        let mut audit = Audit::default();
        for _ in 0..2 {
            audit.note(Event::about(What::Denied, &app(0), 1));
        }
        assert_eq!(audit.list().len(), 2);
    }
}
