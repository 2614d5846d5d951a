//! What the owner must look at, in words, with what to do. The page, `status` and its exit code go by it.

use serde::{Deserialize, Serialize};

use super::record::RecordState;
use super::{CopiedSession, NamedDocument, Status, ends, openings};
use crate::config::TlsMode;
use crate::listen::CertificateNow;
use crate::sys::memory::machine_bytes;
use crate::types::{Millis, day};

/// A certificate that has no longer than this, or the last sixth of its life, should have been renewed.
const SOON_MS: Millis = 7 * 86_400_000;
/// Below this, in bytes, it is time to make room on the disk.
pub const LITTLE_FREE: u64 = 512 << 20;
/// A backup older than this is old, if there ever was one.
const OLD_BACKUP_MS: Millis = 8 * 86_400_000;

/// Something that the owner must look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Stays the same, for programs.
    pub code: String,
    /// Something does not work now; otherwise it soon may not, or could be better.
    pub grave: bool,
    /// What is wrong.
    pub message: String,
    /// What to do; it may stand in the message already.
    pub fix: Option<String>,
    /// The document of which the server forgets what went wrong, and which it opens again, if the owner says so.
    pub retry: Option<NamedDocument>,
}

/// The gravest first. `status` with no warnings yet.
pub fn warnings(status: &Status, now: Millis) -> Vec<Warning> {
    let mut all = Vec::new();
    let mut warn = |code: &str, grave, message: String, fix: Option<&str>| {
        all.push(Warning { code: code.into(), grave, message, fix: fix.map(str::to_owned), retry: None });
    };
    if let Some(error) = &status.engine.journal_error {
        let message = format!("changes cannot be saved, and none is acknowledged: {error}");
        warn("not_saved", true, message, None);
    }
    if !status.alive {
        let fix = "if this lasts, restart the server; the log says more";
        warn("not_alive", true, "the engine does not answer in time".into(), Some(fix));
    }
    if let Some((message, fix)) = ends::killed(&status.unclean_ends, status.engine.opener_memory_bytes) {
        warn("was_killed", false, message, Some(&fix));
    }
    for session in &status.copied_sessions {
        let (message, fix) = copied(session);
        warn("token_copied", false, message, Some(&fix));
    }
    if let Some(trouble) = certificate_trouble(&status.certificate, now) {
        let fix = "do what is said there; the server tries again by itself, or at once after `sudo groundmist-sync reload`";
        warn("certificate", true, trouble, Some(fix));
    }
    if let Some(reason) = &status.owner.reason {
        let message = format!("who the owner is cannot be found out, so no app gets in: {reason}");
        warn(
            "owner_unknown",
            true,
            message,
            Some("set `owner` to your DID; `sudo groundmist-sync doctor` says more"),
        );
    }
    if status.domain.is_none() && status.listen.iter().any(|socket| !socket.address.ip().is_loopback()) {
        let message = "no `domain` is set, so apps cannot prove that they mean this server; only devices with a token get in";
        let fix = "set `domain` to the name that apps use, and `tls` to \"off\" if a proxy encrypts for it";
        warn("no_domain", false, message.into(), Some(fix));
    }
    if status.disk.total_bytes > 0 && status.disk.free_bytes < LITTLE_FREE.max(status.storage.file_bytes) {
        let message =
            "the disk has little room left: an upgrade may need as much again as the documents take";
        warn("disk", false, message.into(), Some("make room, or move the data directory to a larger disk"));
    }
    if let (RecordState::Other, Some(there)) = (status.record.state, &status.record.host) {
        let message = format!("your account sends apps to {there}, which is another server");
        warn("record_other", true, message, Some("publish this server's address, if apps should come here"));
    }
    if status.record.state == RecordState::Missing {
        let message = "your account does not say where this server is, so apps do not find it by themselves";
        warn("record_missing", false, message.into(), Some("publish it"));
    }
    if let Some(error) = &status.backup.last_error {
        warn("backup_failed", false, format!("the latest backup came to nothing: {error}"), None);
    } else if status.backup.last.as_ref().is_some_and(|last| now.saturating_sub(last.created) > OLD_BACKUP_MS)
    {
        let message = "the last backup is more than a week old";
        let fix = "make one: `sudo groundmist-sync backup FILE`, or daily: `sudo systemctl enable --now groundmist-sync-backup.timer`";
        warn("backup_old", false, message.into(), Some(fix));
    }
    // Last, because there may be many.
    for openings::Told { code, message, fix, retry } in openings::all(&status.engine, machine_bytes()) {
        all.push(Warning { code: code.into(), grave: false, message, fix: Some(fix), retry });
    }
    all.sort_by_key(|warning| !warning.grave);
    all
}

/// A token that was in use from two networks at once.
fn copied(session: &CopiedSession) -> (String, String) {
    let CopiedSession { id, client_id, namespace, copied } = session;
    let [one, other] = copied.addresses;
    let message = format!(
        "a token for {namespace} ({client_id}) may have been copied: it was in use from {one} and {other} at once, last noticed on {}",
        day(copied.at)
    );
    let fix = format!(
        "unless you know both as yours, revoke session {id} on the page or by `sudo groundmist-sync sessions revoke {id}`; an approved app signs in again by itself"
    );
    (message, fix)
}

fn life(known: &CertificateNow) -> Millis {
    known.valid_until.unwrap_or_default().saturating_sub(known.valid_from.unwrap_or_default())
}

/// A certificate that clients refuse, or soon will because nothing renews it.
pub fn certificate_trouble(known: &CertificateNow, now: Millis) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::access::Copied;
    use crate::engine::BadEnd;
    use crate::store::LastBackup;
    use crate::web::admin::status::tests::well;

    fn codes(status: &Status, now: Millis) -> Vec<(String, bool)> {
        warnings(status, now).into_iter().map(|warning| (warning.code, warning.grave)).collect()
    }

    #[test]
    fn each_trouble_is_told_the_gravest_first() {
        let now = 100 * 86_400_000;
        assert_eq!(codes(&well(), now), []);
        let mut bad = well();
        bad.disk.free_bytes = LITTLE_FREE - 1;
        bad.alive = false;
        bad.listen[0].address = "[::]:3031".parse().unwrap();
        bad.engine.journal_error = Some("the disk is full".into());
        bad.owner.reason = Some("DNS does not answer".into());
        bad.engine.closed_documents = vec![BadEnd {
            namespace: "xyz.one".into(),
            document: "abc".into(),
            client: String::new(),
            ends: 2,
            reason: "it was killed".into(),
            need_bytes: 0,
        }];
        bad.record.state = RecordState::Missing;
        bad.backup.last = Some(LastBackup { created: now - OLD_BACKUP_MS - 1, ..LastBackup::default() });
        let expected = [
            "not_saved",
            "not_alive",
            "owner_unknown",
            "no_domain",
            "disk",
            "record_missing",
            "backup_old",
            "document_closed",
        ];
        let found = codes(&bad, now);
        assert_eq!(found.iter().map(|(code, _)| code.as_str()).collect::<Vec<_>>(), expected);
        assert_eq!(found.iter().filter(|(_, grave)| *grave).count(), 3);
        bad.record = crate::web::admin::RecordNow {
            state: RecordState::Other,
            host: Some("other.example".into()),
            reason: None,
        };
        bad.backup.last_error = Some("no room".into());
        let found = warnings(&bad, now);
        assert!(found.iter().any(|warning| warning.message.contains("other.example") && warning.grave));
        assert!(found.iter().any(|warning| warning.code == "backup_failed"));
        assert!(found.iter().all(|warning| warning.code != "backup_old"), "said once");
    }

    #[test]
    fn what_to_do_about_an_old_backup_are_commands_to_copy() {
        let mut status = well();
        status.backup.last = Some(LastBackup::default());
        let fix = warnings(&status, OLD_BACKUP_MS + 1)[0].fix.clone().unwrap();
        let commands: Vec<_> = fix.split('`').skip(1).step_by(2).collect();
        let timer = "groundmist-sync-backup.timer";
        assert_eq!(
            commands,
            ["sudo groundmist-sync backup FILE", &format!("sudo systemctl enable --now {timer}")]
        );
        assert!(Path::new("systemd").join(timer).exists());
    }

    #[test]
    fn a_token_in_two_networks_is_told_with_the_way_to_revoke_it() {
        let mut status = well();
        let addresses = ["203.0.113.7", "2001:db8::1"].map(|address| address.parse().unwrap());
        let copied = Copied { at: 0, addresses };
        let client_id = "https://app.example/client-metadata.json".to_owned();
        let session = CopiedSession { id: "abc".into(), client_id, namespace: "xyz.example".into(), copied };
        status.copied_sessions = vec![session.clone()];
        let found = warnings(&status, 0);
        assert_eq!(found.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(), ["token_copied"]);
        for part in ["203.0.113.7", "2001:db8::1", "may have been copied", &session.client_id] {
            assert!(found[0].message.contains(part), "{part}: {}", found[0].message);
        }
        assert!(found[0].fix.as_ref().unwrap().contains("sessions revoke abc"));
    }

    #[test]
    fn room_for_a_copy_of_the_store_is_enough() {
        let mut status = well();
        status.storage.file_bytes = 4 << 30;
        for (free, fits) in [(4 << 30, true), ((4 << 30) - 1, false)] {
            status.disk.free_bytes = free;
            assert_eq!(codes(&status, 0).is_empty(), fits, "{free}");
        }
    }

    #[test]
    fn a_certificate_that_clients_refuse_or_soon_will_is_trouble() {
        const DAY: Millis = 86_400_000;
        let files = CertificateNow { mode: "files".into(), ..Default::default() };
        let until = |until| CertificateNow { valid_until: Some(until), ..files.clone() };
        let failed = || Some("the disk is gone".to_owned());
        let renewal = CertificateNow { renewal_due: Some(60 * DAY), ..until(90 * DAY) };
        let unfit = CertificateNow { last_error: failed(), ..until(90 * DAY) };
        let none = CertificateNow { last_error: failed(), failures: 1, ..files.clone() };
        let ordering = CertificateNow { ordering: true, ..files.clone() };
        for (known, trouble) in [
            (&CertificateNow { mode: "off".into(), ..Default::default() }, ""),
            (&renewal, ""),
            (&unfit, "the disk is gone"),
            (&none, "no certificate yet, so nobody can connect: the disk"),
            (&ordering, ""),
            (&files, "no certificate yet"),
            (&until(DAY), "expired on 2 Jan 1970"),
            (&until(7 * DAY / 2), "expires on 4 Jan 1970"),
            (&until(9 * DAY), ""), // it lives nine days, and three are over
        ] {
            let found = certificate_trouble(known, 3 * DAY).unwrap_or_default();
            assert!(found.contains(trouble) && found.is_empty() == trouble.is_empty(), "{known:?}: {found}");
        }
    }
}
