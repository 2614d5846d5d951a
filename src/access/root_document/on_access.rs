//! Root documents together with the store, the sessions and the owner's word.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::offers::{Asking, Device, Presence, RootState, View};
use super::{RootKey, Write, document_of};
use crate::access::audit::{Event, What};
use crate::access::connect::Families;
use crate::access::sessions::Sessions;
use crate::access::state::{State, Underway};
use crate::access::{Access, AccessError, App, Session};
use crate::store::{Op, Store};
use crate::types::{DocKey, Moment, Namespace, now};

/// The document that an app's devices are told to start from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootDocument {
    /// The document's `automerge:` URL.
    pub url: String,
    /// Whether it is stored, or what else holds.
    pub state: RootState,
}

/// What forgetting a root document did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenRoot {
    /// URL of the one that was forgotten.
    pub url: String,
    /// The stored document that took its place, if another one was offered.
    pub next: Option<String>,
}

/// What the store holds of some documents.
#[derive(Default)]
pub(in crate::access) struct Presences(HashMap<String, Presence>);

impl Presences {
    /// Looks a document up unless that was done.
    fn look(&mut self, store: &Store, namespace: &Namespace, url: &str) -> Presence {
        if let Some(presence) = self.0.get(url) {
            return *presence;
        }
        let presence = presence(store, namespace, url);
        self.0.insert(url.into(), presence);
        presence
    }

    pub(in crate::access) fn of(&self, url: &str) -> Presence {
        self.0.get(url).copied().unwrap_or(Presence::Unknown)
    }
}

/// When a device was last connected by the sessions that it still has.
fn last_connected(sessions: &Sessions, families: &Families, app: &App, device: &Device) -> Option<Moment> {
    let of_family = device.family().map(|family| families.sessions_of(family)).unwrap_or_default();
    sessions.last_connected(app, |session| device.has(session, &of_family))
}

fn presence(store: &Store, namespace: &Namespace, url: &str) -> Presence {
    let Some(document) = document_of(url) else { return Presence::Unknown };
    match store.head(&DocKey { namespace: namespace.clone(), document }) {
        Ok(None) => Presence::Absent,
        Ok(Some(head)) if head.deleted.is_some() || head.purged => Presence::Deleted,
        Ok(Some(_)) => Presence::Held,
        Err(error) => {
            tracing::warn!(%error, "whether an app's root document is stored cannot be read, so it stays as it is");
            Presence::Unknown
        }
    }
}

impl Access {
    /// What the store holds of the documents that an entry depends on. Called without the state locked, for it may read
    /// from the disk. An offer that comes meanwhile counts as [`Presence::Unknown`], which changes no binding.
    pub(in crate::access) fn presences(&self, key: &RootKey, offered: Option<&str>) -> Presences {
        let urls = self.state().roots.urls(key);
        let mut all = Presences::default();
        let mut look = |url: &str| all.look(&self.store, &key.app.namespace, url);
        offered.map(&mut look);
        // A binding whose document is stored stays, whatever else was offered.
        for (place, url) in urls.iter().enumerate() {
            if look(url) == Presence::Held && place == 0 {
                break;
            }
        }
        all
    }

    /// The document that an app's devices start from: of one account, or of any if it is not known which.
    pub fn root_document(&self, app: &App, did: Option<&str>) -> Option<RootDocument> {
        let url = self.state().root_of(app, did)?;
        let presence = presence(&self.store, &app.namespace, &url);
        let state = self.state();
        let last_connected = |device: &Device| last_connected(&state.sessions, &state.families, app, device);
        // Another one may have been bound meanwhile: what was read says nothing of it.
        let presence = |asked: &str| if asked == url { presence } else { Presence::Unknown };
        let view = View { now: Moment::now(), presence: &presence, last_connected: &last_connected };
        state.roots.places_of(app, did).iter().find_map(|place| {
            let offers = &state.roots.0.get(place)?.offers;
            Some(RootDocument { url: offers.bound()?.url.clone(), state: offers.state(&view)? })
        })
    }

    /// Forgets the document that an app's devices start from, for the owner. The first offered document that is stored
    /// takes its place, or else the next one that a device offers. The document itself stays as it is.
    ///
    /// # Errors
    /// The app has no root document, or the store could not write (the root document then stays).
    pub async fn forget_root(
        self: &Arc<Self>,
        app: &App,
        did: Option<&str>,
    ) -> Result<ForgottenRoot, AccessError> {
        let urls: Vec<String> = {
            let state = self.state();
            let roots =
                state.roots.places_of(app, did).into_iter().filter_map(|place| state.roots.0.get(&place));
            roots.flat_map(super::urls_of).collect()
        };
        let mut presences = Presences::default();
        for url in urls {
            presences.look(&self.store, &app.namespace, &url);
        }
        let (forgotten, sent) = {
            let mut state = self.state();
            let Some(url) = state.root_of(app, did) else {
                let (client_id, namespace) = (app.client_id.clone(), app.namespace.to_string());
                return Err(AccessError::NoRootDocument { client_id, namespace });
            };
            let event = Event::about(What::RootForgotten, app, now());
            let event = match document_of(&url) {
                Some(document) => event.on_document(document),
                None => event,
            };
            let (place, op) = state.audit.write(event)?;
            let (mut ops, mut underway) = (vec![op], Underway { event: Some(place), ..Underway::default() });
            let next = state.forget_root(app, did, &presences, &mut ops, &mut underway);
            (ForgottenRoot { url, next }, self.send(ops, underway, "forgetting a root document"))
        };
        sent.await?;
        Ok(forgotten)
    }

    /// A socket of the session is still open. Has that written if an answer to the app's devices depends on it, or if the
    /// session's end moves ahead by it.
    pub(in crate::access) fn still_connected(self: &Arc<Self>, session: &Session) {
        let sliding = self.sliding();
        let mut state = self.state();
        if state.is_awaited(session) {
            state.sessions.touch(&session.id, now(), 0);
        }
        state.sessions.slide(&session.id, now(), sliding);
        self.schedule_flush(&mut state);
    }
}

impl State {
    /// The session is of a device whose document is the answer to its app's devices.
    pub(in crate::access) fn is_awaited(&self, session: &Session) -> bool {
        self.roots.is_awaited(session, |family| self.families.sessions_of(family))
    }

    /// What a device that enters is told, and the operation without which that may not be said.
    pub(in crate::access) fn tell_root(
        &mut self,
        key: &RootKey,
        asking: &Asking,
        presences: &Presences,
    ) -> (Option<String>, Write) {
        let Self { roots, sessions, families, .. } = self;
        let last_connected = |device: &Device| last_connected(sessions, families, &key.app, device);
        let presence = |url: &str| presences.of(url);
        let view = View { now: Moment::now(), presence: &presence, last_connected: &last_connected };
        roots.enter(key, asking, &view)
    }

    fn root_of(&self, app: &App, did: Option<&str>) -> Option<String> {
        let places = self.roots.places_of(app, did);
        places.iter().find_map(|place| Some(self.roots.0.get(place)?.offers.bound()?.url.clone()))
    }

    /// Forgets what an app's devices start from: the document that takes its place in the first row.
    fn forget_root(
        &mut self,
        app: &App,
        did: Option<&str>,
        presences: &Presences,
        ops: &mut Vec<Op>,
        underway: &mut Underway,
    ) -> Option<String> {
        let presence = |url: &str| presences.of(url);
        let view = View { now: Moment::now(), presence: &presence, last_connected: &|_| None };
        let mut next = Vec::new();
        for place in self.roots.places_of(app, did) {
            let Some(root) = self.roots.0.get_mut(&place) else { continue };
            if root.offers.forget(&view).is_none() {
                continue;
            }
            root.version += 1;
            let (op, write) = root.write(&place).unzip();
            ops.extend(op);
            underway.roots.extend(write);
            next.push(root.offers.bound().map(|offer| offer.url.clone()));
        }
        next.into_iter().next().flatten()
    }
}
