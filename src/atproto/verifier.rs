//! Proves who asks: whose account it is, which app, and for an access token which key.
//!
//! What the app says is checked first, which costs nothing; only what could be the owner's is asked about elsewhere,
//! and how often that may be in vain is limited. Every doubt is a [`Refusal`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use url::Url;

use super::asking::Asking;
use super::auth_server::AuthServers;
use super::client::Clients;
use super::client_id::ClientId;
use super::client_metadata::ClientMetadata;
use super::document::DidDocument;
use super::jwt::Seconds;
use super::nonce::Nonces;
use super::oauth::{OauthClient, Registration};
use super::refusal::Refusal;
use super::replay::{Replay, ReplayError};
use super::resolve::Resolver;
use crate::net::{Freshness, Http};
use crate::types::Did;

/// How it was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// A published key of the authorization server verified the access token.
    IssuerKey,
    /// The PDS itself answered for the access token.
    Relay,
    /// The PDS told the genuine access token from altered ones.
    Probe,
    /// A service-auth token by the owner's key, with the app's attestation.
    ServiceAuth,
}

/// Proved: the owner's account and an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The owner.
    pub did: Did,
    /// The app: a well-formed id. Whether the owner approved it is for access to judge.
    pub client_id: String,
    /// Thumbprint of the key that the app's session holds.
    pub jkt: Option<String>,
    /// How.
    pub how: How,
    /// Ids of tokens that must not be taken again, and until when.
    pub used: Vec<(String, Seconds)>,
}

/// Under which names this server is known.
#[derive(Debug, Clone)]
pub struct Us {
    /// Origins that apps reach it at.
    origins: Vec<Url>,
    /// Its DID, alone and with the service's fragment; and the origins.
    audiences: Vec<String>,
}

/// The fragment of our service in our DID document.
pub const SERVICE: &str = "#groundmist_sync";

impl Us {
    /// A server at `https://DOMAIN`.
    ///
    /// # Errors
    /// It is no host name.
    pub fn at_domain(domain: &str) -> Result<Self, url::ParseError> {
        Self::at(&[&format!("https://{domain}")], &[domain.to_owned()])
    }

    /// One that only this machine reaches, at a port.
    ///
    /// # Errors
    /// None for any port.
    pub fn at_loopback(port: u16) -> Result<Self, url::ParseError> {
        let hosts = ["localhost", "127.0.0.1", "[::1]"];
        let origins = hosts.map(|host| format!("http://{host}:{port}"));
        let names = ["localhost", "127.0.0.1"].map(|host| format!("{host}%3A{port}"));
        Self::at(&origins.each_ref().map(String::as_str), &names)
    }

    fn at(origins: &[&str], did_names: &[String]) -> Result<Self, url::ParseError> {
        let mut audiences: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        for name in did_names {
            audiences.extend([format!("did:web:{name}"), format!("did:web:{name}{SERVICE}")]);
        }
        let origins = origins.iter().map(|origin| Url::parse(origin)).collect::<Result<_, _>>()?;
        Ok(Self { origins, audiences })
    }

    /// All URLs of a path.
    pub(super) fn urls(&self, path: &str) -> impl Iterator<Item = Url> {
        self.origins.iter().map(move |origin| {
            let mut url = origin.clone();
            url.set_path(path);
            url
        })
    }

    /// Whether an address leads to this server itself.
    fn is_at(&self, url: &Url) -> bool {
        self.origins.iter().any(|origin| origin.origin() == url.origin())
    }

    /// What a token for us may have as its audience: DIDs only, or URLs too.
    pub(super) fn audiences(&self, urls_too: bool) -> Vec<&str> {
        let all = self.audiences.iter().map(String::as_str);
        all.filter(|audience| urls_too || audience.starts_with("did:")).collect()
    }
}

/// Proves who asks.
pub struct Verifier {
    pub(super) us: Us,
    pub(super) http: Http,
    pub(super) resolver: Arc<Resolver>,
    pub(super) auth_servers: AuthServers,
    pub(super) clients: Clients,
    pub(super) nonces: Nonces,
    /// `access.probe`.
    probe: AtomicBool,
    pub(super) asking: Asking,
    proofs: Mutex<Replay>,
}

impl Verifier {
    /// `nonce_secret` is fresh at every start, so that no proof made for an earlier one passes.
    pub fn new(us: Us, http: Http, resolver: Arc<Resolver>, probe: bool, nonce_secret: &[u8; 32]) -> Self {
        Self {
            us,
            auth_servers: AuthServers::new(http.clone()),
            clients: Clients::new(http.clone()),
            http,
            resolver,
            nonces: Nonces::new(nonce_secret),
            probe: AtomicBool::new(probe),
            asking: Asking::new(),
            proofs: Mutex::default(),
        }
    }

    /// What signs the owner in at her PDS, over the same connections.
    pub fn oauth_client(&self, registration: Registration) -> OauthClient {
        OauthClient::new(registration, self.http.clone(), Arc::clone(&self.resolver))
    }

    /// A key, by its thumbprint, that was proved before this start: no flood of forged tokens keeps it out.
    pub fn know(&self, jkt: String) {
        self.asking.know(jkt);
    }

    /// Whether access tokens that nothing else vouches for are tried at the owner's PDS (`access.probe`).
    pub(super) fn may_probe(&self) -> bool {
        self.probe.load(Ordering::Relaxed)
    }

    /// Changes that, from the next token on.
    pub fn set_probe(&self, probe: bool) {
        self.probe.store(probe, Ordering::Relaxed);
    }

    /// Whether an address leads to this server itself.
    pub fn is_this_server(&self, url: &Url) -> bool {
        self.us.is_at(url)
    }

    /// The nonce that a proof has to have, as of now.
    pub fn nonce(&self, now: Seconds) -> String {
        self.nonces.current(now)
    }

    /// What an app says of itself. Only when the owner is proved: her visitors send us nowhere.
    ///
    /// # Errors
    /// It cannot be had, or is refused.
    pub async fn client(&self, id: &ClientId) -> Result<Arc<ClientMetadata>, Refusal> {
        if id.is_loopback() {
            return Ok(Arc::new(ClientMetadata::of_loopback(id)));
        }
        Ok(self.clients.metadata(id, Freshness::Cached).await?)
    }

    /// The owner's document, and where her PDS is.
    pub(super) async fn pds(
        &self,
        owner: &Did,
        freshness: Freshness,
    ) -> Result<(Arc<DidDocument>, Url), Refusal> {
        let document = self.resolver.document(owner, freshness).await?;
        let pds = document.pds().cloned().ok_or(Refusal::NoPds)?;
        Ok((document, pds))
    }

    /// Whether a proof was used. Asked first, so that a copied request costs nobody anything.
    pub(super) fn used(&self, holder: &str, jti: &str, now: Seconds) -> Result<(), Refusal> {
        if self.proofs().knows(holder, jti, now) { Err(ReplayError::Seen.into()) } else { Ok(()) }
    }

    /// Takes note of a proof. Only of one that let somebody in, or strangers could fill the memory.
    pub(super) fn remember(
        &self,
        holder: &str,
        jti: &str,
        until: Seconds,
        now: Seconds,
    ) -> Result<(), Refusal> {
        Ok(self.proofs().remember(holder, jti, until, now)?)
    }

    fn proofs(&self) -> MutexGuard<'_, Replay> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_the_names_of_its_domain() {
        let us = Us::at_domain("sync.example").unwrap();
        let urls: Vec<String> = us.urls("/authenticate").map(String::from).collect();
        assert_eq!(urls, ["https://sync.example/authenticate"]);
        assert_eq!(us.audiences(false), ["did:web:sync.example", "did:web:sync.example#groundmist_sync"]);
        assert!(us.audiences(true).contains(&"https://sync.example"));
        assert!(Us::at_domain("sync example").is_err());
    }

    #[test]
    fn a_server_knows_its_own_addresses() {
        let [named, local] = [Us::at_domain("sync.example").unwrap(), Us::at_loopback(3030).unwrap()];
        for (us, url, ours) in [
            (&named, "https://sync.example/back", true),
            (&named, "https://SYNC.example:443/", true),
            (&named, "https://sync.example:8443/", false),
            (&named, "https://app.sync.example/", false),
            (&named, "com.example.app:/back", false),
            (&local, "http://localhost:3030/back", true),
            (&local, "http://[::1]:3030/", true),
            (&local, "http://127.0.0.1:3031/", false),
        ] {
            assert_eq!(us.is_at(&url.parse().unwrap()), ours, "{url}");
        }
    }
}
