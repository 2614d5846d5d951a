//! Plain TCP on loopback.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Accept, ListenError};

/// Connections the system keeps while they wait to be accepted.
const BACKLOG: u32 = 1024;
/// Bytes the system keeps for a client that is slow to read. Without it they grow to several MiB a connection, which is
/// memory too, and a ping would wait behind them.
const SEND_BUFFER: u32 = 256 * 1024;

/// A TCP listener on a loopback address.
#[derive(Debug)]
pub struct Plain {
    listener: TcpListener,
    address: SocketAddr,
}

impl Plain {
    /// Listens; port 0 takes a free one. Must be called within a tokio runtime.
    /// # Errors
    /// Not a loopback address, or it is taken.
    pub fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback(address));
        }
        let bind = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // A restarted server must get its port back from connections that are still winding down.
            socket.set_reuseaddr(true)?;
            socket.set_send_buffer_size(SEND_BUFFER)?;
            socket.bind(address)?;
            let listener = socket.listen(BACKLOG)?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bind().map_err(|source| ListenError::Tcp { address, source })
    }

    /// Where it listens, with the port it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Accept for Plain {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, peer) = self.listener.accept().await?;
        // Messages are gathered before they are written; waiting for more only delays them.
        stream.set_nodelay(true).map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
        Ok((stream, Some(peer.ip())))
    }

    fn name(&self) -> String {
        self.address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn loopback_only_and_one_at_a_time() {
        let first = Plain::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(first.address().port(), 0);
        let error = Plain::bind(first.address()).unwrap_err().to_string();
        assert!(error.contains(&first.address().to_string()) && error.contains("listen.address"), "{error}");
        for public in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
            assert!(matches!(Plain::bind(public.parse().unwrap()), Err(ListenError::NotLoopback(_))));
        }
        let (connected, accepted) = tokio::join!(TcpStream::connect(first.address()), first.accept());
        connected.unwrap();
        assert!(accepted.unwrap().0.nodelay().unwrap());
    }
}
