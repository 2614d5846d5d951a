//! The server's life: what it tells systemd, and what it takes up while it runs.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "../common/mod.rs"]
mod common;
mod ends;
mod reload;
mod stop;
mod systemd;
