//! Whether our name leads here: the server connects to itself by every address that DNS gives.
//!
//! What answers must show a certificate that this process has just made for the purpose, so nothing else is taken for us.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::one_name;
use crate::listen::Certificate;
use crate::listen::certificate::PROBE_ALPN;
use crate::listen::domain::MAX_ADDRESSES;

/// Port that authorities connect to (RFC 8737, section 3).
pub const PORT: u16 = 443;
/// Time to connect to one address.
pub const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Time for the TLS handshake then.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Who answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// This process.
    Us,
    /// Something else; how that shows.
    Other(String),
    /// Nothing; why, as far as can be known.
    Nothing(String),
}

/// Tries all of them at once, [`MAX_ADDRESSES`] at most. Port [`PORT`] in life.
///
/// # Errors
/// The certificate for the purpose could not be made; nobody was asked.
pub async fn probe(
    certificate: &Certificate,
    domain: &str,
    addresses: &[IpAddr],
    port: u16,
    provider: &Arc<CryptoProvider>,
) -> Result<Vec<(IpAddr, Reached)>, String> {
    let (certified, der) = throw_away(domain, provider)?;
    let failed = |error: Error| error.to_string();
    let answer = one_name::config(domain, PROBE_ALPN, certified, provider).map_err(failed)?;
    let verifier = Arc::new(Only { der, algorithms: provider.signature_verification_algorithms });
    let mut client = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    client.alpn_protocols.push(PROBE_ALPN.to_vec());
    let connector = TlsConnector::from(Arc::new(client));
    let name = ServerName::try_from(domain.to_owned()).map_err(|error| error.to_string())?;
    certificate.set_probe(Some(answer));
    let _end = End(certificate);
    let mut tasks = tokio::task::JoinSet::new();
    for (number, address) in addresses.iter().copied().take(MAX_ADDRESSES).enumerate() {
        let (connector, name) = (connector.clone(), name.clone());
        tasks.spawn(
            async move { (number, address, one(SocketAddr::new(address, port), connector, name).await) },
        );
    }
    let mut found = tasks.join_all().await;
    found.sort_by_key(|(number, ..)| *number);
    Ok(found.into_iter().map(|(_, address, reached)| (address, reached)).collect())
}

async fn one(at: SocketAddr, connector: TlsConnector, name: ServerName<'static>) -> Reached {
    let stream = match timeout(CONNECT_TIME, TcpStream::connect(at)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Reached::Nothing(error.to_string()),
        Err(_) => return Reached::Nothing(format!("no answer in {} s", CONNECT_TIME.as_secs())),
    };
    match timeout(HANDSHAKE_TIME, connector.connect(name, stream)).await {
        Ok(Ok(_)) => Reached::Us,
        Ok(Err(error)) => Reached::Other(how_it_shows(&error)),
        Err(_) => Reached::Other(format!(
            "it takes connections, and says nothing in {} s",
            HANDSHAKE_TIME.as_secs()
        )),
    }
}

fn how_it_shows(error: &std::io::Error) -> String {
    let tls = error.get_ref().and_then(|source| source.downcast_ref::<Error>());
    match tls {
        Some(Error::InvalidCertificate(_)) => "it shows another certificate".into(),
        Some(Error::AlertReceived(alert)) => format!("it refuses this server's own question ({alert:?})"),
        Some(Error::InvalidMessage(_)) => "it does not speak TLS".into(),
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}

/// When it goes, nobody is answered any more.
struct End<'a>(&'a Certificate);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.set_probe(None);
    }
}

fn throw_away(
    domain: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<(CertifiedKey, CertificateDer<'static>), String> {
    let failed = |error: rcgen::Error| error.to_string();
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new([domain.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    let der = params.self_signed(&key).map_err(failed)?.der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
    let certified =
        CertifiedKey::from_der(vec![der.clone()], key, provider).map_err(|error| error.to_string())?;
    Ok((certified, der))
}

/// Trusts one certificate, byte for byte, and that its key is held.
#[derive(Debug)]
struct Only {
    der: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Only {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.der {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    const DOMAIN: &str = "sync.example.org";

    enum Answer {
        Ours,
        Another,
        Plain,
        Close,
        Silence,
    }

    async fn answer(answer: Answer, stream: TcpStream, certificate: &Certificate) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = match answer {
            Answer::Ours => certificate.probe().unwrap(),
            Answer::Another => {
                let (certified, _) = throw_away(DOMAIN, &provider).unwrap();
                one_name::config(DOMAIN, PROBE_ALPN, certified, &provider).unwrap()
            }
            Answer::Plain => {
                let mut stream = stream;
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                return;
            }
            Answer::Close => return,
            Answer::Silence => {
                let _open = stream;
                return std::future::pending().await;
            }
        };
        let _ = TlsAcceptor::from(config).accept(stream).await;
    }

    #[tokio::test]
    async fn only_this_process_is_taken_for_it() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        for (what, expected) in [
            (Answer::Ours, None),
            (Answer::Another, Some("another certificate")),
            (Answer::Plain, Some("does not speak TLS")),
            (Answer::Close, Some("")),
            (Answer::Silence, Some("says nothing")),
        ] {
            let certificate = Certificate::new("acme", DOMAIN);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let addresses = ["127.0.0.1".parse().unwrap()];
            let serve = async {
                let (stream, _) = listener.accept().await.unwrap();
                answer(what, stream, &certificate).await;
                std::future::pending::<()>().await;
            };
            let found = tokio::select! {
                found = probe(&certificate, DOMAIN, &addresses, port, &provider) => found.unwrap(),
                () = serve => unreachable!(),
            };
            match (&found[0].1, expected) {
                (Reached::Us, None) => {}
                (Reached::Other(how), Some(part)) => assert!(how.contains(part), "{how}"),
                (found, _) => panic!("{found:?} instead of {expected:?}"),
            }
            assert!(certificate.probe().is_none(), "it is answered only while it is asked");
        }
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_nothing() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let certificate = Certificate::new("acme", DOMAIN);
        let found = probe(&certificate, DOMAIN, &[free.ip()], free.port(), &provider).await.unwrap();
        assert!(matches!(&found[0].1, Reached::Nothing(why) if why.contains("refused")), "{found:?}");
    }
}
