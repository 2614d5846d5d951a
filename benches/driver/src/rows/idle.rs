//! What a server costs that has nothing to do.

use anyhow::Result;

use super::{Setting, settle};
use crate::report::Measured;
use crate::server::{Kind, Server};
use crate::socket;

/// Memory alone, and with idle connections.
pub async fn run(setting: &Setting, kind: Kind) -> Result<Measured> {
    let directory = setting.directory("idle")?;
    // All connections have one token.
    let most = [("GROUNDMIST_SYNC_LIMITS__CONNECTIONS_PER_SESSION", "10000".to_owned())];
    let server = Server::start_with(&setting.programs, kind, &directory.0, &most).await?;
    settle(&server).await;
    let alone = server.rss()?;
    let mut sessions = Vec::new();
    for number in 0..setting.size.connections {
        sessions.push(socket::join(&server.endpoint, &format!("idle-{number}"), None).await?);
    }
    settle(&server).await;
    let each = (server.rss()? - alone) / f64::from(setting.size.connections);
    drop(sessions);
    server.kill().await?;
    Ok(vec![("idle_rss", alone), ("connection_rss", each)])
}
