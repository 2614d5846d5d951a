//! Whose account it is, which app asks, and which key it holds: everything that is read from strangers and verified.
//!
//! [`DidDocument`] says what an account's signing key and PDS are; [`PublicKey`] verifies.

pub mod document;
pub mod key;
#[cfg(test)]
mod testing;

pub use crate::types::{Did, DidMethod, Handle};
pub use document::DidDocument;
pub use key::PublicKey;
