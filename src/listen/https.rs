//! TLS on port 443: browsers and apps, the authority's TLS-ALPN-01 challenges (RFC 8737), and this server's own probes.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage};
use rustls_acme::is_tls_alpn_challenge;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::{
    Certificate, HalfOpen, ListenError, PROBE_ALPN, PerAddress, Place, Seat, Seated, Serve, stopped,
};
use crate::telemetry::tally::Tally;
use crate::types::place_of;

/// TLS handshakes under way; beyond it one is dropped ([`HalfOpen`]). Each may hold some 80 kB: rustls reads ClientHellos of up
/// to 64 KiB.
pub const MAX_HANDSHAKES: usize = 256;
/// Bytes that wait to be encrypted or sent, for each connection.
const WRITE_BUFFER: usize = 32 * 1024;
/// Tickets for resuming that a TLS 1.3 client is given. The server keeps nothing of them but a key that it changes.
const TICKETS: usize = 1;

/// What is spoken on once a handshake is done. Boxed: it is moved often, and is large.
pub type Encrypted = Box<TlsStream<Seated<TcpStream>>>;

/// Encrypts connections and hands them on. Cheap to clone; each connection holds one while it lives.
#[derive(Clone)]
pub struct Https<S> {
    shared: Arc<Shared>,
    inner: S,
    stopping: watch::Receiver<bool>,
}

struct Shared {
    certificate: Arc<Certificate>,
    config: Arc<ServerConfig>,
    per_address: Arc<PerAddress>,
    handshakes: Arc<HalfOpen>,
    handshake_timeout: Duration,
}

impl<S> Https<S> {
    /// `handshake_timeout` is for the whole handshake; `stopping` turns true when those under way should end. Handshakes that
    /// give way to others are counted in `evicted`.
    /// # Errors
    /// TLS cannot be set up: no random numbers from the system.
    pub fn new(
        certificate: Arc<Certificate>,
        per_address: Arc<PerAddress>,
        handshake_timeout: Duration,
        inner: S,
        evicted: Arc<Tally>,
        stopping: watch::Receiver<bool>,
    ) -> Result<Self, ListenError> {
        let config = server_config(&certificate).map_err(ListenError::Tls)?;
        let handshakes = HalfOpen::new(MAX_HANDSHAKES, "tls_handshakes", evicted);
        let shared = Shared { certificate, config, per_address, handshakes, handshake_timeout };
        Ok(Self { shared: Arc::new(shared), inner, stopping })
    }

    /// The encrypted stream; `None` if it came to nothing, or was not meant for HTTP.
    async fn handshake(
        &self,
        stream: Seated<TcpStream>,
        place: Place,
        from: Option<IpAddr>,
    ) -> Option<Encrypted> {
        let mut stopping = self.stopping.clone();
        let shaken = tokio::select! {
            shaken = timeout(self.shared.handshake_timeout, self.shared.shake_hands(stream)) => shaken,
            () = place.evicted() => return None,
            () = stopped(&mut stopping) => return None,
        };
        shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).unwrap_or_else(|error| {
            tracing::debug!(from = from.map(tracing::field::display), %error, "a TLS handshake failed");
            None
        })
    }
}

impl Shared {
    /// Counts a connection for its address and among the handshakes; `None` if its address has too many.
    fn enter(&self, from: Option<IpAddr>) -> Option<(Option<Seat>, Place)> {
        // Programs on this machine are not counted: one of them may pass on everybody's connections.
        let seat = match from.and_then(place_of).map(|place| self.per_address.enter(place)) {
            Some(None) => return None,
            counted => counted.flatten(),
        };
        Some((seat, self.handshakes.enter(from)))
    }

    async fn shake_hands(&self, stream: Seated<TcpStream>) -> io::Result<Option<Encrypted>> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        if let Some(config) = self.aside(&start.client_hello()) {
            // Whoever asks has seen what they wanted to see when the handshake is done (RFC 8737, section 3).
            start.into_stream(config).await?.shutdown().await?;
            return Ok(None);
        }
        let limit =
            |connection: &mut rustls::ServerConnection| connection.set_buffer_limit(Some(WRITE_BUFFER));
        Ok(Some(Box::new(start.into_stream_with(Arc::clone(&self.config), limit).await?)))
    }

    /// How to answer a connection that is not for HTTP. Without an answer it fails for its protocol.
    fn aside(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        if is_tls_alpn_challenge(hello) {
            return self.certificate.challenge();
        }
        let ours = hello.server_name().is_some_and(|name| self.certificate.is_for(name));
        let probe = ours && hello.alpn().is_some_and(|mut offered| offered.any(|one| one == PROBE_ALPN));
        if probe { self.certificate.probe() } else { None }
    }
}

impl<S: Serve<Encrypted>> Serve<TcpStream> for Https<S> {
    fn serve(self, stream: TcpStream, from: Option<IpAddr>) -> impl Future<Output = ()> + Send + 'static {
        // Now, and not when the task first runs: places are given in the order in which connections came.
        let entered = self.shared.enter(from);
        async move {
            let Some((seat, place)) = entered else {
                tracing::debug!(
                    from = from.map(tracing::field::display),
                    "as many connections as one address may have"
                );
                return;
            };
            if let Some(stream) = self.handshake(Seated::new(stream, seat), place, from).await {
                self.inner.serve(stream, from).await;
            }
        }
    }
}

/// TLS 1.2 and 1.3 for HTTP/1.1, without early data.
fn server_config(certificate: &Arc<Certificate>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(certificate) as _);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = TICKETS;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}
