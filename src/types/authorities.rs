//! Certificate authorities that the owner names in a file.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Reads the authorities in a PEM file, which holds at least one. The configuration checks a file with it before a socket
/// opens, and whoever sends requests reads the file again.
///
/// # Errors
/// The file cannot be read, a certificate in it cannot be parsed, or there is none; the text is the end of a sentence.
pub fn authorities_in(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("there is no certificate in it".into()) } else { Ok(roots) }
}
