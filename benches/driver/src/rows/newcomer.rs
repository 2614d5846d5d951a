//! The long document to a device that has nothing: from its request to the last byte.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Setting, document_id, settle};
use crate::peer::{Author, follow};
use crate::report::Measured;
use crate::server::{Kind, Server, disk};

/// Longest wait for the document.
const LIMIT: Duration = Duration::from_secs(120);

struct Fetched {
    seconds: f64,
    growth: f64,
}

async fn fetch(setting: &Setting, server: &Server, name: &str, position: u32) -> Result<Fetched> {
    server.forget_peak()?;
    let before = server.rss()?;
    let (mut reader, asked) = follow(&server.endpoint, name, &document_id(0), &setting.history).await?;
    reader.must_reach(position, LIMIT).await?;
    let arrival = reader.arrival(position).context("received without a time")?;
    settle(server).await;
    Ok(Fetched { seconds: arrival.duration_since(asked).as_secs_f64(), growth: server.peak_rss()? - before })
}

async fn upload(setting: &Setting, server: &Server, position: u32) -> Result<()> {
    Author::start(&server.endpoint, "author", &document_id(0), &setting.history, position).await?;
    settle(server).await;
    Ok(())
}

async fn served(setting: &Setting, kind: Kind, data: &Path) -> Result<Measured> {
    let position = setting.history.len().min(setting.size.long);
    let server = Server::start(&setting.programs, kind, data).await?;
    upload(setting, &server, position).await?;
    fetch(setting, &server, "first", position).await?;
    let warm = fetch(setting, &server, "second", position).await?;
    server.stop().await?;
    let used = disk(data)?;
    let server = Server::start(&setting.programs, kind, data).await?;
    settle(&server).await;
    let restarted = fetch(setting, &server, "third", position).await?;
    server.stop().await?;
    Ok(vec![
        ("newcomer_warm", warm.seconds),
        ("newcomer_warm_rss", warm.growth),
        ("newcomer_restart", restarted.seconds),
        ("newcomer_restart_rss", restarted.growth),
        ("disk_long", used),
    ])
}

/// Upload, fetch twice, restart, fetch again.
pub async fn run(setting: &Setting, kind: Kind) -> Result<Measured> {
    let directory = setting.directory("newcomer")?;
    served(setting, kind, &directory.0).await
}
