//! Unix sockets in a [`Directory`]: connected to by the file that was checked.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::{Directory, single};

/// A socket's file that was checked. While this lives, its path leads to that file, or is its name (see [`Directory::socket`]).
#[derive(Debug)]
pub struct SocketFile {
    /// What the path leads to.
    _descriptor: OwnedFd,
    path: PathBuf,
}

impl SocketFile {
    /// A path to connect to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Directory {
    /// Finds a socket. In a guarded directory it has a single name, and belongs to the directory's owner or to root.
    ///
    /// There is no call that connects by descriptor, but a path in `/proc` leads to the descriptor's file, whatever its name
    /// stands for by then. Where `/proc` is not mounted the name itself is used, unless somebody else can replace it.
    /// # Errors
    /// There is none, or something else; or `/proc` is missing and the directory is guarded.
    pub fn socket(&self, name: impl AsRef<OsStr>) -> io::Result<SocketFile> {
        let name = name.as_ref();
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(self.at(), single(name)?, flags, Mode::empty())?;
        let is = rustix::fs::fstat(&descriptor)?;
        if FileType::from_raw_mode(is.st_mode) != FileType::Socket {
            return Err(io::Error::other("it is not a socket; look what it is"));
        }
        let known = is.st_nlink == 1 && (is.st_uid == 0 || is.st_uid == self.owner.0);
        if self.is_guarded() && !known {
            return Err(io::Error::other("it is a socket of somebody else's; look whose it is"));
        }
        let mut path = PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
        if !path.exists() {
            if self.is_guarded() {
                return Err(io::Error::other(format!(
                    "root reaches a socket in a directory of user {} only by way of /proc, which is not mounted here: mount it, or run this as that user",
                    self.owner.0
                )));
            }
            path = self.path_of(name);
        }
        Ok(SocketFile { _descriptor: descriptor, path })
    }
}
