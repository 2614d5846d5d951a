//! Reads the owner's own certificate and key (PEM, RFC 7468), and says in words what is wrong with them.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};

use super::leaf::{Leaf, Lone};
use crate::config::CertificateFiles;
use crate::types::{Millis, authorities_in, rfc3339};

/// Most bytes of one file; a chain has some 4 kB.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Why files cannot be used as a certificate. Never with anything of the key.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PemError {
    #[error(
        "the file {path} ({setting}) cannot be read: {source}; check the path, and that the user that the server runs as may read it",
        path = path.display()
    )]
    Read { setting: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "there is no certificate in {path} (certificate.chain_file): it must be a PEM file with a line \"-----BEGIN CERTIFICATE-----\"",
        path = .0.display()
    )]
    NoCertificate(PathBuf),
    #[error(
        "the private key in {path} (certificate.key_file) is locked with a password: make a copy without one, such as by `openssl pkey -in {path} -out FILE`, and name that",
        path = .0.display()
    )]
    Locked(PathBuf),
    #[error(
        "there is no private key in {path} (certificate.key_file): it must be a PEM file with a line \"-----BEGIN PRIVATE KEY-----\"",
        path = .0.display()
    )]
    NoKey(PathBuf),
    #[error("{path} ({setting}) is damaged or of an unknown kind: {reason}; copy it again from where it was made", path = path.display())]
    Damaged { setting: &'static str, path: PathBuf, reason: String },
    #[error(
        "the private key in {key} does not belong to the first certificate in {chain}: name two files that were made together (of Let's Encrypt: fullchain.pem and privkey.pem), the server's own certificate first",
        key = key.display(), chain = chain.display()
    )]
    Mismatch { chain: PathBuf, key: PathBuf },
}

/// A certificate that can be shown.
#[derive(Debug)]
pub struct FromPem {
    /// With its key.
    pub certified: CertifiedKey,
    /// From when clients accept it.
    pub valid_from: Millis,
    /// Until when.
    pub valid_until: Millis,
    /// What will keep clients from accepting it, in words.
    pub oddities: Vec<String>,
}

const CHAIN: &str = "certificate.chain_file";
const KEY: &str = "certificate.key_file";

/// Reads both files and checks that they belong together. `ca_file` holds the certificates of the owner's own authorities
/// (`identity.ca_file`): clients that trust them need no more than what one of these signed.
/// # Errors
/// They cannot be used. What can be, but not for `domain` or not `now`, is an oddity.
pub fn load(
    files: &CertificateFiles,
    ca_file: Option<&Path>,
    domain: &str,
    now: Millis,
) -> Result<FromPem, PemError> {
    let CertificateFiles { chain_file, key_file } = files;
    let (chain_pem, _) = read(CHAIN, chain_file)?;
    let (key_pem, key_mode) = read(KEY, key_file)?;
    let damaged = |reason: String| PemError::Damaged { setting: CHAIN, path: chain_file.clone(), reason };
    let chain = CertificateDer::pem_slice_iter(&chain_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| damaged("not all of it is PEM".into()))?;
    let leaf = chain.first().ok_or_else(|| PemError::NoCertificate(chain_file.clone()))?;
    let lone = (chain.len() == 1).then(|| Lone::judge(leaf, ca_file.map(authorities_in).transpose()));
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| no_key(key_file, &key_pem))?;
    let Leaf { valid_from, valid_until, is_named } = Leaf::read(leaf, domain)
        .map_err(|reason| damaged(format!("its first certificate cannot be read: {reason}")))?;
    let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
    let certified = certified.map_err(|error| match error {
        TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            PemError::Mismatch { chain: chain_file.clone(), key: key_file.clone() }
        }
        other => PemError::Damaged { setting: KEY, path: key_file.clone(), reason: other.to_string() },
    })?;
    let mut oddities = Vec::new();
    if !is_named {
        oddities
            .push(format!("it is not for {domain} (domain): clients will refuse it; get one for that name"));
    }
    if now > valid_until {
        oddities.push(format!("it expired on {}: clients will refuse it; renew it", rfc3339(valid_until)));
    }
    if now < valid_from {
        oddities
            .push(format!("it is valid from {} only, or this machine's clock is wrong", rfc3339(valid_from)));
    }
    oddities.extend(lone.and_then(|lone| lone.oddity(chain_file)));
    if key_mode & 0o007 != 0 {
        oddities.push(format!(
            "every user of this machine may read its private key: `chmod o= {}`",
            key_file.display()
        ));
    }
    Ok(FromPem { certified, valid_from, valid_until, oddities })
}

/// The file and its mode.
fn read(setting: &'static str, path: &Path) -> Result<(Vec<u8>, u32), PemError> {
    let whole = || {
        let file = File::open(path)?;
        let mode = file.metadata()?.mode();
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::other(format!("it is larger than {MAX_FILE_BYTES} bytes")));
        }
        Ok((bytes, mode))
    };
    whole().map_err(|source| PemError::Read { setting, path: path.into(), source })
}

/// Says what is there instead of a key, without a word of it.
fn no_key(path: &Path, pem: &[u8]) -> PemError {
    let has = |text: &str| pem.windows(text.len()).any(|window| window == text.as_bytes());
    if has("ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
        return PemError::Locked(path.into());
    }
    if has("PRIVATE KEY-----") {
        let reason = "its private key cannot be read".into();
        return PemError::Damaged { setting: KEY, path: path.into(), reason };
    }
    PemError::NoKey(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, date_time_ymd};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use tempfile::TempDir;

    const NOON: Millis = 1_900_000_000_000;

    struct Pair {
        dir: TempDir,
        files: CertificateFiles,
        ca_file: Option<PathBuf>,
    }

    impl Pair {
        fn new(chain: &str, key: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let files = CertificateFiles {
                chain_file: dir.path().join("chain.pem"),
                key_file: dir.path().join("key.pem"),
            };
            fs::write(&files.chain_file, chain).unwrap();
            fs::write(&files.key_file, key).unwrap();
            fs::set_permissions(&files.key_file, fs::Permissions::from_mode(0o600)).unwrap();
            Self { dir, files, ca_file: None }
        }

        fn load(&self) -> Result<FromPem, PemError> {
            load(&self.files, self.ca_file.as_deref(), "sync.example.org", NOON)
        }

        fn error(&self) -> String {
            self.load().unwrap_err().to_string()
        }
    }

    fn certificate(key: &KeyPair, name: &str, years: (i32, i32)) -> String {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        params.self_signed(key).unwrap().pem()
    }

    #[test]
    fn kinds_of_keys_and_times() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let chain = certificate(&key, "sync.example.org", (2020, 2040));
            let loaded = Pair::new(&chain, &key.serialize_pem()).load().unwrap();
            assert_eq!(loaded.oddities, Vec::<String>::new());
            assert_eq!(rfc3339(loaded.valid_from), "2020-01-01T00:00:00Z");
            assert_eq!(rfc3339(loaded.valid_until), "2040-01-01T00:00:00Z");
        }
    }

    #[test]
    fn what_clients_will_not_like_is_said() {
        let key = KeyPair::generate().unwrap();
        let oddity = |name: &str, years| {
            let pair = Pair::new(&certificate(&key, name, years), &key.serialize_pem());
            pair.load().unwrap().oddities.join("; ")
        };
        assert!(oddity("other.example", (2020, 2040)).contains("not for sync.example.org"));
        assert!(oddity("sync.example.org", (2020, 2025)).contains("expired on 2025-01-01"));
        assert!(oddity("sync.example.org", (2035, 2040)).contains("valid from 2035-01-01"));
        assert_eq!(oddity("*.example.org", (2020, 2040)), "");
        let pair = Pair::new(&certificate(&key, "sync.example.org", (2020, 2040)), &key.serialize_pem());
        fs::set_permissions(&pair.files.key_file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(pair.load().unwrap().oddities[0].contains("chmod o="));
    }

    #[test]
    fn a_leaf_without_its_issuer_is_said() {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root = CertificateParams::new(["root.example".to_owned()]).unwrap();
        let issuer = rcgen::Issuer::from_params(&root, &root_key);
        let mut params = CertificateParams::new(["sync.example.org".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "leaf");
        let leaf = params.signed_by(&key, &issuer).unwrap().pem();
        let root = root.self_signed(&root_key).unwrap().pem();
        let alone = Pair::new(&leaf, &key.serialize_pem()).load().unwrap();
        assert!(alone.oddities.iter().any(|odd| odd.contains("full chain")), "{:?}", alone.oddities);
        let mut trusted = Pair::new(&leaf, &key.serialize_pem());
        let ca_file = trusted.dir.path().join("ca.pem");
        fs::write(&ca_file, &root).unwrap();
        trusted.ca_file = Some(ca_file);
        assert_eq!(trusted.load().unwrap().oddities, Vec::<String>::new(), "its authority is the owner's");
        fs::write(trusted.ca_file.as_ref().unwrap(), "").unwrap();
        assert!(trusted.load().unwrap().oddities[0].contains("identity.ca_file names cannot be used"));
        let whole = Pair::new(&format!("{leaf}{root}"), &key.serialize_pem()).load().unwrap();
        assert_eq!((whole.certified.cert.len(), whole.oddities.len()), (2, 0), "{:?}", whole.oddities);
        let wrong_way_round = Pair::new(&format!("{root}{leaf}"), &key.serialize_pem());
        assert!(wrong_way_round.error().contains("own certificate first"));
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_key() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (chain, pem) = (certificate(&key, "sync.example.org", (2020, 2040)), key.serialize_pem());
        let locked = pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let cut = |text: &str| text[..text.len() / 2].to_owned();
        let garbled = chain.replacen("MII", "AAA", 1);
        for (chain, key, says) in [
            (&chain[..], &other.serialize_pem()[..], "made together"),
            ("", &pem, "no certificate in"),
            ("nonsense", &pem, "no certificate in"),
            (&pem, &pem, "no certificate in"),
            (&cut(&chain), &pem, "chain.pem (certificate.chain_file) is damaged"),
            (&garbled, &pem, "chain.pem (certificate.chain_file) is damaged"),
            (&chain, "", "no private key in"),
            (&chain, &chain, "no private key in"),
            (&chain, &cut(&pem), "key.pem (certificate.key_file) is damaged"),
            (&chain, &locked, "without one"),
            (&"x".repeat(300_000), &pem, "larger than"),
        ] {
            let error = Pair::new(chain, key).error();
            assert!(error.contains(says), "{says}: {error}");
            let secret = pem.lines().nth(1).unwrap();
            assert!(!error.contains(secret) && !error.contains(&secret[..20]), "{error}");
        }
        let pair = Pair::new(&chain, &pem);
        fs::remove_file(&pair.files.key_file).unwrap();
        let error = pair.error();
        assert!(error.contains("certificate.key_file") && error.contains("cannot be read"), "{error}");
        drop(pair.dir);
    }
}
