//! The servers that are measured: started as child processes, read through /proc, stopped by process id.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::socket::{self, Endpoint, Tls};

/// A clock tick of /proc/PID/stat in seconds (USER_HZ is 100 on every Linux that Rust supports).
const TICK: f64 = 0.01;
/// Longest wait for a server to answer its first client.
const START: Duration = Duration::from_secs(60);
/// Then the client tries again: the JavaScript server loses who connects before it has read its storage id.
const JOIN: Duration = Duration::from_millis(250);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// This repository's.
    Groundmist,
    /// An earlier build of it, to compare with.
    Before,
    /// The public one, from npm.
    JavaScript,
    /// samod behind axum.
    Samod,
}

impl Kind {
    /// As in `--servers`.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "groundmist" => Ok(Self::Groundmist),
            "before" => Ok(Self::Before),
            "js" => Ok(Self::JavaScript),
            "samod" => Ok(Self::Samod),
            _ => bail!("unknown server {name:?}: use groundmist, before, js or samod"),
        }
    }

    /// As in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Groundmist => "groundmist-sync",
            Self::Before => "groundmist-sync before",
            Self::JavaScript => "automerge-repo-sync-server",
            Self::Samod => "samod",
        }
    }

    /// Documents are files that could have been laid there, and are not read at start.
    pub fn keeps_files(self) -> bool {
        !self.is_ours()
    }

    /// This repository's, of whatever build.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Groundmist | Self::Before)
    }
}

/// Where the programs are. An empty path for one that is not measured.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// Our binary.
    pub groundmist: PathBuf,
    /// An earlier build of it.
    pub before: PathBuf,
    /// `benches/js_server`, with its packages installed.
    pub javascript: PathBuf,
    /// The samod server's binary.
    pub samod: PathBuf,
}

/// A running server.
pub struct Server {
    child: Child,
    pid: u32,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// From the start of the process to its answer to the first client that joins.
    pub started: Duration,
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Server {
    /// Start it on `data` and wait until a client can join.
    pub async fn start(programs: &Programs, kind: Kind, data: &Path) -> Result<Self> {
        Self::start_with(programs, kind, data, &[]).await
    }

    /// The same with settings in its environment.
    pub async fn start_with(
        programs: &Programs,
        kind: Kind,
        data: &Path,
        settings: &[(&str, String)],
    ) -> Result<Self> {
        Self::start_encrypted(programs, kind, data, settings, None).await
    }

    /// The same, with what its clients go by if its settings make it encrypted.
    pub async fn start_encrypted(
        programs: &Programs,
        kind: Kind,
        data: &Path,
        settings: &[(&str, String)],
        tls: Option<Tls>,
    ) -> Result<Self> {
        std::fs::create_dir_all(data)?;
        let port = free_port()?;
        let mut command = match kind {
            Kind::Groundmist | Kind::Before => {
                let binary = if kind == Kind::Before { &programs.before } else { &programs.groundmist };
                let mut command = Command::new(binary);
                command.args(["serve", "--dev", "--data-dir"]).arg(data);
                if tls.is_none() {
                    command.args(["--port", "0"]);
                }
                command
            }
            Kind::JavaScript => {
                let main = "node_modules/@automerge/automerge-repo-sync-server/src/index.js";
                let mut command = Command::new("node");
                command.arg("--require").arg(programs.javascript.join("loopback.cjs"));
                command.arg(programs.javascript.join(main)).current_dir(data);
                command.env("PORT", port.to_string()).env("DATA_DIR", data);
                command
            }
            Kind::Samod => {
                let mut command = Command::new(&programs.samod);
                command.arg(data).arg(port.to_string());
                command
            }
        };
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log(kind)?).kill_on_drop(true);
        let begin = Instant::now();
        let mut child = command.spawn().with_context(|| format!("start {}", kind.title()))?;
        let pid = child.id().context("the server ended at once")?;
        let output = child.stdout.take().context("the server has no output")?;
        let (mut endpoint, output) = timeout(START, listening(output, kind, port))
            .await
            .with_context(|| format!("{} did not say where it listens", kind.title()))??;
        endpoint.tls = tls;
        // What it says later is read and dropped, so that a full pipe never stops it.
        tokio::spawn(async move {
            let mut lines = output;
            while let Ok(Some(_)) = lines.next_line().await {}
        });
        let joined = async {
            loop {
                let joined = timeout(JOIN, socket::join(&endpoint, "start", None)).await;
                match joined.unwrap_or_else(|_| bail!("a client that joined had no answer within {JOIN:?}")) {
                    Ok(_) => return Ok(begin.elapsed()),
                    Err(reason) if begin.elapsed() > START => return Err(reason),
                    Err(_) => sleep(Duration::from_millis(1)).await,
                }
            }
        };
        let started = joined.await?;
        Ok(Self { child, pid, endpoint, started })
    }

    fn status(&self, field: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .context("no such field in /proc status")?;
        Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
    }

    /// Resident memory now, in bytes.
    pub fn rss(&self) -> Result<f64> {
        self.status("VmRSS")
    }

    /// Highest resident memory since `forget_peak`, in bytes.
    pub fn peak_rss(&self) -> Result<f64> {
        self.status("VmHWM")
    }

    /// Start the peak anew.
    pub fn forget_peak(&self) -> Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5")?)
    }

    /// Processor seconds used so far, all threads, user and system.
    pub fn cpu(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let (_, fields) = stat.rsplit_once(')').context("/proc stat without a name")?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || -> Result<f64> { Ok(fields.next().context("/proc stat is short")?.parse()?) };
        Ok((ticks()? + ticks()?) * TICK)
    }

    /// Ask it to stop, and wait; killed if it takes longer than 10 s.
    pub async fn stop(mut self) -> Result<()> {
        Command::new("kill").arg("-TERM").arg(self.pid.to_string()).status().await?;
        if timeout(Duration::from_secs(10), self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }

    /// Stop it without asking.
    pub async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Standard error goes nowhere unless `BENCH_LOG` names a directory for it.
fn log(kind: Kind) -> Result<Stdio> {
    let Some(directory) = std::env::var_os("BENCH_LOG") else { return Ok(Stdio::null()) };
    let path = Path::new(&directory).join(format!("{}.log", kind.title()));
    Ok(std::fs::File::options().create(true).append(true).open(path)?.into())
}

type Output = tokio::io::Lines<BufReader<tokio::process::ChildStdout>>;

async fn listening(output: tokio::process::ChildStdout, kind: Kind, port: u16) -> Result<(Endpoint, Output)> {
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some((_, rest)) = line.split_once("ws://") {
            let url = rest.split_whitespace().next().unwrap_or_default();
            let (address, path) = url.split_once('/').unwrap_or((url, ""));
            return Ok((Endpoint { address: address.parse()?, path: format!("/{path}"), tls: None }, lines));
        }
        if let Some((_, rest)) = line.split_once("wss://") {
            let (host, path) = rest.split_once('/').context("no path")?;
            let port = host.rsplit_once(':').context("no port")?.1.parse()?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            return Ok((Endpoint { address, path: format!("/{path}"), tls: None }, lines));
        }
        if kind == Kind::JavaScript && line.contains("Listening on port") {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            return Ok((Endpoint { address, path: "/".to_owned(), tls: None }, lines));
        }
    }
    bail!("{} ended before it listened", kind.title())
}

/// Bytes that a directory takes on disk, as allocated.
pub fn disk(path: &Path) -> Result<f64> {
    let mut bytes = std::fs::symlink_metadata(path)?.blocks() as f64 * 512.0;
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            bytes += disk(&entry?.path())?;
        }
    }
    Ok(bytes)
}
