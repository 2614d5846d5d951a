//! `status`: how the running server is, in words.

use hyper::Method;

use super::admin_client::call;
use super::text::{bytes, count, date, grouped, span};
use super::{CliError, Exit, print, print_json};
use crate::config::{Config, TlsMode};
use crate::engine::Holder;
use crate::listen::CertificateNow;
use crate::types::day;
use crate::web::admin::{BackupNow, RecordState, Status, Warning};

/// A device that holds less of the memory budget than this is not named. Bytes.
const NAMED_BYTES: u64 = 1 << 20;

pub(super) fn run(config: &Config, json: bool) -> Result<Exit, CliError> {
    let status: Status = call(config, Method::GET, "/api/status", None::<&()>)?;
    if json {
        print_json(&status)?;
    } else {
        print(&words(&status));
    }
    let is_grave = status.warnings.iter().any(|warning| warning.grave);
    Ok(if is_grave { Exit::Failure } else { Exit::Success })
}

/// The certificate, in words.
pub(super) fn certificate(known: &CertificateNow) -> String {
    let renewal = known.renewal_due.map_or_else(String::new, |due| format!(", renewal from {}", day(due)));
    match (known.valid_until, &known.last_error) {
        _ if known.mode == TlsMode::Off.as_str() => "none here, tls is off".into(),
        (Some(until), _) => format!("valid until {}{renewal}", day(until)),
        (None, _) if known.ordering => "being ordered".into(),
        (None, Some(error)) => format!("none yet: {error}"),
        (None, None) => "none yet".into(),
    }
}

fn last_backup(known: &BackupNow) -> String {
    let last = match &known.last {
        Some(last) => {
            format!("{}, {} in {}", date(last.created), count(last.documents, "document"), bytes(last.bytes))
        }
        None => "none".into(),
    };
    match (known.running, &known.last_error) {
        (true, _) => format!("{last}; one is being made"),
        (false, Some(error)) => format!("{last}; the latest attempt came to nothing: {error}"),
        (false, None) => last,
    }
}

fn record(status: &Status) -> String {
    let record = &status.record;
    match (record.state, &record.host, &record.reason) {
        (RecordState::Published, ..) => "your account tells apps where this server is".into(),
        (RecordState::Other, Some(host), _) => format!("your account sends apps to {host}"),
        (RecordState::Other | RecordState::Missing, ..) => {
            "your account does not say where this server is".into()
        }
        (RecordState::Unknown, _, Some(reason)) => format!("not known: {reason}"),
        (RecordState::Unknown, _, None) => "being looked at".into(),
    }
}

fn words(status: &Status) -> String {
    let Status { engine, storage, .. } = status;
    let mut text = format!(
        "groundmist-sync {} has been running for {}, listening on {}.\n\n",
        status.version,
        span(status.uptime_seconds),
        status.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
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
                "{}; documents ({3}) and what apps have open ({4}) use {1} of the {2} they may; {5} received and {6} to be sent wait",
                bytes(status.rss_bytes),
                bytes(engine.memory_bytes),
                bytes(status.memory_budget_bytes),
                bytes(engine.memory.graphs),
                bytes(engine.memory.connections),
                bytes(engine.memory.incoming + engine.memory.decoding),
                bytes(engine.memory.outgoing)
            ),
        ),
        ("Held most by", holders(&engine.largest_holders)),
        (
            "Changes",
            format!(
                "{} received in {}, {} sent, since the start",
                grouped(engine.changes_in),
                count(engine.commits, "commit"),
                grouped(engine.changes_out)
            ),
        ),
        ("Certificate", certificate(&status.certificate)),
        ("Record", record(status)),
        ("Disk", format!("{} free of {}", bytes(status.disk.free_bytes), bytes(status.disk.total_bytes))),
        ("Last backup", last_backup(&status.backup)),
        ("Storage id", status.storage_id.clone()),
    ] {
        if !value.is_empty() {
            text += &format!("{name:<12}{value}\n");
        }
    }
    text += "\n";
    if status.warnings.is_empty() {
        text += "All is well.\n";
    }
    for Warning { grave, message, fix, .. } in &status.warnings {
        let kind = if *grave { "Trouble" } else { "Note" };
        text += &format!("{kind}: {message}\n");
        if let Some(fix) = fix {
            text += &format!("  {fix}\n");
        }
    }
    text
}

/// Names the devices that hold the most of what apps have open. The text is empty if none is worth a line.
fn holders(largest: &[Holder]) -> String {
    let named = largest.iter().filter(|holder| holder.bytes >= NAMED_BYTES).map(|holder| {
        let Holder { namespace, client, session, bytes: held } = holder;
        format!("{client} for {namespace}, session {session}: {}", bytes(*held))
    });
    named.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LastBackup;
    use crate::types::Millis;
    use crate::web::admin::tests::well;

    #[test]
    fn what_is_to_be_looked_at_is_said_in_words() {
        let mut status = well();
        status.backup.last = Some(LastBackup { created: 0, bytes: 3 << 20, documents: 7 });
        let holder = |session: &str, bytes| Holder {
            namespace: "xyz.notes".into(),
            client: "https://notes.example/client.json".into(),
            session: session.into(),
            bytes,
        };
        status.engine.largest_holders = vec![holder("s1", 9 << 20), holder("s2", 1000)];
        let text = words(&status);
        assert!(!text.contains("s2"), "{text}");
        for part in [
            "1 h 1 min",
            "https://notes.example/client.json for xyz.notes, session s1: 9.0 MiB\n",
            "127.0.0.1:3030",
            "1,204",
            "1.5 MiB",
            "of the 24.0 MiB",
            "1024.0 GiB free of 2048.0 GiB",
            "being looked at",
            "All is well",
            "1970-01-01 00:00 UTC, 7 documents in 3.0 MiB",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        let warning = |grave, message: &str, fix| Warning {
            code: String::new(),
            grave,
            message: message.into(),
            fix,
            retry: None,
        };
        status.warnings =
            vec![warning(true, "the disk is full", None), warning(false, "old", Some("do it".into()))];
        let text = words(&status);
        assert!(text.ends_with("\n\nTrouble: the disk is full\nNote: old\n  do it\n"), "{text}");
    }

    #[test]
    fn the_certificate_is_told_of_in_words() {
        const DAY: Millis = 86_400_000;
        let files = CertificateNow { mode: "files".into(), ..Default::default() };
        let until = CertificateNow { valid_until: Some(90 * DAY), ..files.clone() };
        let renewal = CertificateNow { renewal_due: Some(60 * DAY), ..until.clone() };
        let none =
            CertificateNow { last_error: Some("the disk is gone".into()), failures: 1, ..files.clone() };
        for (known, says) in [
            (&CertificateNow { mode: "off".into(), ..Default::default() }, "tls is off"),
            (&renewal, "valid until 1 Apr 1970, renewal from 2 Mar 1970"),
            (&until, "valid until 1 Apr 1970"),
            (&none, "none yet: the disk is gone"),
            (&CertificateNow { ordering: true, ..files.clone() }, "being ordered"),
            (&files, "none yet"),
        ] {
            assert!(certificate(known).contains(says), "{known:?}");
        }
    }
}
