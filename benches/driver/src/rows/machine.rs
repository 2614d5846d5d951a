//! What the machine can do at best, with the same client.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use automerge::Automerge;
use fastwebsockets::Role;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::Setting;
use crate::report::{Measured, percentile};
use crate::socket::{self, Endpoint};

/// Bytes of a message: about those of a keystroke.
const MESSAGE: usize = 300;
/// Messages under way at most.
const WINDOW: u32 = 4096;
const BATCH: u32 = 64;

/// `echo-server`: sends back what comes, on one thread, until it is killed.
pub async fn echo_server() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(echo(stream));
    }
}

async fn echo(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let gather = !head.starts_with(b"GET /each ");
    stream
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        .await?;
    let (mut reader, writer) = socket::split(stream, Role::Server);
    loop {
        let idle = async { writer.lock().await.flush().await };
        let message = reader.next_or(idle).await?;
        let mut writer = writer.lock().await;
        writer.put(message.to_vec()).await?;
        if !gather {
            writer.flush().await?;
        }
    }
}

async fn round_trips(endpoint: &Endpoint, count: u32) -> Result<Vec<f64>> {
    let (mut reader, writer) = socket::open(endpoint).await?;
    let mut samples = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        writer.lock().await.send(vec![7; MESSAGE]).await?;
        reader.next().await?;
        samples.push(begin.elapsed().as_secs_f64());
    }
    Ok(samples)
}

async fn pipelined(endpoint: &Endpoint, time: Duration, gather: bool) -> Result<f64> {
    let (mut reader, writer) = socket::open(endpoint).await?;
    let room = std::sync::Arc::new(tokio::sync::Semaphore::new(WINDOW as usize));
    let begin = Instant::now();
    let back = tokio::spawn({
        let room = std::sync::Arc::clone(&room);
        async move {
            let mut count = 0u32;
            loop {
                match reader.next().await {
                    Ok(_) => count += 1,
                    Err(reason) => return Err::<u32, _>(reason),
                }
                if count.is_multiple_of(BATCH) {
                    room.add_permits(BATCH as usize);
                }
                if begin.elapsed() > time {
                    return Ok(count);
                }
            }
        }
    });
    while !back.is_finished() {
        let Ok(permit) = tokio::time::timeout(time, room.acquire_many(BATCH)).await else { continue };
        permit?.forget();
        let mut writer = writer.lock().await;
        for _ in 0..BATCH {
            writer.put(vec![7; MESSAGE]).await?;
            if !gather {
                writer.flush().await?;
            }
        }
        writer.flush().await?;
    }
    Ok(f64::from(back.await??) / begin.elapsed().as_secs_f64())
}

fn appends(setting: &Setting, count: u32) -> Result<Vec<f64>> {
    let directory = setting.directory("disk")?;
    let mut file = std::fs::File::options().create(true).append(true).open(directory.0.join("log"))?;
    let mut samples = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        file.write_all(&[7; MESSAGE])?;
        file.sync_data()?;
        samples.push(begin.elapsed().as_secs_f64());
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(samples)
}

/// All of the machine's limits.
pub async fn run(setting: &Setting) -> Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("echo-server").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let output = child.stdout.take().context("the echo server has no output")?;
    let line = BufReader::new(output).lines().next_line().await?.context("the echo server said nothing")?;
    let endpoint = Endpoint { address: line.parse()?, path: "/".to_owned(), tls: None };
    let echo = pipelined(&endpoint, setting.size.flood / 4, true).await?;
    let each = Endpoint { path: "/each".to_owned(), ..endpoint.clone() };
    let echo_each = pipelined(&each, setting.size.flood / 4, false).await?;
    let trips = round_trips(&endpoint, setting.size.samples * 4).await?;
    child.kill().await?;
    let disk = tokio::task::spawn_blocking({
        let setting = setting.clone();
        move || appends(&setting, setting.size.samples)
    });
    let disk = disk.await??;
    let saved = setting.history.document(setting.history.len().min(setting.size.long))?;
    let begin = Instant::now();
    let document = Automerge::load(&saved)?;
    let load = begin.elapsed().as_secs_f64();
    drop(document);
    let at = |samples: &[f64], share| percentile(samples, share).context("no samples");
    Ok(vec![
        ("echo", echo),
        ("echo_each", echo_each),
        ("round_trip", at(&trips, 0.5)?),
        ("fdatasync_p50", at(&disk, 0.5)?),
        ("fdatasync_p99", at(&disk, 0.99)?),
        ("automerge_load", load),
    ])
}
