//! The half of `atproto` that talks to the network, against real servers on loopback: TLS, HTTP and DNS.
#![allow(missing_docs, clippy::unwrap_used)]

mod auth_server;
mod client;
mod dns;
mod http;
mod pds;
mod resolve;
mod world;
