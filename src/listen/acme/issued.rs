//! A certificate with its key and chain, as it is kept: PEM, read with care.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::listen::leaf::Leaf;
use crate::types::Millis;

/// Most bytes of a key and a chain in PEM; usual are 5,000.
pub const MAX_PEM_BYTES: usize = 64 * 1024;
/// Most certificates of a chain; usual are 2 or 3.
pub const MAX_CHAIN: usize = 10;

/// It cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuedError {
    /// It is more than a certificate can be.
    #[error("it has {0} bytes, and {MAX_PEM_BYTES} are the most that are read")]
    TooLarge(usize),
    /// It is not PEM, or a part is missing.
    #[error("it is not a private key followed by certificates (PEM): {0}")]
    Pem(String),
    /// The key does not belong to it, or is of no known kind.
    #[error("its private key cannot be used: {0}")]
    Key(String),
    /// The certificate itself.
    #[error("it cannot be read: {0}")]
    Certificate(String),
    /// It is somebody else's.
    #[error("it is not for the name {0}")]
    OtherName(String),
}

/// What can be presented.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Chain and key.
    pub certified: CertifiedKey,
    /// From when clients accept it.
    pub valid_from: Millis,
    /// Until when.
    pub valid_until: Millis,
}

impl Issued {
    /// Reads a private key followed by its certificate and those that lead to the root. An expired one is read too.
    ///
    /// # Errors
    /// It is damaged, or not for `domain`.
    pub fn parse(pem: &[u8], domain: &str, provider: &Arc<CryptoProvider>) -> Result<Self, IssuedError> {
        if pem.len() > MAX_PEM_BYTES {
            return Err(IssuedError::TooLarge(pem.len()));
        }
        let damaged = |error: rustls::pki_types::pem::Error| IssuedError::Pem(error.to_string());
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(damaged)?;
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(damaged)?;
        let Some(own) = chain.first() else {
            return Err(IssuedError::Pem("there is no certificate in it".into()));
        };
        if chain.len() > MAX_CHAIN {
            return Err(IssuedError::Pem(format!("there are more than {MAX_CHAIN} certificates in it")));
        }
        let Leaf { valid_from, valid_until, is_named, .. } =
            Leaf::read(own, domain).map_err(IssuedError::Certificate)?;
        if !is_named {
            return Err(IssuedError::OtherName(domain.into()));
        }
        let certified = CertifiedKey::from_der(chain, key, provider)
            .map_err(|error| IssuedError::Key(error.to_string()))?;
        Ok(Self { certified, valid_from, valid_until })
    }
}

#[cfg(test)]
pub(super) fn made_for_tests(domain: &str) -> String {
    let made = rcgen::generate_simple_self_signed([domain.to_owned()]).unwrap();
    format!("{}{}", made.signing_key.serialize_pem(), made.cert.pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pem: impl AsRef<[u8]>) -> Result<Issued, IssuedError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Issued::parse(pem.as_ref(), "sync.example.org", &provider)
    }

    #[test]
    fn whole_and_for_our_name_or_not_at_all() {
        let good = made_for_tests("sync.example.org");
        let issued = parse(&good).unwrap();
        assert!(issued.valid_from < issued.valid_until && issued.certified.cert.len() == 1);
        let (key, certificate) = good.split_at(good.find("-----BEGIN CERTIFICATE").unwrap());
        let other_key = made_for_tests("sync.example.org");
        let other_key = &other_key[..other_key.find("-----BEGIN CERTIFICATE").unwrap()];
        for (bad, expected) in [
            (String::new(), "not a private key"),
            ("garbage".into(), "not a private key"),
            (key.into(), "no certificate in it"),
            (certificate.into(), "not a private key"),
            (format!("{other_key}{certificate}"), "private key cannot be used"),
            (good.replacen("MI", "!!", 1), "not a private key"),
            (format!("{good}{}", certificate.repeat(MAX_CHAIN)), "more than 10"),
            (" ".repeat(MAX_PEM_BYTES + 1), "the most"),
            (made_for_tests("sync.example.com"), "not for the name sync.example.org"),
            (made_for_tests("example.org"), "not for the name sync.example.org"),
        ] {
            let error = parse(&bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let middle = certificate.len() / 2;
        let flipped = format!("{key}{}B{}", &certificate[..middle], &certificate[middle + 1..]);
        // Whatever a flipped bit makes of it, it is no panic.
        let _ = parse(flipped);
    }
}
