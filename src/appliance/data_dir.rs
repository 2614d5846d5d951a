//! The data directory: made, closed to others, and removed at the end if it was only lent.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{Error, STORE_FILE};
use crate::config::Config;

/// The data directory, removed at the end if it is temporary.
pub(super) struct DataDir {
    temporary: Option<PathBuf>,
}

impl DataDir {
    /// Makes the directory if it is missing, open to its owner only.
    pub(super) fn prepare(config: &Config) -> Result<Self, Error> {
        let path = &config.data_dir;
        let failed = |operation, source| Error::DataDir { operation, path: path.clone(), source };
        let make = |recursive| DirBuilder::new().mode(0o700).recursive(recursive).create(path);
        if config.data_dir_is_temporary {
            // Not recursive: in a directory that all users share the last step must be ours.
            make(false).map_err(|error| failed("making", error))?;
            return Ok(Self { temporary: Some(path.clone()) });
        }
        make(true).map_err(|error| failed("making", error))?;
        close_to_others(path).map_err(|error| failed("closing to other users", error))?;
        Ok(Self { temporary: None })
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
fn close_to_others(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let ours = path.join(STORE_FILE).exists() || fs::read_dir(path)?.next().is_none();
    if ours {
        tracing::info!(path = %path.display(), "the data directory is now closed to other users");
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))
    } else {
        tracing::warn!(
            path = %path.display(),
            "other users of this machine can look into the data directory: give the server one of its own, or close it with chmod 700"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_of_our_own_is_closed_to_others() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("somebody's"), "").unwrap();
        close_to_others(dir.path()).unwrap();
        assert_eq!(mode(dir.path()), 0o755);
        fs::write(dir.path().join(STORE_FILE), "").unwrap();
        close_to_others(dir.path()).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
    }
}
