//! A directory that is checked once and then used by its descriptor.
//!
//! Commands that root runs work in directories whose owner may be hostile: the server's user, should the server have been
//! taken over, owns the data directory and can replace any name in it at any moment. [`Directory`] is the only way in which
//! such a directory is used. Its invariants:
//!
//! - The path is followed once, component by component (`walk`). Symbolic links are followed only where nobody but root
//!   can change them. Afterwards every operation is relative to the descriptor that is kept, so a directory that is moved or
//!   replaced meanwhile makes no difference.
//! - No operation follows a link at the name it is given.
//! - A file is checked by the descriptor that is then used, never by its name. In a directory that others than root can
//!   change ([`Directory::is_guarded`]) root opens only regular files with a single name that belong to the directory's
//!   owner: a second name (a hard link) or another owner means that the file may have come from elsewhere.
//! - Only files that were created through this module change their owner.
//!
//! A process without root's rights has none to lose: for it paths are followed by the kernel as usual, and owner and number
//! of names do not matter.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

mod file;
mod root;
mod socket;
mod walk;

pub use file::{ReplaceError, close_to_others, open_source};
pub use socket::SocketFile;

/// Mode of the files that are made: they hold what is the owner's alone.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// An open directory. Names given to its methods are single components.
#[derive(Debug)]
pub struct Directory {
    /// Opened with `O_PATH`: good for relative calls, whatever its mode is.
    descriptor: OwnedFd,
    /// For messages and paths that are shown.
    path: PathBuf,
    /// User and group that new files are given to.
    owner: (u32, u32),
    guarded: bool,
}

impl Directory {
    /// Opens a directory that exists.
    /// # Errors
    /// There is none, it is something else, or the path leads through a link that others than root can change.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::checked(walk::open(path, None)?, path)
    }

    /// Opens a directory, and makes it and those above it with this mode where they are missing.
    /// # Errors
    /// As [`Directory::open`], or one cannot be made.
    pub fn make(path: &Path, mode: u32) -> io::Result<Self> {
        Self::checked(walk::open(path, Some(Mode::from_raw_mode(mode)))?, path)
    }

    /// Opens the directory that a file is in, and gives the file's name there.
    /// # Errors
    /// The path ends in no name, or as [`Directory::open`].
    pub fn of_file(path: &Path) -> io::Result<(Self, OsString)> {
        let name = path.file_name().ok_or_else(|| io::Error::other("it has no name"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok((Self::open(parent.unwrap_or(Path::new(".")))?, name.to_owned()))
    }

    /// As [`Directory::of_file`], but a link at the file's name is followed where the directory's links may be: to replace
    /// what it leads to, not the link. The file need not exist.
    /// # Errors
    /// As there.
    pub fn of_linked_file(path: &Path) -> io::Result<(Self, OsString)> {
        if !rustix::process::geteuid().is_root() {
            let real = match std::fs::canonicalize(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(path)?,
                real => real?,
            };
            return Self::of_file(&real);
        }
        let end = walk::file(path)?;
        Ok((Self::checked(end.directory, path.parent().unwrap_or(path))?, end.name))
    }

    fn checked(descriptor: OwnedFd, path: &Path) -> io::Result<Self> {
        let is = rustix::fs::fstat(&descriptor)?;
        let guarded = rustix::process::geteuid().is_root() && !walk::only_root_changes(&is);
        Ok(Self { descriptor, path: path.into(), owner: (is.st_uid, is.st_gid), guarded })
    }

    fn at(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a name in it, for messages.
    pub fn path_of(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }

    /// True if this process is root and somebody else can change what is in the directory.
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// The directory's user and group.
    pub fn owner(&self) -> (u32, u32) {
        self.owner
    }

    /// The permission bits that it has now.
    /// # Errors
    /// What the system says.
    pub fn mode(&self) -> io::Result<u32> {
        Ok(rustix::fs::fstat(&self.descriptor)?.st_mode & 0o7777)
    }

    /// Opens a directory in it. No link is followed.
    /// # Errors
    /// There is none, or it is something else.
    pub fn directory(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = name.as_ref();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.descriptor, single(name)?, flags, Mode::empty());
        Self::checked(opened?, &self.path.join(name))
    }

    /// As [`Directory::directory`], made with mode 0700 if it is missing.
    /// # Errors
    /// As there, or it cannot be made.
    pub fn make_directory(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = name.as_ref();
        match rustix::fs::mkdirat(&self.descriptor, single(name)?, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => self.directory(name),
            Err(error) => Err(error.into()),
        }
    }

    /// What stands at a name; of a link, the link itself.
    /// # Errors
    /// Nothing is there, or what the system says.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> io::Result<Stat> {
        let name = single(name.as_ref())?;
        Ok(rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// True if anything stands at a name.
    /// # Errors
    /// It cannot be looked at.
    pub fn contains(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        match self.stat(name) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All names in it, and what they are where the file system tells; in no order.
    /// # Errors
    /// It cannot be read.
    pub fn entries(&self) -> io::Result<impl Iterator<Item = io::Result<(OsString, FileType)>>> {
        let entries = Dir::new(self.readable()?)?.filter_map(|entry| match entry {
            Ok(entry) => {
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                (name != "." && name != "..").then(|| Ok((name.to_owned(), entry.file_type())))
            }
            Err(error) => Some(Err(error.into())),
        });
        Ok(entries)
    }

    /// What the entry of this name is, where [`Directory::entries`] did not tell.
    /// # Errors
    /// As [`Directory::stat`].
    pub fn kind(&self, name: impl AsRef<OsStr>, told: FileType) -> io::Result<FileType> {
        match told {
            FileType::Unknown => Ok(FileType::from_raw_mode(self.stat(name)?.st_mode)),
            told => Ok(told),
        }
    }

    /// Removes a name that is no directory; true if it was there.
    /// # Errors
    /// What the system says.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.descriptor, single(name.as_ref())?, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Renames within the directory; what was at `to` is gone.
    /// # Errors
    /// What the system says.
    pub fn rename(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> io::Result<()> {
        let (from, to) = (single(from.as_ref())?, single(to.as_ref())?);
        Ok(rustix::fs::renameat(&self.descriptor, from, &self.descriptor, to)?)
    }

    /// Renames within the directory, unless something is at `to`.
    /// # Errors
    /// `AlreadyExists`, or what the system says.
    pub fn rename_new(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> io::Result<()> {
        let (from, to) = (single(from.as_ref())?, single(to.as_ref())?);
        let here = &self.descriptor;
        match rustix::fs::renameat_with(here, from, here, to, RenameFlags::NOREPLACE) {
            // Some network file systems cannot say "only if there is none".
            Err(Errno::INVAL) if !self.contains(to)? => self.rename(from, to),
            renamed => Ok(renamed?),
        }
    }

    /// Gives a file a second name within the directory, where nothing is yet.
    /// # Errors
    /// `AlreadyExists`, or what the system says.
    pub fn link(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> io::Result<()> {
        let (from, to) = (single(from.as_ref())?, single(to.as_ref())?);
        // Without AT_SYMLINK_FOLLOW a link at `from` gets the second name itself.
        Ok(rustix::fs::linkat(&self.descriptor, from, &self.descriptor, to, AtFlags::empty())?)
    }

    /// Has the names in it on the disk.
    /// # Errors
    /// What the system says.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.readable()?)?)
    }

    /// The directory opened for reading: to be listed, synced, locked or given another mode.
    /// # Errors
    /// This process may not read it.
    pub fn readable(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.descriptor, ".", flags, Mode::empty())?.into())
    }
}

/// A name that can only be one of this directory.
fn single(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a single name"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests;
