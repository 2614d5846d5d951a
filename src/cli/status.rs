//! `status`: how the running server is, in words.

use hyper::Method;

use super::admin_client::call;
use super::text::{bytes, date, day, grouped, span};
use super::{CliError, Exit, print, print_json};
use crate::config::{Config, TlsMode};
use crate::listen::CertificateNow;
use crate::types::{Millis, now};
use crate::web::admin::{BackupNow, Status};

/// A certificate that has no longer than this, or the last sixth of its life, should have been renewed.
const SOON_MS: Millis = 7 * 86_400_000;

pub(super) fn run(config: &Config, json: bool) -> Result<Exit, CliError> {
    let status: Status = call(config, Method::GET, "/api/status", None::<&()>)?;
    let troubles = troubles(&status, now());
    if json {
        print_json(&status)?;
    } else {
        print(&words(&status, &troubles));
    }
    Ok(if troubles.is_empty() { Exit::Success } else { Exit::Failure })
}

/// What the owner must look at.
fn troubles(status: &Status, now: Millis) -> Vec<String> {
    let mut troubles = Vec::new();
    if let Some(error) = &status.engine.journal_error {
        troubles.push(format!("changes cannot be saved, and none is acknowledged: {error}"));
    }
    if !status.alive {
        troubles.push(
            "the engine does not answer in time: if this lasts, restart the server; the log says more".into(),
        );
    }
    troubles.extend(certificate_trouble(&status.certificate, now));
    troubles
}

fn life(known: &CertificateNow) -> Millis {
    known.valid_until.unwrap_or_default().saturating_sub(known.valid_from.unwrap_or_default())
}

/// A certificate that clients refuse, or soon will because nothing renews it.
pub(super) fn certificate_trouble(known: &CertificateNow, now: Millis) -> Option<String> {
    let why = known.last_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    match known.valid_until {
        _ if known.mode == TlsMode::Off.as_str() => None,
        None if known.ordering && known.failures == 0 => None,
        None => Some(format!("there is no certificate yet, so nobody can connect{why}")),
        Some(until) if until <= now => {
            Some(format!("the certificate expired on {}: clients refuse to connect{why}", day(until)))
        }
        Some(until) if until - now < SOON_MS.min(life(known) / 6) => {
            Some(format!("the certificate expires on {}, and should have been renewed{why}", day(until)))
        }
        Some(_) => known.last_error.as_ref().map(|error| format!("the certificate: {error}")),
    }
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
            format!("{}, {} documents in {}", date(last.created), grouped(last.documents), bytes(last.bytes))
        }
        None => "none".into(),
    };
    match (known.running, &known.last_error) {
        (true, _) => format!("{last}; one is being made"),
        (false, Some(error)) => format!("{last}; the latest attempt came to nothing: {error}"),
        (false, None) => last,
    }
}

fn words(status: &Status, troubles: &[String]) -> String {
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
        ("Certificate", certificate(&status.certificate)),
        ("Last backup", last_backup(&status.backup)),
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
    use crate::listen::{Listening, Spoken};
    use crate::store::{LastBackup, StoreStats};

    #[test]
    fn trouble_is_said_in_words() {
        let mut status = Status {
            version: "1.2.3".into(),
            pid: 1,
            uptime_seconds: 3700,
            listen: vec![Listening { spoken: Spoken::Plain, address: "127.0.0.1:3030".parse().unwrap() }],
            certificate: CertificateNow { mode: "off".into(), ..Default::default() },
            storage_id: "abc".into(),
            alive: true,
            rss_bytes: 12 << 20,
            memory_budget_bytes: 24 << 20,
            engine: EngineStatus { connections: 3, ..Default::default() },
            storage: StoreStats { documents: 1204, file_bytes: 3 << 19, dead_bytes: 0 },
            backup: BackupNow {
                last: Some(LastBackup { created: 0, bytes: 3 << 20, documents: 7 }),
                ..Default::default()
            },
        };
        assert!(troubles(&status, 0).is_empty());
        let text = words(&status, &[]);
        for part in [
            "1 h 1 min",
            "127.0.0.1:3030",
            "1,204",
            "1.5 MiB",
            "of the 24.0 MiB",
            "All is well",
            "1970-01-01 00:00 UTC, 7 documents in 3.0 MiB",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        status.alive = false;
        status.engine.journal_error = Some("the disk is full".into());
        let found = troubles(&status, 0);
        let text = words(&status, &found);
        assert!(
            found.len() == 2 && text.contains("the disk is full") && !text.contains("All is well"),
            "{text}"
        );
    }

    #[test]
    fn the_certificate_is_told_of_in_words() {
        const DAY: Millis = 86_400_000;
        let files = CertificateNow { mode: "files".into(), ..Default::default() };
        let until = |until| CertificateNow { valid_until: Some(until), ..files.clone() };
        let failed = || Some("the disk is gone".to_owned());
        let renewal = CertificateNow { renewal_due: Some(60 * DAY), ..until(90 * DAY) };
        let unfit = CertificateNow { last_error: failed(), ..until(90 * DAY) };
        let none = CertificateNow { last_error: failed(), failures: 1, ..files.clone() };
        let ordering = CertificateNow { ordering: true, ..files.clone() };
        for (known, says, trouble) in [
            (&CertificateNow { mode: "off".into(), ..Default::default() }, "tls is off", ""),
            (&renewal, "valid until 1 Apr 1970, renewal from 2 Mar 1970", ""),
            (&unfit, "valid until 1 Apr 1970", "the disk is gone"),
            (&none, "none yet: the disk is gone", "no certificate yet, so nobody can connect: the disk"),
            (&ordering, "being ordered", ""),
            (&files, "none yet", "no certificate yet"),
            (&until(DAY), "valid until 2 Jan 1970", "expired on 2 Jan 1970"),
            (&until(7 * DAY / 2), "valid until 4 Jan 1970", "expires on 4 Jan 1970"),
            (&until(9 * DAY), "valid until 10 Jan 1970", ""), // it lives nine days, and three are over
        ] {
            assert!(certificate(known).contains(says), "{known:?}");
            let found = certificate_trouble(known, 3 * DAY).unwrap_or_default();
            assert!(found.contains(trouble) && found.is_empty() == trouble.is_empty(), "{known:?}: {found}");
        }
    }
}
