//! Ten thousand small documents: up, down, and a device that has them all coming back.

use anyhow::{Result, ensure};

use super::{Setting, settle};
use crate::devices::{self, Small, Task};
use crate::report::Measured;
use crate::server::{Kind, Server, disk};

/// Documents under way at a time.
const WINDOW: usize = 1000;

async fn measure(setting: &Setting, server: &Server, documents: &[Small]) -> Result<(u32, Measured)> {
    let (endpoint, limit) = (&server.endpoint, setting.size.documents_limit);
    server.forget_peak()?;
    let (up, up_time) = devices::run(endpoint, "laptop", Task::Upload, documents, WINDOW, limit).await?;
    ensure!(up > 0, "no document was taken in");
    settle(server).await;
    // What a slow server did not take in time, it is not asked for.
    let documents = &documents[..up as usize];
    let (down, down_time) = devices::run(endpoint, "phone", Task::Download, documents, WINDOW, limit).await?;
    settle(server).await;
    let (same, same_time) =
        devices::run(endpoint, "laptop", Task::Compare, documents, usize::MAX, limit).await?;
    let mut measured = vec![
        ("documents_up", f64::from(up) / up_time.as_secs_f64()),
        ("documents_down", f64::from(down) / down_time.as_secs_f64()),
        ("documents_done", f64::from(down.min(same))),
        ("documents_rss", server.peak_rss()?),
    ];
    // A time only if all were compared: the limit is no result.
    if same == up {
        measured.push(("documents_again", same_time.as_secs_f64()));
    }
    Ok((up, measured))
}

/// All three, the memory that is left to the server after them, and the disk they take.
pub async fn run(setting: &Setting, kind: Kind) -> Result<Measured> {
    let directory = setting.directory("documents")?;
    let server = Server::start(&setting.programs, kind, &directory.0).await?;
    let documents = devices::make(setting.size.documents)?;
    let (stored, mut measured) = measure(setting, &server, &documents).await?;
    settle(&server).await;
    measured.push(("documents_left", server.rss()?));
    server.stop().await?;
    measured.push(("disk_small", disk(&directory.0)? / f64::from(stored)));
    Ok(measured)
}
