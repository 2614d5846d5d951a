//! `GET /api/status`: how the server is.

use std::path::Path;
use std::sync::Arc;

use hyper::StatusCode;
use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Failure, json};
use super::ends::{UncleanEnd, recent};
use super::owner::{OwnerNow, owner_now};
use super::record::RecordNow;
use super::warnings::{Warning, warnings};
use super::{Admin, BackupNow};
use crate::access::Copied;
use crate::config::TlsMode;
use crate::engine::EngineStatus;
use crate::listen::{CertificateNow, Listening};
use crate::store::StoreStats;
use crate::sys::memory::resident_bytes;
use crate::types::now;

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
    /// The name that it has on the network.
    pub domain: Option<String>,
    /// How browsers reach it.
    pub origin: String,
    /// Whose it is.
    pub owner: OwnerNow,
    /// Whether her account tells apps so.
    pub record: RecordNow,
    /// Where the data directory is.
    pub disk: Disk,
    /// How the server ended in the last seven days without having been stopped, the oldest first.
    pub unclean_ends: Vec<UncleanEnd>,
    /// Sessions that have a token which may have been copied, the latest first, at most [`MAX_COPIED`].
    pub copied_sessions: Vec<CopiedSession>,
    /// What she must look at, the gravest first.
    pub warnings: Vec<Warning>,
}

/// A session that has a token which may have been copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedSession {
    /// Names the session.
    pub id: String,
    /// The `client_id` of the app.
    pub client_id: String,
    /// What it opens.
    pub namespace: String,
    /// What was noticed.
    #[serde(flatten)]
    pub copied: Copied,
}

/// Most sessions in [`Status::copied_sessions`].
pub const MAX_COPIED: usize = 20;

/// Room on a disk, in bytes; 0 where the system does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// What the server may still write.
    pub free_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

impl Disk {
    /// Where a path is; none if the system does not say.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let disk = statvfs(path).ok()?;
        Some(Self {
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            total_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }
}

fn copied(admin: &Admin) -> Vec<CopiedSession> {
    let all = admin.access.copied_sessions().into_iter().filter_map(|session| {
        let (id, client_id, namespace) = (session.id, session.client_id, session.namespace.to_string());
        Some(CopiedSession { id, client_id, namespace, copied: session.copied? })
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|session| std::cmp::Reverse(session.copied.at));
    all.truncate(MAX_COPIED);
    all
}

pub(super) async fn status(admin: &Admin) -> Answer {
    let store = Arc::clone(&admin.store);
    // Counting pages reads the disk.
    let backups = Arc::clone(&admin.backups);
    let read = move || (store.stats(), backups.now(), Disk::of(backups.data_dir()));
    let (storage, backup, disk) = match tokio::task::spawn_blocking(read).await {
        Ok((Ok(stats), backup, disk)) => (stats, backup, disk),
        Ok((Err(error), ..)) => return Err(Failure::store(error)),
        Err(_) => return Err(Failure::store("the server is stopping")),
    };
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        uptime_seconds: admin.started.elapsed().as_secs(),
        listen: admin.listen.clone(),
        certificate: admin.certificate.as_ref().map_or_else(without_tls, |certificate| certificate.now()),
        storage_id: admin.store.storage_id().to_string(),
        alive: admin.engine.is_alive(),
        rss_bytes: resident_bytes().unwrap_or_default(),
        memory_budget_bytes: admin.memory_budget as u64,
        engine: admin.engine.status(),
        storage,
        backup,
        domain: admin.domain.clone(),
        origin: admin.origin.clone(),
        owner: owner_now(&admin.ownership),
        record: admin.record.now(),
        disk: disk.unwrap_or_default(),
        unclean_ends: recent(&admin.unclean_ends, now()),
        copied_sessions: copied(admin),
        warnings: Vec::new(),
    };
    status.warnings = warnings(&status, now());
    Ok(json(StatusCode::OK, &status))
}

fn without_tls() -> CertificateNow {
    CertificateNow { mode: TlsMode::Off.as_str().into(), ..CertificateNow::default() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::listen::Spoken;
    use crate::store::LastBackup;

    /// Of a server with which all is well.
    pub(crate) fn well() -> Status {
        Status {
            version: "1.2.3".into(),
            pid: 1,
            uptime_seconds: 3700,
            listen: vec![Listening { spoken: Spoken::Plain, address: "127.0.0.1:3030".parse().unwrap() }],
            certificate: CertificateNow { mode: "off".into(), ..Default::default() },
            storage_id: "abc".into(),
            alive: true,
            rss_bytes: 12 << 20,
            memory_budget_bytes: 24 << 20,
            engine: EngineStatus { connections: 3, ..Default::default() },
            storage: StoreStats { documents: 1204, file_bytes: 3 << 19, dead_bytes: 0 },
            backup: BackupNow {
                last: Some(LastBackup { created: u64::MAX, bytes: 3 << 20, documents: 7 }),
                ..Default::default()
            },
            domain: None,
            origin: "http://127.0.0.1:3030".into(),
            owner: OwnerNow { handle: None, did: None, reason: None },
            record: RecordNow::default(),
            disk: Disk { free_bytes: 1 << 40, total_bytes: 2 << 40 },
            unclean_ends: Vec::new(),
            copied_sessions: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_disk_that_is_there_has_room() {
        let disk = Disk::of(Path::new("/")).unwrap();
        assert!(disk.total_bytes > 0 && disk.free_bytes <= disk.total_bytes, "{disk:?}");
        assert_eq!(Disk::of(Path::new("/nonexistent/place")), None);
    }
}
