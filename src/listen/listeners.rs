//! Opens every socket that the configuration asks for, or takes it from systemd.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Inherited, ListenError, Plain, Tcp};
use crate::config::{Config, TlsMode};

/// What is spoken on a socket; also the name by which systemd passes it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spoken {
    /// HTTPS and WebSocket over TLS.
    Https,
    /// Redirects to HTTPS.
    Http,
    /// HTTP and WebSocket without encryption, for this machine and networks that the owner names.
    Plain,
    /// Figures for monitoring, on loopback.
    Metrics,
}

impl Spoken {
    /// As in `FileDescriptorName=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Plain => "plain",
            Self::Metrics => "metrics",
        }
    }
}

/// A socket that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// What is spoken there.
    pub spoken: Spoken,
    /// Where.
    pub address: SocketAddr,
}

impl fmt::Display for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.spoken.as_str())
    }
}

/// Open sockets; systemd may pass on several of a kind.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Those for HTTPS.
    pub https: Vec<Tcp>,
    /// Those that redirect there.
    pub http: Vec<Tcp>,
    /// Those without encryption.
    pub plain: Vec<Plain>,
    /// The one for monitoring.
    pub metrics: Option<Plain>,
}

impl Listeners {
    /// With TLS, for HTTPS and for redirecting there; without, a plain one. Must be called within a tokio runtime.
    /// # Errors
    /// One cannot be opened. The server does without the redirecting one, which is a warning.
    pub fn open(config: &Config) -> Result<Self, ListenError> {
        Self::open_with(config, Inherited::from_env())
    }

    fn open_with(config: &Config, mut inherited: Inherited) -> Result<Self, ListenError> {
        let mut open = Self::default();
        let listen = &config.listen;
        if config.tls == TlsMode::Off {
            let passed = inherited.take(Spoken::Plain.as_str());
            open.plain = passed
                .into_iter()
                .map(|tcp| Plain::from_tcp(tcp, &listen.plain_from))
                .collect::<Result<_, _>>()?;
            if open.plain.is_empty() {
                open.plain.push(Plain::bind("listen.address", listen.address, &listen.plain_from)?);
            }
        } else {
            open.https = inherited.take(Spoken::Https.as_str());
            open.http = inherited.take(Spoken::Http.as_str());
            if open.https.is_empty() {
                open.https.push(bind("listen.https", listen.https)?);
            }
            if open.http.is_empty() {
                match bind("listen.http", listen.http) {
                    Ok(tcp) => open.http.push(tcp),
                    Err(error) => tracing::warn!(
                        "{error}. Until then nobody is sent on from http:// to https://; all else works"
                    ),
                }
            }
        }
        open.metrics =
            listen.metrics.map(|address| Plain::bind("listen.metrics", address, &[])).transpose()?;
        inherited.close_others();
        Ok(open)
    }

    /// All of them, the most important one first.
    pub fn list(&self) -> Vec<Listening> {
        let of = |spoken, tcp: &Tcp| Listening { spoken, address: tcp.address() };
        let https = self.https.iter().map(|tcp| of(Spoken::Https, tcp));
        let http = self.http.iter().map(|tcp| of(Spoken::Http, tcp));
        let loopback = |spoken, plain: &Plain| Listening { spoken, address: plain.address() };
        let plain = self.plain.iter().map(|plain| loopback(Spoken::Plain, plain));
        let metrics = self.metrics.iter().map(|plain| loopback(Spoken::Metrics, plain));
        https.chain(plain).chain(http).chain(metrics).collect()
    }
}

fn bind(setting: &'static str, address: SocketAddr) -> Result<Tcp, ListenError> {
    Tcp::bind(address).map_err(|source| ListenError::Tcp { setting, address, source })
}
