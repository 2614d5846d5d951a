//! What relaying costs the server, early and late in one document.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::{Setting, document_id, settle};
use crate::peer::{Author, follow};
use crate::report::Measured;
use crate::server::{Kind, Server};

/// Changes a second, as far as the server keeps up.
const RATE: u32 = 1000;
/// Changes the writer may be ahead, so that a slow server is not measured on its backlog.
const WINDOW: u32 = 64;
/// The figure is for this many changes.
const PER: f64 = 10_000.0;
/// The early point in the document.
const EARLY: u32 = 100;

async fn from(setting: &Setting, kind: Kind, position: u32) -> Result<f64> {
    let directory = setting.directory("cpu")?;
    let server = Server::start(&setting.programs, kind, &directory.0).await?;
    let id = document_id(0);
    let mut author = Author::start(&server.endpoint, "author", &id, &setting.history, position).await?;
    let (mut reader, _) = follow(&server.endpoint, "reader", &id, &setting.history).await?;
    reader.must_reach(position, Duration::from_secs(60)).await?;
    settle(&server).await;
    let used = server.cpu()?;
    let last = (position + setting.size.cpu_changes).min(setting.history.len());
    let end = Instant::now() + setting.size.cpu;
    author.pace(position, last, RATE, WINDOW, end).await?;
    reader.reach(last, end.saturating_duration_since(Instant::now())).await?;
    while reader.position() == position && Instant::now() < end + setting.size.cpu {
        sleep(Duration::from_millis(20)).await;
    }
    let relayed = reader.position() - position;
    let used = server.cpu()? - used;
    server.kill().await?;
    ensure!(relayed > 0, "no change was relayed within {:?}", setting.size.cpu * 2);
    Ok(used / f64::from(relayed) * PER)
}

/// Both points and their ratio.
pub async fn run(setting: &Setting, kind: Kind) -> Result<Measured> {
    let early = from(setting, kind, EARLY).await?;
    let late = from(setting, kind, setting.size.late).await?;
    Ok(vec![("cpu_100", early), ("cpu_200000", late), ("cpu_ratio", late / early.max(f64::MIN_POSITIVE))])
}
