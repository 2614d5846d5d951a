//! Which document an app's devices start from. [`offers`] has the rule; this file keeps memory and store in step.
//!
//! A URL is told only with a commit that stores the row that it stands in, or when that row is known to be stored. Each
//! change of a row is a version of it. While a version is not known to be stored, every entry writes the newest one again,
//! so the answer to an entry depends on its own commit only. When the last commit on its way has ended and the newest
//! version is not among what was stored, the store says what holds.
//!
//! A row stays when the app is revoked: the owner may approve the app again, and must then find her documents again.

use std::collections::HashMap;

use super::{App, Session};
use crate::store::{Op, Record, RecordKind, Store};
use crate::types::{DocumentId, Moment};

mod offers;
mod on_access;
#[cfg(test)]
mod tests;

pub use offers::{MAX_OFFERS, RootState};
pub use on_access::{ForgottenRoot, RootDocument};

pub(super) use offers::{Asking, Device};
use offers::{Offer, Offers, Standing, View};
pub(super) use on_access::Presences;

/// Most apps whose root documents are kept; beyond it an app that brings its first is refused.
pub const MAX_ROOT_DOCUMENTS: usize = 2_000;
/// What a row of the first format begins with: it is the URL alone.
const URL_PREFIX: &str = "automerge:";

/// Names a root document: the account and the app that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RootKey {
    pub(super) did: String,
    pub(super) app: App,
}

impl RootKey {
    pub(super) fn of(session: &Session) -> Self {
        Self { did: session.did.clone(), app: session.app() }
    }

    fn key(&self) -> Vec<u8> {
        // A DID has no line break.
        [self.did.as_bytes(), b"\n", &self.app.key()].concat()
    }
}

/// One version of a row that is on its way into the store.
#[derive(Debug)]
pub(super) struct RootWrite {
    place: Vec<u8>,
    version: u64,
}

#[derive(Debug, Default)]
struct Root {
    offers: Offers,
    /// Counts the changes of `offers`.
    version: u64,
    /// The newest version that is known to be stored.
    stored: u64,
    /// Commits on their way that store a version.
    writers: usize,
}

impl Root {
    fn stored(offers: Offers) -> Self {
        Self { offers, version: 1, stored: 1, writers: 0 }
    }

    /// The operation that stores the newest version, if it is not known to be stored.
    fn write(&mut self, place: &[u8]) -> Option<(Op, RootWrite)> {
        if self.version == self.stored {
            return None;
        }
        // Plain texts and numbers always have a JSON form.
        let row = serde_json::to_vec(&self.offers).ok()?;
        self.writers += 1;
        let op = Op::Record { kind: RecordKind::RootDocument, key: place.to_vec(), row: Some(row) };
        Some((op, RootWrite { place: place.to_vec(), version: self.version }))
    }
}

/// The operation without which an answer may not be told, and the version that it stores.
pub(super) type Write = Option<(Op, RootWrite)>;

/// All root documents, by the key of their row.
#[derive(Debug, Default)]
pub(super) struct RootDocuments(HashMap<Vec<u8>, Root>);

impl RootDocuments {
    pub(super) fn load(rows: Vec<Record>) -> Self {
        let read = |(place, row): Record| match read(&row) {
            Some(offers) => Some((place, Root::stored(offers))),
            None => {
                tracing::warn!(
                    "the root document of an app cannot be read; the next offer of its devices counts"
                );
                None
            }
        };
        Self(rows.into_iter().filter_map(read).collect())
    }

    /// There is room for a new row, or there is this one.
    pub(super) fn has_room_for(&self, key: &RootKey) -> bool {
        self.0.len() < MAX_ROOT_DOCUMENTS || self.0.contains_key(&key.key())
    }

    /// URLs whose presence decides an entry: the answer first, then all other offers.
    pub(super) fn urls(&self, key: &RootKey) -> Vec<String> {
        self.0.get(&key.key()).map(urls_of).unwrap_or_default()
    }

    /// A device enters: what it is told, and the operation without which that may not be said.
    pub(super) fn enter(&mut self, key: &RootKey, asking: &Asking, view: &View) -> (Option<String>, Write) {
        let place = key.key();
        let mut offers = self.0.get(&place).map(|root| root.offers.clone()).unwrap_or_default();
        let told = offers.enter(asking, view);
        if offers.offers.is_empty() {
            return (told, None);
        }
        let root = self.0.entry(place.clone()).or_default();
        if root.offers != offers {
            root.offers = offers;
            root.version += 1;
        }
        (told, root.write(&place))
    }

    /// A session ends: if it is of the device whose document is the answer, the row keeps when it was last connected.
    pub(super) fn session_ends(
        &mut self,
        session: &Session,
        connected: Moment,
        of_family: impl Fn(&str) -> Vec<String>,
    ) -> Write {
        let place = RootKey::of(session).key();
        let root = self.0.get_mut(&place)?;
        let device = root.offers.bound_mut()?.device.as_mut()?;
        let sessions = device.family().map(of_family).unwrap_or_default();
        if !device.has(session, &sessions) || device.seen.wall >= connected.wall {
            return None;
        }
        device.seen = connected;
        root.version += 1;
        root.write(&place)
    }

    /// The session is of a device whose document is the answer of its app.
    pub(super) fn is_awaited(&self, session: &Session, of_family: impl Fn(&str) -> Vec<String>) -> bool {
        let root = self.0.get(&RootKey::of(session).key());
        let device = root.and_then(|root| root.offers.bound()?.device.as_ref());
        device.is_some_and(|device| device.has(session, &device.family().map(of_family).unwrap_or_default()))
    }

    /// A commit with an operation that was given here has come to its end.
    pub(super) fn written(&mut self, write: RootWrite, durable: bool, store: &Store) {
        let Some(root) = self.0.get_mut(&write.place) else { return };
        root.writers = root.writers.saturating_sub(1);
        if durable {
            root.stored = root.stored.max(write.version);
        }
        if root.writers > 0 || root.version == root.stored {
            return;
        }
        // A version failed and no later one is on its way. Whether it is in the store after all is for the store to say.
        match store.record(RecordKind::RootDocument, &write.place) {
            Ok(row) => match row.and_then(|row| read(&row)) {
                Some(offers) => {
                    root.offers = offers;
                    root.stored = root.version;
                }
                None => {
                    self.0.remove(&write.place);
                }
            },
            // In doubt nothing is known to be stored, so the next entry writes again what it tells.
            Err(error) => {
                root.stored = 0;
                tracing::error!(%error, "a root document cannot be looked up in the store");
            }
        }
    }

    /// Keys of an app's rows: of one account, or of all if it is not known which.
    fn places_of(&self, app: &App, did: Option<&str>) -> Vec<Vec<u8>> {
        if let Some(did) = did {
            let key = RootKey { did: did.into(), app: app.clone() };
            return vec![key.key()];
        }
        let of_app = [b"\n", &app.key()[..]].concat();
        self.0.keys().filter(|place| place.ends_with(&of_app)).cloned().collect()
    }
}

/// The answer first, then all other offers.
fn urls_of(root: &Root) -> Vec<String> {
    let (bound, others): (Vec<_>, Vec<_>) =
        root.offers.offers.iter().partition(|offer| offer.standing == Standing::Bound);
    bound.into_iter().chain(others).map(|offer| offer.url.clone()).collect()
}

/// Reads a row of either format; `None` if it is damaged.
fn read(row: &[u8]) -> Option<Offers> {
    let text = std::str::from_utf8(row).ok()?;
    let offers = if text.starts_with(URL_PREFIX) {
        let bound = Offer { url: text.into(), standing: Standing::Bound, device: None };
        Offers { offers: vec![bound] }
    } else {
        serde_json::from_str(text).ok()?
    };
    let bound = offers.offers.iter().filter(|offer| offer.standing == Standing::Bound).count();
    let sound = bound <= 1
        && offers.offers.len() <= MAX_OFFERS
        && offers.offers.iter().all(|offer| is_document_url(&offer.url));
    sound.then_some(offers)
}

/// The document that a URL names: `automerge:` and a document id. automerge-repo 2.x also reads `#` and heads after it;
/// 1.x does not, and a view of one moment is nothing to start from.
pub(super) fn document_of(url: &str) -> Option<DocumentId> {
    url.strip_prefix(URL_PREFIX)?.parse().ok()
}

pub(super) fn is_document_url(url: &str) -> bool {
    document_of(url).is_some()
}
