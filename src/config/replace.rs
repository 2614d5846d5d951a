//! Puts a new file in another's place: whole or not at all, whenever the power is cut.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};

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
    let (path, before) = match fs::canonicalize(path).and_then(|real| Ok((fs::metadata(&real)?, real))) {
        Ok((before, real)) => (real, Some(before)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (std::path::absolute(path).map_err(|error| failed("finding", path, error))?, None)
        }
        Err(error) => return Err(failed("looking at", path, error)),
    };
    let dir = path.parent().unwrap_or(Path::new("/"));
    make(dir).map_err(|error| failed("making", dir, error))?;
    let beside = beside(&path);
    let written = write(&beside, text, before.as_ref())
        .map_err(|error| failed("writing", &beside, error))
        .and_then(|()| fs::rename(&beside, &path).map_err(|error| failed("putting in place", &path, error)));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed("syncing", dir, error))
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
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(DIR_MODE))
}

/// Another name in the same directory, for this process alone.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    path.with_file_name(name)
}

fn write(beside: &Path, text: &str, before: Option<&Metadata>) -> io::Result<()> {
    // One of a process that had our number and did not come to an end.
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
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
        assert!(error.contains("putting in place") && error.contains("nothing was changed"), "{error}");
        assert!(path.is_dir() && fs::read_dir(dir.path()).unwrap().count() == 1);
    }
}
