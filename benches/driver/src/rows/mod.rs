//! One scenario a file; each starts its own servers on a fresh directory and returns its figures.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use sha2::{Digest, Sha256};

use crate::history::History;
use crate::server::{Programs, Server};

pub mod authenticate;
pub mod backup;
pub mod cpu;
pub mod documents;
pub mod flood;
pub mod forged;
pub mod idle;
pub mod latency;
pub mod machine;
pub mod newcomer;
pub mod start;
pub mod tls;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Rounds, of which medians are taken.
    pub rounds: u32,
    /// Time limit of a flood.
    pub flood: Duration,
    /// Most changes of a flood's one document.
    pub flood_changes: u32,
    /// Changes a writer may be ahead of its acknowledgements.
    pub window: u32,
    /// Samples of acknowledgement and relay.
    pub samples: u32,
    /// Time limit of one CPU measurement.
    pub cpu: Duration,
    /// Changes it relays at most.
    pub cpu_changes: u32,
    /// The late point of the document at which it is repeated.
    pub late: u32,
    /// Changes of the long document.
    pub long: u32,
    /// Small documents.
    pub documents: u32,
    /// Time limit of uploading or downloading them.
    pub documents_limit: Duration,
    /// Idle connections.
    pub connections: u32,
    /// Idle connections that are encrypted.
    pub encrypted: u32,
    /// Documents on disk at start.
    pub many: u32,
    /// Times that an app is let in, at the highest rate and again at a steady one. 32,000 at most: each uses up two
    /// tokens, and the server remembers 131,072 until they have expired.
    pub requests: u32,
    /// Documents of a store that is backed up: with a text that does not compress, and small ones.
    pub large: u32,
    /// The latter.
    pub small: u32,
}

impl Size {
    /// What the published table is made with.
    pub fn full() -> Self {
        Self {
            rounds: 3,
            flood: Duration::from_secs(8),
            flood_changes: 200_000,
            window: 4096,
            samples: 500,
            cpu: Duration::from_secs(12),
            cpu_changes: 10_000,
            late: 200_000,
            long: u32::MAX,
            documents: 10_000,
            documents_limit: Duration::from_secs(60),
            connections: 500,
            encrypted: 2_000,
            many: 100_000,
            requests: 20_000,
            large: 2_000,
            small: 100_000,
        }
    }

    /// Enough to see that everything runs.
    pub fn quick() -> Self {
        Self {
            rounds: 1,
            flood: Duration::from_secs(3),
            flood_changes: 2_000,
            window: 64,
            samples: 50,
            cpu: Duration::from_secs(1),
            cpu_changes: 500,
            late: 3_000,
            long: 5_000,
            documents: 300,
            documents_limit: Duration::from_secs(10),
            connections: 50,
            encrypted: 50,
            many: 1_000,
            requests: 1_000,
            large: 50,
            small: 1_000,
        }
    }
}

/// What every scenario is given.
#[derive(Clone)]
pub struct Setting {
    /// How much.
    pub size: Size,
    /// The servers' programs.
    pub programs: Programs,
    /// Where data directories are made, on the disk that is measured.
    pub scratch: PathBuf,
    /// What is written.
    pub history: Arc<History>,
}

impl Setting {
    /// A new directory for one server.
    pub fn directory(&self, name: &str) -> Result<Scratch> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let path = self.scratch.join(format!("{name}-{now}"));
        std::fs::create_dir_all(&path)?;
        Ok(Scratch(path))
    }
}

/// A directory that goes away with its scenario.
pub struct Scratch(pub PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(reason) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {reason}", self.0.display());
        }
    }
}

/// The document id with this number: a version 4 UUID, as the JavaScript server insists (it is silent on others).
pub fn document_id(number: u32) -> String {
    let hash = Sha256::digest(format!("groundmist benchmark document {number}"));
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    bs58::encode(id).with_check().into_string()
}

/// Let a server finish what it does behind its answers (saving, compacting) before it is measured or stopped.
pub async fn settle(_: &Server) {
    tokio::time::sleep(Duration::from_secs(2)).await;
}
