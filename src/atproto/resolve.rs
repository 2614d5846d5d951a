//! From a DID or a handle to what its owner says of herself (atproto DID and handle specs).

use std::sync::Arc;

use url::Url;

use super::document::{DidDocument, DocumentError, MAX_DOCUMENT_BYTES};
use crate::net::{Cache, Freshness, Http, HttpError, HttpOptions, Kind, parse_url};
use crate::types::{Did, DidMethod, Handle, public_plc_directory};

/// How to look up identities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityOptions {
    /// Origin of the PLC directory: [`public_plc_directory`].
    pub plc_directory: Url,
    /// How to reach it and all others.
    pub http: HttpOptions,
}

impl Default for IdentityOptions {
    fn default() -> Self {
        Self { plc_directory: public_plc_directory(), http: HttpOptions::default() }
    }
}

/// Why an identity is not known for certain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nobody has it.
    #[error("{0} does not exist, or was given up: check that it is written right")]
    NoSuchDid(Did),
    /// Its document cannot be had.
    #[error("the DID document of {did} cannot be fetched: {source}")]
    Fetch {
        /// Whose.
        did: Did,
        /// Why.
        source: HttpError,
    },
    /// Its document is refused.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A handle that leads to no DID.
    #[error(
        "the handle {handle} leads to no DID: there is no TXT record _atproto.{handle} in DNS, and {https}"
    )]
    NoSuchHandle {
        /// Which.
        handle: Handle,
        /// Why HTTPS did not help.
        https: HttpError,
    },
    /// A handle that leads to several DIDs, or to none in a known form.
    #[error("the handle {handle} leads to no single DID: {reason}")]
    HandleUnclear {
        /// Which.
        handle: Handle,
        /// What is wrong.
        reason: &'static str,
    },
    /// The DID that a handle leads to does not claim it.
    #[error("the handle {handle} leads to {did}, whose DID document does not name it: give the DID instead")]
    NotMutual {
        /// The handle.
        handle: Handle,
        /// Where it leads.
        did: Did,
    },
}

/// Looks up DIDs and handles. Documents are kept for a short while ([`crate::net::cache`]); handles are not.
pub struct Resolver {
    http: Http,
    plc_directory: Url,
    documents: Cache<Did, Arc<DidDocument>, ResolveError>,
}

impl Resolver {
    /// `plc_directory` is an origin, such as [`public_plc_directory`].
    pub fn new(http: Http, plc_directory: Url) -> Self {
        Self { http, plc_directory, documents: Cache::new() }
    }

    /// The document of a DID.
    ///
    /// # Errors
    /// It does not exist, cannot be had now, or is refused.
    pub async fn document(&self, did: &Did, freshness: Freshness) -> Result<Arc<DidDocument>, ResolveError> {
        self.documents.get(did, freshness, self.fetch(did)).await
    }

    fn fetch(&self, did: &Did) -> impl Future<Output = Result<Arc<DidDocument>, ResolveError>> + use<> {
        let (http, did, location) = (self.http.clone(), did.clone(), self.location(did));
        async move {
            let failed = |source| ResolveError::Fetch { did: did.clone(), source };
            let url = location.map_err(failed)?;
            match http.get(Kind::Identity, &url, MAX_DOCUMENT_BYTES).await {
                Ok(bytes) => Ok(Arc::new(DidDocument::parse(&did, &bytes)?)),
                // 410: a did:plc that was given up.
                Err(HttpError::Status { status: 404 | 410, .. }) => Err(ResolveError::NoSuchDid(did.clone())),
                Err(source) => Err(failed(source)),
            }
        }
    }

    fn location(&self, did: &Did) -> Result<Url, HttpError> {
        match did.method() {
            DidMethod::Plc => {
                let mut url = self.plc_directory.clone();
                url.set_path(did.as_str());
                Ok(url)
            }
            DidMethod::Web { host, port } => {
                // This machine has no certificate; `Http` allows it in development only.
                let here = matches!(host, "localhost" | "127.0.0.1");
                let scheme = if here { "http" } else { "https" };
                let port = port.map_or_else(String::new, |port| format!(":{port}"));
                parse_url(&format!("{scheme}://{host}{port}/.well-known/did.json"))
            }
        }
    }

    /// The account of a handle: the DID that it leads to, if that DID's document names the handle as well.
    /// Never from memory, as handles change hands.
    ///
    /// # Errors
    /// It leads to no DID or several, the document cannot be had, or names another handle.
    pub async fn account(&self, handle: &Handle) -> Result<Arc<DidDocument>, ResolveError> {
        let did = super::handle::did_of(&self.http, handle).await?;
        let document = self.documents.get(&did, Freshness::Fresh, self.fetch(&did)).await?;
        if document.names(handle) {
            return Ok(document);
        }
        Err(ResolveError::NotMutual { handle: handle.clone(), did })
    }
}
