//! The options of each part, made from the configuration. The parts do not know the configuration, nor the configuration the
//! parts: this is the place where they meet.

use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::atproto::IdentityOptions;
use crate::config::{self, Config};
use crate::engine::{EngineOptions, OpenerOptions};
use crate::net::HttpOptions;
use crate::net::http::REQUEST_TIME;
use crate::store::StoreOptions;
use crate::sync::price;

/// Most shards of the engine: one thread relays far more than a person's devices send.
const MAX_SHARDS: usize = 2;

/// The engine's options.
pub fn engine(config: &Config) -> EngineOptions {
    let cores = available_parallelism().map_or(1, NonZero::get);
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    EngineOptions {
        shards: cores.min(MAX_SHARDS),
        memory_budget: config.memory.budget,
        outbox_bytes: config.limits.outbox_bytes,
        outboxes_bytes: config.limits.outbox_total_bytes,
        inbox_bytes: config.limits.inbox_bytes,
        message_bytes: config.limits.message_bytes,
        max_documents: config.limits.documents,
        max_requests: config.limits.requests,
        price: message_price(&config.limits),
        request_timeout_ms: millis(config.sync.request_timeout),
        announce: config.sync.announce,
        compact_grace_ms: millis(config.storage.compact_grace),
        compact_floor: config.storage.compact_floor,
        opener: OpenerOptions::with_memory(config.memory.opener as u64),
    }
}

/// The most that decoding one sync message may cost.
pub fn message_price(limits: &config::Limits) -> price::Limits {
    price::Limits {
        operations: limits.operations as u64,
        inflated_bytes: limits.inflated_bytes as u64,
        changes: limits.changes as u64,
        hashes: limits.hashes as u64,
        bloom_bytes: limits.bloom_bytes as u64,
    }
}

/// The options of identity lookups, and of all requests to other servers.
pub fn identity(config: &Config) -> IdentityOptions {
    let identity = &config.identity;
    IdentityOptions {
        plc_directory: identity.plc_directory.clone(),
        http: HttpOptions {
            allow_loopback: identity.allow_loopback,
            ca_file: identity.ca_file.clone(),
            hosts: identity.hosts.clone(),
            name_servers: identity.name_servers.clone(),
            request_time: REQUEST_TIME,
        },
    }
}

/// The store's options.
pub fn store(config: &Config) -> StoreOptions {
    StoreOptions { cache_bytes: config.memory.redb_cache }
}
