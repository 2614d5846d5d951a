//! Whose account it is, which app asks, and which key it holds: everything that is read from strangers and verified,
//! and the requests to their servers.
//!
//! [`DidDocument`] says what an account's signing key and PDS are; [`PublicKey`] verifies. [`Http`] sends requests
//! under rules that hold for all of them. Nothing here knows who may do what; that is `access`.

mod address;
pub mod cache;
mod dns;
pub mod document;
mod handle;
pub mod hosts;
pub mod http;
mod http_error;
pub mod key;
mod names;
pub mod pds;
pub mod repo;
pub mod resolve;
#[cfg(test)]
mod testing;
pub mod xrpc;

pub use crate::types::{Did, DidMethod, Handle};
pub use address::is_public;
pub use cache::Freshness;
pub use document::DidDocument;
pub use hosts::Hosts;
pub use http::{Http, HttpOptions, Kind};
pub use http_error::HttpError;
pub use key::PublicKey;
pub use pds::{Probe, Relay};
pub use repo::{Hidden, PdsSession, RecordKey};
pub use resolve::{IdentityOptions, ResolveError, Resolver};
pub use xrpc::PdsError;
