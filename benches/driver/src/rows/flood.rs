//! How many changes a second go through, acknowledged and received by all readers.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Setting, document_id};
use crate::peer::{Author, Track, follow};
use crate::report::Measured;
use crate::server::{Kind, Server};

/// Processor time is given for this many changes.
const CPU_PER: f64 = 10_000.0;

struct Document {
    author: Author,
    readers: Vec<Track>,
}

impl Document {
    async fn open(setting: &Setting, server: &Server, number: u32, readers: u32) -> Result<Self> {
        let id = document_id(number);
        let author =
            Author::start(&server.endpoint, &format!("author-{number}"), &id, &setting.history, 1).await?;
        let mut tracks = Vec::new();
        for reader in 0..readers {
            let name = format!("reader-{number}-{reader}");
            let (mut track, _) = follow(&server.endpoint, &name, &id, &setting.history).await?;
            track.must_reach(1, Duration::from_secs(30)).await?;
            tracks.push(track);
        }
        Ok(Self { author, readers: tracks })
    }

    /// Changes that are done with: acknowledged, and received by every reader.
    fn done(&self) -> u32 {
        self.readers.iter().map(Track::position).fold(self.author.acked.position(), u32::min) - 1
    }

    async fn run(mut self, to: u32, window: u32, end: Instant) -> Result<u32> {
        self.author.flood(1, to, window, end).await?;
        for track in std::iter::once(&mut self.author.acked).chain(&mut self.readers) {
            track.reach(to, end.saturating_duration_since(Instant::now())).await?;
        }
        Ok(self.done())
    }
}

async fn flood(setting: &Setting, kind: Kind, documents: u32, readers: u32) -> Result<[f64; 2]> {
    let directory = setting.directory("flood")?;
    let server = Server::start(&setting.programs, kind, &directory.0).await?;
    let mut open = Vec::new();
    for number in 0..documents {
        open.push(Document::open(setting, &server, number, readers).await?);
    }
    let to = (setting.size.flood_changes / documents).min(setting.history.len());
    let used = server.cpu()?;
    let begin = Instant::now();
    let end = begin + setting.size.flood;
    let running: Vec<_> =
        open.into_iter().map(|document| tokio::spawn(document.run(to, setting.size.window, end))).collect();
    let mut done = 0;
    for task in running {
        done += task.await??;
    }
    let rate = f64::from(done) / begin.elapsed().as_secs_f64();
    let used = server.cpu()? - used;
    server.kill().await?;
    ensure!(done > 0, "no change went through in {:?}", setting.size.flood);
    Ok([rate, used / f64::from(done) * CPU_PER])
}

/// Both floods.
pub async fn run(setting: &Setting, kind: Kind) -> Result<Measured> {
    let [one, cpu] = flood(setting, kind, 1, 1).await?;
    let [eight, _] = flood(setting, kind, 8, 2).await?;
    Ok(vec![("flood_1x1", one), ("flood_8x2", eight), ("cpu_flood", cpu)])
}
