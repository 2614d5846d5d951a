//! All sessions, in memory: loaded at the start, looked up without touching the disk.
//!
//! The store is locked by this process, so memory is what the store says; after a failed write it is read again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::sync::watch;

use super::copies::{Copied, Uses};
use super::device::{DeviceKey, EarlierRow, Sliding};
use super::earlier::Earlier;
use super::session::Row;
use super::slot::{Slot, Standing};
use super::{AccessError, App, EnterError, Refused, Session};
use crate::store::{Op, Record, RecordKind, Store};
use crate::types::{Millis, Moment};

/// Most sessions of one app in one namespace; beyond it the one that is longest out of use gives way.
pub const MAX_SESSIONS_PER_APP: usize = 500;

/// A version of a session's row that is on its way into the store.
#[derive(Debug)]
pub(super) struct SessionWrite {
    id: String,
    version: u64,
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
    /// The session of each device, if it is not going.
    by_device: HashMap<DeviceKey, String>,
    /// Ids of sessions that became a device's session, with its id, if it is not going.
    taken_over: HashMap<String, String>,
    /// The same, of those that have a row of their own.
    pub(super) earlier: Earlier,
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
            match (Row::read(&id, row), EarlierRow::read(&id, row)) {
                (Some(row), _) => all.insert_stored(row),
                (None, Some(row)) => all.earlier.insert(row),
                (None, None) => {
                    tracing::warn!(session = %id, "a session row cannot be read; its token is refused. Revoke it by its id");
                    all.doubtful.insert(id.into_owned());
                }
            }
        }
        all
    }

    /// Adds a session whose row is in the store.
    fn insert_stored(&mut self, row: Row) {
        let slot = Slot::new(row, self.next);
        let used = Moment::from(slot.row.session.idle_since());
        self.insert(Slot { stored: slot.version, used, ..slot });
    }

    /// Adds a session whose row is on its way.
    pub(super) fn begin(&mut self, row: Row) -> SessionWrite {
        let slot = Slot { writers: 1, ..Slot::new(row, self.next) };
        let write = SessionWrite { id: slot.row.session.id.clone(), version: slot.version };
        self.insert(slot);
        write
    }

    fn insert(&mut self, slot: Slot) {
        let id = slot.row.session.id.clone();
        self.next += 1;
        self.slots.insert(id.clone(), slot);
        self.index(&id);
    }

    /// A device's session is as this row has it from now on; the row is on its way.
    pub(super) fn renew(&mut self, row: Row) -> Option<SessionWrite> {
        let id = row.session.id.clone();
        self.unindex(&id);
        let slot = self.slots.get_mut(&id)?;
        slot.row = row;
        slot.version += 1;
        slot.writers += 1;
        // The device is there, as one is whose session begins.
        slot.used = Moment::now();
        slot.tell_end();
        let version = slot.version;
        self.index(&id);
        Some(SessionWrite { id, version })
    }

    /// A version of a row has come to its end.
    pub(super) fn written(&mut self, write: &SessionWrite, durable: bool, store: &Store) {
        let Some(slot) = self.slots.get_mut(&write.id) else { return };
        slot.writers = slot.writers.saturating_sub(1);
        if durable {
            slot.stored = slot.stored.max(write.version);
        }
        // A later version has all that an earlier one has. A deletion that is behind this write says what holds when it ends.
        if slot.writers > 0 || slot.stored == slot.version || slot.going {
            return;
        }
        if slot.is_durable() && store.record(RecordKind::Session, write.id.as_bytes()).is_err() {
            // The session was there before and is there still. What memory knows of it is written with the next version.
            return;
        }
        self.reload(&write.id, store);
    }

    fn index(&mut self, id: &str) {
        let Some(Slot { row, number, .. }) = self.slots.get(id) else { return };
        let session = &row.session;
        self.by_expiry.insert((session.expires, id.to_owned()));
        let of_app = self.by_app.entry(session.app()).or_default();
        of_app.insert((session.idle_since(), *number, id.to_owned()));
        if let Some(device) = DeviceKey::of(row) {
            let known = self.by_device.get(&device).and_then(|known| self.slots.get(known));
            // One whose deletion failed does not take the place of the one that came after it.
            if known.is_none_or(|known| known.number <= *number) {
                self.by_device.insert(device, id.to_owned());
            }
        }
        let earlier = row.device.iter().flat_map(|tokens| &tokens.earlier).map(|token| token.id.clone());
        self.taken_over.extend(earlier.map(|earlier| (earlier, id.to_owned())));
    }

    fn unindex(&mut self, id: &str) {
        let Some(Slot { row, number, .. }) = self.slots.get(id) else { return };
        if let Some(device) = DeviceKey::of(row)
            && self.by_device.get(&device).is_some_and(|known| known == id)
        {
            self.by_device.remove(&device);
        }
        for token in row.device.iter().flat_map(|tokens| &tokens.earlier) {
            self.taken_over.remove(&token.id);
        }
        let session = &row.session;
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

    /// The id that a session has now: another one if it became a device's.
    pub(super) fn id_now<'a>(&'a self, id: &'a str) -> &'a str {
        let became = self.taken_over.get(id).map(String::as_str).or_else(|| self.earlier.became(id));
        became.unwrap_or(id)
    }

    /// The row of a session, if it is durable. One that is going still counts: it is out when that is durable.
    pub(super) fn row(&self, id: &str) -> Option<&Row> {
        self.slots.get(id).filter(|slot| slot.is_durable()).map(|slot| &slot.row)
    }

    /// A session whose row is durable, as [`Self::row`] has it.
    pub(super) fn get(&self, id: &str) -> Option<&Session> {
        self.row(id).map(|row| &row.session)
    }

    /// As [`Self::get`], but not one that is going.
    pub(super) fn staying(&self, id: &str) -> Option<&Session> {
        self.slots.get(id).filter(|slot| slot.is_durable() && !slot.going).map(|slot| &slot.row.session)
    }

    /// The session that a device has, also one on its way, for what would be its row if there was none.
    pub(super) fn of_device(&self, row: &Row) -> Option<&Row> {
        let id = self.by_device.get(&DeviceKey::of(row)?)?;
        self.slots.get(id).map(|slot| &slot.row)
    }

    /// Sessions of a device whose deletion is on its way, for what would be its row if there was none.
    pub(super) fn going_of_device(&self, row: &Row) -> Vec<String> {
        let Some(device) = DeviceKey::of(row) else { return Vec::new() };
        let going = self.slots.iter().filter(|(_, slot)| slot.going);
        let of_device = going.filter(|(_, slot)| DeviceKey::of(&slot.row).as_ref() == Some(&device));
        of_device.map(|(id, _)| id.clone()).collect()
    }

    /// With the number of open sockets; those whose row is durable.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Session, usize)> {
        self.slots.values().filter(|slot| slot.is_durable()).map(|slot| (&slot.row.session, slot.live()))
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

    /// The session that gives way to a new one of its app; none if there is room.
    ///
    /// # Errors
    /// All of them are in use.
    pub(super) fn gives_way(&self, app: &App) -> Result<Option<String>, EnterError> {
        let Some(of_app) = self.by_app.get(app).filter(|of_app| of_app.len() >= MAX_SESSIONS_PER_APP) else {
            return Ok(None);
        };
        let unused =
            |id: &&String| self.slots.get(*id).is_some_and(|slot| slot.is_durable() && slot.live() == 0);
        let all_in_use =
            EnterError::TooMany("this app has as many sessions as it may, and all are connected");
        of_app.iter().map(|(.., id)| id).find(unused).map(|id| Some(id.clone())).ok_or(all_in_use)
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
            Ok(None) => {
                let device = self.slots.get(id).and_then(|slot| DeviceKey::of(&slot.row));
                self.remove(id, Refused::Revoked);
                self.earlier.forget(id);
                if let Some(device) = device {
                    self.find_of_device(device);
                }
            }
            Ok(Some(row)) => match Row::read(id, &row) {
                Some(row) => {
                    self.doubtful.remove(id);
                    self.unindex(id);
                    match self.slots.get_mut(id) {
                        Some(slot) => {
                            // When it was used, and from where, is exact in memory only.
                            let last_used = slot.row.session.last_used.max(row.session.last_used);
                            let copied = slot.row.session.copied.take();
                            slot.row = row;
                            slot.row.session.last_used = last_used;
                            slot.row.session.copied = slot.row.session.copied.take().or(copied);
                            slot.stored = slot.version;
                            slot.going = false;
                            slot.tell_end();
                            self.index(id);
                        }
                        None => self.insert_stored(row),
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

    /// A device's newest session could not be stored: the one before it is the device's again, if it stayed.
    fn find_of_device(&mut self, device: DeviceKey) {
        let of_app = self.by_app.get(device.app()).into_iter().flatten();
        let of_device = of_app.filter(|(.., id)| {
            self.slots.get(id).is_some_and(|slot| DeviceKey::of(&slot.row).as_ref() == Some(&device))
        });
        if let Some((.., id)) = of_device.max_by_key(|(_, number, _)| *number) {
            self.by_device.insert(device, id.clone());
        }
    }

    fn doubt(&mut self, id: &str) {
        // Tokens of sessions that it took over are in doubt too.
        let taken_over: Vec<_> = self.taken_over.extract_if(|_, now| now == id).collect();
        self.remove(id, Refused::Unverifiable);
        self.taken_over.extend(taken_over);
        self.doubtful.insert(id.to_owned());
    }

    /// A socket opens: how it will hear that it must close.
    pub(super) fn open(
        &mut self,
        id: &str,
        now: Millis,
        sliding: Sliding,
    ) -> Option<watch::Receiver<Standing>> {
        self.touch(id, now, super::LAST_USED_STEP_MS);
        self.slide(id, now, sliding);
        let slot = self.slots.get_mut(id)?;
        let standing = Standing { expires: slot.row.session.expires, refused: None };
        Some(slot.end.get_or_insert_with(|| watch::Sender::new(standing)).subscribe())
    }

    /// The session is in use now: moves its end ahead if it is a device's, and has that written.
    pub(super) fn slide(&mut self, id: &str, now: Millis, sliding: Sliding) {
        let slot = self.slots.get(id).filter(|slot| !slot.going && slot.row.device.is_some());
        let Some(end) = slot.and_then(|slot| sliding.end(&slot.row.session, now)) else { return };
        self.unindex(id);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.row.session.expires = end;
            slot.tell_end();
        }
        self.index(id);
        self.used.insert(id.to_owned());
    }

    /// Notes that the session is in use now. That is worth writing if its row is older than `step_ms`.
    pub(super) fn touch(&mut self, id: &str, now: Millis, step_ms: Millis) {
        let Some(slot) = self.slots.get(id).filter(|slot| !slot.going) else { return };
        if slot.noted.is_none_or(|noted| now.saturating_sub(noted) >= step_ms) {
            self.used.insert(id.to_owned());
        }
        self.unindex(id);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.row.session.last_used = Some(now);
            slot.used = Moment { wall: now, ..Moment::now() };
        }
        self.index(id);
    }

    /// A session, and from where its sockets come.
    pub(super) fn uses(&mut self, id: &str) -> Option<(&Session, &mut Uses)> {
        self.slots.get_mut(id).map(|slot| (&slot.row.session, &mut slot.uses))
    }

    /// Notes that a token of the session may have been copied, and has that written.
    pub(super) fn set_copied(&mut self, id: &str, copied: Copied) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.row.session.copied = Some(copied);
            self.used.insert(id.to_owned());
        }
    }

    /// When one of an app's sessions that a test picks was last connected; now, if one is.
    pub(super) fn last_connected(&self, app: &App, pick: impl Fn(&Session) -> bool) -> Option<Moment> {
        let of_app = self.by_app.get(app).into_iter().flatten();
        let slots = of_app.filter_map(|(.., id)| self.slots.get(id)).filter(|slot| pick(&slot.row.session));
        slots.map(Slot::last_connected).max_by_key(|moment| moment.wall)
    }

    /// A session, and when it was last connected.
    pub(super) fn with_last_connected(&self, id: &str) -> Option<(&Session, Moment)> {
        self.slots.get(id).map(|slot| (&slot.row.session, slot.last_connected()))
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

    /// The operations that write when sessions were used and end, and the ids of these sessions; none that is going, so that
    /// no deletion is undone.
    pub(super) fn flush(&mut self) -> Result<(Vec<Op>, BTreeSet<String>), AccessError> {
        let ids = std::mem::take(&mut self.used);
        let mut ops = Vec::new();
        for id in &ids {
            if let Some(slot) = self.slots.get_mut(id).filter(|slot| slot.is_durable() && !slot.going) {
                slot.noted = slot.row.session.last_used;
                ops.push(slot.row.write()?);
            }
        }
        Ok((ops, ids))
    }

    /// A flush failed.
    pub(super) fn unflushed(&mut self, ids: BTreeSet<String>) {
        self.used.extend(ids);
    }
}
