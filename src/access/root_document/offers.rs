//! The documents that an app's devices offered to start from, and which of them is the answer to every device.
//!
//! The first offer binds and is answered to every device. The binding gives way in three cases only: its document was
//! deleted; the owner forgot it; or its document is not stored and the device that offered it has not been connected for
//! [`AWAY_MS`]. Then the first offered document that is stored binds, or else the next offer. All of it is decided when a
//! device enters, from what the store holds at that time, so a deletion needs no write here and a crash loses none.
//!
//! Devices repeat the URL that they were told. Such an echo is not an offer: if it were, a document that nobody has
//! would bind again and again. So a URL that was the answer before binds again only if its document is stored, or if
//! the device that offered it first offers it again.

use serde::{Deserialize, Serialize};

use super::super::Session;
use crate::types::{DAY_MS, Millis, Moment};

/// Most offers that are remembered of one app; beyond it the oldest that never was the answer gives way.
pub const MAX_OFFERS: usize = 8;
/// How long a device may be away until its document, if it is not stored, gives way: 24 hours.
pub(super) const AWAY_MS: Millis = DAY_MS;

/// What the store holds of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::access) enum Presence {
    /// A head row, which a quarantined document has too.
    Held,
    /// Nothing was ever stored.
    Absent,
    /// The document is in the bin, or it is purged.
    Deleted,
    /// The store was not asked, or it could not say.
    Unknown,
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// Never was the answer.
    Offered,
    /// The answer to every device; at most one is.
    Bound,
    /// Was the answer, and gave way.
    Former,
    /// Was the answer until the owner forgot it.
    Forgotten,
}

/// Which device offered a document, by all that a later session of the same device may share with its first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::access) struct Device {
    /// Id of the session that offered it; unknown of rows of the first format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<String>,
    /// Key of the refresh tokens that renew the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) family: Option<String>,
    /// Thumbprint of the device's key (RFC 7638).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) jkt: Option<String>,
    /// When the device was last known to be there: at the offer, or when a session of it ended. A session that still
    /// is keeps its own time.
    pub(super) seen: Moment,
}

impl Device {
    pub(in crate::access) fn new(session: &Session, family: Option<&str>, seen: Moment) -> Self {
        let (id, jkt) = (session.id.clone(), session.jkt.clone());
        Self { session: Some(id), family: family.map(str::to_owned), jkt, seen }
    }

    fn is_same(&self, other: &Self) -> bool {
        let same = |ours: &Option<String>, theirs: &Option<String>| ours.is_some() && ours == theirs;
        same(&self.session, &other.session)
            || same(&self.family, &other.family)
            || same(&self.jkt, &other.jkt)
    }

    /// The session is one of this device; `of_family` are the ids of its family's sessions.
    pub(in crate::access) fn has(&self, session: &Session, of_family: &[String]) -> bool {
        self.session.as_deref() == Some(&session.id)
            || of_family.contains(&session.id)
            || (self.jkt.is_some() && self.jkt == session.jkt)
    }

    pub(in crate::access) fn family(&self) -> Option<&str> {
        self.family.as_deref()
    }
}

/// One offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offer {
    pub(super) url: String,
    pub(super) standing: Standing,
    /// Known of an offer that bound when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<Device>,
}

/// Facts from outside the offers that decide which of them binds.
pub(in crate::access) struct View<'a> {
    pub(in crate::access) now: Moment,
    pub(in crate::access) presence: &'a dyn Fn(&str) -> Presence,
    /// When a device's sessions were last connected, if it still has any.
    pub(in crate::access) last_connected: &'a dyn Fn(&Device) -> Option<Moment>,
}

/// A device that enters.
pub(in crate::access) struct Asking<'a> {
    pub(in crate::access) url: Option<&'a str>,
    /// The session may write, so the device can bring the document.
    pub(in crate::access) writes: bool,
    pub(in crate::access) device: Device,
}

/// How the answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootState {
    /// The document is stored.
    Held,
    /// The document has not arrived, and the device that offered it was there within 24 hours.
    Awaited,
    /// The document has not arrived, and the device that offered it is away: the next offer replaces it.
    Lapsed,
    /// The document was deleted: the next offer replaces it.
    Deleted,
}

/// All offers of one app, in the order of their arrival.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offers {
    pub(super) offers: Vec<Offer>,
}

impl Offers {
    /// The one that is the answer, however it stands.
    pub(super) fn bound(&self) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.standing == Standing::Bound)
    }

    pub(super) fn bound_mut(&mut self) -> Option<&mut Offer> {
        self.offers.iter_mut().find(|offer| offer.standing == Standing::Bound)
    }

    fn of_url(&self, url: &str) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.url == url)
    }

    /// How the answer stands, if there is one.
    pub(super) fn state(&self, view: &View) -> Option<RootState> {
        let bound = self.bound()?;
        Some(match (view.presence)(&bound.url) {
            // A doubt changes no binding.
            Presence::Held | Presence::Unknown => RootState::Held,
            Presence::Deleted => RootState::Deleted,
            Presence::Absent => {
                let Some(device) = &bound.device else { return Some(RootState::Awaited) };
                let away = |since: Moment| since.until(view.now) >= AWAY_MS;
                let connected = (view.last_connected)(device);
                if away(device.seen) && connected.is_none_or(away) {
                    RootState::Lapsed
                } else {
                    RootState::Awaited
                }
            }
        })
    }

    /// A device enters: decides what it is told. `None`: nothing; the device has to begin a document.
    pub(super) fn enter(&mut self, asking: &Asking, view: &View) -> Option<String> {
        self.note_device(asking, view);
        self.remember(asking, view);
        if !matches!(self.state(view), Some(RootState::Held | RootState::Awaited)) {
            self.rebind(asking, view);
        }
        if let Some(RootState::Held | RootState::Awaited) = self.state(view) {
            return self.bound().map(|bound| bound.url.clone());
        }
        // A device that only reads cannot bring its document, so its offer does not bind. It still hears its own URL, for
        // many apps take no answer as an order to forget the document that they have.
        let is_unheard = |url: &&str| self.of_url(url).is_none() && (view.presence)(url) != Presence::Deleted;
        asking.url.filter(is_unheard).filter(|_| !asking.writes).map(str::to_owned)
    }

    /// The owner forgets the answer: its URL, if there is one. The first offered document that is stored takes its place.
    pub(super) fn forget(&mut self, view: &View) -> Option<String> {
        let bound = self.bound_mut()?;
        bound.standing = Standing::Forgotten;
        let url = bound.url.clone();
        self.bind_held(view);
        Some(url)
    }

    /// Keeps up when the device of an answer whose document is absent was last there.
    fn note_device(&mut self, asking: &Asking, view: &View) {
        let Some(bound) = self.bound_mut() else { return };
        if (view.presence)(&bound.url) != Presence::Absent {
            return;
        }
        match &mut bound.device {
            // A row of the first format, or a document that a restored store lacks: its time counts from now on.
            device @ None => {
                *device = Some(Device { session: None, family: None, jkt: None, seen: view.now });
            }
            // A device that comes back with its document may have a new session.
            Some(device)
                if asking.writes && asking.url == Some(&bound.url) && device.is_same(&asking.device) =>
            {
                *device = asking.device.clone();
            }
            Some(_) => {}
        }
    }

    /// Adds a new offer to the others if it can ever bind.
    fn remember(&mut self, asking: &Asking, view: &View) {
        let Some(url) = asking.url.filter(|url| self.of_url(url).is_none()) else { return };
        match (view.presence)(url) {
            Presence::Held => {}
            Presence::Absent | Presence::Unknown if asking.writes => {}
            Presence::Absent | Presence::Unknown | Presence::Deleted => return,
        }
        if self.offers.len() >= MAX_OFFERS {
            let first = |standing| self.offers.iter().position(|offer| offer.standing == standing);
            let gives_way = [Standing::Offered, Standing::Former, Standing::Forgotten].map(first);
            if let Some(index) = gives_way.into_iter().flatten().next() {
                self.offers.remove(index);
            }
        }
        self.offers.push(Offer { url: url.into(), standing: Standing::Offered, device: None });
    }

    /// The answer does not stand: binds another offer, if there is one that may.
    fn rebind(&mut self, asking: &Asking, view: &View) {
        if self.bind_held(view) {
            return;
        }
        let Some(url) = asking.url else { return };
        let Some(offer) = self.of_url(url) else { return };
        let is_own = offer.device.as_ref().is_some_and(|device| device.is_same(&asking.device));
        let binds = match ((view.presence)(url), offer.standing) {
            (Presence::Held, _) => true,
            (Presence::Deleted, _) | (_, Standing::Forgotten) => false,
            (_, Standing::Offered) => asking.writes,
            (_, Standing::Bound | Standing::Former) => asking.writes && is_own,
        };
        if binds {
            self.bind(url, Some(asking.device.clone()));
        }
    }

    /// Binds the first offered document that is stored; not one that the owner forgot, unless a device offers it again.
    fn bind_held(&mut self, view: &View) -> bool {
        let may = |offer: &&Offer| matches!(offer.standing, Standing::Offered | Standing::Former);
        let held = self.offers.iter().filter(may).find(|offer| (view.presence)(&offer.url) == Presence::Held);
        let Some(url) = held.map(|offer| offer.url.clone()) else { return false };
        self.bind(&url, None);
        true
    }

    fn bind(&mut self, url: &str, device: Option<Device>) {
        if let Some(bound) = self.bound_mut() {
            bound.standing = Standing::Former;
        }
        if let Some(offer) = self.offers.iter_mut().find(|offer| offer.url == url) {
            offer.standing = Standing::Bound;
            offer.device = device.or(offer.device.take());
        }
    }
}
