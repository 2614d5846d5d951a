//! TLS that is answered for our name with one certificate and one protocol: the authority's challenge, and our own probe.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, ServerConfig};

#[derive(Debug)]
struct OneName {
    domain: String,
    certified: Arc<CertifiedKey>,
}

impl ResolvesServerCert for OneName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let ours = hello.server_name().is_some_and(|name| name.eq_ignore_ascii_case(&self.domain));
        ours.then(|| Arc::clone(&self.certified))
    }
}

/// Shows `certified` to who asks for `domain`, and speaks nothing but `protocol` (ALPN).
///
/// # Errors
/// TLS cannot be set up.
pub fn config(
    domain: &str,
    protocol: &[u8],
    certified: CertifiedKey,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, Error> {
    let resolver = OneName { domain: domain.into(), certified: Arc::new(certified) };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols.push(protocol.to_vec());
    Ok(Arc::new(config))
}
