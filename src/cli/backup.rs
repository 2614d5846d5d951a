//! `backup`: the running server's store, or that of one that is stopped, in one file.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use hyper::Method;
use serde::Serialize;

use super::admin_client::{call, stream};
use super::args::Backup;
use super::backup_file::{Target, keep, name_of, open_directory};
use super::progress::Progress;
use super::stopped::on_store;
use super::text::{bytes, count, date};
use super::{CliError, Exit, print, print_json};
use crate::access::secret::{self, SecretError};
use crate::config::Config;
use crate::store::backup::{Follow, Manifest, Source, Totals};
use crate::store::{BackupError, LastBackup, Store};
use crate::types::now;
use crate::web::admin::Status;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Made {
    file: Option<PathBuf>,
    bytes: u64,
    manifest: Manifest,
    totals: Totals,
    removed: Vec<PathBuf>,
}

pub(super) fn run(config: &Config, wanted: &Backup, json: bool) -> Result<Exit, CliError> {
    let to = wanted.to.as_deref().map(open_directory).transpose()?;
    let target = match (&to, &wanted.file) {
        (Some(directory), _) => Target::file_in(directory.clone(), name_of(now()).into(), false)?,
        (None, Some(file)) if file == Path::new("-") => Target::output()?,
        (None, Some(file)) => Target::file(file, wanted.force)?,
        (None, None) => Target::file(Path::new(&name_of(now())), false)?,
    };
    let mut writing = Writing { target, follow: Follow::new(), progress: Progress::new() };
    let stopped = match write(config, &mut writing) {
        Ok(stopped) => stopped,
        Err(error) => {
            writing.target.give_up();
            return Err(error);
        }
    };
    let Writing { target, follow, .. } = writing;
    let (Some(manifest), Some(totals)) = (follow.manifest, follow.totals) else {
        target.give_up();
        return Err(CliError::failed("cut_short", "the backup did not come to its end: try again"));
    };
    let last = LastBackup { created: manifest.created, bytes: follow.bytes, documents: totals.documents };
    let file = target.complete()?;
    // It is made; that this cannot be remembered does not change it.
    if let Err(error) = remember(config, stopped, &last) {
        let _ = writeln!(
            std::io::stderr(),
            "warning: the backup is made, but status will not tell of it: {error}"
        );
    }
    let removed = match (&to, wanted.keep) {
        (Some(directory), Some(number)) => keep(directory, number.get(), file.as_deref())?,
        _ => Vec::new(),
    };
    let to_output = file.is_none();
    let made = Made { file, bytes: follow.bytes, manifest, totals, removed };
    if to_output {
        let _ = std::io::stderr().write_all(words(&made).as_bytes());
    } else if json {
        print_json(&made)?;
    } else {
        print(&words(&made));
    }
    Ok(Exit::Success)
}

struct Writing {
    target: Target,
    follow: Follow,
    progress: Progress,
}

impl Writing {
    fn piece(&mut self, piece: &[u8]) -> Result<(), BackupError> {
        self.follow.see(piece);
        if let Some(manifest) = &self.follow.manifest {
            self.progress.part(self.follow.plain_bytes, manifest.expected_bytes);
        }
        self.target.write(piece).map_err(BackupError::Write)
    }
}

/// From the running server; or, if there is none, from its store, which is given back.
fn write(config: &Config, writing: &mut Writing) -> Result<Option<Store>, CliError> {
    let streamed = stream(config, "/api/backup", &mut |piece| {
        writing.piece(piece).map_err(|error| CliError::failed("write", error))
    });
    match streamed {
        Ok(()) => Ok(None),
        Err(CliError::NotRunning(_)) => stopped(config, writing).map(Some),
        Err(CliError::Failed { code, message }) if code == "no_answer" => {
            let status = call::<Status>(config, Method::GET, "/api/status", None::<&()>);
            let why = status
                .ok()
                .and_then(|status| status.backup.last_error)
                .unwrap_or_else(|| format!("{message}; if it was stopped, try again when it runs"));
            Err(CliError::failed("backup", why))
        }
        Err(error) => Err(error),
    }
}

fn stopped(config: &Config, writing: &mut Writing) -> Result<Store, CliError> {
    // Where it is written to, only root may be let in; that file is open already.
    on_store(config, "there is nothing to back up", |store, directory| {
        let secret_failed = |error: SecretError| CliError::failed("secret", error);
        secret::adopt(&store, directory).map_err(secret_failed)?;
        let secret = secret::load(config, directory).map_err(secret_failed)?;
        // Nobody else writes to it.
        let source = Source { store: &store, secret: &secret, free_bytes: None, now: now() };
        source
            .write(&mut |piece| writing.piece(&piece))
            .map_err(|error| CliError::failed("backup", error))?;
        Ok(store)
    })
}

fn remember(config: &Config, stopped: Option<Store>, last: &LastBackup) -> Result<(), CliError> {
    match stopped {
        None => call::<LastBackup>(config, Method::POST, "/api/backup/kept", Some(last)).map(drop),
        Some(store) => {
            let op = last.op().map_err(|error| CliError::failed("internal", error))?;
            store.commit(&[op]).map_err(|error| CliError::failed("store", error))
        }
    }
}

/// What a backup is of, in a sentence; also for `restore`.
pub(super) fn contents(manifest: &Manifest, totals: &Totals) -> String {
    format!(
        "{} with {} in {}, as they were on {} (groundmist-sync {})",
        count(totals.documents, "document"),
        count(totals.changes, "change"),
        count(totals.namespaces, "namespace"),
        date(manifest.created),
        manifest.server_version
    )
}

fn words(made: &Made) -> String {
    let to = made.file.as_ref().map_or("standard output".into(), |file| file.display().to_string());
    let mut text = format!(
        "Backed up {}, to {to} ({}).\nWhoever has it can act as this server: keep it private.\n",
        contents(&made.manifest, &made.totals),
        bytes(made.bytes)
    );
    for path in &made.removed {
        text += &format!("Removed the old backup {}.\n", path.display());
    }
    text
}
