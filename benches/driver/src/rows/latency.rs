//! How long one change takes: to be acknowledged, and to reach a reader.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::sleep;

use super::{Setting, document_id};
use crate::peer::{Author, follow};
use crate::report::{Measured, percentile};
use crate::server::{Kind, Server};

/// Time limit of one scenario.
const LIMIT: Duration = Duration::from_secs(20);
/// Pause between an acknowledgement and the next change: a quiet server, not a pipeline.
const PAUSE: Duration = Duration::from_millis(2);
/// Changes a second of the relay scenario.
const RATE: u32 = 50;

fn percentiles(names: [&'static str; 2], samples: &[f64]) -> Result<Measured> {
    let at = |share| percentile(samples, share).context("no change arrived");
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
    let last = setting.size.samples + 1;
    let end = Instant::now() + LIMIT;
    let sent = author.pace(1, last, RATE, u32::MAX, end).await?;
    reader.must_reach(sent.len() as u32 + 1, LIMIT).await?;
    let mut samples = Vec::new();
    for (position, sent) in (2..).zip(&sent) {
        let arrival = reader.arrival(position).context("received without a time")?;
        samples.push(arrival.duration_since(*sent).as_secs_f64());
    }
    server.kill().await?;
    percentiles(["relay_p50", "relay_p99"], &samples)
}
