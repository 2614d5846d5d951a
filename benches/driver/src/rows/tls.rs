//! What encryption costs: the same relay with and without it, and memory for connections that do nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use rcgen::{CertificateParams, KeyPair};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::latency::{percentiles, relayed};
use super::{Setting, document_id, settle};
use crate::peer::{Author, follow};
use crate::report::{Measured, median};
use crate::server::{Kind, Server};
use crate::socket::{self, Session, Tls};

const NAME: &str = "sync.bench.example";
/// The two relays are measured in turns, so many each: a noisy second hits both.
const TURNS: u32 = 10;
/// Longest wait until the reader has the first change.
const LIMIT: Duration = Duration::from_secs(20);

/// Relay at the same pace on two servers in turns, then idle connections on a third.
pub async fn run(setting: &Setting) -> Result<Measured> {
    let directory = setting.directory("tls")?;
    let (tls, settings) = certificate(setting, &directory.0)?;
    let mut measured = relays(setting, &directory.0, &tls, &settings).await?;
    measured.extend(idle(setting, &directory.0, &tls, &settings).await?);
    Ok(measured)
}

/// A certificate of its own for the server, and what clients and server go by.
pub(super) fn certificate(setting: &Setting, directory: &Path) -> Result<(Tls, Vec<(&'static str, String)>)> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([NAME.to_owned()])?.self_signed(&key)?;
    let [chain_file, key_file] = ["chain.pem", "key.pem"].map(|name| directory.join(name));
    std::fs::write(&chain_file, certificate.pem())?;
    std::fs::write(&key_file, key.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone())?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let settings = vec![
        ("GROUNDMIST_SYNC_TLS", "files".to_owned()),
        ("GROUNDMIST_SYNC_DOMAIN", NAME.to_owned()),
        ("GROUNDMIST_SYNC_CERTIFICATE__CHAIN_FILE", chain_file.display().to_string()),
        ("GROUNDMIST_SYNC_CERTIFICATE__KEY_FILE", key_file.display().to_string()),
        ("GROUNDMIST_SYNC_LISTEN__HTTPS", "127.0.0.1:0".to_owned()),
        ("GROUNDMIST_SYNC_LISTEN__HTTP", "127.0.0.1:0".to_owned()),
        ("GROUNDMIST_SYNC_LIMITS__CONNECTIONS", (setting.size.encrypted + 10).to_string()),
        // All of them have one token.
        ("GROUNDMIST_SYNC_LIMITS__CONNECTIONS_PER_SESSION", (setting.size.encrypted + 10).to_string()),
    ];
    Ok((Tls { config: Arc::new(config), name: NAME }, settings))
}

async fn relays(
    setting: &Setting,
    directory: &Path,
    tls: &Tls,
    settings: &[(&'static str, String)],
) -> Result<Measured> {
    let (programs, id) = (&setting.programs, document_id(0));
    let servers = [
        Server::start(programs, Kind::Groundmist, &directory.join("plain")).await?,
        Server::start_encrypted(
            programs,
            Kind::Groundmist,
            &directory.join("encrypted"),
            settings,
            Some(tls.clone()),
        )
        .await?,
    ];
    let mut pairs = Vec::new();
    for server in &servers {
        let author = Author::start(&server.endpoint, "author", &id, &setting.history, 1).await?;
        let (mut reader, _) = follow(&server.endpoint, "reader", &id, &setting.history).await?;
        reader.must_reach(1, LIMIT).await?;
        pairs.push((author, reader));
    }
    let mut samples = [Vec::new(), Vec::new()];
    let each = setting.size.samples.div_ceil(TURNS);
    for turn in 0..TURNS {
        for ((author, reader), samples) in pairs.iter_mut().zip(&mut samples) {
            samples.extend(relayed(author, reader, 1 + turn * each, each).await?);
        }
    }
    drop(pairs);
    for server in servers {
        server.kill().await?;
    }
    let mut measured = percentiles(["ws_p50", "ws_p99"], &samples[0])?;
    measured.extend(percentiles(["wss_p50", "wss_p99"], &samples[1])?);
    let ratio = median(&samples[1]).zip(median(&samples[0])).map_or(f64::NAN, |(wss, ws)| wss / ws);
    measured.push(("wss_ratio_p50", ratio));
    Ok(measured)
}

async fn idle(
    setting: &Setting,
    directory: &Path,
    tls: &Tls,
    settings: &[(&'static str, String)],
) -> Result<Measured> {
    let data = directory.join("idle");
    let server =
        Server::start_encrypted(&setting.programs, Kind::Groundmist, &data, settings, Some(tls.clone()))
            .await?;
    settle(&server).await;
    let (alone, begin) = (server.rss()?, Instant::now());
    let sessions = open(setting, &server).await?;
    let rate = f64::from(setting.size.encrypted) / begin.elapsed().as_secs_f64();
    settle(&server).await;
    let full = server.rss()?;
    drop(sessions);
    settle(&server).await;
    let gone = server.rss()?;
    let sessions = open(setting, &server).await?;
    settle(&server).await;
    let again = server.rss()?;
    drop(sessions);
    server.kill().await?;
    Ok(vec![
        ("wss_connection_rss", (full - alone) / f64::from(setting.size.encrypted)),
        ("wss_shaken", rate),
        ("wss_gone_rss", gone - alone),
        ("wss_again_rss", again - full),
    ])
}

/// One after the other.
async fn open(setting: &Setting, server: &Server) -> Result<Vec<Session>> {
    let mut sessions = Vec::new();
    for number in 0..setting.size.encrypted {
        sessions.push(socket::join(&server.endpoint, &format!("idle-{number}"), None).await?);
    }
    Ok(sessions)
}
