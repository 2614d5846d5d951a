//! Records in the owner's repository: read by anyone, written with an app password (the command `publish`) or a token.

use std::fmt;

use reqwest::Request;
use serde_json::{Value, json};
use url::Url;

use super::xrpc::{self, PdsError};
use crate::net::Http;
use crate::types::Did;

/// A secret text that no error, log or `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// Takes it over.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// For the request that it is sent in.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// Names a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordKey {
    /// In whose repository.
    pub repo: Did,
    /// NSID of its collection.
    pub collection: String,
    /// Its key in the collection.
    pub rkey: String,
}

impl RecordKey {
    fn input(&self) -> Value {
        json!({ "repo": self.repo.as_str(), "collection": self.collection, "rkey": self.rkey })
    }

    /// The call that writes a record, new or in place of the old one (`com.atproto.repo.putRecord`).
    pub(super) fn put(&self, pds: &Url, record: &Value) -> Request {
        let mut input = self.input();
        input["record"] = record.clone();
        xrpc::procedure(pds, "com.atproto.repo.putRecord", Some(&input))
    }
}

/// Signed in with an app password. End it with [`PdsSession::delete`].
#[derive(Debug)]
pub struct PdsSession {
    pds: Url,
    did: Did,
    access: Hidden,
    refresh: Hidden,
}

impl PdsSession {
    /// Signs in (`com.atproto.server.createSession`).
    ///
    /// # Errors
    /// The PDS refuses or cannot be reached.
    pub async fn create(
        http: &Http,
        pds: &Url,
        identifier: &str,
        password: &Hidden,
    ) -> Result<Self, PdsError> {
        let input = json!({ "identifier": identifier, "password": password.reveal() });
        let request = xrpc::procedure(pds, "com.atproto.server.createSession", Some(&input));
        let said = xrpc::send(http, request).await?.success().map_err(|error| match error {
            PdsError::Refused { call, code, .. } if code == "AuthFactorTokenRequired" => {
                PdsError::SecondFactor(call)
            }
            PdsError::Refused { call, code, .. } if code == "AuthenticationRequired" => {
                PdsError::WrongPassword(call)
            }
            other => other,
        })?;
        Ok(Self {
            pds: pds.clone(),
            did: said.text("did")?.parse().map_err(|_| said.odd("its did is not a DID".into()))?,
            access: Hidden(said.text("accessJwt")?.into()),
            refresh: Hidden(said.text("refreshJwt")?.into()),
        })
    }

    /// Whose account it is.
    pub fn did(&self) -> &Did {
        &self.did
    }

    /// Writes a record, new or in place of the old one (`com.atproto.repo.putRecord`). The AT URI of it.
    ///
    /// # Errors
    /// The PDS refuses or cannot be reached.
    pub async fn put_record(&self, http: &Http, key: &RecordKey, record: &Value) -> Result<String, PdsError> {
        let said = self.send(http, key.put(&self.pds, record)).await?;
        Ok(said.text("uri")?.to_owned())
    }

    /// Removes a record; fine if there is none (`com.atproto.repo.deleteRecord`).
    ///
    /// # Errors
    /// The PDS refuses or cannot be reached.
    pub async fn delete_record(&self, http: &Http, key: &RecordKey) -> Result<(), PdsError> {
        let request = xrpc::procedure(&self.pds, "com.atproto.repo.deleteRecord", Some(&key.input()));
        self.send(http, request).await.map(drop)
    }

    /// Signs out, so that the PDS forgets the tokens (`com.atproto.server.deleteSession`).
    ///
    /// # Errors
    /// The PDS refuses or cannot be reached: they then end by themselves.
    pub async fn delete(self, http: &Http) -> Result<(), PdsError> {
        let mut request = xrpc::procedure(&self.pds, "com.atproto.server.deleteSession", None);
        xrpc::authorize(&mut request, "Bearer", self.refresh.reveal())?;
        xrpc::send(http, request).await?.success().map(drop)
    }

    async fn send(&self, http: &Http, mut request: Request) -> Result<xrpc::Said, PdsError> {
        xrpc::authorize(&mut request, "Bearer", self.access.reveal())?;
        xrpc::send(http, request).await?.success()
    }
}

/// The value of a record, as anyone sees it; `None` if there is none (`com.atproto.repo.getRecord`).
///
/// # Errors
/// The PDS refuses or cannot be reached.
pub async fn get_record(http: &Http, pds: &Url, key: &RecordKey) -> Result<Option<Value>, PdsError> {
    let parameters = [("repo", key.repo.as_str()), ("collection", &key.collection), ("rkey", &key.rkey)];
    let said = xrpc::send(http, xrpc::query(pds, "com.atproto.repo.getRecord", &parameters)).await?;
    if said.code() == Some("RecordNotFound") {
        return Ok(None);
    }
    let said = said.success()?;
    match said.body.get("value") {
        Some(value) => Ok(Some(value.clone())),
        None => Err(said.odd("it has no value".into())),
    }
}
