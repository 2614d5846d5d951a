//! The server's own secret: given by configuration, or made on the first start.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use crate::config::Config;
use crate::directory::{Directory, ReplaceError, close_to_others};
use crate::store::backup::{RESTORED_SECRET, stamp};
use crate::store::{Op, RecordKind, Store, StoreError};
use crate::types::{MIN_SECRET_BYTES, Secret, now};

/// Name of the generated secret inside the data directory.
pub const SECRET_FILE: &str = "secret.key";
/// Key of the pin that holds a new secret until it is in its file: see [`super::rotation`].
pub(super) const NEW_SECRET: &[u8] = b"new_secret";
/// Bytes of a generated secret: as many as HS256's hash.
const GENERATED_BYTES: usize = 32;
/// Most bytes of the file that are read.
const MAX_SECRET_FILE_BYTES: u64 = 1024 * 1024;

/// The secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A file operation failed.
    #[error("{operation} {path} failed: {source}", path = path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is damaged.
    #[error(
        "{path} holds {bytes} bytes, a secret has at least {MIN_SECRET_BYTES}: restore it from a backup, or delete it to get a new one (all tokens then have to be made anew)",
        path = path.display()
    )]
    Short {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: usize,
    },
    /// What a restore or a change of the secret left in the store cannot be had.
    #[error("taking over the signing secret from the store failed: {0}")]
    Store(#[from] StoreError),
    /// No random bytes.
    #[error("the system's random source failed: {0}")]
    Random(getrandom::Error),
}

impl From<ReplaceError> for SecretError {
    fn from(error: ReplaceError) -> Self {
        let ReplaceError { operation, path, source } = error;
        Self::Io { operation, path, source }
    }
}

/// The configured secret, or the one in the data directory, made there if missing. Call it with the store
/// open: the store's lock keeps a second server from making another.
///
/// # Errors
/// The file cannot be read, written or trusted.
pub fn load_or_create(config: &Config, data_dir: &Directory) -> Result<Secret, SecretError> {
    match &config.secret {
        Some(secret) => Ok(secret.clone()),
        None => from_data_dir(data_dir, true),
    }
}

/// The configured secret, or the one in the data directory: none is made.
///
/// # Errors
/// The file is not there, or cannot be read or trusted.
pub fn load(config: &Config, data_dir: &Directory) -> Result<Secret, SecretError> {
    match &config.secret {
        Some(secret) => Ok(secret.clone()),
        None => from_data_dir(data_dir, false),
    }
}

fn from_data_dir(data_dir: &Directory, make: bool) -> Result<Secret, SecretError> {
    let path = data_dir.path_of(SECRET_FILE);
    let io = |operation, source| SecretError::Io { operation, path: path.clone(), source };
    match read(data_dir) {
        Ok((_, bytes)) if bytes.len() < MIN_SECRET_BYTES => {
            Err(SecretError::Short { path: path.clone(), bytes: bytes.len() })
        }
        Ok((file, bytes)) => {
            if close_to_others(&file).map_err(|e| io("closing to other users", e))? {
                tracing::warn!(
                    file = %path.display(),
                    "the secret could be read by other users of this machine; now it cannot. If one of them is not to be trusted, delete it and restart: all tokens then have to be made anew"
                );
            }
            Ok(Secret::new(&bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && make => create(data_dir),
        Err(error) => Err(io("reading", error)),
    }
}

fn read(data_dir: &Directory) -> io::Result<(File, Vec<u8>)> {
    let mut file = data_dir.open_own(SECRET_FILE)?;
    let mut bytes = Vec::new();
    (&mut file).take(MAX_SECRET_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok((file, bytes))
}

/// Puts a secret that is still in the store into the data directory, and takes it out of the store: the one of a restored store,
/// then the new one of a change that was cut off. Restore and change do so themselves; if the power was cut before, the next start
/// does. A secret that was there before a restore is kept: where.
///
/// # Errors
/// The store or the files cannot be read or written. It can be done again.
pub fn adopt(store: &Store, data_dir: &Directory) -> Result<Option<PathBuf>, SecretError> {
    let kept = adopt_restored(store, data_dir)?;
    if let Some(bytes) = store.record(RecordKind::Pin, NEW_SECRET)? {
        put(data_dir, &Secret::new(&bytes))?;
        store.commit(&[Op::Record { kind: RecordKind::Pin, key: NEW_SECRET.into(), row: None }])?;
    }
    Ok(kept)
}

fn adopt_restored(store: &Store, data_dir: &Directory) -> Result<Option<PathBuf>, SecretError> {
    let Some(bytes) = store.record(RecordKind::Pin, RESTORED_SECRET)? else { return Ok(None) };
    let mut kept = None;
    if read(data_dir).is_ok_and(|(_, old)| old != bytes) {
        let name = format!("{SECRET_FILE}.before-restore-{}", stamp(now()));
        let copy = data_dir.path_of(&name);
        // Renamed, not linked: should this be cut off here, the new secret is still in the store.
        data_dir.rename_new(SECRET_FILE, &name).map_err(|source| SecretError::Io {
            operation: "keeping the old secret as",
            path: copy.clone(),
            source,
        })?;
        kept = Some(copy);
    }
    data_dir.replace(SECRET_FILE, &bytes)?;
    store.commit(&[Op::Record { kind: RecordKind::Pin, key: RESTORED_SECRET.into(), row: None }])?;
    let path = data_dir.path_of(SECRET_FILE);
    tracing::info!(file = %path.display(), "put the restored secret that signs sync tokens in place");
    Ok(kept)
}

fn create(data_dir: &Directory) -> Result<Secret, SecretError> {
    let secret = draw().map_err(SecretError::Random)?;
    data_dir.replace(SECRET_FILE, secret.as_bytes())?;
    let path = data_dir.path_of(SECRET_FILE);
    tracing::info!(file = %path.display(), "made the secret that signs sync tokens");
    Ok(secret)
}

/// A new secret.
pub(super) fn draw() -> Result<Secret, getrandom::Error> {
    let mut bytes = [0u8; GENERATED_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(Secret::new(&bytes))
}

/// Puts a new secret in the place of the old one.
pub(super) fn put(data_dir: &Directory, secret: &Secret) -> Result<(), SecretError> {
    data_dir.replace(SECRET_FILE, secret.as_bytes())?;
    let path = data_dir.path_of(SECRET_FILE);
    tracing::info!(file = %path.display(), "put the new secret that signs sync tokens in place");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    fn from_data_dir(path: &Path, make: bool) -> Result<Secret, SecretError> {
        super::from_data_dir(&Directory::open(path).unwrap(), make)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn made_once_private_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SECRET_FILE);
        let first = from_data_dir(dir.path(), true).unwrap();
        assert_eq!((first.as_bytes().len(), mode(&path)), (GENERATED_BYTES, 0o600));
        assert_ne!(first.as_bytes(), [0u8; GENERATED_BYTES]);
        assert_eq!(from_data_dir(dir.path(), true).unwrap(), first);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        let other = tempfile::tempdir().unwrap();
        assert_ne!(from_data_dir(other.path(), true).unwrap(), first);
    }

    #[test]
    fn an_interrupted_start_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret.key.new"), b"cut").unwrap();
        assert_eq!(from_data_dir(dir.path(), true).unwrap().as_bytes().len(), GENERATED_BYTES);
    }

    #[test]
    fn an_open_file_is_closed_and_a_short_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SECRET_FILE);
        let first = from_data_dir(dir.path(), true).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(from_data_dir(dir.path(), true).unwrap(), first);
        assert_eq!(mode(&path), 0o600);
        fs::write(&path, b"fifteen bytes..").unwrap();
        let error = from_data_dir(dir.path(), true).unwrap_err().to_string();
        assert!(
            error.contains("15 bytes") && error.contains("secret.key") && !error.contains("fifteen"),
            "{error}"
        );
    }
}
