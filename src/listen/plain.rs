//! Plain TCP: for this machine, and for private networks that the owner names.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpStream;

use super::{Accept, ListenError, Tcp};
use crate::config::Network;

/// A TCP listener without encryption. Connections from elsewhere are closed before a byte of them is read.
#[derive(Debug)]
pub struct Plain {
    tcp: Tcp,
    /// Who may connect, besides this machine.
    from: Vec<Network>,
    /// Somebody was turned away; it is a warning once.
    warned: AtomicBool,
}

impl Plain {
    /// Listens, as `setting` says; port 0 takes a free one. Must be called within a tokio runtime.
    /// # Errors
    /// Not a loopback address and nobody else may connect, or it is taken.
    pub fn bind(setting: &'static str, address: SocketAddr, from: &[Network]) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() && from.is_empty() {
            return Err(ListenError::NotLoopback(address));
        }
        let tcp = Tcp::bind(address).map_err(|source| ListenError::Tcp { setting, address, source })?;
        Self::from_tcp(tcp, from)
    }

    /// Takes over a listener.
    /// # Errors
    /// It can be reached from other machines, and they may not connect.
    pub fn from_tcp(tcp: Tcp, from: &[Network]) -> Result<Self, ListenError> {
        if tcp.address().ip().is_loopback() || !from.is_empty() {
            Ok(Self { tcp, from: from.to_vec(), warned: AtomicBool::new(false) })
        } else {
            Err(ListenError::NotLoopback(tcp.address()))
        }
    }

    /// Where it listens, with the port it got.
    pub fn address(&self) -> SocketAddr {
        self.tcp.address()
    }

    fn may_connect(&self, from: Option<IpAddr>) -> bool {
        from.is_some_and(|ip| ip.is_loopback() || self.from.iter().any(|network| network.contains(ip)))
    }

    fn turned_away(&self, from: Option<IpAddr>) {
        let address = from.map(|ip| ip.to_string());
        if self.warned.swap(true, Ordering::Relaxed) {
            tracing::debug!(address, "a connection without encryption was closed");
        } else {
            tracing::warn!(
                address,
                "a connection without encryption was closed, as all are that come neither from this machine nor from listen.plain_from: sync tokens could be read on the way. Is it your proxy, name its network there; else let clients come through the proxy, or set domain and let this server encrypt"
            );
        }
    }
}

impl Accept for Plain {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        loop {
            let (stream, from) = self.tcp.accept().await?;
            if self.may_connect(from) {
                return Ok((stream, from));
            }
            self.turned_away(from);
        }
    }

    fn name(&self) -> String {
        self.tcp.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_only_and_one_at_a_time() {
        let first = Plain::bind("listen.address", "127.0.0.1:0".parse().unwrap(), &[]).unwrap();
        assert_ne!(first.address().port(), 0);
        let error = Plain::bind("listen.address", first.address(), &[]).unwrap_err().to_string();
        assert!(error.contains(&first.address().to_string()) && error.contains("listen.address"), "{error}");
        for public in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
            assert!(matches!(
                Plain::bind("listen.address", public.parse().unwrap(), &[]),
                Err(ListenError::NotLoopback(_))
            ));
        }
        let everywhere = Tcp::bind("0.0.0.0:0".parse().unwrap()).unwrap();
        assert!(matches!(Plain::from_tcp(everywhere, &[]), Err(ListenError::NotLoopback(_))));
    }

    #[tokio::test]
    async fn networks_that_are_named_and_no_others() {
        let networks = ["172.16.0.0/12".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let plain = Plain::bind("listen.address", "[::]:0".parse().unwrap(), &networks).unwrap();
        for (from, may) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("172.18.0.3", true),
            ("fd00::7", true),
            ("192.168.1.2", false),
            ("192.0.2.7", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(plain.may_connect(Some(from.parse().unwrap())), may, "{from}");
        }
        assert!(!plain.may_connect(None));
    }
}
