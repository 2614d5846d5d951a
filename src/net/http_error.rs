//! Why a request to another server gave nothing.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

/// Why a request gave no usable answer. `url` is the URL without its query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The file of extra authorities is unusable.
    #[error("the certificates in {path} cannot be used: {reason}. Check identity.ca_file", path = path.display())]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The TLS or HTTP library could not be set up.
    #[error("setting up outgoing HTTPS failed: {0}")]
    Setup(String),
    /// Not a URL that may be asked.
    #[error("{url} is not asked: {reason}")]
    Url {
        /// Which.
        url: String,
        /// Why.
        reason: &'static str,
    },
    /// It leads to a private address.
    #[error(
        "{url} is not asked: {address} is not an address on the public internet. If that server is yours, name it in identity.hosts"
    )]
    Private {
        /// Which.
        url: String,
        /// Where it leads.
        address: IpAddr,
    },
    /// DNS knows no address.
    #[error("{url} cannot be reached: its name has no address in DNS. Check the name")]
    NoSuchName {
        /// Which.
        url: String,
    },
    /// No connection, or no HTTP on it.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// Which.
        url: String,
        /// Why.
        reason: String,
    },
    /// It took too long.
    #[error("{url} did not answer within {} s: try again later", after.as_secs_f32())]
    TimedOut {
        /// Which.
        url: String,
        /// How long it was given.
        after: Duration,
    },
    /// Too many requests are under way.
    #[error("{url} was not asked: too many requests to other servers are under way. Try again later")]
    Busy {
        /// Which.
        url: String,
    },
    /// The answer is larger than such an answer can be.
    #[error("{url} answers with more than {limit} bytes, the most that is taken")]
    TooLarge {
        /// Which.
        url: String,
        /// Bytes.
        limit: usize,
    },
    /// It sends elsewhere.
    #[error("{url} answers with a redirect ({status}), and none is followed: use the final address")]
    Redirect {
        /// Which.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// It does not have what was asked for.
    #[error("{url} answers with HTTP status {status} instead of 200")]
    Status {
        /// Which.
        url: String,
        /// HTTP status.
        status: u16,
    },
}

/// A URL as it may be shown: no query, no user name.
pub(crate) fn without_query(url: &Url) -> String {
    const SHOWN: usize = 200;
    let origin = url.origin().ascii_serialization();
    let origin = if origin == "null" { format!("{}:", url.scheme()) } else { origin };
    let path = if url.path() == "/" { "" } else { url.path() };
    format!("{origin}{path}").chars().take(SHOWN).collect()
}
