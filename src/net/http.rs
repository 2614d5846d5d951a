//! Requests to other people's servers, under rules that hold for all of them.
//!
//! HTTPS only, no redirect, no proxy, no cookie; a limit on the time, the bytes and the number of requests; and
//! no connection to a private address, whatever a URL or DNS says.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Method, Request, StatusCode};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Semaphore;
use url::Url;

use super::dns::{Dns, DnsError};
use super::http_error::{HttpError, without_query};
use super::names::{Finder, Names, NotFound};
use crate::types::{Hosts, authorities_in};

/// Time for one request, from its first DNS question to the last byte of its answer.
pub const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Time for the TCP and TLS handshakes in it.
pub const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Most header lines of an answer.
const MAX_HEADERS: usize = 100;
/// Idle connections kept for each server, and for how long.
const IDLE_PER_SERVER: usize = 4;
const IDLE_TIME: Duration = Duration::from_secs(30);
const USER_AGENT: &str = concat!("groundmist-sync/", env!("CARGO_PKG_VERSION"));

/// What a request is for. Each kind has its own places, so that a flood of one leaves room for the others;
/// together they are the most requests that can be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// DIDs, handles, authorization servers: few, and cached.
    Identity,
    /// Client metadata and keys, from servers that an app chose.
    App,
    /// Calls to the owner's PDS.
    Pds,
}

impl Kind {
    /// Requests under way at once, and how long another waits for a place.
    pub const fn limits(self) -> (usize, Duration) {
        match self {
            Self::Identity => (8, Duration::from_secs(5)),
            Self::App => (4, Duration::from_secs(1)),
            Self::Pds => (16, Duration::from_secs(3)),
        }
    }
}

/// How to reach other servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// Allow `http:` and `https:` to this machine itself: for development only.
    pub allow_loopback: bool,
    /// Certificates (PEM) of authorities to trust besides the built-in ones.
    pub ca_file: Option<PathBuf>,
    /// Where to find names instead of by DNS.
    pub hosts: Hosts,
    /// Name servers to ask; the system's if empty.
    pub name_servers: Vec<SocketAddr>,
    /// Time for one request: [`REQUEST_TIME`].
    pub request_time: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            allow_loopback: false,
            ca_file: None,
            hosts: Hosts::default(),
            name_servers: Vec::new(),
            request_time: REQUEST_TIME,
        }
    }
}

/// A whole answer of any status but a redirect.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, within the limit given.
    pub body: Vec<u8>,
}

/// Sends requests. Clones share connections and limits.
#[derive(Clone)]
pub struct Http(Arc<Inner>);

struct Inner {
    client: reqwest::Client,
    names: Arc<Names>,
    identity: Semaphore,
    app: Semaphore,
    pds: Semaphore,
    request_time: Duration,
}

impl Http {
    /// Reads the extra authorities; opens nothing.
    ///
    /// # Errors
    /// `ca_file` is unusable, or TLS cannot be set up.
    pub fn new(options: &HttpOptions) -> Result<Self, HttpError> {
        let names = Arc::new(Names {
            allow_loopback: options.allow_loopback,
            hosts: options.hosts.clone(),
            dns: Dns::new(options.name_servers.clone()),
        });
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(options.ca_file.as_deref())?)
            .dns_resolver(Arc::new(Finder(Arc::clone(&names))))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .http1_only()
            .http1_max_headers(MAX_HEADERS)
            .connect_timeout(CONNECT_TIME)
            .pool_max_idle_per_host(IDLE_PER_SERVER)
            .pool_idle_timeout(IDLE_TIME)
            .user_agent(USER_AGENT)
            .build()
            .map_err(|error| HttpError::Setup(root_cause(&error)))?;
        let places = |kind: Kind| Semaphore::new(kind.limits().0);
        Ok(Self(Arc::new(Inner {
            client,
            names,
            identity: places(Kind::Identity),
            app: places(Kind::App),
            pds: places(Kind::Pds),
            request_time: options.request_time,
        })))
    }

    /// The body of a JSON or text resource of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Http::send`], and for any status but 200.
    pub async fn get(&self, kind: Kind, url: &Url, limit: usize) -> Result<Vec<u8>, HttpError> {
        let mut request = Request::new(Method::GET, url.clone());
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json, text/plain;q=0.9"));
        let answer = self.send(kind, request, limit).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            status => Err(HttpError::Status { url: without_query(url), status: status.as_u16() }),
        }
    }

    /// Whether the rules allow a URL at all; what its name leads to is judged when it is asked.
    ///
    /// # Errors
    /// They do not.
    pub fn may_ask(&self, url: &Url) -> Result<(), HttpError> {
        self.0.names.check(url)
    }

    /// Sends a request and takes an answer of at most `limit` bytes.
    ///
    /// # Errors
    /// The URL or where it leads is not allowed; no whole answer within the limits; a redirect.
    pub async fn send(&self, kind: Kind, request: Request, limit: usize) -> Result<Answer, HttpError> {
        let url = request.url().clone();
        self.0.names.check(&url)?;
        let places = match kind {
            Kind::Identity => &self.0.identity,
            Kind::App => &self.0.app,
            Kind::Pds => &self.0.pds,
        };
        let busy = || HttpError::Busy { url: without_query(&url) };
        let _place = match tokio::time::timeout(kind.limits().1, places.acquire()).await {
            Ok(place) => place.map_err(|_closed| busy())?,
            Err(_) => return Err(busy()),
        };
        let after = self.0.request_time;
        match tokio::time::timeout(after, self.exchange(request, &url, limit)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(HttpError::TimedOut { url: without_query(&url), after }),
        }
    }

    async fn exchange(&self, request: Request, url: &Url, limit: usize) -> Result<Answer, HttpError> {
        let failed = |error: reqwest::Error| self.explain(url, &error);
        let mut response = self.0.client.execute(request).await.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(HttpError::Redirect { url: without_query(url), status: status.as_u16() });
        }
        let too_large = || HttpError::TooLarge { url: without_query(url), limit };
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if chunk.len() > limit - body.len() {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers: std::mem::take(response.headers_mut()), body })
    }

    /// TXT records of a name, under the limits of [`Kind::Identity`]; none if DNS knows none.
    ///
    /// # Errors
    /// DNS does not answer.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, HttpError> {
        let url = format!("dns:{name}");
        let busy = || HttpError::Busy { url: url.clone() };
        let _place = match tokio::time::timeout(Kind::Identity.limits().1, self.0.identity.acquire()).await {
            Ok(place) => place.map_err(|_closed| busy())?,
            Err(_) => return Err(busy()),
        };
        let after = self.0.request_time;
        match tokio::time::timeout(after, self.0.names.dns.txt(name)).await {
            Ok(Ok(texts)) => Ok(texts),
            Ok(Err(DnsError::NotFound)) => Ok(Vec::new()),
            Ok(Err(DnsError::Failed(reason))) => Err(HttpError::Unreachable { url, reason }),
            Err(_) => Err(HttpError::TimedOut { url, after }),
        }
    }

    fn explain(&self, url: &Url, error: &reqwest::Error) -> HttpError {
        let url = without_query(url);
        if error.is_timeout() {
            return HttpError::TimedOut { url, after: CONNECT_TIME.min(self.0.request_time) };
        }
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = source {
            match error.downcast_ref::<NotFound>() {
                Some(NotFound::Private(address)) => return HttpError::Private { url, address: *address },
                Some(NotFound::Dns(DnsError::NotFound)) => return HttpError::NoSuchName { url },
                Some(NotFound::Dns(DnsError::Failed(reason))) => {
                    return HttpError::Unreachable { url, reason: reason.clone() };
                }
                None => source = error.source(),
            }
        }
        HttpError::Unreachable { url, reason: root_cause(error) }
    }
}

/// Parses a URL that this program put together from checked parts.
///
/// # Errors
/// The text is not a URL after all.
pub(crate) fn parse_url(text: &str) -> Result<Url, HttpError> {
    Url::parse(text)
        .map_err(|_| HttpError::Url { url: text.chars().take(80).collect(), reason: "it is not a URL" })
}

/// Trust in Mozilla's authorities, built in so that the binary needs no files, and in those of `ca_file`.
///
/// # Errors
/// The file cannot be read, or holds no certificate, or one that is none of an authority.
pub fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, HttpError> {
    let mut roots = built_in_roots();
    if let Some(path) = ca_file {
        let failed = |reason| HttpError::CaFile { path: path.into(), reason };
        roots.roots.extend(authorities_in(path).map_err(failed)?.roots);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpError::Setup(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Mozilla's authorities.
pub fn built_in_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// The innermost reason; the outer ones repeat the URL.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
