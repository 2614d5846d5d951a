//! ATProto: identities, their keys and documents, and the requests to the servers that hold them.
//!
//! Knows nothing of who may do what here; that is `access`.

mod address;
mod dns;
mod hosts;
mod http;
mod http_error;
mod names;

pub use address::is_public;
pub use hosts::Hosts;
pub use http::{Answer, CONNECT_TIME, Http, HttpOptions, Kind, REQUEST_TIME};
pub use http_error::HttpError;
pub use names::MAX_URL_BYTES;
