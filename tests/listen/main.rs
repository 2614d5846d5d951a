//! Sockets that anyone can reach: TLS, the redirecting port, what systemd passes on, trusted proxies, and attacks on them.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod activation;
mod aside;
mod attacks;
mod files;
mod flood;
mod in_hand;
mod proxies;
mod redirect;
mod tls;
