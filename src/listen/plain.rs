//! Plain TCP on loopback.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

use super::{Accept, ListenError, Tcp};

/// A TCP listener on a loopback address.
#[derive(Debug)]
pub struct Plain(Tcp);

impl Plain {
    /// Listens, as `setting` says; port 0 takes a free one. Must be called within a tokio runtime.
    /// # Errors
    /// Not a loopback address, or it is taken.
    pub fn bind(setting: &'static str, address: SocketAddr) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback(address));
        }
        Tcp::bind(address).map(Self).map_err(|source| ListenError::Tcp { setting, address, source })
    }

    /// Takes over a listener.
    /// # Errors
    /// It can be reached from other machines.
    pub fn from_tcp(tcp: Tcp) -> Result<Self, ListenError> {
        if tcp.address().ip().is_loopback() {
            Ok(Self(tcp))
        } else {
            Err(ListenError::NotLoopback(tcp.address()))
        }
    }

    /// Where it listens, with the port it got.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

impl Accept for Plain {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        self.0.accept().await
    }

    fn name(&self) -> String {
        self.0.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_only_and_one_at_a_time() {
        let first = Plain::bind("listen.address", "127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(first.address().port(), 0);
        let error = Plain::bind("listen.address", first.address()).unwrap_err().to_string();
        assert!(error.contains(&first.address().to_string()) && error.contains("listen.address"), "{error}");
        for public in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
            assert!(matches!(
                Plain::bind("listen.address", public.parse().unwrap()),
                Err(ListenError::NotLoopback(_))
            ));
        }
        let everywhere = Tcp::bind("0.0.0.0:0".parse().unwrap()).unwrap();
        assert!(matches!(Plain::from_tcp(everywhere), Err(ListenError::NotLoopback(_))));
    }
}
