//! Who the owner is, and what she does from the command line about it, against a PDS and a PLC directory on loopback.
#![allow(missing_docs, clippy::unwrap_used)] // a test that cannot go on has failed

mod account;
#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "../atproto_net/dns.rs"]
mod dns;
mod doctor;
mod ownership;
mod publish;
mod setup;
#[allow(dead_code)]
#[path = "../atproto_net/world.rs"]
mod world;
