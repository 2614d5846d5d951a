//! `status`: how the running server is, in words.

use hyper::Method;

use super::admin_client::call;
use super::text::{bytes, grouped, span};
use super::{CliError, Exit, print, print_json};
use crate::config::Config;
use crate::web::admin::Status;

pub(super) fn run(config: &Config, json: bool) -> Result<Exit, CliError> {
    let status: Status = call(config, Method::GET, "/api/status", None::<&()>)?;
    let troubles = troubles(&status);
    if json {
        print_json(&status)?;
    } else {
        print(&words(&status, &troubles));
    }
    Ok(if troubles.is_empty() { Exit::Success } else { Exit::Failure })
}

/// What the owner must look at.
fn troubles(status: &Status) -> Vec<String> {
    let mut troubles = Vec::new();
    if let Some(error) = &status.engine.journal_error {
        troubles.push(format!("changes cannot be saved, and none is acknowledged: {error}"));
    }
    if !status.alive {
        troubles.push(
            "the engine does not answer in time: if this lasts, restart the server; the log says more".into(),
        );
    }
    troubles
}

fn words(status: &Status, troubles: &[String]) -> String {
    let Status { engine, storage, .. } = status;
    let mut text = format!(
        "groundmist-sync {} has been running for {}, listening on {}.\n\n",
        status.version,
        span(status.uptime_seconds),
        status.listen
    );
    for (name, value) in [
        ("Connections", grouped(engine.connections)),
        (
            "Documents",
            format!("{}, {} of them in memory", grouped(storage.documents), grouped(engine.documents_loaded)),
        ),
        ("On disk", format!("{}, {} of it dead space", bytes(storage.file_bytes), bytes(storage.dead_bytes))),
        (
            "Memory",
            format!(
                "{}; documents use {} of the {} they may",
                bytes(status.rss_bytes),
                bytes(engine.memory_bytes),
                bytes(status.memory_budget_bytes)
            ),
        ),
        (
            "Changes",
            format!(
                "{} received in {} commits, {} sent, since the start",
                grouped(engine.changes_in),
                grouped(engine.commits),
                grouped(engine.changes_out)
            ),
        ),
        ("Storage id", status.storage_id.clone()),
    ] {
        text += &format!("{name:<12}{value}\n");
    }
    text += "\n";
    if troubles.is_empty() {
        text += "All is well.\n";
    }
    for trouble in troubles {
        text += &format!("Trouble: {trouble}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineStatus;
    use crate::store::StoreStats;

    #[test]
    fn trouble_is_said_in_words() {
        let mut status = Status {
            version: "1.2.3".into(),
            pid: 1,
            uptime_seconds: 3700,
            listen: "127.0.0.1:3030".into(),
            storage_id: "abc".into(),
            alive: true,
            rss_bytes: 12 << 20,
            memory_budget_bytes: 24 << 20,
            engine: EngineStatus { connections: 3, ..Default::default() },
            storage: StoreStats { documents: 1204, file_bytes: 3 << 19, dead_bytes: 0 },
        };
        assert!(troubles(&status).is_empty());
        let text = words(&status, &[]);
        for part in ["1 h 1 min", "127.0.0.1:3030", "1,204", "1.5 MiB", "of the 24.0 MiB", "All is well"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        status.alive = false;
        status.engine.journal_error = Some("the disk is full".into());
        let found = troubles(&status);
        let text = words(&status, &found);
        assert!(
            found.len() == 2 && text.contains("the disk is full") && !text.contains("All is well"),
            "{text}"
        );
    }
}
