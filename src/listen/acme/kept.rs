//! What the store keeps for certificates: the chain with its key, the account's key, and the attempts.
//!
//! Keys of records name the authority and the domain (or the contact), so that changed settings start afresh and
//! settings that are changed back find what they had.

use std::sync::Arc;

use super::schedule::Attempts;
use crate::store::{Commit, CommitError, Op, RecordKind, Store, StoreError};

/// Reads at once, and writes so that what was written is durable.
#[derive(Clone)]
pub struct Kept {
    store: Arc<Store>,
    commit: Arc<dyn Commit>,
    chain: Vec<u8>,
    attempts: Vec<u8>,
    account: Vec<u8>,
}

impl Kept {
    /// Of one name at one authority, and the account with this contact.
    pub fn new(
        store: Arc<Store>,
        commit: Arc<dyn Commit>,
        directory: &str,
        domain: &str,
        contact: Option<&str>,
    ) -> Self {
        // None of them has a blank.
        let key = |what: &str, of: &str| format!("{what} {directory} {of}").into_bytes();
        Self {
            store,
            commit,
            chain: key("chain", domain),
            attempts: key("attempts", domain),
            account: key("account", contact.unwrap_or_default()),
        }
    }

    fn read(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.store.record(RecordKind::Certificate, key).unwrap_or_else(|error| {
            tracing::error!(%error, "what is kept for the certificate cannot be read; it is gone without");
            None
        })
    }

    /// Private key and chain (PEM), as last put there.
    pub fn chain(&self) -> Option<Vec<u8>> {
        self.read(&self.chain)
    }

    /// The account's private key (PKCS #8).
    pub fn account(&self) -> Option<Vec<u8>> {
        self.read(&self.account)
    }

    /// None so far if there is no row, or a damaged one.
    pub fn attempts(&self) -> Attempts {
        let row = self.read(&self.attempts);
        row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default()
    }

    /// Writes what the attempts have come to.
    /// # Errors
    /// The attempts are not durable.
    pub async fn put_attempts(&self, attempts: &Attempts) -> Result<(), CommitError> {
        self.commit.make_durable(vec![self.attempts_op(attempts)?]).await
    }

    /// Writes a certificate and what its attempts have come to, both or neither.
    /// # Errors
    /// Neither is durable.
    pub async fn put_chain(&self, pem: &[u8], attempts: &Attempts) -> Result<(), CommitError> {
        let ops = vec![op(&self.chain, Some(pem.into())), self.attempts_op(attempts)?];
        self.commit.make_durable(ops).await
    }

    /// Writes the account's key, or that there is none any more.
    /// # Errors
    /// The key, or its absence, is not durable.
    pub async fn put_account(&self, key: Option<&[u8]>) -> Result<(), CommitError> {
        self.commit.make_durable(vec![op(&self.account, key.map(Into::into))]).await
    }

    /// Never writes an empty record where JSON fails: a server without its attempts would ask the authority too often.
    fn attempts_op(&self, attempts: &Attempts) -> Result<Op, CommitError> {
        let row = serde_json::to_vec(attempts).map_err(|error| StoreError::Order {
            object: "the attempts at a certificate".into(),
            detail: error.to_string(),
        })?;
        Ok(op(&self.attempts, Some(row)))
    }
}

fn op(key: &[u8], row: Option<Vec<u8>>) -> Op {
    Op::Record { kind: RecordKind::Certificate, key: key.into(), row }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    #[tokio::test]
    async fn each_authority_and_name_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { cache_bytes: 1 << 20 };
        let store = Arc::new(Store::open(&dir.path().join("s.redb"), &options).unwrap());
        let kept = |directory: &str, domain: &str, contact: Option<&str>| {
            Kept::new(store.clone(), Arc::new(store.clone()), directory, domain, contact)
        };
        let one = kept("https://ca.example/dir", "a.example", None);
        let mut attempts = Attempts::default();
        attempts.asked(7);
        one.put_chain(b"pem", &attempts).await.unwrap();
        one.put_account(Some(b"key")).await.unwrap();
        assert_eq!((one.chain().unwrap(), one.attempts()), (b"pem".to_vec(), attempts));
        let renamed = kept("https://ca.example/dir", "b.example", None);
        assert_eq!((renamed.chain(), renamed.attempts()), (None, Attempts::default()));
        assert_eq!(renamed.account().unwrap(), b"key", "an account is not for one name");
        assert_eq!(kept("https://ca.example/dir", "a.example", Some("me@a.example")).account(), None);
        assert_eq!(kept("https://other.example/dir", "a.example", None).account(), None);
        one.put_account(None).await.unwrap();
        assert_eq!(one.account(), None);
        store.commit(&[op(&one.attempts, Some(b"{damaged".to_vec()))]).unwrap();
        assert_eq!(one.attempts(), Attempts::default());
    }
}
