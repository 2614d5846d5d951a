//! A certificate authority, the files of what it issues, and clients that trust it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

use super::{Server, Start};

/// The name that servers of these tests have.
pub const DOMAIN: &str = "sync.example.org";

/// Issues certificates, and keeps the latest one in two files.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    dir: TempDir,
}

impl Authority {
    /// With a certificate for [`DOMAIN`] in its files.
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let root = params.self_signed(&key).unwrap().der().clone();
        let new = Self { issuer: Issuer::new(params, key), root, dir: tempfile::tempdir().unwrap() };
        new.renew();
        new
    }

    pub fn chain_file(&self) -> PathBuf {
        self.dir.path().join("chain.pem")
    }

    pub fn key_file(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    /// Puts another certificate into the files; its bytes.
    pub fn renew(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new([DOMAIN.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let root = pem(&self.root);
        self.put(&self.chain_file(), &format!("{}{root}", leaf.pem()));
        self.put(&self.key_file(), &key.serialize_pem());
        leaf.der().clone()
    }

    /// Leaves the authority's own certificate out of the files.
    pub fn leaf_alone(&self) {
        let chain = fs::read_to_string(self.chain_file()).unwrap();
        let (leaf, _) = chain.split_at(chain.rfind("-----BEGIN").unwrap());
        self.put(&self.chain_file(), leaf);
    }

    /// A file with the authority's own certificate alone.
    pub fn ca_file(&self) -> PathBuf {
        let path = self.dir.path().join("ca.pem");
        self.put(&path, &pem(&self.root));
        path
    }

    /// A new file in the place of the old, as renewal does it.
    pub fn put(&self, path: &Path, text: &str) {
        let new = self.dir.path().join("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// What a client needs that trusts it and nobody else.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    /// A server with these files, on any two free ports of this machine.
    pub fn start(&self) -> Start {
        self.configure(Start::default())
            .set("LISTEN__HTTPS", "127.0.0.1:0")
            .set("LISTEN__HTTP", "127.0.0.1:0")
    }

    /// The settings of such a server but for its ports.
    pub fn configure(&self, start: Start) -> Start {
        start
            .set("TLS", "files")
            .set("DOMAIN", DOMAIN)
            .set("CERTIFICATE__CHAIN_FILE", &self.chain_file().display().to_string())
            .set("CERTIFICATE__KEY_FILE", &self.key_file().display().to_string())
            .trust(self.client(rustls::ALL_VERSIONS))
    }

    /// The same, running.
    pub fn server(&self) -> Server {
        self.start().run()
    }
}

fn pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
