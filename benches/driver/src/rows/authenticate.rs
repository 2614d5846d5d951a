//! Letting apps in: how many a second, and how long each waits. Nobody else is asked meanwhile.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::Setting;
use super::latency::percentiles;
use crate::door::Door;
use crate::http::Connection;
use crate::keys::Curve;
use crate::report::Measured;

/// Connections that ask at once for the rate; each asks again when it has its answer.
const AT_ONCE: usize = 32;
/// Connections over which the steady requests are spread.
const SPREAD: usize = 64;
/// Steady requests a second.
const STEADY: u32 = 2_000;
/// Requests before it is measured: the app then has as many sessions as it may, and the oldest give way.
const WARM_UP: u32 = 1_000;

/// How long an answer took in seconds, and its body.
type Taken = (f64, Vec<u8>);

/// The owner's key is ES256K as most are, or ES256; the app's is ES256.
pub async fn run(setting: &Setting) -> Result<Measured> {
    let mut all =
        of(setting, Curve::K256, ["enter_k256", "enter_k256_p50", "enter_k256_p99", "enter_k256_cpu"])
            .await?;
    all.extend(
        of(setting, Curve::P256, ["enter_p256", "enter_p256_p50", "enter_p256_p99", "enter_p256_cpu"])
            .await?,
    );
    Ok(all)
}

async fn of(setting: &Setting, curve: Curve, [rate, p50, p99, cpu]: [&'static str; 4]) -> Result<Measured> {
    let directory = setting.directory("authenticate")?;
    // One app from one address asks as often here as all of the owner's apps never would.
    let limits = [
        ("GROUNDMIST_SYNC_LIMITS__AUTHENTICATE", "1000000".to_owned()),
        ("GROUNDMIST_SYNC_LIMITS__AUTHENTICATE_PER_ADDRESS", "60000000".to_owned()),
    ];
    let door = Arc::new(Door::open(setting, (curve, Curve::P256), &directory.0, &limits).await?);
    let count = setting.size.requests;
    let mut answers = enter(&door, requests(&door, WARM_UP.min(count)).await?, None).await?;
    let hurried = requests(&door, count).await?;
    let used = door.server.cpu()?;
    let begin = Instant::now();
    answers.extend(enter(&door, hurried, None).await?);
    let took = begin.elapsed().as_secs_f64();
    let used = door.server.cpu()? - used;
    let steady = enter(&door, requests(&door, count).await?, Some(STEADY)).await?;
    let times: Vec<f64> = steady.iter().map(|(time, _)| *time).collect();
    answers.extend(steady);
    each_has_a_token(&answers)?;
    let mut measured = vec![(rate, f64::from(count) / took), (cpu, used / f64::from(count))];
    measured.extend(percentiles([p50, p99], &times)?);
    Ok(measured)
}

/// Made on all processors.
async fn requests(door: &Arc<Door>, count: u32) -> Result<Vec<Vec<u8>>> {
    let makers = std::thread::available_parallelism()?.get() as u32;
    let mut makers: JoinSet<Result<Vec<_>>> = (0..makers)
        .map(|maker| (Arc::clone(door), (maker..count).step_by(makers as usize)))
        .map(|(door, mine)| move || mine.map(|_| door.genuine()).collect())
        .fold(JoinSet::new(), |mut all, make| {
            all.spawn_blocking(make);
            all
        });
    let mut all = Vec::new();
    while let Some(made) = makers.join_next().await {
        all.extend(made??);
    }
    Ok(all)
}

/// Sends all: at this rate, or as fast as they are answered. One that is due while its connection waits is counted from then on.
async fn enter(door: &Door, requests: Vec<Vec<u8>>, rate: Option<u32>) -> Result<Vec<Taken>> {
    let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
    let mut connections = Vec::new();
    for _ in 0..if rate.is_some() { SPREAD } else { AT_ONCE } {
        let stream = TcpStream::connect(door.server.endpoint.address).await?;
        stream.set_nodelay(true)?;
        connections.push(Connection::new(stream));
    }
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        tasks.spawn(async move {
            let mut taken = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(request) = requests.get(number) else { return Ok::<_, anyhow::Error>(taken) };
                let mut asked = Instant::now();
                if let Some(rate) = rate {
                    let due = begin + Duration::from_secs(1) * number as u32 / rate;
                    if due > asked {
                        sleep_until(due.into()).await;
                        asked = Instant::now();
                    } else {
                        asked = due;
                    }
                }
                let answer = connection.send(request).await?;
                let time = asked.elapsed().as_secs_f64();
                ensure!(answer.status == 200, "not let in: {}", String::from_utf8_lossy(&answer.body));
                taken.push((time, answer.body));
            }
        });
    }
    let mut all = Vec::new();
    while let Some(taken) = tasks.join_next().await {
        all.extend(taken??);
    }
    Ok(all)
}

fn each_has_a_token(answers: &[Taken]) -> Result<()> {
    let mut tokens = HashSet::new();
    for (_, body) in answers {
        let body: Value = serde_json::from_slice(body)?;
        let token = body["token"].as_str().context("an answer without a token")?;
        ensure!(tokens.insert(token.to_owned()), "a token was given out twice");
    }
    Ok(())
}
