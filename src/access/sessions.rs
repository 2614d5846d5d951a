//! All sessions, in memory: loaded at the start, looked up without touching the disk.
//!
//! The store is locked by this process, so memory is what the store says; after a failed write it is read again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::sync::watch;

use super::{App, Refused, Session};
use crate::store::{Record, RecordKind, Store};
use crate::types::{Millis, Moment};

/// Most sessions of one app in one namespace; beyond it the one that is longest out of use gives way.
pub const MAX_SESSIONS_PER_APP: usize = 500;

/// Tells the sockets of one session when they must close.
type End = watch::Sender<Option<Refused>>;

struct Slot {
    session: Session,
    /// Counts up: sessions begin in whole seconds, and many may in one.
    number: u64,
    /// Its row is in the store. Until then nobody has its token.
    durable: bool,
    /// Its deletion is on its way.
    going: bool,
    /// `last_used` in its row.
    noted: Option<Millis>,
    /// When a socket with the session was last opened or closed; if none was, when the session began.
    used: Moment,
    /// Made when the first socket opens.
    end: Option<End>,
}

impl Slot {
    fn live(&self) -> usize {
        self.end.as_ref().map_or(0, watch::Sender::receiver_count)
    }

    fn last_connected(&self) -> Moment {
        if self.live() > 0 { Moment::now() } else { self.used }
    }

    fn close(&mut self, why: Refused) {
        if let Some(end) = self.end.take() {
            end.send_replace(Some(why));
        }
    }
}

/// The index. What is on its way in or out of the store is marked, so that the order of events does not matter.
#[derive(Default)]
pub(super) struct Sessions {
    slots: HashMap<String, Slot>,
    /// Number of the next slot.
    next: u64,
    /// Of what is not going: by app, longest out of use first, and then the one that came first.
    by_app: BTreeMap<App, BTreeSet<(Millis, u64, String)>>,
    /// Of what is not going.
    by_expiry: BTreeSet<(Millis, String)>,
    /// Ids whose row could not be read.
    doubtful: BTreeSet<String>,
    /// Ids whose `last_used` is worth writing.
    used: BTreeSet<String>,
}

impl Sessions {
    pub(super) fn load(rows: &[Record]) -> Self {
        let mut all = Self::default();
        for (key, row) in rows {
            let id = String::from_utf8_lossy(key);
            match Session::read(&id, row) {
                Some(session) => all.insert(session, true),
                None => {
                    tracing::warn!(session = %id, "a session row cannot be read; its token is refused. Revoke it by its id");
                    all.doubtful.insert(id.into_owned());
                }
            }
        }
        all
    }

    /// Adds a session; not `durable` while its row is on its way.
    pub(super) fn insert(&mut self, session: Session, durable: bool) {
        let id = session.id.clone();
        let (noted, number) = (session.last_used, self.next);
        // One that is not stored yet begins now.
        let used = if durable { Moment::from(session.idle_since()) } else { Moment::now() };
        self.next += 1;
        let slot = Slot { session, number, durable, going: false, noted, used, end: None };
        self.slots.insert(id.clone(), slot);
        self.index(&id);
    }

    fn index(&mut self, id: &str) {
        let Some(Slot { session, number, .. }) = self.slots.get(id) else { return };
        self.by_expiry.insert((session.expires, id.to_owned()));
        let of_app = self.by_app.entry(session.app()).or_default();
        of_app.insert((session.idle_since(), *number, id.to_owned()));
    }

    fn unindex(&mut self, id: &str) {
        let Some(Slot { session, number, .. }) = self.slots.get(id) else { return };
        self.by_expiry.remove(&(session.expires, id.to_owned()));
        let app = session.app();
        if let Some(of_app) = self.by_app.get_mut(&app) {
            of_app.remove(&(session.idle_since(), *number, id.to_owned()));
            if of_app.is_empty() {
                self.by_app.remove(&app);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() + self.doubtful.len()
    }

    /// A session whose row is durable. One that is going still counts: it is out when that is durable.
    pub(super) fn get(&self, id: &str) -> Option<&Session> {
        self.slots.get(id).filter(|slot| slot.durable).map(|slot| &slot.session)
    }

    /// As [`Self::get`], but not one that is going.
    pub(super) fn staying(&self, id: &str) -> Option<&Session> {
        self.slots.get(id).filter(|slot| slot.durable && !slot.going).map(|slot| &slot.session)
    }

    /// With the number of open sockets; those whose row is durable.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Session, usize)> {
        self.slots.values().filter(|slot| slot.durable).map(|slot| (&slot.session, slot.live()))
    }

    /// Ids of all, those on their way in and the unreadable included.
    pub(super) fn ids(&self) -> Vec<String> {
        let staying = self.slots.iter().filter(|(_, slot)| !slot.going).map(|(id, _)| id);
        staying.chain(&self.doubtful).cloned().collect()
    }

    /// Ids of an app's, those on their way in included.
    pub(super) fn of_app(&self, app: &App) -> Vec<String> {
        self.by_app.get(app).into_iter().flatten().map(|(.., id)| id.clone()).collect()
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.slots.contains_key(id) || self.doubtful.contains(id)
    }

    /// It is known, and its deletion is not on its way.
    pub(super) fn stays(&self, id: &str) -> bool {
        self.slots.get(id).map_or_else(|| self.doubtful.contains(id), |slot| !slot.going)
    }

    pub(super) fn is_doubtful(&self, id: &str) -> bool {
        self.doubtful.contains(id)
    }

    /// At most `most` that expired before a time, but for those that are to stay.
    pub(super) fn expired(&self, before: Millis, most: usize, stays: impl Fn(&str) -> bool) -> Vec<String> {
        let expired = self.by_expiry.iter().take_while(|(expires, _)| *expires <= before);
        expired.filter(|(_, id)| !stays(id)).take(most).map(|(_, id)| id.clone()).collect()
    }

    /// The session that gives way to a new one of its app: none if there is room, an error if all are in use.
    pub(super) fn gives_way(&self, app: &App) -> Result<Option<String>, ()> {
        let Some(of_app) = self.by_app.get(app).filter(|of_app| of_app.len() >= MAX_SESSIONS_PER_APP) else {
            return Ok(None);
        };
        let unused = |id: &&String| self.slots.get(*id).is_some_and(|slot| slot.durable && slot.live() == 0);
        of_app.iter().map(|(.., id)| id).find(unused).map(|id| Some(id.clone())).ok_or(())
    }

    /// A row has become durable.
    pub(super) fn durable(&mut self, id: &str) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.durable = true;
        }
    }

    /// A deletion is on its way.
    pub(super) fn going(&mut self, id: &str) {
        self.unindex(id);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.going = true;
        }
    }

    /// The row is gone: its sockets close.
    pub(super) fn remove(&mut self, id: &str, why: Refused) {
        self.unindex(id);
        self.doubtful.remove(id);
        self.used.remove(id);
        if let Some(mut slot) = self.slots.remove(id) {
            slot.close(why);
        }
    }

    /// After a failed write, and for an unreadable row: what counts is what the store says. Called with the state
    /// locked, so that a later deletion cannot be undone by what was read before it.
    pub(super) fn reload(&mut self, id: &str, store: &Store) {
        match store.record(RecordKind::Session, id.as_bytes()) {
            Ok(None) => self.remove(id, Refused::Revoked),
            Ok(Some(row)) => match Session::read(id, &row) {
                Some(session) => {
                    self.doubtful.remove(id);
                    match self.slots.get_mut(id) {
                        Some(slot) => {
                            slot.durable = true;
                            slot.going = false;
                            self.index(id);
                        }
                        None => self.insert(session, true),
                    }
                }
                None => self.doubt(id),
            },
            Err(error) => {
                tracing::error!(%error, session = %id, "a session cannot be looked up in the store; its token is refused");
                self.doubt(id);
            }
        }
    }

    fn doubt(&mut self, id: &str) {
        self.remove(id, Refused::Unverifiable);
        self.doubtful.insert(id.to_owned());
    }

    /// A socket opens: how it will hear that it must close.
    pub(super) fn open(&mut self, id: &str, now: Millis) -> Option<watch::Receiver<Option<Refused>>> {
        self.touch(id, now, super::LAST_USED_STEP_MS);
        let slot = self.slots.get_mut(id)?;
        Some(slot.end.get_or_insert_with(|| watch::Sender::new(None)).subscribe())
    }

    /// Notes that the session is in use now. That is worth writing if its row is older than `step_ms`.
    pub(super) fn touch(&mut self, id: &str, now: Millis, step_ms: Millis) {
        let Some(slot) = self.slots.get(id).filter(|slot| !slot.going) else { return };
        if slot.noted.is_none_or(|noted| now.saturating_sub(noted) >= step_ms) {
            self.used.insert(id.to_owned());
        }
        self.unindex(id);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.session.last_used = Some(now);
            slot.used = Moment { wall: now, ..Moment::now() };
        }
        self.index(id);
    }

    /// When one of an app's sessions that a test picks was last connected; now, if one is.
    pub(super) fn last_connected(&self, app: &App, pick: impl Fn(&Session) -> bool) -> Option<Moment> {
        let of_app = self.by_app.get(app).into_iter().flatten();
        let slots = of_app.filter_map(|(.., id)| self.slots.get(id)).filter(|slot| pick(&slot.session));
        slots.map(Slot::last_connected).max_by_key(|moment| moment.wall)
    }

    /// A session, and when it was last connected.
    pub(super) fn with_last_connected(&self, id: &str) -> Option<(&Session, Moment)> {
        self.slots.get(id).map(|slot| (&slot.session, slot.last_connected()))
    }

    /// Closes an app's sockets; its sessions stay.
    pub(super) fn interrupt(&mut self, app: &App, why: Refused) {
        for id in self.of_app(app) {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.close(why);
            }
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.used.is_empty()
    }

    /// Sessions whose `last_used` is to be written; none that is going, so that no deletion is undone.
    pub(super) fn flush(&mut self) -> Vec<Session> {
        let ids = std::mem::take(&mut self.used);
        let mut sessions = Vec::new();
        for id in ids {
            if let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.durable && !slot.going) {
                slot.noted = slot.session.last_used;
                sessions.push(slot.session.clone());
            }
        }
        sessions
    }
}
