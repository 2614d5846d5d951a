//! Fetches what apps say of themselves, and their keys. Only after the owner is proved: see `access`.

use std::sync::Arc;

use url::Url;

use super::client_id::ClientId;
use super::client_metadata::{ClientKeys, ClientMetadata, MAX_METADATA_BYTES, MetadataError};
use super::jwks::{Jwks, JwksError, MAX_JWKS_BYTES};
use crate::net::{Cache, Freshness, Http, HttpError, Kind};

/// Why nothing is known of an app.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// A loopback client has no metadata.
    #[error("{0} is the name of any program on the user's machine: nothing can be looked up about it")]
    Loopback(ClientId),
    /// Its metadata or keys cannot be had.
    #[error("what the app {client_id} says of itself cannot be fetched: {source}")]
    Fetch {
        /// Which app.
        client_id: ClientId,
        /// Why.
        source: HttpError,
    },
    /// Its metadata or keys are refused.
    #[error("the app {client_id} is described wrongly, its developer can put that right: {source}")]
    Metadata {
        /// Which app.
        client_id: ClientId,
        /// Why.
        source: MetadataError,
    },
}

/// Looks up apps; remembers them for a short while ([`crate::net::cache`]). Clones share what they know.
#[derive(Clone)]
pub struct Clients {
    http: Http,
    metadata: Arc<Cache<ClientId, Arc<ClientMetadata>, ClientError>>,
    /// Key sets that stand at an address of their own, by app and address.
    keys: Arc<Cache<(ClientId, Url), Arc<Jwks>, ClientError>>,
}

impl Clients {
    /// Knows none yet.
    pub fn new(http: Http) -> Self {
        Self { http, metadata: Arc::new(Cache::new()), keys: Arc::new(Cache::new()) }
    }

    /// What an app says of itself.
    ///
    /// # Errors
    /// It is a loopback client, or its metadata cannot be had or is refused.
    pub async fn metadata(
        &self,
        id: &ClientId,
        freshness: Freshness,
    ) -> Result<Arc<ClientMetadata>, ClientError> {
        let Some(url) = id.url() else { return Err(ClientError::Loopback(id.clone())) };
        let (this, app) = (self.clone(), id.clone());
        let ask = async move {
            let bytes = this.fetch(&app, &url, MAX_METADATA_BYTES).await?;
            let metadata = ClientMetadata::parse(&app, &bytes);
            Ok(Arc::new(metadata.map_err(|source| ClientError::Metadata { client_id: app, source })?))
        };
        self.metadata.get(id, freshness, ask).await
    }

    /// An app's published keys; an empty set if it has none. Metadata and key sets are each remembered for
    /// [`crate::net::cache::LIFE`], not one on top of the other: so long a key may count that was taken out.
    ///
    /// # Errors
    /// As [`Clients::metadata`]; the keys cannot be had or are refused; or the app is none of the atproto OAuth profile.
    pub async fn keys(&self, id: &ClientId, freshness: Freshness) -> Result<Arc<Jwks>, ClientError> {
        let metadata = self.metadata(id, freshness).await?;
        if !metadata.is_bound {
            return Err(ClientError::Metadata { client_id: id.clone(), source: MetadataError::NotBound });
        }
        let url = match &metadata.keys {
            ClientKeys::None => return Ok(Arc::new(Jwks::none())),
            ClientKeys::Here(keys) => return Ok(Arc::new(keys.clone())),
            ClientKeys::At(url) => url.clone(),
        };
        let (this, app, at) = (self.clone(), id.clone(), url.clone());
        let ask = async move {
            let bytes = this.fetch(&app, &at, MAX_JWKS_BYTES).await?;
            let wrong = |error: JwksError| ClientError::Metadata { client_id: app, source: error.into() };
            Ok(Arc::new(Jwks::parse(&bytes).map_err(wrong)?))
        };
        self.keys.get(&(id.clone(), url), freshness, ask).await
    }

    async fn fetch(&self, id: &ClientId, url: &Url, limit: usize) -> Result<Vec<u8>, ClientError> {
        let fetched = self.http.get(Kind::App, url, limit).await;
        fetched.map_err(|source| ClientError::Fetch { client_id: id.clone(), source })
    }
}
