//! What connected devices notice while strangers try to get in.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::latency::{RATE, percentiles, relayed};
use super::{Setting, document_id};
use crate::door::Door;
use crate::http::Connection;
use crate::keys::{Curve, Key};
use crate::peer::{Author, follow};
use crate::report::Measured;

/// Forged requests a second.
const FORGED: u32 = 500;
/// Addresses they come from: so many that the limit for each address stops none.
const ADDRESSES: u32 = 250;
/// They begin so long before the relay is measured, and end so long after.
const MARGIN: Duration = Duration::from_secs(1);
/// Longest wait until the reader has the first change.
const LIMIT: Duration = Duration::from_secs(20);

/// Relay at the same pace, undisturbed and then disturbed, on one server with the limits that it comes with.
pub async fn run(setting: &Setting) -> Result<Measured> {
    let directory = setting.directory("forged")?;
    let door = Door::open(setting, (Curve::K256, Curve::P256), &directory.0, &[]).await?;
    let (endpoint, id, samples) = (&door.server.endpoint, document_id(0), setting.size.samples);
    let mut author = Author::start(endpoint, "author", &id, &setting.history, 1).await?;
    let (mut reader, _) = follow(endpoint, "reader", &id, &setting.history).await?;
    reader.must_reach(1, LIMIT).await?;
    let time = 2 * MARGIN + Duration::from_secs(1) * samples / RATE;
    let requests = requests(&door, FORGED * time.as_secs() as u32).await?;
    let quiet = relayed(&mut author, &mut reader, 1, samples).await?;
    let flood = tokio::spawn(flood(endpoint.address, requests));
    tokio::time::sleep(MARGIN).await;
    let disturbed = relayed(&mut author, &mut reader, 1 + samples, samples).await?;
    ensure!(!flood.is_finished(), "the forged requests ended before the changes did");
    let answers = flood.await??;
    ensure!(answers.keys().all(|status| [401, 429].contains(status)), "answers by status: {answers:?}");
    let share = |status| f64::from(answers.get(&status).copied().unwrap_or(0)) / time.as_secs_f64();
    let mut measured = percentiles(["quiet_p50", "quiet_p99"], &quiet)?;
    measured.extend(percentiles(["forged_p50", "forged_p99"], &disturbed)?);
    let ratios = [measured[2].1 / measured[0].1, measured[3].1 / measured[1].1];
    measured.extend([("forged_ratio_p50", ratios[0]), ("forged_ratio_p99", ratios[1])]);
    measured.extend([("forged_401", share(401)), ("forged_429", share(429))]);
    Ok(measured)
}

/// A third each: a service-auth token by a wrong key, a forged access token with a right proof, garbage.
async fn requests(door: &Door, count: u32) -> Result<Vec<Vec<u8>>> {
    let [service, app] = [Key::new(Curve::K256)?, Key::new(Curve::P256)?];
    let mut connection = Connection::new(tokio::net::TcpStream::connect(door.server.endpoint.address).await?);
    let nonce = connection.send(&door.forged(&app, None)?).await?.nonce.context("no nonce was given")?;
    let request = |number| match number % 3 {
        0 => door.wrong_key(&service),
        1 => door.forged(&app, Some(&nonce)),
        _ => Ok(door.garbage()),
    };
    (0..count).map(request).collect()
}

/// Sends each on a connection of its own. How often each status was answered.
async fn flood(server: SocketAddr, requests: Vec<Vec<u8>>) -> Result<BTreeMap<u16, u32>> {
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, request) in (0..).zip(requests) {
        sleep_until((begin + Duration::from_secs(1) * number / FORGED).into()).await;
        tasks.spawn(async move {
            let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 0).to_bits() + number % ADDRESSES);
            let socket = TcpSocket::new_v4()?;
            socket.bind((address, 0).into())?;
            let mut connection = Connection::new(socket.connect(server).await?);
            Ok::<_, anyhow::Error>(connection.send(&request).await?.status)
        });
    }
    let late = begin.elapsed();
    let mut answers = BTreeMap::new();
    while let Some(status) = tasks.join_next().await {
        *answers.entry(status??).or_default() += 1;
    }
    ensure!(begin.elapsed() < late + MARGIN, "the last answers came more than {MARGIN:?} late");
    Ok(answers)
}
