//! One person's Automerge sync server. See `ARCHITECTURE.md` for the map.
//!
//! Modules, top to bottom; each knows only those below it:
//!
//! - [`cli`]: parses the command line and runs one command.
//! - [`appliance`]: brings the parts up in order and down again.
//! - [`web`]: HTTP and WebSocket.
//! - [`listen`]: sockets; hands accepted streams up.
//! - [`access`]: who may do what: apps, sessions and sync tokens.
//! - [`atproto`]: who is who: identities, their keys and documents, tokens and proofs.
//! - [`net`]: requests to other servers under one set of rules: HTTP client, DNS, address filter, caches.
//! - [`engine`]: runs the sync core on threads.
//! - [`sync`]: the automerge-repo protocol on change graphs; no I/O, no clock, no threads.
//! - [`store`]: everything durable, in one redb file.
//! - [`config`]: settings from file, environment and flags, checked before a socket opens.
//! - [`telemetry`]: logs, histograms, counters.
//! - [`directory`]: a directory opened once and checked, and files in it.
//! - [`sys`]: what the system tells of itself; calls to the C library, one line of `unsafe` each.
//! - [`types`]: plain values that all others share.

pub mod access;
pub mod appliance;
pub mod atproto;
pub mod cli;
pub mod config;
pub mod directory;
pub mod engine;
pub mod listen;
pub mod net;
pub mod store;
pub mod sync;
pub mod sys;
pub mod telemetry;
pub mod types;
pub mod web;
