//! Who the owner is: the DID that is configured, or the one that her handle led to when it was first asked.
//!
//! Handles change hands: a domain lapses, a provider gives a name to somebody else. So a handle is asked once, and the
//! DID is pinned in the store. The pin holds until the configuration names another owner.

use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use super::AccessError;
use crate::atproto::Resolver;
use crate::config::Owner;
use crate::store::{Commit, CommitError, Op, RecordKind, Store};
use crate::types::{Did, Handle};

/// Time until a handle that could not be resolved is asked again; doubled each time.
pub const FIRST_RETRY: Duration = Duration::from_secs(5);
/// The longest such time.
pub const LAST_RETRY: Duration = Duration::from_secs(300);
/// Key of the pin's record.
const PIN: &[u8] = b"owner";

/// Why nobody can act as the owner now; in words for her.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnerUnknown {
    /// The configuration names nobody.
    #[error("this server has no owner yet: set `owner` to your DID or handle in its configuration")]
    NotConfigured,
    /// A handle that has led to no DID so far.
    #[error(
        "the owner's handle {handle} has led to no DID so far, and nobody gets in until it does: {reason}"
    )]
    Unresolved {
        /// As configured.
        handle: Handle,
        /// What is wrong.
        reason: String,
    },
}

/// What a handle led to when it was first asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// As configured then.
    pub handle: Handle,
    /// Where it led.
    pub did: Did,
}

impl Pin {
    /// The pin in the store, if there is one.
    ///
    /// # Errors
    /// The store cannot be read, or the pin is damaged ([`AccessError::Pin`]).
    pub fn read(store: &Store) -> Result<Option<Self>, AccessError> {
        let row = store
            .record(RecordKind::Pin, PIN)
            .map_err(|error| AccessError::read("reading who the owner is", error))?;
        row.map(|row| Self::parse(&row).ok_or(AccessError::Pin)).transpose()
    }

    /// Neither a handle nor a DID has a blank.
    fn parse(row: &[u8]) -> Option<Self> {
        let (handle, did) = std::str::from_utf8(row).ok()?.split_once(' ')?;
        Some(Self { handle: handle.parse().ok()?, did: did.parse().ok()? })
    }

    fn op(&self) -> Op {
        let row = format!("{} {}", self.handle, self.did).into_bytes();
        Op::Record { kind: RecordKind::Pin, key: PIN.into(), row: Some(row) }
    }
}

/// Who the owner of this server is.
pub struct Ownership {
    handle: Option<Handle>,
    commit: Arc<dyn Commit>,
    known: RwLock<Result<Did, OwnerUnknown>>,
}

impl Ownership {
    /// On a store whose pin nothing else writes. A handle without a pin is resolved in the background, until it is
    /// done; call this within a Tokio runtime.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(
        owner: Option<&Owner>,
        store: Arc<Store>,
        commit: Arc<dyn Commit>,
        resolver: Arc<Resolver>,
    ) -> Result<Arc<Self>, AccessError> {
        // A damaged pin is not as good as none: the handle may be somebody else's by now.
        let pin = match Pin::read(&store) {
            Err(AccessError::Pin) => Err(AccessError::Pin),
            read => Ok(read?),
        };
        let known = match (owner, &pin) {
            (None, _) => Err(OwnerUnknown::NotConfigured),
            (Some(Owner::Did(did)), _) => Ok(did.clone()),
            (Some(Owner::Handle(handle)), Ok(Some(pin))) if pin.handle == *handle => Ok(pin.did.clone()),
            (Some(Owner::Handle(handle)), pin) => {
                let reason = match pin {
                    Ok(_) => "it is being asked for the first time".into(),
                    Err(damaged) => damaged.to_string(),
                };
                Err(OwnerUnknown::Unresolved { handle: handle.clone(), reason })
            }
        };
        let handle = match owner {
            Some(Owner::Handle(handle)) => Some(handle.clone()),
            _ => None,
        };
        let this = Arc::new(Self { handle, commit, known: RwLock::new(known.clone()) });
        match (known, pin, owner) {
            (Err(OwnerUnknown::Unresolved { handle, .. }), Ok(_), _) => {
                tokio::spawn(resolve(Arc::downgrade(&this), handle, resolver));
            }
            (Err(OwnerUnknown::Unresolved { reason, .. }), Err(_), _) => {
                tracing::error!(%reason, "nobody gets in as the owner");
            }
            // The setting has changed: the handle, should it be configured again, is asked again.
            (Ok(_), Err(_) | Ok(Some(_)), Some(Owner::Did(_))) => {
                tokio::spawn(unpin(Arc::clone(&this)));
            }
            _ => {}
        }
        Ok(this)
    }

    /// The owner's DID.
    ///
    /// # Errors
    /// Why she is not known: everyone who would act as the owner is to be refused.
    pub fn did(&self) -> Result<Did, OwnerUnknown> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The owner's handle, if the configuration has it instead of her DID.
    pub fn handle(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }

    fn set(&self, known: Result<Did, OwnerUnknown>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// What the handle leads to counts when it is durable, not before: it must not be asked a second time.
    async fn pin(&self, handle: &Handle, did: &Did) -> Result<(), CommitError> {
        let pin = Pin { handle: handle.clone(), did: did.clone() };
        self.commit.make_durable(vec![pin.op()]).await
    }
}

/// Asks until there is an answer, or nobody is left who wants it.
async fn resolve(ownership: Weak<Ownership>, handle: Handle, resolver: Arc<Resolver>) {
    let mut wait = FIRST_RETRY;
    let mut logged = false;
    loop {
        let found = resolver.account(&handle).await;
        let Some(ownership) = ownership.upgrade() else { return };
        let pinned = match found {
            Ok(document) => {
                let pinned = ownership.pin(&handle, document.did()).await;
                pinned.map(|()| document).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match pinned {
            Ok(document) => {
                tracing::info!(%handle, did = %document.did(), "the owner's handle leads to this DID, which is the owner's from now on");
                ownership.set(Ok(document.did().clone()));
                return;
            }
            Err(reason) => {
                if !std::mem::replace(&mut logged, true) {
                    tracing::warn!(%handle, reason, "the owner is not known, so nobody gets in as the owner; it is tried again until it works");
                }
                ownership.set(Err(OwnerUnknown::Unresolved { handle: handle.clone(), reason }));
            }
        }
        drop(ownership);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LAST_RETRY);
    }
}

async fn unpin(ownership: Arc<Ownership>) {
    let op = Op::Record { kind: RecordKind::Pin, key: PIN.into(), row: None };
    if let Err(reason) = ownership.commit.make_durable(vec![op]).await {
        tracing::warn!(%reason, "what the owner's former handle led to is still remembered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_as_written_or_not_at_all() {
        let pin = Pin {
            handle: "alice.example".parse().unwrap(),
            did: "did:plc:ewvi7nxzyoun6zhxrhs64oiz".parse().unwrap(),
        };
        let Op::Record { row: Some(row), .. } = pin.op() else { panic!() };
        assert_eq!(Pin::parse(&row), Some(pin));
        for bad in ["", "alice.example", "alice.example ", "alice.example did:plc:x", "a did:web:b.example"] {
            assert_eq!(Pin::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
