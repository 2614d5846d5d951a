//! `GET /api/status`: how the server is.

use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Failure, json};
use super::{Admin, BackupNow};
use crate::config::TlsMode;
use crate::engine::EngineStatus;
use crate::listen::{CertificateNow, Listening};
use crate::store::StoreStats;
use crate::web::metrics::process;

/// Answer to `GET /api/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of the running server.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Where it listens, the most important socket first.
    pub listen: Vec<Listening>,
    /// What is known of its certificate.
    pub certificate: CertificateNow,
    /// Its stable storage id.
    pub storage_id: String,
    /// Shards and journal answer in time.
    pub alive: bool,
    /// Memory of the process in bytes, as the system counts it; 0 where it does not say.
    pub rss_bytes: u64,
    /// `memory.budget` in bytes.
    pub memory_budget_bytes: u64,
    /// The engine's counters; `journal_error` among them.
    pub engine: EngineStatus,
    /// The store's size.
    pub storage: StoreStats,
    /// Of backups.
    pub backup: BackupNow,
}

pub(super) async fn status(admin: &Admin) -> Answer {
    let store = Arc::clone(&admin.store);
    // Counting pages reads the disk.
    let backups = Arc::clone(&admin.backups);
    let stats = tokio::task::spawn_blocking(move || (store.stats(), backups.now())).await;
    let (storage, backup) = match stats {
        Ok((Ok(stats), backup)) => (stats, backup),
        Ok((Err(error), _)) => return Err(Failure::store(error)),
        Err(_) => return Err(Failure::store("the server is stopping")),
    };
    let status = Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        uptime_seconds: admin.started.elapsed().as_secs(),
        listen: admin.listen.clone(),
        certificate: admin.certificate.as_ref().map_or_else(without_tls, |certificate| certificate.now()),
        storage_id: admin.store.storage_id().to_string(),
        alive: admin.engine.is_alive(),
        rss_bytes: process::rss_bytes().unwrap_or_default(),
        memory_budget_bytes: admin.memory_budget as u64,
        engine: admin.engine.status(),
        storage,
        backup,
    };
    Ok(json(StatusCode::OK, &status))
}

fn without_tls() -> CertificateNow {
    CertificateNow { mode: TlsMode::Off.as_str().into(), ..CertificateNow::default() }
}
