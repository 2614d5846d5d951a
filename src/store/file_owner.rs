//! Files in the server's directory, which commands that root runs touch too. Whoever has taken over the server's user must
//! not be able to have root open, or give away, another file in the place of one of these.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a file for reading, as long as it is a plain one. Second names (hard links) of others' files cannot be made where
/// `fs.protected_hardlinks` is set, as everywhere today.
/// # Errors
/// It is something else, or what the system says.
pub fn open_own(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| {
        if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            return io::Error::other(
                "it is a symbolic link; put the file itself here, or name its directory as data_dir",
            );
        }
        error
    })?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file; look what it is"));
    }
    Ok(file)
}

/// Makes a file for its owner alone, in the place of one that was left there unfinished. Never through a link, and never one
/// that somebody else still holds.
/// # Errors
/// What the system says.
pub fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => OpenOptions::new().write(true).create_new(true).mode(0o600).open(path),
    }
}

/// Closes it to everybody but its owner. True if it was open to others.
/// # Errors
/// What the system says.
pub fn close_to_others(file: &File, mode: u32) -> io::Result<bool> {
    let was_open = file.metadata()?.permissions().mode() & 0o077 != 0;
    if was_open {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(was_open)
}

/// What root makes in a directory of the server's user must be that user's, or the server cannot open it.
/// # Errors
/// As [`open_own`].
pub fn own_like_directory(path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let directory = fs::metadata(path.parent().unwrap_or(Path::new(".")))?;
    let file = open_own(path)?;
    let is = file.metadata()?;
    if (is.uid(), is.gid()) != (directory.uid(), directory.gid()) {
        fchown(&file, Some(directory.uid()), Some(directory.gid()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_plain_files_of_its_own_are_touched() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("plain"), "x").unwrap();
        fs::set_permissions(at("plain"), Permissions::from_mode(0o644)).unwrap();
        let plain = open_own(&at("plain")).unwrap();
        assert!(close_to_others(&plain, 0o600).unwrap() && !close_to_others(&plain, 0o600).unwrap());
        own_like_directory(&at("plain")).unwrap();
        symlink(at("plain"), at("link")).unwrap();
        for (name, part) in [("link", "symbolic link"), (".", "no plain file")] {
            let error = open_own(&at(name)).unwrap_err().to_string();
            assert!(error.contains(part), "{name}: {error}");
        }
        assert_eq!(open_own(&at("nothing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
