//! Connections to port 443 that are not for HTTP, and the count of those that are: the listener alone, in this process.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use groundmist_sync::listen::{
    Accept as _, Certificate, Encrypted, Https, PROBE_ALPN, PerAddress, Serve, Tcp,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use crate::common::authority::DOMAIN;
use crate::common::{PATIENCE, wait_for_async};

/// Says hello and goes on until the client hangs up.
#[derive(Clone)]
struct Hello;

impl Serve<Encrypted> for Hello {
    async fn serve(self, mut stream: Encrypted, _from: Option<IpAddr>) {
        stream.write_all(b"hello").await.unwrap();
        stream.flush().await.unwrap();
        let _ = stream.read(&mut [0]).await;
    }
}

/// Its own, self-signed.
fn certified(name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn server_config(name: &str, protocol: &[u8]) -> (CertificateDer<'static>, Arc<ServerConfig>) {
    let (certificate, key) = certified(name);
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![protocol.to_vec()];
    (certificate, Arc::new(config))
}

struct Scene {
    https: Https<Hello>,
    per_address: Arc<PerAddress>,
    certificate: Arc<Certificate>,
    listener: Tcp,
    _running: watch::Sender<bool>,
}

impl Scene {
    fn new(most: usize) -> Self {
        let running = watch::Sender::new(false);
        let (certificate, per_address) = (Certificate::new("acme", DOMAIN), PerAddress::new(most));
        let (shown, counted) = (Arc::clone(&certificate), Arc::clone(&per_address));
        let https = Https::new(shown, counted, PATIENCE, Hello, Arc::default(), running.subscribe()).unwrap();
        let listener = Tcp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { https, per_address, certificate, listener, _running: running }
    }

    /// Connects as if from an address; what the server says first.
    async fn connect(
        &self,
        from: &str,
        trusted: &CertificateDer<'static>,
        protocol: &[u8],
    ) -> std::io::Result<(String, tokio_rustls::client::TlsStream<TcpStream>)> {
        let (connected, accepted) =
            tokio::join!(TcpStream::connect(self.listener.address()), self.listener.accept());
        let from = Some(from.parse().unwrap());
        tokio::spawn(self.https.clone().serve(accepted.unwrap().0, from));
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = DOMAIN.try_into().unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, connected.unwrap()).await?;
        let mut said = [0; 5];
        let length = stream.read(&mut said).await?;
        Ok((String::from_utf8_lossy(&said[..length]).into_owned(), stream))
    }
}

#[tokio::test]
async fn challenges_and_probes_are_answered_while_they_are_wanted_and_end_there() {
    let scene = Scene::new(10);
    let (challenge, challenge_config) = server_config(DOMAIN, b"acme-tls/1");
    let (probe, probe_config) = server_config(DOMAIN, PROBE_ALPN);
    let (shown, key) = certified(DOMAIN);
    let said =
        async |trusted, protocol| scene.connect("192.0.2.1", trusted, protocol).await.map(|(said, _)| said);

    assert!(said(&shown, b"http/1.1").await.is_err(), "no certificate yet");
    assert!(said(&challenge, b"acme-tls/1").await.is_err() && said(&probe, PROBE_ALPN).await.is_err());
    scene.certificate.set_challenge(Some(challenge_config));
    scene.certificate.set_probe(Some(probe_config));
    // Closed properly, with nothing said.
    assert_eq!(said(&challenge, b"acme-tls/1").await.unwrap(), "");
    assert_eq!(said(&probe, PROBE_ALPN).await.unwrap(), "");
    assert!(said(&shown, b"http/1.1").await.is_err(), "still no certificate");
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    scene.certificate.present(CertifiedKey::new(vec![shown.clone()], key));
    assert_eq!(said(&shown, b"http/1.1").await.unwrap(), "hello");
    assert_eq!(said(&challenge, b"acme-tls/1").await.unwrap(), "", "a renewal goes on beside");
    scene.certificate.set_challenge(None);
    scene.certificate.set_probe(None);
    assert!(said(&challenge, b"acme-tls/1").await.is_err() && said(&probe, PROBE_ALPN).await.is_err());
}

#[tokio::test]
async fn one_address_has_so_many_connections_for_as_long_as_they_last() {
    let scene = Scene::new(2);
    let (shown, key) = certified(DOMAIN);
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    scene.certificate.present(CertifiedKey::new(vec![shown.clone()], key));
    let connect = async |from: &str| scene.connect(from, &shown, b"http/1.1").await.ok();
    let first = connect("192.0.2.1").await.unwrap();
    let _second = connect("192.0.2.1").await.unwrap();
    assert!(connect("192.0.2.1").await.is_none() && connect("::ffff:192.0.2.1").await.is_none());
    assert_eq!(scene.per_address.rejected(), 2);
    let _other = connect("192.0.2.2").await.unwrap();
    let _neighbours = (connect("2001:db8::1").await.unwrap(), connect("2001:db8::2").await.unwrap());
    assert!(connect("2001:db8::3").await.is_none(), "the same /64");
    let mut here = Vec::new();
    for _ in 0..5 {
        here.push(connect("127.0.0.1").await.unwrap());
    }
    drop(first);
    wait_for_async("a free place", async || connect("192.0.2.1").await).await;
}

#[tokio::test]
async fn handshakes_end_when_the_server_stops() {
    let scene = Scene::new(10);
    let (connected, accepted) =
        tokio::join!(TcpStream::connect(scene.listener.address()), scene.listener.accept());
    let shaking = tokio::spawn(scene.https.clone().serve(accepted.unwrap().0, None));
    scene._running.send_replace(true);
    tokio::time::timeout(PATIENCE - Duration::from_secs(1), shaking).await.unwrap().unwrap();
    assert_eq!(connected.unwrap().read(&mut [0]).await.unwrap(), 0);
}
