//! Measures sync servers side by side. `benches/run` builds what it needs and starts it.

mod devices;
mod door;
mod history;
mod http;
mod keys;
mod peer;
mod report;
mod rows;
mod server;
mod socket;
mod stand_in;
mod sync_message;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::timeout;

use history::History;
use report::{Figures, Measured};
use rows::{Setting, Size};
use server::{Kind, Programs};

const USAGE: &str =
    "usage: bench-driver [--quick] [--rounds N] [--rows all|flood,ack,relay,cpu,newcomer,docs,idle,start,authenticate,forged,tls,backup]
    [--servers groundmist,before,js,samod] [--document FILE] [--out FILE] [--scratch DIR]
    --groundmist BINARY --before BINARY --js DIR --samod BINARY
bench-driver echo-server";

/// Every scenario, in the order of the table.
const SCENARIOS: [&str; 12] = [
    "flood",
    "ack",
    "relay",
    "cpu",
    "newcomer",
    "docs",
    "idle",
    "start",
    "authenticate",
    "forged",
    "tls",
    "backup",
];
/// Those of what the other servers do not have.
const OURS: [&str; 4] = ["authenticate", "forged", "tls", "backup"];
/// A scenario that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(900);

struct Options {
    setting: Setting,
    rows: Vec<&'static str>,
    kinds: Vec<Kind>,
    out: Option<PathBuf>,
}

fn options() -> Result<Options> {
    let mut arguments = std::env::args().skip(1);
    let mut size = Size::full();
    let (mut rounds, mut rows, mut document, mut out) = (None, SCENARIOS.to_vec(), None, None);
    let mut kinds = vec![Kind::Groundmist, Kind::JavaScript, Kind::Samod];
    let mut scratch = std::env::temp_dir();
    let mut programs = Programs::default();
    while let Some(argument) = arguments.next() {
        if argument == "--quick" {
            size = Size::quick();
            continue;
        }
        let value = arguments
            .next()
            .with_context(|| format!("{argument:?} is unknown or lacks its value\n{USAGE}"))?;
        match argument.as_str() {
            "--rounds" => rounds = Some(value.parse().context("--rounds takes a number")?),
            "--rows" if value == "all" => {}
            "--rows" => {
                let wanted: Vec<_> = value.split(',').collect();
                rows = SCENARIOS.into_iter().filter(|name| wanted.contains(name)).collect();
                if rows.len() != wanted.len() {
                    bail!("--rows takes some of {SCENARIOS:?}");
                }
            }
            "--servers" => kinds = value.split(',').map(Kind::parse).collect::<Result<_>>()?,
            "--document" => document = Some(PathBuf::from(value)),
            "--out" => out = Some(PathBuf::from(value)),
            "--scratch" => scratch = PathBuf::from(value),
            "--groundmist" => programs.groundmist = std::fs::canonicalize(value)?,
            "--before" => programs.before = std::fs::canonicalize(value)?,
            "--js" => programs.javascript = std::fs::canonicalize(value)?,
            "--samod" => programs.samod = std::fs::canonicalize(value)?,
            _ => bail!("{argument:?} is unknown\n{USAGE}"),
        }
    }
    size.rounds = rounds.unwrap_or(size.rounds);
    let history = Arc::new(History::load(document.as_deref())?);
    std::fs::create_dir_all(&scratch)?;
    let scratch = std::fs::canonicalize(scratch)?;
    Ok(Options { setting: Setting { size, programs, scratch, history }, rows, kinds, out })
}

async fn scenario(setting: &Setting, name: &str, kind: Kind) -> Result<Measured> {
    match name {
        "flood" => rows::flood::run(setting, kind).await,
        "ack" => rows::latency::acknowledgement(setting, kind).await,
        "relay" => rows::latency::relay(setting, kind).await,
        "cpu" => rows::cpu::run(setting, kind).await,
        "newcomer" => rows::newcomer::run(setting, kind).await,
        "docs" => rows::documents::run(setting, kind).await,
        "idle" => rows::idle::run(setting, kind).await,
        "start" => rows::start::run(setting, kind).await,
        "authenticate" => rows::authenticate::run(setting).await,
        "forged" => rows::forged::run(setting).await,
        "tls" => rows::tls::run(setting).await,
        "backup" => rows::backup::run(setting).await,
        _ => bail!("no scenario {name:?}"),
    }
}

/// Servers take turns within each round, so that a noisy minute hits all of them.
async fn measure(options: &Options) -> Result<Figures> {
    let mut figures = Figures::default();
    for name in &options.rows {
        for round in 1..=options.setting.size.rounds {
            // Filling takes longest there and each fill is started from five times.
            if *name == "start" && round > 1 {
                break;
            }
            figures.add(None, rows::machine::run(&options.setting).await?);
            let kinds = options.kinds.iter();
            for kind in kinds.filter(|kind| **kind == Kind::Groundmist || !OURS.contains(name)) {
                let run = timeout(LIMIT, scenario(&options.setting, name, *kind)).await;
                match run.unwrap_or_else(|_| bail!("not done after {LIMIT:?}")) {
                    Ok(measured) => {
                        eprintln!("{name} round {round} {}: {measured:?}", kind.title());
                        figures.add(Some(*kind), measured);
                        figures.succeeded.insert((*kind, *name));
                    }
                    Err(reason) => {
                        eprintln!("{name} round {round} {} failed: {reason:#}", kind.title());
                        figures.failures.push((*kind, name, format!("{reason:#}")));
                    }
                }
            }
        }
    }
    Ok(figures)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("bench-driver: {reason:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("echo-server") {
        return rows::machine::echo_server().await;
    }
    let options = options()?;
    let figures = measure(&options).await?;
    let table = figures.table(&options.kinds);
    println!("{table}");
    if let Some(out) = &options.out {
        std::fs::write(out, &table).with_context(|| format!("write {}", out.display()))?;
    }
    if figures.failed() {
        bail!("scenarios failed, see under the table");
    }
    Ok(())
}
