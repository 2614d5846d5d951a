//! A new signing secret. All sessions end with the old one; approvals stay, so that devices authenticate again by themselves.
//!
//! The secret lies in a file and the sessions in the store, and both have to change together. So the new secret goes into the store
//! first, in one commit with the end of all sessions: that commit is the change. Then it goes to its file, and out of the store
//! ([`secret::adopt`]). If the process is killed between the two, the next start does that.
//!
//! Refresh tokens stay. The secret does not sign them, a backup has only their hashes, and apps that have one come back by it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use serde::{Deserialize, Serialize};

use super::audit::{Event, What};
use super::secret::{self, NEW_SECRET};
use super::state::Underway;
use super::{Access, AccessError, now};
use crate::directory::Directory;
use crate::store::{Op, RecordKind};
use crate::types::Secret;

const WHAT: &str = "changing the signing secret";

/// The secret that signs sync tokens now, and where it is kept.
pub struct SigningSecret {
    now: RwLock<Secret>,
    /// The data directory; none if the configuration gives the secret.
    kept_in: Option<Arc<Directory>>,
}

impl SigningSecret {
    /// As it was loaded; `kept_in` is the data directory unless the configuration gives the secret.
    pub fn new(secret: Secret, kept_in: Option<Arc<Directory>>) -> Arc<Self> {
        Arc::new(Self { now: RwLock::new(secret), kept_in })
    }

    /// The secret. While the guard is held, no change of it comes to its end.
    pub fn now(&self) -> RwLockReadGuard<'_, Secret> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What ended with the old secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// Sessions of apps, whose devices authenticate again.
    pub sessions: usize,
    /// Tokens made by command, which have to be made anew.
    pub tokens: usize,
    /// Why the new secret, which is in force, is not in its file yet. It is in the store, and the next start puts it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_in_file: Option<String>,
}

impl Access {
    /// Signs with a new secret, and ends all sessions. Runs to its end even when the caller stops waiting.
    ///
    /// # Errors
    /// The configuration gives the secret, there are no random bytes, or the store could not write: then the old secret still
    /// counts, and so do the sessions.
    pub async fn rotate_secret(
        self: &Arc<Self>,
        secret: &Arc<SigningSecret>,
    ) -> Result<Rotated, AccessError> {
        let (this, secret) = (Arc::clone(self), Arc::clone(secret));
        let task = tokio::spawn(async move { this.rotate_now(secret).await });
        task.await.map_err(|_| AccessError::stopping(WHAT))?
    }

    async fn rotate_now(self: &Arc<Self>, secret: Arc<SigningSecret>) -> Result<Rotated, AccessError> {
        let directory = secret.kept_in.clone().ok_or(AccessError::SecretConfigured)?;
        // A token that is being given out is signed with the old secret, and its session would stay.
        let _alone = self.signing.write().await;
        let new = secret::draw().map_err(AccessError::random(WHAT))?;
        let pin = |row| Op::Record { kind: RecordKind::Pin, key: NEW_SECRET.into(), row };
        let (mut ended, sent) = {
            let mut state = self.state();
            let (place, event) = state.audit.write(Event::new(What::SecretRotated, now()))?;
            let mut ops = vec![event, pin(Some(new.as_bytes().to_vec()))];
            let mut underway = Underway { event: Some(place), ..Underway::default() };
            let ids = state.sessions.ids();
            let is_local = |id: &&String| state.sessions.get(id).is_some_and(super::Session::is_local);
            let tokens = ids.iter().filter(is_local).count();
            ids.iter().for_each(|id| state.end(id, &mut ops, &mut underway));
            let ended = Rotated { sessions: ids.len() - tokens, tokens, not_in_file: None };
            (ended, self.send(ops, underway, WHAT))
        };
        if let Err(error) = sent.await {
            // Whether it is in the store after all is for the store to say.
            let stored = self.store.record(RecordKind::Pin, NEW_SECRET).ok().flatten();
            if stored.as_deref() != Some(new.as_bytes()) {
                return Err(error);
            }
        }
        // From here on the new secret counts, whatever else fails: the next start finds it in the store.
        self.signer.replace(&new);
        let put = tokio::task::spawn_blocking(move || {
            // Waits for a backup that is about to read the store, so that it has store and secret of the same time.
            *secret.now.write().unwrap_or_else(PoisonError::into_inner) = new.clone();
            secret::put(&directory, &new)
        });
        let put = put.await.map_or_else(
            |_| Err("the server is stopping".to_owned()),
            |put| put.map_err(|error| error.to_string()),
        );
        match put {
            Ok(()) => {
                if let Err(reason) = self.commit.make_durable(vec![pin(None)]).await {
                    tracing::warn!(%reason, "the new signing secret is in its file, and in the store until the next start");
                }
            }
            Err(reason) => {
                tracing::error!(
                    reason,
                    "the new signing secret is in force, and is not in its file yet: the next start puts it there"
                );
                ended.not_in_file = Some(reason);
            }
        }
        Ok(ended)
    }
}
