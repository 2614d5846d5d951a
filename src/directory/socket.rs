//! Unix sockets in a [`Directory`]: connected to, and closed to others, by the file that was checked.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags};

use super::{Directory, single};

/// A socket's file that was checked. Its path is good while this lives.
#[derive(Debug)]
pub struct SocketFile {
    descriptor: OwnedFd,
}

impl SocketFile {
    /// A path that leads to this file, whatever its name stands for by now: there is no call that connects by descriptor.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.descriptor.as_raw_fd()).into()
    }

    /// Closes it to everybody but its owner.
    /// # Errors
    /// What the system says.
    pub fn close_to_others(&self) -> io::Result<()> {
        Ok(rustix::fs::chmod(self.path(), Mode::RUSR | Mode::WUSR)?)
    }
}

impl Directory {
    /// Finds a socket. In a guarded directory it has a single name, and belongs to the directory's owner or to root.
    /// # Errors
    /// There is none, or something else.
    pub fn socket(&self, name: impl AsRef<OsStr>) -> io::Result<SocketFile> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let descriptor = rustix::fs::openat(self.at(), single(name.as_ref())?, flags, Mode::empty())?;
        let is = rustix::fs::fstat(&descriptor)?;
        if FileType::from_raw_mode(is.st_mode) != FileType::Socket {
            return Err(io::Error::other("it is not a socket; look what it is"));
        }
        let known = is.st_nlink == 1 && (is.st_uid == 0 || is.st_uid == self.owner.0);
        if self.is_guarded() && !known {
            return Err(io::Error::other("it is a socket of somebody else's; look whose it is"));
        }
        Ok(SocketFile { descriptor })
    }
}
