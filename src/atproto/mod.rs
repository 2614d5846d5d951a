//! Whose account it is, which app asks, and which key it holds: everything that is read from strangers and verified.
//!
//! - [`document`]: an account's signing key, PDS and handle; [`key`], [`jwks`]: what verifies signatures.
//! - [`jwt`]: the form all tokens have. [`dpop`] proves a key, [`access_token`] an app with that key,
//!   [`service_auth`] the owner, [`attestation`] an app.
//! - [`nonce`], [`replay`]: that a proof is fresh and used once.
//!
//! Of these none does I/O or reads the clock.

pub mod access_token;
pub mod attestation;
pub mod document;
pub mod dpop;
mod json;
pub mod jwks;
pub mod jwt;
pub mod key;
pub mod nonce;
pub mod replay;
pub mod service_auth;
#[cfg(test)]
mod testing;

pub use crate::types::{Did, DidMethod, Handle};
pub use access_token::AccessToken;
pub use document::DidDocument;
pub use jwks::Jwks;
pub use key::PublicKey;
pub use nonce::Nonces;
pub use replay::Replay;
