//! Who issues the access tokens of a PDS, and with which keys: the PDS says so (RFC 9728), its authorization server
//! describes itself (RFC 8414; atproto OAuth spec, "Server Metadata").

use std::sync::Arc;

use serde_json::{Map, Value};
use url::Url;

use super::json;
use super::jwks::{Jwks, JwksError, MAX_JWKS_BYTES};
use super::pds::describe_server;
use super::xrpc::PdsError;
use crate::net::{Cache, Freshness, Http, HttpError, Kind};
use crate::types::{Did, origin_url};

/// Largest metadata document in bytes; the reference server's has 2 kB.
pub const MAX_METADATA_BYTES: usize = 64 * 1024;

/// Why a PDS's authorization server is not known for certain. `server` is an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthServerError {
    /// A document cannot be had.
    #[error("who issues the access tokens of {server} cannot be found out: {source}")]
    Fetch {
        /// The PDS.
        server: String,
        /// Why.
        source: HttpError,
    },
    /// The PDS does not say its DID.
    #[error("the PDS does not say its DID: {0}")]
    Did(#[from] PdsError),
    /// A document is refused.
    #[error("the OAuth metadata of {server} cannot be used: {reason}")]
    Metadata {
        /// Whose.
        server: String,
        /// Why.
        reason: String,
    },
    /// The keys are refused.
    #[error("the keys of the authorization server {issuer} cannot be used: {source}")]
    Keys {
        /// Whose.
        issuer: String,
        /// Why.
        source: JwksError,
    },
}

/// A PDS's authorization server: often the PDS itself, or an entryway for many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthServer {
    /// DID of the PDS: the audience of its access tokens.
    pub pds_did: Did,
    /// Exactly as tokens have it in `iss`: an origin without a final slash.
    pub issuer: String,
    /// Keys that verify its access tokens; empty if it keeps them to itself.
    pub jwks: Jwks,
    /// Where the user is sent.
    pub authorization_endpoint: Option<Url>,
    /// Where codes become tokens.
    pub token_endpoint: Option<Url>,
    /// Where authorization requests are left first (PAR, RFC 9126).
    pub pushed_authorization_request_endpoint: Option<Url>,
    /// Where tokens are given back (RFC 7009).
    pub revocation_endpoint: Option<Url>,
}

/// Finds authorization servers; remembers them for a short while ([`crate::net::cache`]).
pub struct AuthServers {
    http: Http,
    known: Cache<Url, Arc<AuthServer>, AuthServerError>,
}

impl AuthServers {
    /// Knows none yet.
    pub fn new(http: Http) -> Self {
        Self { http, known: Cache::new() }
    }

    /// The authorization server of a PDS, given by its origin as its owner's DID document has it.
    ///
    /// # Errors
    /// Something cannot be had now, contradicts itself, or is refused.
    pub async fn of_pds(&self, pds: &Url, freshness: Freshness) -> Result<Arc<AuthServer>, AuthServerError> {
        self.known.get(pds, freshness, discover(self.http.clone(), pds.clone())).await
    }
}

async fn discover(http: Http, pds: Url) -> Result<Arc<AuthServer>, AuthServerError> {
    let pds_did = describe_server(&http, &pds).await?;
    let resource = well_known(&http, &pds, "oauth-protected-resource").await?;
    let issuer = issuer_of(&pds, &resource)?;
    let metadata = well_known(&http, &issuer, "oauth-authorization-server").await?;
    let issuer_text = issuer.origin().ascii_serialization();
    if member(&metadata, "issuer") != Some(&issuer_text) {
        return Err(refused(&issuer, "its issuer is not the address that it was asked at"));
    }
    let endpoint = |name: &str| match metadata.get(name) {
        None => Ok(None),
        Some(text) => {
            let url = text.as_str().and_then(|text| Url::parse(text).ok());
            url.map(Some).ok_or_else(|| refused(&issuer, &format!("its {name} is not a URL")))
        }
    };
    let jwks = match endpoint("jwks_uri")? {
        None => Jwks::none(),
        Some(url) => {
            let bytes = http.get(Kind::Identity, &url, MAX_JWKS_BYTES).await;
            let bytes = bytes.map_err(|source| fetch(&issuer, source))?;
            Jwks::parse(&bytes)
                .map_err(|source| AuthServerError::Keys { issuer: issuer_text.clone(), source })?
        }
    };
    Ok(Arc::new(AuthServer {
        pds_did,
        jwks,
        authorization_endpoint: endpoint("authorization_endpoint")?,
        token_endpoint: endpoint("token_endpoint")?,
        pushed_authorization_request_endpoint: endpoint("pushed_authorization_request_endpoint")?,
        revocation_endpoint: endpoint("revocation_endpoint")?,
        issuer: issuer_text,
    }))
}

async fn well_known(http: &Http, server: &Url, name: &str) -> Result<Map<String, Value>, AuthServerError> {
    let mut url = server.clone();
    url.set_path(&format!("/.well-known/{name}"));
    let bytes = http.get(Kind::Identity, &url, MAX_METADATA_BYTES).await;
    let bytes = bytes.map_err(|source| fetch(server, source))?;
    json::object(&bytes).ok_or_else(|| {
        refused(server, &format!("{name} is not a JSON object in which each name occurs once"))
    })
}

/// The one authorization server that the metadata of this very PDS names.
fn issuer_of(pds: &Url, resource: &Map<String, Value>) -> Result<Url, AuthServerError> {
    if member(resource, "resource").and_then(origin_url).as_ref() != Some(pds) {
        return Err(refused(pds, "its resource is not the PDS"));
    }
    let servers = resource.get("authorization_servers").and_then(Value::as_array);
    let Some([Value::String(issuer)]) = servers.map(Vec::as_slice) else {
        return Err(refused(pds, "it does not name exactly one authorization server"));
    };
    let url = origin_url(issuer).filter(|url| url.origin().ascii_serialization() == *issuer);
    url.ok_or_else(|| refused(pds, "its authorization server is not an https origin without a final slash"))
}

fn member<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}

fn refused(server: &Url, reason: &str) -> AuthServerError {
    AuthServerError::Metadata { server: server.origin().ascii_serialization(), reason: reason.to_owned() }
}

fn fetch(server: &Url, source: HttpError) -> AuthServerError {
    AuthServerError::Fetch { server: server.origin().ascii_serialization(), source }
}
