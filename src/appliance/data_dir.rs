//! The data directory: made, closed to others, and removed at the end if it was only lent.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Error, STORE_FILE};
use crate::config::Config;
use crate::directory::{self, Directory};

/// The data directory, opened, and removed at the end if it is temporary.
pub(super) struct DataDir {
    opened: Arc<Directory>,
    temporary: Option<PathBuf>,
}

impl DataDir {
    /// Makes the directory if it is missing, open to its owner only.
    pub(super) fn prepare(config: &Config) -> Result<Self, Error> {
        let path = &config.data_dir;
        let failed = |operation, source| Error::DataDir { operation, path: path.clone(), source };
        if config.data_dir_is_temporary {
            // Not recursive: in a directory that all users share the last step must be ours.
            DirBuilder::new().mode(0o700).create(path).map_err(|error| failed("making", error))?;
            let opened = Directory::open(path).map_err(|error| failed("opening", error))?;
            return Ok(Self { opened: Arc::new(opened), temporary: Some(path.clone()) });
        }
        let opened = Directory::make(path, 0o700).map_err(|error| failed("making", error))?;
        close_to_others(&opened).map_err(|error| failed("closing to other users", error))?;
        Ok(Self { opened: Arc::new(opened), temporary: None })
    }

    /// All that is done in it is done by this.
    pub(super) fn opened(&self) -> &Arc<Directory> {
        &self.opened
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if let Some(path) = &self.temporary
            && let Err(error) = fs::remove_dir_all(path)
        {
            tracing::warn!(%error, path = %path.display(), "the temporary data directory could not be removed");
        }
    }
}

/// Closes a directory of our own to other users. One with other things in it is somebody else's to decide on.
fn close_to_others(data_dir: &Directory) -> io::Result<()> {
    if data_dir.mode()? & 0o077 == 0 {
        return Ok(());
    }
    let path = data_dir.path().display();
    let ours = data_dir.contains(STORE_FILE)? || data_dir.entries()?.next().is_none();
    if ours {
        tracing::info!(%path, "the data directory is now closed to other users");
        directory::close_to_others(&data_dir.readable()?).map(drop)
    } else {
        tracing::warn!(
            %path,
            "other users of this machine can look into the data directory: give the server one of its own, or close it with chmod 700"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_data_directory_of_our_own_is_closed_to_others() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("somebody's"), "").unwrap();
        close_to_others(&Directory::open(dir.path()).unwrap()).unwrap();
        assert_eq!(mode(dir.path()), 0o755);
        fs::write(dir.path().join(STORE_FILE), "").unwrap();
        close_to_others(&Directory::open(dir.path()).unwrap()).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
    }
}
