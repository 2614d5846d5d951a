//! `restore`: a store out of a backup, in the place of the one that is there, which is kept.

use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::args::Restore;
use super::backup::contents;
use super::progress::Progress;
use super::secret::{exit, rotate_in, words as rotated_words};
use super::text::{count, date};
use super::{CliError, Exit, print, print_json};
use crate::access::{AccessError, Rotated, secret};
use crate::appliance::{STORE_FILE, options};
use crate::config::Config;
use crate::directory::{Directory, open_source};
use crate::store::backup::{self, MAX_VALUE_BYTES, Manifest, Place, Totals};
use crate::store::{BackupError, Store, StoreError};
use crate::types::now;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Restored {
    manifest: Manifest,
    totals: Totals,
    /// False after `--check`.
    restored: bool,
    /// Where what was there before is kept.
    kept: Vec<PathBuf>,
    /// What ended by `--rotate-secret`.
    rotated: Option<Rotated>,
}

pub(super) fn run(config: &Config, wanted: &Restore, json: bool) -> Result<Exit, CliError> {
    let source: Box<dyn Read> = if wanted.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = open_source(&wanted.file).map_err(|error| {
            CliError::failed("read", format!("opening {} failed: {error}", wanted.file.display()))
        })?;
        Box::new(io::BufReader::new(file))
    };
    let most = config.limits.message_bytes.max(MAX_VALUE_BYTES);
    let mut progress = progress();
    let restored = if wanted.check {
        let (manifest, totals) = backup::check(source, most, &mut progress).map_err(refused)?;
        Restored { manifest, totals, restored: false, kept: Vec::new(), rotated: None }
    } else {
        restore(config, wanted, source, most, &mut progress)?
    };
    if json {
        print_json(&restored)?
    } else {
        print(&words(&restored, config.secret.is_some()))
    }
    Ok(restored.rotated.as_ref().map_or(Exit::Success, exit))
}

fn restore(
    config: &Config,
    wanted: &Restore,
    source: Box<dyn Read>,
    most: usize,
    progress: &mut dyn FnMut(&Manifest, u64),
) -> Result<Restored, CliError> {
    let (data_dir, options) = (&config.data_dir, options::store(config));
    if wanted.rotate_secret && config.secret.is_some() {
        let error = AccessError::SecretConfigured;
        return Err(CliError::failed(error.code(), format!("nothing was changed: {error}")));
    }
    let directory = Directory::make(data_dir, 0o700).map(Arc::new).map_err(|error| {
        CliError::failed(
            "data_dir",
            format!("making the data directory {} failed: {error}", data_dir.display()),
        )
    })?;
    // The backup is open, and all else happens in this directory. No other thread has started.
    directory.give_up_root();
    let path = data_dir.join(STORE_FILE);
    let place = Place::take(directory.clone(), STORE_FILE, &options).map_err(|error| match error {
        BackupError::Store(StoreError::Locked { .. }) => CliError::failed(
            "running",
            format!(
                "a server, or another restore, uses {}: stop it first (systemctl stop groundmist-sync-https.socket groundmist-sync-http.socket groundmist-sync), and try again; nothing was changed",
                data_dir.display()
            ),
        ),
        error => refused(error),
    })?;
    if !wanted.force {
        refuse_to_replace(&place, &path)?;
    }
    let built = backup::build(place.new_store(), source, most, &options, progress);
    let (manifest, totals) = match built {
        Ok(built) => built,
        Err(error) => {
            place.give_up();
            return Err(refused(error));
        }
    };
    let mut kept = Vec::from_iter(place.swap(now()).map_err(refused)?);
    // From here on the restored store is in place; should this be cut off, the server's next start does it.
    let store = Store::open_in(&directory, STORE_FILE, &options).map_err(in_place)?;
    kept.extend(secret::adopt(&store, &directory).map_err(|error| CliError::failed("secret", error))?);
    if config.secret.is_some() {
        let _ = writeln!(
            io::stderr(),
            "warning: the configuration gives a signing secret, and that one counts: if it is another than the backed-up server's, all tokens have to be made anew"
        );
    }
    let rotated = wanted.rotate_secret.then(|| rotate_in(config, store, &directory)).transpose();
    let rotated = rotated.map_err(|error| in_place(format!("a new signing secret was not made: {error}")))?;
    Ok(Restored { manifest, totals, restored: true, kept, rotated })
}

fn refuse_to_replace(place: &Place, path: &Path) -> Result<(), CliError> {
    let path = path.display();
    let there = match place.contents() {
        Ok(there) if there.is_empty() => return Ok(()),
        Ok(there) => {
            let last =
                there.last_change.map_or_else(String::new, |at| format!(", last changed on {}", date(at)));
            format!(
                "{path} holds {}{last}, and {} about apps and sessions",
                count(there.documents, "document"),
                count(there.people, "record")
            )
        }
        Err(error) => format!("what is at {path} cannot be read ({error})"),
    };
    let message =
        format!("{there}: to put the backup in its place, say --force; it is then kept under another name");
    Err(CliError::failed("exists", message))
}

fn refused(error: BackupError) -> CliError {
    CliError::failed("restore", format!("{error}; nothing was changed"))
}

/// After the swap.
fn in_place(error: impl std::fmt::Display) -> CliError {
    CliError::failed("restore", format!("the restored store is in place, but: {error}"))
}

fn progress() -> impl FnMut(&Manifest, u64) {
    let mut progress = Progress::new();
    move |manifest, bytes| progress.part(bytes, manifest.expected_bytes)
}

fn words(restored: &Restored, secret_configured: bool) -> String {
    let contents = contents(&restored.manifest, &restored.totals);
    if !restored.restored {
        return format!("The backup is whole: {contents}.\n");
    }
    let mut text = format!("Restored {contents}.\n");
    for path in &restored.kept {
        text += &format!("What was there is kept as {}.\n", path.display());
    }
    text += &match &restored.rotated {
        Some(rotated) => rotated_words(rotated),
        // A configured secret counts, and `secret rotate` cannot change it.
        None if secret_configured => String::new(),
        None => "Whoever else has this backup has the secret that signs tokens, and can act as any device: if that may be, make a new one with `groundmist-sync secret rotate`.\n".into(),
    };
    text + "Start the server: systemctl start groundmist-sync\n"
}
