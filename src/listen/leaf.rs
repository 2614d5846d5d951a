//! What a server's own certificate says, wherever it comes from.

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_parser::parse_x509_certificate;

use crate::types::Millis;

/// Of one certificate, the first of a chain.
pub struct Leaf {
    /// From when clients accept it.
    pub valid_from: Millis,
    /// Until when.
    pub valid_until: Millis,
    /// It was issued by itself.
    pub own_issuer: bool,
    /// Clients that ask for the name accept it.
    pub is_named: bool,
}

impl Leaf {
    /// # Errors
    /// It cannot be read, or `domain` is no name that a certificate can have; in words.
    pub fn read(der: &CertificateDer<'_>, domain: &str) -> Result<Self, String> {
        let parsed = ParsedCertificate::try_from(der).map_err(|error| error.to_string())?;
        let name = ServerName::try_from(domain).map_err(|error| error.to_string())?;
        let (_, x509) = parse_x509_certificate(der).map_err(|error| error.to_string())?;
        let millis = |seconds: i64| Millis::try_from(seconds).unwrap_or(0).saturating_mul(1000);
        Ok(Self {
            valid_from: millis(x509.validity().not_before.timestamp()),
            valid_until: millis(x509.validity().not_after.timestamp()),
            own_issuer: x509.issuer() == x509.subject(),
            is_named: verify_server_name(&parsed, &name).is_ok(),
        })
    }
}
