//! How fast a backup is made while the server goes on, and what connected devices notice of it.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::latency::{percentiles, relayed};
use super::{Setting, document_id, settle};
use crate::devices::{self, Small, Task};
use crate::peer::{Author, follow};
use crate::report::{Measured, median};
use crate::server::{Kind, Server};

/// Text of each large document, in bytes; it cannot be compressed by much.
const TEXT_BYTES: usize = 256 << 10;
/// Documents that one connection uploads, and how many of them are under way.
const SMALL: (usize, usize) = (10_000, 1000);
const LARGE: (usize, usize) = (200, 50);
/// Time limit of each connection.
const UPLOAD: Duration = Duration::from_secs(120);
/// Backups of which the rate is the median.
const BACKUPS: usize = 3;
/// Undisturbed and disturbed in turns, so many each: a noisy second hits both.
const TURNS: u32 = 5;
/// Backups begin so long before the relay is measured.
const MARGIN: Duration = Duration::from_millis(200);
/// Longest wait until the reader has the first change.
const LIMIT: Duration = Duration::from_secs(20);

/// Fills a store, backs it up a few times, and relays with and without backups meanwhile.
pub async fn run(setting: &Setting) -> Result<Measured> {
    let directory = setting.directory("backup")?;
    let (data, file) = (directory.0.join("data"), directory.0.join("backup"));
    let server = Server::start(&setting.programs, Kind::Groundmist, &data).await?;
    let size = setting.size;
    for first in (0..size.large).step_by(LARGE.0) {
        let numbers = first..size.large.min(first + LARGE.0 as u32);
        // Numbers of their own.
        let documents: Vec<_> =
            numbers.map(|number| devices::large(u32::MAX - number, TEXT_BYTES)).collect::<Result<_>>()?;
        upload(&server, &format!("desk-{first}"), &documents, LARGE.1).await?;
    }
    for (number, part) in devices::make(size.small)?.chunks(SMALL.0).enumerate() {
        upload(&server, &format!("laptop-{number}"), part, SMALL.1).await?;
    }
    settle(&server).await;

    let begin = Instant::now();
    let made = backup(setting, &data, &[file.as_os_str().to_str().context("no UTF-8")?, "--json"]).await?;
    let to_file = begin.elapsed().as_secs_f64();
    let made: serde_json::Value = serde_json::from_slice(&made)?;
    let total = |name: &str| made["totals"][name].as_f64().context("a backup without totals");
    ensure!(total("documents")? == f64::from(size.large + size.small), "not all documents are in it: {made}");
    let stored = total("bytes")?;
    server.forget_peak()?;
    let before = server.rss()?;
    let mut rates = Vec::new();
    for _ in 0..BACKUPS {
        let begin = Instant::now();
        backup(setting, &data, &["-"]).await?;
        rates.push(stored / begin.elapsed().as_secs_f64());
    }
    let grown = server.peak_rss()? - before;
    let rate = median(&rates).context("no backup was measured")?;

    let (quiet, disturbed) = relays(setting, &server, &data).await?;
    server.kill().await?;
    let mut measured = vec![
        ("backup_stored", stored),
        ("backup_rate", rate / 1e6),
        ("backup_file_rate", stored / to_file / 1e6),
        ("backup_rss", grown),
    ];
    let quiet = percentiles(["no_backup_p50", "no_backup_p99"], &quiet)?;
    let disturbed = percentiles(["during_backup_p50", "during_backup_p99"], &disturbed)?;
    let ratios = [disturbed[0].1 / quiet[0].1, disturbed[1].1 / quiet[1].1];
    measured.extend(quiet);
    measured.extend(disturbed);
    measured.extend([("backup_ratio_p50", ratios[0]), ("backup_ratio_p99", ratios[1])]);
    Ok(measured)
}

async fn upload(server: &Server, device: &str, documents: &[Small], window: usize) -> Result<()> {
    let (done, _) = devices::run(&server.endpoint, device, Task::Upload, documents, window, UPLOAD).await?;
    ensure!(done as usize == documents.len(), "{done} of {} documents uploaded", documents.len());
    Ok(())
}

/// Runs the command, to the end; what it prints if that is not the backup.
async fn backup(setting: &Setting, data: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let mut command = Command::new(&setting.programs.groundmist);
    command.arg("backup").args(arguments).arg("--data-dir").arg(data).stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(if arguments.contains(&"-") { Stdio::null() } else { Stdio::piped() });
    let output = command.stderr(Stdio::piped()).spawn()?.wait_with_output().await?;
    ensure!(output.status.success(), "backup: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// Times without a backup, and with one after the other.
async fn relays(setting: &Setting, server: &Server, data: &Path) -> Result<(Vec<f64>, Vec<f64>)> {
    let (endpoint, id) = (&server.endpoint, document_id(u32::MAX / 2));
    let mut author = Author::start(endpoint, "author", &id, &setting.history, 1).await?;
    let (mut reader, _) = follow(endpoint, "reader", &id, &setting.history).await?;
    reader.must_reach(1, LIMIT).await?;
    let samples = setting.size.samples / TURNS;
    let (mut quiet, mut disturbed, mut position) = (Vec::new(), Vec::new(), 1);
    for _ in 0..TURNS {
        quiet.extend(relayed(&mut author, &mut reader, position, samples).await?);
        position += samples;
        let enough = Arc::new(AtomicBool::new(false));
        let backups = tokio::spawn(backups(setting.clone(), data.to_owned(), Arc::clone(&enough)));
        tokio::time::sleep(MARGIN).await;
        disturbed.extend(relayed(&mut author, &mut reader, position, samples).await?);
        position += samples;
        ensure!(!backups.is_finished(), "the backups ended before the changes did");
        enough.store(true, Ordering::Relaxed);
        backups.await??;
    }
    Ok((quiet, disturbed))
}

async fn backups(setting: Setting, data: std::path::PathBuf, enough: Arc<AtomicBool>) -> Result<()> {
    while !enough.load(Ordering::Relaxed) {
        backup(&setting, &data, &["-"]).await?;
    }
    Ok(())
}
