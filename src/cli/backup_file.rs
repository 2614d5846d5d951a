//! Where a backup goes: a file that appears whole or not at all, or standard output.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions, TryLockError};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;

use super::CliError;
use crate::directory::Directory;
use crate::store::backup::stamp;
use crate::types::Millis;

/// Names of the files that `--to` makes, and the only ones that `--keep` removes.
const PREFIX: &str = "groundmist-sync-";
const SUFFIX: &str = ".backup";
/// What a file is called until it is whole.
const PARTIAL: &str = ".partial";

/// `groundmist-sync-20260131-080509-123.backup`.
pub(super) fn name_of(at: Millis) -> String {
    format!("{PREFIX}{}{SUFFIX}", stamp(at))
}

/// Exactly such a name.
fn is_ours(name: &str) -> bool {
    let stamp = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    stamp.is_some_and(|stamp| {
        stamp.len() == 19
            && stamp.bytes().enumerate().all(|(place, byte)| match place {
                8 | 15 => byte == b'-',
                _ => byte.is_ascii_digit(),
            })
    })
}

/// A backup that is being written beside the name that it will have. The directory may be somebody else's: no link is followed
/// at either name.
pub(super) struct Writing {
    directory: Arc<Directory>,
    file: File,
    partial: OsString,
    name: OsString,
    force: bool,
}

/// A file on its way to being a backup, or standard output.
pub(super) enum Target {
    Output(io::Stdout),
    File(Writing),
}

impl Target {
    /// Standard output, which should lead somewhere.
    pub(super) fn output() -> Result<Self, CliError> {
        let output = io::stdout();
        if output.is_terminal() {
            return Err(CliError::Usage(
                "a backup is not for reading: send it on (groundmist-sync backup - | ssh …), or name a file"
                    .into(),
            ));
        }
        Ok(Self::Output(output))
    }

    /// `path`, where nothing is, unless `force`. Another backup to the same file keeps this one out.
    pub(super) fn file(path: &Path, force: bool) -> Result<Self, CliError> {
        let (directory, name) =
            Directory::of_file(path).map_err(|error| failed("opening the directory of", path, &error))?;
        Self::file_in(Arc::new(directory), name, force)
    }

    /// The same, in a directory that is open.
    pub(super) fn file_in(directory: Arc<Directory>, name: OsString, force: bool) -> Result<Self, CliError> {
        let path = directory.path_of(&name);
        if !force && directory.contains(&name).map_err(|error| failed("looking at", &path, &error))? {
            return Err(exists(&path));
        }
        let mut partial = name.clone();
        partial.push(PARTIAL);
        let failed = |error| failed("making", &directory.path_of(&partial), &error);
        // Never through a link, and never one that somebody else made, who could read along.
        let file = directory.open_or_create_for_us(&partial).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("another backup to {} is being written; wait for it", path.display());
                return Err(CliError::failed("busy", message));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_permissions(Permissions::from_mode(0o600)).and_then(|()| file.set_len(0)).map_err(failed)?;
        Ok(Self::File(Writing { directory, file, partial, name, force }))
    }

    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Output(output) => output.write_all(piece),
            Self::File(writing) => writing.file.write_all(piece),
        }
    }

    /// All is written: on the disk, and under its name. Its path.
    pub(super) fn complete(self) -> Result<Option<PathBuf>, CliError> {
        match self {
            Self::Output(mut output) => {
                output.flush().map_err(|error| CliError::failed("write", error))?;
                Ok(None)
            }
            Self::File(Writing { directory, file, partial, name, force }) => {
                let path = directory.path_of(&name);
                file.sync_all().map_err(|error| failed("syncing", &directory.path_of(&partial), &error))?;
                put(&directory, &partial, &name, force)?;
                directory.sync().map_err(|error| failed("syncing", directory.path(), &error))?;
                Ok(Some(path))
            }
        }
    }

    /// It will not be a backup: what is there of it goes.
    pub(super) fn give_up(self) {
        if let Self::File(Writing { directory, partial, .. }) = self {
            let _ = directory.remove(partial);
        }
    }
}

/// The directory of `--to`.
pub(super) fn open_directory(path: &Path) -> Result<Arc<Directory>, CliError> {
    Directory::open(path).map(Arc::new).map_err(|error| failed("opening", path, &error))
}

fn put(directory: &Directory, partial: &OsStr, name: &OsStr, force: bool) -> Result<(), CliError> {
    let renamed = if force { directory.rename(partial, name) } else { directory.rename_new(partial, name) };
    let path = directory.path_of(name);
    renamed.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::InvalidInput => exists(&path),
        _ => failed("putting in place", &path, &error),
    })
}

/// Removes the oldest of our own backups in a directory so that `keep` stay with `made`, whatever the clock said of it, and what
/// a backup that was killed left. What was removed.
pub(super) fn keep(
    directory: &Directory,
    keep: usize,
    made: Option<&Path>,
) -> Result<Vec<PathBuf>, CliError> {
    let reading = |error: io::Error| failed("reading", directory.path(), &error);
    let mut backups = Vec::new();
    for entry in directory.entries().map_err(reading)? {
        let (name, told) = entry.map_err(reading)?;
        if directory.kind(&name, told).ok() != Some(FileType::RegularFile) {
            continue;
        }
        let Some(name) = name.to_str() else { continue };
        if made.is_some_and(|made| made.file_name() == Some(name.as_ref())) {
            continue;
        }
        if is_ours(name) {
            backups.push(name.to_owned());
        } else if name.strip_suffix(PARTIAL).is_some_and(is_ours) {
            // Who still writes it holds its lock.
            if directory.open_given(name).is_ok_and(|file| file.try_lock().is_ok()) {
                let _ = directory.remove(name);
            }
        }
    }
    backups.sort_unstable();
    let old = backups.len().saturating_sub(keep - usize::from(made.is_some()));
    let mut removed = Vec::new();
    for name in &backups[..old] {
        let path = directory.path_of(name);
        directory.remove(name).map_err(|error| failed("removing the old backup", &path, &error))?;
        removed.push(path);
    }
    Ok(removed)
}

fn exists(path: &Path) -> CliError {
    let message =
        format!("{} is there already: name another file, or overwrite it with --force", path.display());
    CliError::failed("exists", message)
}

fn failed(operation: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::failed("write", format!("{operation} {} failed: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_backup_is_private_whole_and_never_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b");
        let mut target = Target::file(&path, false).unwrap();
        target.write(b"new").unwrap();
        assert!(!path.exists());
        assert!(Target::file(&path, false).is_err_and(|error| error.to_string().contains("another backup")));
        target.complete().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Target::file(&path, false).is_err_and(|error| error.to_string().contains("--force")));
        Target::file(&path, true).unwrap().give_up();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mut late = Target::file(&dir.path().join("c"), false).unwrap();
        late.write(b"late").unwrap();
        fs::write(dir.path().join("c"), "first").unwrap();
        assert!(late.complete().is_err_and(|error| error.to_string().contains("is there already")));
        Target::file(&path, true).unwrap().complete().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn only_our_own_oldest_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let others =
            ["groundmist-sync-precious.backup", "groundmist-sync-20260101-000000-00x.backup", "notes"];
        let ours: Vec<String> = (0..5).map(|day| name_of(day * 86_400_000)).collect();
        for name in others.into_iter().chain(ours.iter().map(String::as_str)) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let stale = dir.path().join(format!("{}{PARTIAL}", ours[4]));
        fs::write(&stale, "").unwrap();
        let writing = Target::file(&dir.path().join(name_of(9)), false).unwrap();
        let removed = keep(&Directory::open(dir.path()).unwrap(), 2, None).unwrap();
        assert_eq!(removed, ours[..3].iter().map(|name| dir.path().join(name)).collect::<Vec<_>>());
        assert!(!stale.exists() && others.iter().all(|name| dir.path().join(name).exists()));
        writing.complete().unwrap();
        // A clock that went back does not cost the one that was just made.
        let removed =
            keep(&Directory::open(dir.path()).unwrap(), 1, Some(&dir.path().join(name_of(9)))).unwrap();
        assert!(removed.len() == 2 && dir.path().join(name_of(9)).exists(), "{removed:?}");
    }

    #[test]
    fn nobody_reads_along() {
        let dir = tempfile::tempdir().unwrap();
        let (path, partial) = (dir.path().join("a"), dir.path().join(format!("a{PARTIAL}")));
        fs::write(&partial, "").unwrap();
        fs::hard_link(&partial, dir.path().join("second name")).unwrap();
        assert!(Target::file(&path, false).is_err_and(|error| error.to_string().contains("somebody else's")));
    }
}
