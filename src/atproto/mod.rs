//! Whose account it is, which app asks, and which key it holds: everything that is read from strangers and verified,
//! and what is asked of their servers. How servers are asked is the business of [`crate::net`].
//!
//! - [`document`]: an account's signing key, PDS and handle; [`key`], [`jwks`]: what verifies signatures.
//! - [`jwt`]: the form all tokens have. [`dpop`] proves a key, [`access_token`] an app with that key,
//!   [`service_auth`] the owner, [`attestation`] an app.
//! - [`nonce`], [`replay`]: that a proof is fresh and used once.
//!
//! Of these none does I/O or reads the clock. The others ask servers:
//!
//! - [`resolve`]: DIDs and handles; [`auth_server`]: who issues a PDS's tokens; [`client`]: what an app says of itself, and
//!   [`redirect_uri`] where its users may be sent back to.
//! - [`pds`], [`repo`]: calls to the owner's PDS; [`declaration`]: the record there that names her server.
//!
//! - [`oauth`]: the owner signs in at her PDS.
//!
//! [`verifier`] puts all of it together: who asks is proved, or refused. `asking` limits what that may cost others.

pub mod access_token;
mod asking;
pub mod attestation;
pub mod auth_server;
pub mod client;
pub mod client_id;
pub mod client_metadata;
pub mod declaration;
pub mod document;
pub mod dpop;
mod handle;
mod json;
pub mod jwks;
pub mod jwt;
pub mod key;
pub mod nonce;
pub mod oauth;
pub mod pds;
pub mod prove_dpop;
mod prove_service;
pub mod redirect_uri;
mod refusal;
pub mod replay;
pub mod repo;
pub mod resolve;
pub mod service_auth;
#[cfg(test)]
mod testing;
pub mod verifier;
pub mod xrpc;

pub use crate::types::{Did, DidMethod, Handle};
pub use access_token::AccessToken;
pub use auth_server::{AuthServer, AuthServerError, AuthServers};
pub use client::{ClientError, Clients};
pub use client_id::{ClientId, ClientIdError, MAX_CLIENT_ID_BYTES};
pub use client_metadata::{ClientMetadata, MetadataError};
pub use document::DidDocument;
pub use jwks::Jwks;
pub use key::PublicKey;
pub use nonce::Nonces;
pub use pds::{Probe, Relay};
pub use refusal::Refusal;
pub use replay::Replay;
pub use repo::{Hidden, PdsSession, RecordKey};
pub use resolve::{IdentityOptions, ResolveError, Resolver};
pub use verifier::{How, Proven, Us, Verifier};
pub use xrpc::PdsError;
