//! How long one change takes: to be acknowledged, and to reach a reader.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::{Setting, document_id};
use crate::peer::{Author, Track, follow};
use crate::report::{Measured, percentile};
use crate::server::{Kind, Server};

/// Time limit of one scenario.
const LIMIT: Duration = Duration::from_secs(20);
/// Pause between an acknowledgement and the next change: a quiet server, not a pipeline.
const PAUSE: Duration = Duration::from_millis(2);
/// Changes a second of the relay scenario.
pub const RATE: u32 = 50;

/// p50 and p99 of some times in seconds.
pub fn percentiles(names: [&'static str; 2], samples: &[f64]) -> Result<Measured> {
    let at = |share| percentile(samples, share).context("nothing was measured");
    Ok(vec![(names[0], at(0.5)?), (names[1], at(0.99)?)])
}

/// One writer alone, one change at a time.
pub async fn acknowledgement(setting: &Setting, kind: Kind) -> Result<Measured> {
    let directory = setting.directory("ack")?;
    let server = Server::start(&setting.programs, kind, &directory.0).await?;
    let mut author = Author::start(&server.endpoint, "author", &document_id(0), &setting.history, 1).await?;
    let begin = Instant::now();
    let mut samples = Vec::new();
    for position in 2..=setting.size.samples + 1 {
        let sent = Instant::now();
        author.send(position).await?;
        author.acked.must_reach(position, LIMIT).await?;
        let arrival = author.acked.arrival(position).context("acknowledged without a time")?;
        samples.push(arrival.duration_since(sent).as_secs_f64());
        if begin.elapsed() > LIMIT {
            break;
        }
        sleep(PAUSE).await;
    }
    server.kill().await?;
    percentiles(["ack_p50", "ack_p99"], &samples)
}

/// One writer at a steady pace, one reader.
pub async fn relay(setting: &Setting, kind: Kind) -> Result<Measured> {
    let directory = setting.directory("relay")?;
    let server = Server::start(&setting.programs, kind, &directory.0).await?;
    let id = document_id(0);
    let mut author = Author::start(&server.endpoint, "author", &id, &setting.history, 1).await?;
    let (mut reader, _) = follow(&server.endpoint, "reader", &id, &setting.history).await?;
    reader.must_reach(1, LIMIT).await?;
    let samples = relayed(&mut author, &mut reader, 1, setting.size.samples).await?;
    server.kill().await?;
    percentiles(["relay_p50", "relay_p99"], &samples)
}

/// How long each of the `samples` changes after `position` took from the writer to the reader, in seconds.
pub async fn relayed(
    author: &mut Author,
    reader: &mut Track,
    position: u32,
    samples: u32,
) -> Result<Vec<f64>> {
    let end = Instant::now() + LIMIT;
    let sent = author.pace(position, position + samples, RATE, u32::MAX, end).await?;
    reader.must_reach(position + sent.len() as u32, LIMIT).await?;
    let took = |(position, sent): (u32, &Instant)| {
        let arrival = reader.arrival(position).context("received without a time")?;
        Ok(arrival.duration_since(*sent).as_secs_f64())
    };
    (position + 1..).zip(&sent).map(took).collect()
}
