//! Proves who asks: whose account it is, which app, and for an access token which key.
//!
//! What the app says is checked first, which costs nothing; only what could be the owner's is asked about elsewhere,
//! and how often that may be in vain is limited. Every doubt is a [`Refusal`].

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use super::auth_server::AuthServers;
use super::cache::Freshness;
use super::client::Clients;
use super::document::DidDocument;
use super::http::Http;
use super::jwt::Seconds;
use super::limiter::{Limiter, place_of};
use super::nonce::Nonces;
use super::refusal::Refusal;
use super::replay::Replay;
use super::resolve::Resolver;
use crate::types::Did;

/// Tokens that the owner's PDS was asked about in vain, a minute, from one place.
pub const UNPROVEN_PER_PLACE: u64 = 20;
/// The same from everywhere. Each may cost the PDS three requests.
pub const UNPROVEN: u64 = 120;
const MINUTE_US: u64 = 60_000_000;

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
    /// The app; any URL-like text, to be judged by who decides about apps.
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
    pub(super) probe: bool,
    proofs: Mutex<Replay>,
    unproven: Mutex<(Limiter<IpAddr>, Limiter<()>)>,
    started: Instant,
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
            probe,
            proofs: Mutex::default(),
            unproven: Mutex::new((
                Limiter::new(UNPROVEN_PER_PLACE, MINUTE_US),
                Limiter::new(UNPROVEN, MINUTE_US),
            )),
            started: Instant::now(),
        }
    }

    /// The nonce that a proof has to have, as of now.
    pub fn nonce(&self, now: Seconds) -> String {
        self.nonces.current(now)
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

    pub(super) fn remember(
        &self,
        holder: &str,
        jti: &str,
        until: Seconds,
        now: Seconds,
    ) -> Result<(), Refusal> {
        let mut proofs = self.proofs.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(proofs.remember(holder, jti, until, now)?)
    }

    /// Asking elsewhere about a token that proves nothing by itself; [`Asking::was_worth_it`] if it did in the end.
    pub(super) fn ask(&self, from: Option<IpAddr>) -> Result<Asking<'_>, Refusal> {
        let place = from.map(place_of);
        let now = u64::try_from(self.started.elapsed().max(Duration::from_micros(1)).as_micros())
            .unwrap_or(u64::MAX);
        let mut limits = self.unproven();
        if let Some(place) = place {
            limits.0.take(place, now).map_err(|_| Refusal::TooManyUnproven)?;
        }
        limits.1.take((), now).map_err(|_| Refusal::TooManyUnproven)?;
        drop(limits);
        Ok(Asking { verifier: self, place })
    }

    fn unproven(&self) -> MutexGuard<'_, (Limiter<IpAddr>, Limiter<()>)> {
        self.unproven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts as in vain unless it says otherwise.
pub(super) struct Asking<'a> {
    verifier: &'a Verifier,
    place: Option<IpAddr>,
}

impl Asking<'_> {
    pub(super) fn was_worth_it(self) {
        let mut limits = self.verifier.unproven();
        if let Some(place) = self.place {
            limits.0.give_back(&place);
        }
        limits.1.give_back(&());
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
    fn asking_in_vain_is_limited_by_place_and_in_total() {
        let http = Http::new(&super::super::HttpOptions::default()).unwrap();
        let resolver = Arc::new(Resolver::new(http.clone(), super::super::resolve::public_plc_directory()));
        let us = Us::at_loopback(1).unwrap();
        let verifier = Verifier::new(us, http, resolver, true, &[1; 32]);
        let place = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
        for _ in 0..1000 {
            verifier.ask(place(1)).unwrap().was_worth_it();
        }
        for _ in 0..UNPROVEN_PER_PLACE {
            assert!(verifier.ask(place(1)).is_ok());
        }
        assert!(matches!(verifier.ask(place(1)), Err(Refusal::TooManyUnproven)));
        for n in 2..7 {
            for _ in 0..UNPROVEN_PER_PLACE {
                assert!(verifier.ask(place(n)).is_ok());
            }
        }
        assert!(matches!(verifier.ask(place(8)), Err(Refusal::TooManyUnproven)), "all together");
    }
}
