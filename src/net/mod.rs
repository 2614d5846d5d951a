//! Requests to other people's servers, all under one set of rules.
//!
//! - [`http`]: the client: HTTPS only, with limits on the time, the size and the number of requests.
//! - `names`, `address`: where a URL may lead; `dns`: how a name is looked up.
//! - [`cache`]: replies and failures, kept for a short while so that requests to this server do not become requests to others.
//!
//! Nothing here knows what a request is about: `atproto` and `listen` decide that.

mod address;
pub mod cache;
mod dns;
pub mod http;
mod http_error;
mod names;

pub use address::is_public;
pub use cache::Freshness;
pub use dns::{Caa, Dns, DnsError};
pub use http::{Http, HttpOptions, Kind};
pub use http_error::HttpError;

pub(crate) use cache::Cache;
pub(crate) use http::parse_url;
pub(crate) use http_error::without_query;
