//! Files in a [`Directory`]: opened and created by name, checked by descriptor.

use std::ffi::OsStr;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Directory, FILE_MODE, single, walk};

/// Files are opened without waiting for a writer (of a FIFO) or becoming anybody's terminal.
const FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

impl Directory {
    /// Opens one of the server's own files for reading.
    /// # Errors
    /// There is none; it is not a regular file; or, in a guarded directory, it has a second name or another owner.
    pub fn open_own(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.own(name.as_ref(), OFlags::RDONLY)
    }

    /// As [`Directory::open_own`], for reading and writing.
    /// # Errors
    /// As there.
    pub fn open_own_to_write(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.own(name.as_ref(), OFlags::RDWR)
    }

    fn own(&self, name: &OsStr, access: OFlags) -> io::Result<File> {
        let (file, is) = self.regular(name, access).map_err(|error| match error {
            Irregular::Link => io::Error::other(
                "it is a symbolic link; put the file itself here, or name its directory as data_dir",
            ),
            error => error.into(),
        })?;
        if !self.is_guarded() {
            return Ok(file);
        }
        if is.nlink() != 1 {
            return Err(io::Error::other(format!(
                "it has {} names (hard links), and root does not open a file that may be known elsewhere as well: remove the others, or put a copy in its place",
                is.nlink()
            )));
        }
        // What root owns in somebody else's directory that user cannot read, and must not get to know by us.
        let (user, group) = self.owner;
        if is.uid() != user && user != 0 {
            return Err(io::Error::other(format!(
                "it belongs to user {}, and its directory to user {user}: if it is the server's own, chown it to {user}:{group}",
                is.uid()
            )));
        }
        Ok(file)
    }

    /// Opens a file for reading that somebody else may have made. In a guarded directory a file with several names has to
    /// belong to the directory's owner.
    /// # Errors
    /// There is none, it is not a regular file, or it may be somebody else's.
    pub fn open_given(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let (file, is) = self.regular(name.as_ref(), OFlags::RDONLY)?;
        self.refuse_second_names(&is)?;
        Ok(file)
    }

    fn refuse_second_names(&self, is: &Metadata) -> io::Result<()> {
        if self.is_guarded() && is.nlink() != 1 && is.uid() != self.owner.0 {
            return Err(io::Error::other(format!(
                "it has {} names (hard links) and belongs to user {}, who is not its directory's owner",
                is.nlink(),
                is.uid()
            )));
        }
        Ok(())
    }

    fn regular(&self, name: &OsStr, access: OFlags) -> Result<(File, Metadata), Irregular> {
        let name = single(name).map_err(Irregular::Other)?;
        let opened = rustix::fs::openat(self.at(), name, FLAGS | access, Mode::empty());
        let file = File::from(opened.map_err(|error| match error {
            Errno::LOOP => Irregular::Link,
            // A socket; a directory that is opened for writing.
            Errno::NXIO | Errno::ISDIR => Irregular::Kind,
            error => Irregular::Other(error.into()),
        })?);
        let is = file.metadata().map_err(Irregular::Other)?;
        if is.is_file() { Ok((file, is)) } else { Err(Irregular::Kind) }
    }

    /// Creates a file with mode 0600 where nothing is. It belongs to the directory's owner, or the server could not open
    /// what root made.
    /// # Errors
    /// `AlreadyExists`, or what the system says.
    pub fn create(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let file = self.create_as_we_are(name.as_ref())?;
        if rustix::process::geteuid().is_root() {
            let (is, (user, group)) = (file.metadata()?, self.owner);
            if (is.uid(), is.gid()) != (user, group) {
                fchown(&file, Some(user), Some(group))?;
            }
        }
        Ok(file)
    }

    /// As [`Directory::create`], in the place of what was left there unfinished.
    /// # Errors
    /// As there.
    pub fn create_anew(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.remove(&name)?;
        self.create(name)
    }

    /// As [`Directory::create_anew`], but the file belongs to the user of this process: it is for the person who ran the
    /// command, wherever it is put.
    /// # Errors
    /// As there.
    pub fn create_anew_for_us(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.remove(&name)?;
        self.create_as_we_are(name.as_ref())
    }

    /// Puts a file in the place of what is at `name`, whole or not at all, whenever the power is cut: it is written beside it,
    /// synced and renamed, and the directory is synced. Only one caller at a time may do so for a name.
    /// # Errors
    /// It could not be written, or put in place. What was at `name` may still be there.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), ReplaceError> {
        let beside = format!("{name}.new");
        let failed = |operation, name: &str| {
            let path = self.path_of(name);
            move |source| ReplaceError { operation, path, source }
        };
        let mut file = self.create_anew(&beside).map_err(failed("creating", &beside))?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(failed("writing", &beside))?;
        self.rename(&beside, name).map_err(failed("putting in place", name))?;
        self.sync().map_err(failed("syncing the directory of", name))
    }

    fn create_as_we_are(&self, name: &OsStr) -> io::Result<File> {
        let flags = FLAGS | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        Ok(rustix::fs::openat(self.at(), single(name)?, flags, FILE_MODE)?.into())
    }

    /// Opens a file of this process's user for writing, created with mode 0600 if it is missing.
    /// # Errors
    /// It is not a regular file, or somebody else made it or can still get at it: whoever did would read along.
    pub fn open_or_create_for_us(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let flags = FLAGS | OFlags::WRONLY | OFlags::CREATE;
        let file = File::from(rustix::fs::openat(self.at(), single(name.as_ref())?, flags, FILE_MODE)?);
        let is = file.metadata()?;
        if !is.is_file() || is.nlink() != 1 || is.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it is somebody else's: remove it, or choose another place"));
        }
        Ok(file)
    }
}

/// A file could not be put in the place of another.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path} failed: {source}", path = path.display())]
pub struct ReplaceError {
    /// What was being done.
    pub operation: &'static str,
    /// To which file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Why a name is not opened as a regular file.
enum Irregular {
    Link,
    Kind,
    Other(io::Error),
}

impl From<Irregular> for io::Error {
    fn from(irregular: Irregular) -> Self {
        match irregular {
            Irregular::Link => Self::other("it is a symbolic link, which is not followed"),
            Irregular::Kind => Self::other("it is not a regular file; look what it is"),
            Irregular::Other(error) => error,
        }
    }
}

/// Opens what the person who runs the command names, for reading: a file, or a pipe. As root, links are followed where root
/// alone can change them, and a file with several names has to belong to its directory's owner.
/// # Errors
/// It cannot be read, or it may be somebody else's.
pub fn open_source(path: &Path) -> io::Result<File> {
    if !rustix::process::geteuid().is_root() {
        return File::open(path);
    }
    let end = walk::file(path)?;
    let nofollow = if end.open_file { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC | nofollow;
    let file = File::from(rustix::fs::openat(&end.directory, &end.name, flags, Mode::empty())?);
    let is = file.metadata()?;
    if is.is_file() && !end.open_file {
        Directory::checked(end.directory, path)?.refuse_second_names(&is)?;
    }
    Ok(file)
}

/// Closes a file or directory to everybody but its owner. True if it was open to others.
/// # Errors
/// What the system says.
pub fn close_to_others(file: &File) -> io::Result<bool> {
    let is = file.metadata()?;
    let mode = is.permissions().mode();
    let was_open = mode & 0o077 != 0;
    if was_open {
        let mode = if is.is_dir() { mode & 0o700 } else { FILE_MODE.bits() };
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(was_open)
}
