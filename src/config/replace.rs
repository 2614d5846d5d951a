//! Puts a new file in another's place: whole or not at all, whenever the power is cut.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::directory::Directory;

/// Mode of a new file: the server reads it as a user of its own.
const FILE_MODE: u32 = 0o644;
/// Mode of its directory, if that is new as well.
const DIR_MODE: u32 = 0o755;

/// The file could not be written; what was there is unchanged.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path} failed: {source}; nothing was changed{}", advice(source), path = path.display())]
pub struct WriteError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ". Run the command as root (sudo)",
        io::ErrorKind::ReadOnlyFilesystem => ". That disk can only be read",
        io::ErrorKind::StorageFull => ". Make room on the disk",
        _ => "",
    }
}

/// Written beside, synced, renamed, directory synced. Mode and owner stay; a new file gets [`FILE_MODE`].
pub(super) fn replace(path: &Path, text: &str) -> Result<(), WriteError> {
    let failed = |operation, path: &Path, source| WriteError { operation, path: path.into(), source };
    // What a link leads to is replaced, not the link.
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make(dir).map_err(|error| failed("making", dir, error))?;
    let (dir, name) = Directory::of_linked_file(path).map_err(|error| failed("finding", path, error))?;
    let before = match dir.open_given(&name).and_then(|file| file.metadata()) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("looking at", path, error)),
    };
    let beside = beside(&name);
    let written = write(&dir, &beside, text, before.as_ref())
        .map_err(|error| failed("writing", &dir.path_of(&beside), error))
        .and_then(|()| {
            dir.rename(&beside, &name).map_err(|error| failed("putting in place", &dir.path_of(&name), error))
        });
    if written.is_err() {
        let _ = dir.remove(&beside);
    }
    written?;
    dir.sync().map_err(|error| failed("syncing", dir.path(), error))
}

/// Whether a file can be written there, as far as can be told without doing it.
pub(super) fn may_replace(path: &Path) -> Result<(), WriteError> {
    let failed = |path: &Path, source| WriteError { operation: "writing", path: path.into(), source };
    let path = std::path::absolute(path).map_err(|error| failed(path, error))?;
    let real = fs::canonicalize(&path).unwrap_or(path);
    let there = real.ancestors().skip(1).find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let may = rustix::fs::accessat(
        rustix::fs::CWD,
        there,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
        rustix::fs::AtFlags::EACCESS,
    );
    may.map_err(|error| failed(&real, error.into()))
}

/// The directory, open to be read whatever the umask is.
fn make(dir: &Path) -> io::Result<()> {
    match Directory::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened.map(drop),
    }
    let made = Directory::make(dir, DIR_MODE)?;
    made.readable()?.set_permissions(Permissions::from_mode(DIR_MODE))
}

/// Another name in the same directory, for this process alone.
fn beside(name: &OsStr) -> OsString {
    let mut name = name.to_owned();
    name.push(format!(".new-{}", std::process::id()));
    name
}

fn write(dir: &Directory, beside: &OsStr, text: &str, before: Option<&Metadata>) -> io::Result<()> {
    // In the place of one of a process that had our number and did not come to an end.
    let mut file = dir.create_anew_for_us(beside)?;
    file.write_all(text.as_bytes())?;
    let now = file.metadata()?;
    if let Some(before) = before
        && (before.uid(), before.gid()) != (now.uid(), now.gid())
    {
        fchown(&file, Some(before.uid()), Some(before.gid()))?;
    }
    let mode = before.map_or(FILE_MODE, |before| before.permissions().mode() & 0o7777);
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn mode_owner_and_link_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/new/config.toml");
        may_replace(&path).unwrap();
        replace(&path, "one").unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o644, 0o755));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let root = rustix::process::geteuid().is_root();
        if root {
            std::os::unix::fs::chown(&path, Some(12), Some(34)).unwrap();
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&link, "two").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("two", 0o640));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let now = fs::metadata(&path).unwrap();
        assert!(!root || (now.uid(), now.gid()) == (12, 34));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_failure_leaves_what_was_there_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::create_dir(&path).unwrap();
        let error = replace(&path, "x").unwrap_err().to_string();
        assert!(error.contains("not a regular file") && error.contains("nothing was changed"), "{error}");
        assert!(path.is_dir() && fs::read_dir(dir.path()).unwrap().count() == 1);
    }
}
