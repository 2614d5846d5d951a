//! What a server's own certificate says, wherever it comes from.

use std::path::Path;
use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error as TlsError, RootCertStore};
use x509_parser::parse_x509_certificate;

use crate::types::Millis;

/// Of one certificate, the first of a chain.
pub struct Leaf {
    /// From when clients accept it.
    pub valid_from: Millis,
    /// Until when.
    pub valid_until: Millis,
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
            is_named: verify_server_name(&parsed, &name).is_ok(),
        })
    }
}

/// What clients make of a leaf that is shown without the certificate of its issuer.
#[derive(Debug, PartialEq, Eq)]
pub enum Lone {
    /// Clients that trust the owner's authorities, or the leaf itself, need nothing else.
    Enough,
    /// Most clients lack its issuer, which is none of the owner's authorities.
    LacksIssuer,
    /// The owner's authorities have its issuer's name, and clients refuse the leaf all the same, for this reason.
    Refused(String),
    /// The owner's authorities cannot be read, for this reason.
    Unread(String),
}

impl Lone {
    /// Judges a leaf by the owner's own authorities, if she has named any. Authorities that come with operating systems and
    /// browsers sign no leaf directly, so they are not asked.
    pub fn judge(leaf: &CertificateDer<'_>, authorities: Result<Option<RootCertStore>, String>) -> Self {
        let Ok((_, x509)) = parse_x509_certificate(leaf) else { return Self::LacksIssuer };
        if x509.issuer() == x509.subject() {
            return Self::Enough;
        }
        let authorities = match authorities {
            Ok(Some(authorities)) => authorities,
            Ok(None) => return Self::LacksIssuer,
            Err(reason) => return Self::Unread(reason),
        };
        let mut itself = RootCertStore::empty();
        if itself.add(leaf.clone()).is_ok() && itself.roots.iter().any(|own| authorities.roots.contains(own))
        {
            return Self::Enough;
        }
        // Whether it is valid today is judged elsewhere; what is asked here must not change with the time.
        let begins = u64::try_from(x509.validity().not_before.timestamp()).unwrap_or_default();
        let then = UnixTime::since_unix_epoch(Duration::from_secs(begins));
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
        let verified = ParsedCertificate::try_from(leaf).and_then(|parsed| {
            verify_server_cert_signed_by_trust_anchor(&parsed, &authorities, &[], then, algorithms)
        });
        match verified {
            Ok(()) => Self::Enough,
            Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => Self::LacksIssuer,
            Err(error) => Self::Refused(error.to_string()),
        }
    }

    /// What the owner is told of it, if anything.
    pub fn oddity(self, chain_file: &Path) -> Option<String> {
        let chain_file = chain_file.display();
        match self {
            Self::Enough => None,
            Self::LacksIssuer => Some(format!(
                "there is only one certificate in {chain_file}: most clients also need the one that it was issued by; name the full chain, or if its authority is your own and your devices trust it, name that authority in identity.ca_file"
            )),
            Self::Refused(reason) => Some(format!(
                "clients that trust the authorities in identity.ca_file will refuse it ({reason}): have it signed anew by one of them, or put the one that signed it there"
            )),
            Self::Unread(reason) => Some(format!(
                "there is only one certificate in {chain_file}, and whether an authority of yours signed it cannot be told: the file that identity.ca_file names cannot be used ({reason})"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::authorities_in;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use rustls::pki_types::pem::PemObject as _;

    fn authority(name: &str) -> CertificateParams {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn named(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(["sync.example.org".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn judged(leaf: &str, ca_file: &str) -> Lone {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), ca_file).unwrap();
        Lone::judge(
            &CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap(),
            authorities_in(file.path()).map(Some),
        )
    }

    #[test]
    fn who_trusts_its_authority_needs_nothing_else() {
        let keys: [KeyPair; 5] = std::array::from_fn(|_| KeyPair::generate().unwrap());
        let [root_key, other_key, between_key, key, new_key] = &keys;
        let (root, between) = (authority("root"), authority("between"));
        let by_root = Issuer::from_params(&root, root_key);
        let by_between = Issuer::from_params(&between, between_key);
        let root_pem = root.self_signed(root_key).unwrap().pem();
        let renewed_root_pem = root.self_signed(new_key).unwrap().pem();
        let between_pem = between.signed_by(between_key, &by_root).unwrap().pem();
        let other_pem = authority("other").self_signed(other_key).unwrap().pem();
        let direct = named("leaf").signed_by(key, &by_root).unwrap().pem();
        let indirect = named("leaf").signed_by(key, &by_between).unwrap().pem();
        let own = named("leaf").self_signed(key).unwrap().pem();

        assert_eq!(judged(&direct, &root_pem), Lone::Enough);
        assert_eq!(
            judged(&direct, &format!("{other_pem}{root_pem}")),
            Lone::Enough,
            "the second in the file"
        );
        assert_eq!(judged(&direct, &other_pem), Lone::LacksIssuer);
        assert_eq!(judged(&indirect, &root_pem), Lone::LacksIssuer, "nobody has the one between");
        assert_eq!(judged(&indirect, &between_pem), Lone::Enough, "the owner trusts the one between");
        assert_eq!(judged(&direct, &direct), Lone::Enough, "the owner trusts this leaf");
        for ca_file in [&own, &root_pem] {
            assert_eq!(judged(&own, ca_file), Lone::Enough, "nobody else has signed it");
        }
        let refused = judged(&direct, &renewed_root_pem);
        assert!(
            matches!(refused, Lone::Refused(_)),
            "an authority of that name with another key: {refused:?}"
        );
        assert!(matches!(judged(&direct, "nonsense"), Lone::Unread(_)));
        let leaf = CertificateDer::from_pem_slice(direct.as_bytes()).unwrap();
        assert_eq!(Lone::judge(&leaf, Ok(None)), Lone::LacksIssuer);
    }
}
