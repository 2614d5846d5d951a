//! Who may do what: sessions and sync tokens.
//!
//! A sync token is a JWT signed with the server's own secret; a session is the row in the store that it
//! names. Both must hold, and every doubt is a refusal. A socket holds a [`Lease`] while it lives; the lease
//! ends when the session is revoked or expires.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use crate::config::Secret;
use crate::store::{Op, Store};
use crate::types::Millis;

mod commit;
mod error;
mod lease;
pub mod secret;
mod session;
mod token;

pub use commit::{Commit, CommitFuture};
pub use error::{AccessError, Refused};
pub use lease::Lease;
pub use session::{LOCAL_CLIENT, LOCAL_DID, MAX_NAME_BYTES, NewSession, Session};
pub use token::MAX_TOKEN_BYTES;

use token::Signer;

/// Most sessions that may exist at once.
pub const MAX_SESSIONS: usize = 10_000;
/// An expired session stays listed this long, so that the owner sees why a device fell silent.
const KEEP_EXPIRED_MS: Millis = 7 * 86_400_000;
/// `last_used` is written at most this often: it is for people, and each write is an fsync.
const LAST_USED_STEP_MS: Millis = 3_600_000;

/// Milliseconds since the Unix epoch, by the machine's clock.
pub fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

/// Sessions and sync tokens of this server.
pub struct Access {
    store: Arc<Store>,
    commit: Arc<dyn Commit>,
    signer: Signer,
    token_life: Duration,
    /// Counts changes of existing sessions; every lease looks its row up again when it moves.
    changes: watch::Sender<u64>,
    /// Held from reading a row to having written it, so that a late `last_used` cannot bring a revoked row back.
    writes: Mutex<()>,
}

impl Access {
    /// On an open store. `token_life` is what a new session gets unless it asks for another.
    pub fn new(
        store: Arc<Store>,
        commit: Arc<dyn Commit>,
        secret: &Secret,
        token_life: Duration,
    ) -> Arc<Self> {
        let signer = Signer::new(secret, store.storage_id());
        Arc::new(Self {
            store,
            commit,
            signer,
            token_life,
            changes: watch::Sender::new(0),
            writes: Mutex::new(()),
        })
    }

    /// Makes a session durable and returns it with its sync token. The token cannot be had a second time.
    ///
    /// # Errors
    /// A name or life out of range, too many sessions, or the store could not write.
    pub async fn create(&self, new: NewSession) -> Result<(String, Session), AccessError> {
        let session = new.into_session(now(), self.token_life)?;
        let token = self.signer.sign(&session)?;
        let _writing = self.writes.lock().await;
        let (gone, kept): (Vec<_>, Vec<_>) = self
            .list()?
            .into_iter()
            .partition(|old| old.expires.saturating_add(KEEP_EXPIRED_MS) <= session.created);
        if kept.len() >= MAX_SESSIONS {
            return Err(AccessError::TooMany);
        }
        let mut ops: Vec<Op> = gone.into_iter().map(|old| Op::Session { id: old.id, row: None }).collect();
        ops.push(session.write()?);
        self.write("creating the session", ops).await?;
        Ok((token, session))
    }

    /// Checks a token and the session behind it at the given time.
    ///
    /// # Errors
    /// Why it is refused, in words that tell the client what to do.
    pub fn verify(&self, token: &str, now: Millis) -> Result<Session, Refused> {
        let claims = self.signer.verify(token)?;
        if now >= claims.expires() {
            return Err(Refused::Expired);
        }
        let session = self.row(&claims.session_id)?.ok_or(Refused::Revoked)?;
        if !claims.speaks_for(&session) {
            return Err(Refused::Invalid("it does not match the session it names"));
        }
        Ok(session)
    }

    /// Verifies a token for a socket that is about to open. Hold the lease while the socket lives, and close
    /// the socket when [`Lease::ended`] returns. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`Access::verify`].
    pub fn admit(self: &Arc<Self>, token: &str) -> Result<Lease, Refused> {
        // Subscribed before the row is read: a revocation in between is either read or heard.
        let changes = self.changes.subscribe();
        let now = now();
        let session = self.verify(token, now)?;
        if session.last_used.is_none_or(|used| now.saturating_sub(used) >= LAST_USED_STEP_MS) {
            tokio::spawn(Self::touch(Arc::clone(self), session.id.clone(), now));
        }
        Ok(Lease::new(Arc::clone(self), session, changes))
    }

    /// All sessions, the oldest first, with those that expired lately.
    ///
    /// # Errors
    /// The store could not be read.
    pub fn list(&self) -> Result<Vec<Session>, AccessError> {
        let rows = self.store.sessions().map_err(|error| AccessError::read("listing sessions", error))?;
        let mut sessions: Vec<Session> = rows
            .iter()
            .filter_map(|(id, row)| {
                let session = Session::read(id, row);
                if session.is_none() {
                    tracing::warn!(session = %id, "a session row cannot be read; its token is refused. Revoke it by its id");
                }
                session
            })
            .collect();
        sessions.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(sessions)
    }

    /// Revokes one session by id, or by name if only one has it: durable first, then its sockets close.
    /// Runs to its end even when the caller stops waiting.
    ///
    /// # Errors
    /// No such session, several of that name, or the store could not write (the session then stays valid).
    pub async fn revoke(self: &Arc<Self>, id_or_name: &str) -> Result<String, AccessError> {
        let this = Arc::clone(self);
        let target = id_or_name.to_owned();
        let task = tokio::spawn(async move {
            let _writing = this.writes.lock().await;
            let id = this.find(&target)?;
            let written =
                this.write("revoking the session", vec![Op::Session { id: id.clone(), row: None }]).await;
            // After a failed commit too: what then counts is what the store says.
            this.changes.send_modify(|n| *n = n.wrapping_add(1));
            written.map(|()| id)
        });
        task.await.map_err(|_| AccessError::Commit {
            what: "revoking the session",
            reason: "the server is stopping".into(),
        })?
    }

    /// The id that a command means.
    fn find(&self, id_or_name: &str) -> Result<String, AccessError> {
        let exact = self
            .store
            .session(id_or_name)
            .map_err(|error| AccessError::read("looking up the session", error))?;
        if exact.is_some() {
            return Ok(id_or_name.to_owned());
        }
        let mut named = self.list()?;
        named.retain(|session| session.name == id_or_name);
        let now = now();
        if named.iter().any(|session| session.expires > now) {
            named.retain(|session| session.expires > now);
        }
        match named.as_slice() {
            [] => Err(AccessError::NotFound(id_or_name.chars().take(MAX_NAME_BYTES).collect())),
            [one] => Ok(one.id.clone()),
            many => Err(AccessError::Ambiguous {
                name: id_or_name.to_owned(),
                ids: many
                    .iter()
                    .map(|s| format!("{} ({})", s.id, s.namespace))
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }

    /// The row as it stands, or the doubt.
    fn row(&self, id: &str) -> Result<Option<Session>, Refused> {
        match self.store.session(id) {
            Ok(None) => Ok(None),
            Ok(Some(row)) => Session::read(id, &row).map(Some).ok_or(Refused::Unverifiable),
            Err(error) => {
                tracing::error!(%error, "a token could not be checked against the store; it is refused");
                Err(Refused::Unverifiable)
            }
        }
    }

    async fn touch(self: Arc<Self>, id: String, now: Millis) {
        let _writing = self.writes.lock().await;
        let Ok(Some(mut session)) = self.row(&id) else { return };
        if session.last_used.is_some_and(|used| now.saturating_sub(used) < LAST_USED_STEP_MS) {
            return;
        }
        session.last_used = Some(now);
        let Ok(op) = session.write() else { return };
        if let Err(error) = self.write("noting when a session was used", vec![op]).await {
            tracing::debug!(%error, session = %id, "last use not noted");
        }
    }

    async fn write(&self, what: &'static str, ops: Vec<Op>) -> Result<(), AccessError> {
        self.commit.make_durable(ops).await.map_err(|reason| AccessError::Commit { what, reason })
    }
}
