//! Who may do what: verified apps in; grants, sessions and sync tokens out.
//!
//! A sync token is a JWT signed with the server's own secret; a session is the row in the store that it names; an
//! app's session besides needs the owner's approval of that app in that namespace. All must hold, and every doubt is a
//! refusal. A socket holds a [`Lease`] while it lives; the lease ends when the session is revoked or expires.
//!
//! All of it is in memory (`state`). Whoever changes something locks the state, decides, hands the operations to the
//! journal and unlocks: so the order in the store is the order of the decisions, many commits share one fsync, and a
//! revocation comes after everything that it revokes. What a commit means takes effect when it is durable.

use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::config;
use crate::store::{Commit, Op, Store};
use crate::types::{DocKey, Millis, Secret, now};

mod audit;
mod connect;
mod copies;
mod decide;
mod device;
mod earlier;
mod enter;
mod entering;
mod error;
mod flush;
mod grant;
mod lease;
mod owner;
mod pending;
mod root_document;
mod rotation;
pub mod secret;
mod session;
mod sessions;
mod sign_ins;
mod slot;
mod state;
mod token;
mod used;

pub use audit::{Event, MAX_AUDIT, What};
pub use connect::{
    CODE_LIFE_MS, Consent, Exchange, ExchangeError, Exchanged, MAX_CODES, MAX_REFRESH_TOKENS,
    MAX_REFRESH_TOKENS_PER_APP, REFRESH_GRACE_MS, REFRESH_LIFE_MS,
};
pub use copies::{Copied, copied_after};
pub use decide::Decided;
pub use enter::MAX_FIRST_USES;
pub use entering::{EnterError, Entered, Entering, Proof};
pub use error::{AccessError, Refused};
pub use flush::FLUSH_EVERY;
pub use grant::{App, Decision, Grant, MAX_GRANTS};
pub use lease::Lease;
pub use owner::{FIRST_RETRY, LAST_RETRY, OwnerUnknown, Ownership, Pin};
pub use pending::{MAX_PENDING, MAX_PENDING_PER_CLIENT, Pending};
pub use root_document::{ForgottenRoot, MAX_OFFERS, MAX_ROOT_DOCUMENTS, RootDocument, RootState};
pub use rotation::{Rotated, SigningSecret};
pub use session::{LOCAL_CLIENT, LOCAL_DID, MAX_NAME_BYTES, MAX_USER_AGENT_BYTES, NewSession, Session};
pub use sessions::MAX_SESSIONS_PER_APP;
pub use sign_ins::{
    LINK_LIFE_MS, MAX_LINKS, MAX_SIGN_INS, SIGN_IN_IDLE_MS, SIGN_IN_LIFE_MS, SignIn, SignIns,
};
pub use token::MAX_TOKEN_BYTES;
pub use used::{MAX_USED_LIFE_MS, MAX_USED_TOKENS, UsedToken};

use audit::Event as AuditEvent;
use state::{State, Underway};
use token::Signer;

/// Most sessions that may exist at once.
pub const MAX_SESSIONS: usize = 10_000;
/// An expired session stays listed this long, so that the owner sees why a device fell silent.
const KEEP_EXPIRED_MS: Millis = 7 * 86_400_000;
/// `last_used` is written at most this often: it is for people, and each write is an fsync.
const LAST_USED_STEP_MS: Millis = 3_600_000;

/// Apps, sessions and sync tokens of this server.
pub struct Access {
    store: Arc<Store>,
    commit: Arc<dyn Commit>,
    signer: Signer,
    settings: RwLock<config::Access>,
    /// Never held while waiting for a commit.
    state: Mutex<State>,
    /// Held by one decision about apps at a time until it is durable.
    decisions: tokio::sync::Mutex<()>,
    /// Held by one exchange of a code or refresh token at a time until it is durable.
    exchanges: tokio::sync::Mutex<()>,
    /// Shared by those that are given a token, until they have it; held alone by a change of the secret that signs it.
    signing: tokio::sync::RwLock<()>,
}

impl Access {
    /// On an open store that nothing else writes these records to.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn open(
        store: Arc<Store>,
        commit: Arc<dyn Commit>,
        secret: &Secret,
        settings: config::Access,
    ) -> Result<Arc<Self>, AccessError> {
        let state =
            State::load(&store).map_err(|error| AccessError::read("reading who may do what", error))?;
        Ok(Arc::new(Self {
            signer: Signer::new(secret, store.storage_id()),
            store,
            commit,
            settings: RwLock::new(settings),
            state: Mutex::new(state),
            decisions: tokio::sync::Mutex::default(),
            exchanges: tokio::sync::Mutex::default(),
            signing: tokio::sync::RwLock::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> config::Access {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes by other settings from now on; what was decided and given out before stays.
    pub fn reconfigure(&self, settings: config::Access) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Hands operations to the journal; call it with the state locked. What they mean takes effect even if the
    /// caller stops waiting.
    fn send(
        self: &Arc<Self>,
        ops: Vec<Op>,
        underway: Underway,
        what: &'static str,
    ) -> impl Future<Output = Result<(), AccessError>> + use<> {
        let done = self.commit.make_durable(ops);
        let this = Arc::clone(self);
        let task = tokio::spawn(async move {
            let result = done.await;
            this.state().settle(underway, result.is_ok(), &this.store);
            result.map_err(|source| AccessError::Commit { what, source })
        });
        async move { task.await.unwrap_or_else(|_| Err(AccessError::stopping(what))) }
    }

    /// Makes a session durable and returns it with its sync token. The token cannot be had a second time. For tokens
    /// made on the command line; apps come in by [`Access::enter`].
    ///
    /// # Errors
    /// A name or life out of range, too many sessions, revoked meanwhile, or the store could not write.
    pub async fn create(self: &Arc<Self>, new: NewSession) -> Result<(String, Session), AccessError> {
        let now = now();
        let session = new.into_session(now, self.settings().token_life)?;
        let _same_secret = self.signing.read().await;
        let token = self.signer.sign(&session)?;
        let sent = {
            let mut state = self.state();
            let (mut ops, mut underway) = (Vec::new(), Underway::default());
            state.make_room(now, &mut ops, &mut underway)?;
            let event = AuditEvent::about(What::TokenMade, &session.app(), now).session(&session.id);
            let (place, op) = state.audit.write(event)?;
            underway.event = Some(place);
            ops.push(op);
            state.begin(session.clone().into(), &mut ops, &mut underway)?;
            self.send(ops, underway, "creating the session")
        };
        sent.await?;
        match self.state().sessions.staying(&session.id) {
            Some(_) => Ok((token, session)),
            None => Err(AccessError::RevokedMeanwhile),
        }
    }

    /// Checks a token and the session behind it at the given time.
    ///
    /// # Errors
    /// Why it is refused, in words that tell the client what to do.
    pub fn verify(&self, token: &str, now: Millis) -> Result<Session, Refused> {
        let claims = self.signer.verify(token)?;
        self.state().session(&self.store, &claims, now)
    }

    /// Verifies a token for a socket that is about to open. Hold the lease while the socket lives, and close
    /// the socket when [`Lease::ended`] returns.
    ///
    /// # Errors
    /// As [`Access::verify`].
    pub fn admit(self: &Arc<Self>, token: &str) -> Result<Lease, Refused> {
        let (now, sliding) = (now(), self.sliding());
        let claims = self.signer.verify(token)?;
        let (session, end) = {
            let mut state = self.state();
            let session = state.session(&self.store, &claims, now)?;
            let end = state.sessions.open(&session.id, now, sliding).ok_or(Refused::Revoked)?;
            self.schedule_flush(&mut state);
            (session, end)
        };
        Ok(Lease::new(Arc::clone(self), session, claims.tag(), end))
    }

    /// A socket of that session has closed.
    fn closed(self: &Arc<Self>, session: &Session) {
        let mut state = self.state();
        // A document that has not arrived waits for its device for 24 hours from now, also after a restart.
        let step = if state.is_awaited(session) { 0 } else { LAST_USED_STEP_MS };
        state.sessions.touch(&session.id, now(), step);
        self.schedule_flush(&mut state);
    }

    /// All sessions with the number of their open sockets, the oldest first, those that expired lately included.
    pub fn sessions(&self) -> Vec<(Session, usize)> {
        let (state, now) = (self.state(), now());
        let as_it_holds = |session: &Session| {
            let read_only = state.read_only(session).unwrap_or(session.read_only);
            // Tokens made by command are often meant for several machines.
            let copied = session.copied_lately(now).filter(|_| !session.is_local()).cloned();
            Session { read_only, copied, ..session.clone() }
        };
        let mut sessions: Vec<_> =
            state.sessions.all().map(|(session, live)| (as_it_holds(session), live)).collect();
        sessions.sort_by(|(a, _), (b, _)| (a.created, &a.id).cmp(&(b.created, &b.id)));
        sessions
    }

    /// How many sessions there are, those that expired lately included; and how many apps wait for a decision.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.state();
        (state.sessions.len(), state.pending.len())
    }

    /// All decisions about apps, by `client_id` and namespace.
    pub fn grants(&self) -> Vec<Grant> {
        self.state().grants.all().cloned().collect()
    }

    /// The decision about one app, if there is one.
    pub fn decision(&self, app: &App) -> Option<Decision> {
        self.state().grants.get(app)
    }

    /// Whether apps on localhost may be approved (`access.allow_loopback_clients`).
    pub fn allows_loopback_clients(&self) -> bool {
        self.settings().allow_loopback_clients
    }

    /// Apps that wait for a decision, by number.
    pub fn pending(&self) -> Vec<Pending> {
        self.state().pending.list()
    }

    /// Notes what became of a sign-in.
    pub fn note(self: &Arc<Self>, what: What, address: Option<IpAddr>) {
        let mut state = self.state();
        state.audit.note(AuditEvent::new(what, now()).from(address));
        self.schedule_flush(&mut state);
    }

    /// Notes what the owner did with a document; it is written within [`FLUSH_EVERY`].
    pub fn note_document(self: &Arc<Self>, what: What, key: &DocKey) {
        let mut state = self.state();
        state.audit.note(Event::document(what, key, now()));
        self.schedule_flush(&mut state);
    }

    /// The audit trail, the latest last.
    pub fn audit(&self) -> Vec<Event> {
        self.state().audit.list()
    }
}
