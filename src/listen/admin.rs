//! The admin socket: a Unix socket that only the server's user and root can open.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::{Accept, ListenError};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;

/// The listening admin socket; its file goes when it is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Which file is ours: a later server may have put its own in that place.
    inode: u64,
}

impl AdminSocket {
    /// Listens at `path`, in a directory that other users cannot enter. A file left behind by a server that was killed is
    /// removed if nobody answers on it. Must be called within a tokio runtime.
    /// # Errors
    /// Somebody answers on it, something else is there, or it cannot be made.
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        let failed = |operation, source| ListenError::Unix { operation, path: path.into(), source };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("looking at", error)),
            Ok(found) if !found.file_type().is_socket() => {
                let error =
                    io::Error::new(io::ErrorKind::AlreadyExists, "something else is there, move it away");
                return Err(failed("making", error));
            }
            Ok(_) => match Probe::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(|error| failed("removing the old file of", error))?;
                }
                Ok(_) => return Err(ListenError::InUse(path.into())),
                Err(error) => return Err(failed("probing", error)),
            },
        }
        let listener = listen_privately(path).map_err(|error| failed("making", error))?;
        let inode = fs::symlink_metadata(path).map_err(|error| failed("looking at", error))?.ino();
        Ok(Self { listener, path: path.into(), inode })
    }
}

/// Listens at a file that only its owner can open, from its first moment on. On Linux the file gets the mode that the socket
/// has when it is bound (`unix_bind_bsd` in the kernel's net/unix/af_unix.c).
///
/// The mode is not changed afterwards. That would take the file's name, which the directory's owner can replace by a link, or
/// a path in `/proc`, which is not mounted everywhere.
fn listen_privately(path: &Path) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    socket.bind(path)?;
    socket.listen(BACKLOG)
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Accept for AdminSocket {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Option<IpAddr>)> {
        Ok((self.listener.accept().await?.0, None))
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn private_exclusive_and_gone_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let first = AdminSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(AdminSocket::bind(&path), Err(ListenError::InUse(_))));
        let (connected, accepted) = tokio::join!(UnixStream::connect(&path), first.accept());
        connected.unwrap();
        accepted.unwrap();
        drop(first);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_servers_file_is_taken_over_and_other_files_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // leaves its file
        let socket = AdminSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let newer = AdminSocket::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists(), "the newer server's file stays");
        drop(newer);
        fs::write(&path, "precious").unwrap();
        let error = AdminSocket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("move it away") && error.contains("admin.sock"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
