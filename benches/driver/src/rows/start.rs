//! Starting with many documents on disk, until the first client has joined.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Setting, settle, tls};
use crate::devices::{self, Small, Task};
use crate::report::{Measured, median};
use crate::server::{Kind, Server};
use crate::socket::Tls;

/// Documents under way while they are uploaded.
const WINDOW: usize = 1000;
/// Documents that one connection uploads: servers bound what one may have open.
const PART: usize = 10_000;
/// Starts of which the median is taken.
const STARTS: usize = 5;

/// The layout that the JavaScript server and samod share: uploading this many to them would take most of an hour.
fn lay(data: &Path, documents: &[Small]) -> Result<()> {
    for document in documents {
        let (first, rest) = document.id.split_at(2);
        let directory = data.join(first).join(rest).join("incremental");
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(document.heads[0].to_string()), &document.chunk)?;
    }
    Ok(())
}

async fn upload(setting: &Setting, kind: Kind, data: &Path, documents: &[Small]) -> Result<()> {
    let server = Server::start(&setting.programs, kind, data).await?;
    let limit = Duration::from_secs(60);
    let mut done = 0;
    for (number, part) in documents.chunks(PART).enumerate() {
        let device = format!("laptop-{number}");
        done += devices::run(&server.endpoint, &device, Task::Upload, part, WINDOW, limit).await?.0 as usize;
    }
    settle(&server).await;
    server.stop().await?;
    ensure!(done == documents.len(), "{done} of {} documents uploaded in {limit:?}", documents.len());
    Ok(())
}

/// Fill once, start some times; one document is fetched to see that they are really there.
pub async fn run(setting: &Setting, kind: Kind) -> Result<Measured> {
    let directory = setting.directory("start")?;
    let documents = devices::make(setting.size.many)?;
    if kind.keeps_files() {
        lay(&directory.0, &documents)?;
    } else {
        upload(setting, kind, &directory.0, &documents).await?;
    }
    let mut measured: Measured =
        [("start_many", starts(setting, kind, &directory.0, &documents, None).await?)].into();
    if kind.is_ours() {
        let certificate = tls::certificate(setting, &directory.0)?;
        let time = starts(setting, kind, &directory.0, &documents, Some(certificate)).await?;
        measured.push(("start_many_tls", time));
    }
    Ok(measured)
}

/// Seconds from the start of the process until a client has joined, the median.
async fn starts(
    setting: &Setting,
    kind: Kind,
    data: &Path,
    documents: &[Small],
    certificate: Option<(Tls, Vec<(&'static str, String)>)>,
) -> Result<f64> {
    let (tls, settings) = certificate.map_or_else(Default::default, |(tls, settings)| (Some(tls), settings));
    let mut times = Vec::new();
    // Another document each time: what a server does to one that it has loaded is not our concern here.
    for (_, wanted) in (0..STARTS).zip(documents.chunks(1).rev()) {
        let server = Server::start_encrypted(&setting.programs, kind, data, &settings, tls.clone()).await?;
        times.push(server.started.as_secs_f64());
        let limit = Duration::from_secs(10);
        let (found, _) = devices::run(&server.endpoint, "phone", Task::Download, wanted, 1, limit).await?;
        ensure!(found == 1, "{} is not there after a start", wanted[0].id);
        server.stop().await?;
    }
    median(&times).context("no start was measured")
}
