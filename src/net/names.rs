//! Where a URL may lead: to the public internet, to what the owner named, in development to this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use super::address::is_public;
use super::dns::{Dns, DnsError};
use super::http_error::{HttpError, without_query};
use crate::types::Hosts;

/// Longest URL in bytes.
pub const MAX_URL_BYTES: usize = 2048;

/// What names and literal addresses in URLs may lead to.
pub(super) struct Names {
    pub(super) allow_loopback: bool,
    pub(super) hosts: Hosts,
    pub(super) dns: Dns,
}

/// A name leads nowhere that may be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotFound {
    #[error("{0} is not an address on the public internet")]
    Private(IpAddr),
    #[error("{0}")]
    Dns(DnsError),
}

impl Names {
    /// The URL itself. Literal addresses are judged here, as they are never looked up; `Url` has made
    /// `2130706433` and the like into addresses already.
    pub(super) fn check(&self, url: &Url) -> Result<(), HttpError> {
        let refused = |reason| Err(HttpError::Url { url: without_query(url), reason });
        if url.as_str().len() > MAX_URL_BYTES {
            return refused("the URL is too long");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("there is a user name or password in it");
        }
        let (local, literal) = match url.host() {
            Some(url::Host::Domain(name)) => (is_localhost(name), None),
            Some(url::Host::Ipv4(address)) => (address.is_loopback(), Some(IpAddr::V4(address))),
            Some(url::Host::Ipv6(address)) => (address.is_loopback(), Some(IpAddr::V6(address))),
            None => return refused("it names no server"),
        };
        let local = local && self.allow_loopback;
        match url.scheme() {
            "https" => {}
            "http" if local => {}
            _ => return refused("only https: is allowed"),
        }
        match literal {
            Some(address) if !local && !is_public(address) => {
                Err(HttpError::Private { url: without_query(url), address })
            }
            _ => Ok(()),
        }
    }

    /// The addresses to connect to, and no others will be: what is judged is what is used.
    async fn find(&self, name: &str) -> Result<Vec<SocketAddr>, NotFound> {
        if let Some(given) = self.hosts.get(name) {
            return Ok(vec![given]);
        }
        let on_any_port = |address: &IpAddr| SocketAddr::new(*address, 0);
        if is_localhost(name) {
            let here = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return match self.allow_loopback {
                true => Ok(here.iter().map(on_any_port).collect()),
                false => Err(NotFound::Private(here[0])),
            };
        }
        let found = self.dns.addresses(name).await.map_err(NotFound::Dns)?;
        let public: Vec<SocketAddr> =
            found.iter().filter(|address| is_public(**address)).map(on_any_port).collect();
        match (public.is_empty(), found.first()) {
            (false, _) => Ok(public),
            (true, Some(private)) => Err(NotFound::Private(*private)),
            (true, None) => Err(NotFound::Dns(DnsError::NotFound)),
        }
    }
}

/// RFC 6761: `localhost` and all below it are this machine, whatever DNS says.
fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

/// [`Names`] as the HTTP client asks them.
pub(super) struct Finder(pub(super) Arc<Names>);

impl Resolve for Finder {
    fn resolve(&self, name: Name) -> Resolving {
        let names = Arc::clone(&self.0);
        Box::pin(async move {
            let found = names.find(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
