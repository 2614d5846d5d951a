//! `tls = "files"`: the owner's own certificate, read again when its files change.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::pem::{self, FromPem, PemError};
use super::{Certificate, stopped};
use crate::config::{CertificateFiles, TlsMode};
use crate::types::{now, rfc3339};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How soon they are looked at again when they changed and did not fit together: the second one may be on its way.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What tells that a file is another than before; symbolic links, as certbot has them, are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    inode: (u64, u64),
    size: u64,
}

/// Both files; `None` for one that is not there.
type Stamps = [Option<Stamp>; 2];

/// What the files had, checked.
pub struct Read {
    loaded: FromPem,
    stamps: Stamps,
}

/// Keeps the certificate as the files have it.
#[derive(Debug)]
pub struct CertificateFromFiles {
    files: CertificateFiles,
    /// The owner's own authorities.
    ca_file: Option<PathBuf>,
    domain: String,
    certificate: Arc<Certificate>,
    /// As they were when they were last read.
    seen: Mutex<Stamps>,
}

impl CertificateFromFiles {
    /// Reads the files for the first time; `ca_file` names the owner's own authorities.
    /// # Errors
    /// They cannot be used.
    pub fn open(
        files: &CertificateFiles,
        ca_file: Option<&Path>,
        domain: &str,
    ) -> Result<Arc<Self>, PemError> {
        let certificate = Certificate::new(TlsMode::Files.as_str(), domain);
        let seen = Mutex::new(Stamps::default());
        let (files, ca_file) = (files.clone(), ca_file.map(Path::to_owned));
        let keeper = Self { files, ca_file, domain: domain.into(), certificate, seen };
        keeper.show(keeper.read()?);
        Ok(Arc::new(keeper))
    }

    /// What listeners show.
    pub fn certificate(&self) -> Arc<Certificate> {
        Arc::clone(&self.certificate)
    }

    /// Reads the files as they are now; shows nothing else yet.
    /// # Errors
    /// They cannot be used.
    pub fn read(&self) -> Result<Read, PemError> {
        let stamps = stamps(&self.files);
        Ok(Read { loaded: self.load()?, stamps })
    }

    fn load(&self) -> Result<FromPem, PemError> {
        pem::load(&self.files, self.ca_file.as_deref(), &self.domain, now())
    }

    /// Shows what was read. Connections that are open go on with what they began with.
    pub fn show(&self, read: Read) {
        *self.stamps() = read.stamps;
        self.present(read.loaded);
    }

    /// Reads them whenever they change, until `stopping` turns true.
    pub async fn watch(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        // Whoever renews writes one file after the other: that they do not fit together is told when it lasts.
        let mut unfit: Option<Stamps> = None;
        loop {
            tokio::select! {
                () = stopped(&mut stopping) => return,
                () = tokio::time::sleep(if unfit.is_some() { LOOK_AGAIN } else { LOOK_EVERY }) => {}
            }
            let keeper = Arc::clone(&self);
            let before = unfit.take();
            unfit = tokio::task::spawn_blocking(move || keeper.look(before)).await.unwrap_or_default();
        }
    }

    /// `before`: those that were found unfit last time. Those that are now, and were not told about yet.
    fn look(&self, before: Option<Stamps>) -> Option<Stamps> {
        let found = stamps(&self.files);
        // What is wrong with its times may pass: the clock of a machine that has just started can be behind.
        let known = self.certificate.now();
        let odd = known.last_error.is_some() && known.failures == 0;
        if *self.stamps() == found && before.is_none() && !odd {
            return None;
        }
        match self.load() {
            Ok(loaded) => self.show(Read { loaded, stamps: found }),
            Err(error) if before.as_ref() == Some(&found) => {
                self.keep(&error);
                *self.stamps() = found;
            }
            Err(_) => return Some(found),
        }
        None
    }

    fn stamps(&self) -> std::sync::MutexGuard<'_, Stamps> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self, loaded: FromPem) {
        let oddities = (!loaded.oddities.is_empty()).then(|| loaded.oddities.join("; "));
        let before = self.certificate.now();
        let is_news = (before.valid_until, &before.last_error) != (Some(loaded.valid_until), &oddities);
        if let Some(oddities) = oddities.as_ref().filter(|_| is_news) {
            tracing::warn!(file = %self.files.chain_file.display(), "the certificate has a fault: {oddities}");
        }
        self.certificate.present(loaded.certified);
        self.certificate.update(|known| {
            known.valid_from = Some(loaded.valid_from);
            known.valid_until = Some(loaded.valid_until);
            known.failures = 0;
            known.last_error = oddities;
        });
        if is_news {
            tracing::info!(
                domain = self.domain,
                valid_until = rfc3339(loaded.valid_until),
                "certificate read"
            );
        }
    }

    fn keep(&self, error: &PemError) {
        tracing::warn!(%error, "the changed certificate cannot be used; the one before is still shown");
        self.certificate.update(|known| {
            known.failures = known.failures.saturating_add(1);
            known.last_error = Some(error.to_string());
        });
    }
}

fn stamps(files: &CertificateFiles) -> Stamps {
    let stamp = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some(Stamp {
            modified: (found.mtime(), found.mtime_nsec()),
            inode: (found.dev(), found.ino()),
            size: found.size(),
        })
    };
    [stamp(&files.chain_file), stamp(&files.key_file)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::os::unix::fs::PermissionsExt as _;

    const DOMAIN: &str = "sync.example.org";

    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([DOMAIN.to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn files_that_change_are_read_once_they_fit_together() {
        let dir = tempfile::tempdir().unwrap();
        let files =
            CertificateFiles { chain_file: dir.path().join("chain"), key_file: dir.path().join("key") };
        let write = |path: &Path, text: &str| {
            // As renewal does: a new file in the place of the old.
            fs::write(dir.path().join("new"), text).unwrap();
            fs::set_permissions(dir.path().join("new"), fs::Permissions::from_mode(0o600)).unwrap();
            fs::rename(dir.path().join("new"), path).unwrap();
        };
        let (chain, key) = pair();
        write(&files.chain_file, &chain);
        write(&files.key_file, &key);
        let keeper = CertificateFromFiles::open(&files, None, DOMAIN).unwrap();
        let shown = || keeper.certificate().current().unwrap().cert[0].clone();
        let (first, known) = (shown(), keeper.certificate().now());
        assert!(known.valid_from.is_some() && known.valid_until > known.valid_from);
        assert_eq!((known.mode.as_str(), known.domain.as_deref()), ("files", Some(DOMAIN)));
        assert_eq!(keeper.look(None), None);

        let (chain, key) = pair();
        write(&files.chain_file, &chain);
        let unfit = keeper.look(None);
        assert!(unfit.is_some() && shown() == first && keeper.certificate().now().failures == 0);
        write(&files.key_file, &key);
        assert_eq!(keeper.look(unfit), None);
        let second = shown();
        assert_ne!(second, first);

        write(&files.key_file, "damaged");
        let unfit = keeper.look(None);
        assert_eq!(keeper.look(unfit), None, "told once");
        assert_eq!(keeper.look(None), None);
        let known = keeper.certificate().now();
        assert!(known.failures == 1 && known.last_error.unwrap().contains("no private key"));
        assert!(keeper.read().is_err());
        assert_eq!(shown(), second);
        write(&files.key_file, &key);
        keeper.show(keeper.read().unwrap());
        let known = keeper.certificate().now();
        assert_eq!((known.failures, known.last_error), (0, None));
        assert_eq!(keeper.look(None), None);
    }

    #[test]
    fn without_usable_files_there_is_no_start() {
        let dir = tempfile::tempdir().unwrap();
        let files =
            CertificateFiles { chain_file: dir.path().join("chain"), key_file: dir.path().join("key") };
        let error = CertificateFromFiles::open(&files, None, DOMAIN).unwrap_err().to_string();
        assert!(error.contains("certificate.chain_file"), "{error}");
    }
}
