//! A TCP listener: its own socket, or one that was passed on to this process.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::Accept;

/// Connections the system keeps while they wait to be accepted.
const BACKLOG: u32 = 1024;
/// Bytes the system keeps for a client that is slow to read. Without it they grow to several MiB a connection, which is
/// memory too, and a ping would wait behind them.
const SEND_BUFFER: u32 = 256 * 1024;
/// Milliseconds after which a connection ends whose other side acknowledges nothing, or takes nothing (RFC 5482): a phone that
/// went out of reach, and has no time limit of its own. The system alone would go on for a quarter of an hour.
const UNANSWERED_MS: u32 = 120_000;

/// A TCP listener.
#[derive(Debug)]
pub struct Tcp {
    listener: TcpListener,
    address: SocketAddr,
}

impl Tcp {
    /// Listens; port 0 takes a free one. All of IPv6 (`[::]`) includes IPv4, and is IPv4 alone where the system has no
    /// IPv6. Must be called within a tokio runtime.
    /// # Errors
    /// The address is taken, not ours, or its port is not for everybody.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        bind_or_ipv4(address, Self::bind_exactly)
    }

    fn bind_exactly(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if address.is_ipv6() {
            // What net.ipv6.bindv6only says otherwise.
            sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
        }
        // A restarted server must get its port back from connections that are still winding down.
        socket.set_reuseaddr(true)?;
        set_limits(&socket)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Takes over a listening socket. Must be called within a tokio runtime.
    /// # Errors
    /// It does not listen.
    pub fn adopt(listener: std::net::TcpListener) -> io::Result<Self> {
        if !sockopt::socket_acceptconn(&listener)? {
            return Err(io::Error::other("it is not a listening socket"));
        }
        set_limits(&listener)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens, with the port it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Accepted connections inherit them.
fn set_limits(socket: impl AsFd) -> io::Result<()> {
    sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER as usize)?;
    Ok(sockopt::set_tcp_user_timeout(&socket, UNANSWERED_MS)?)
}

/// A system without IPv6 says so in one of two ways, when the socket is made or when it gets its address.
fn bind_or_ipv4<T>(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let bound = bind(address);
    let no_ipv6 = |error: &io::Error| {
        let errno = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
        matches!(errno, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
    };
    match bound {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6(&error) => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    }
}

impl Accept for Tcp {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, peer) = self.listener.accept().await?;
        // Messages are gathered before they are written; waiting for more only delays them.
        stream.set_nodelay(true).map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
        Ok((stream, Some(peer.ip().to_canonical())))
    }

    fn name(&self) -> String {
        self.address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    async fn reaches(tcp: &Tcp, to: IpAddr) -> IpAddr {
        let to = SocketAddr::new(to, tcp.address().port());
        let (connected, accepted) = tokio::join!(TcpStream::connect(to), tcp.accept());
        connected.unwrap();
        let (stream, from) = accepted.unwrap();
        assert!(stream.nodelay().unwrap());
        // Linux doubles what is asked for.
        assert_eq!(sockopt::socket_send_buffer_size(&stream).unwrap(), 2 * SEND_BUFFER as usize);
        assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), UNANSWERED_MS);
        from.unwrap()
    }

    #[tokio::test]
    async fn everywhere_includes_ipv4() {
        let tcp = Tcp::bind("[::]:0".parse().unwrap()).unwrap();
        assert_eq!(
            reaches(&tcp, Ipv4Addr::LOCALHOST.into()).await,
            Ipv4Addr::LOCALHOST,
            "not as an IPv6 address"
        );
    }

    #[test]
    fn ipv4_alone_where_there_is_no_ipv6() {
        let asked = RefCell::new(Vec::new());
        let bind = |errno: i32| {
            asked.borrow_mut().clear();
            let bind = |address: SocketAddr| {
                asked.borrow_mut().push(address.to_string());
                if address.is_ipv4() { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
            };
            bind_or_ipv4("[::]:443".parse().unwrap(), bind).is_ok()
        };
        for (errno, well) in [(97, true), (99, true), (98, false), (13, false)] {
            assert_eq!(bind(errno), well, "EAFNOSUPPORT, EADDRNOTAVAIL, EADDRINUSE, EACCES: {errno}");
            assert_eq!(asked.borrow().len(), 1 + usize::from(well));
        }
        let refuse = |_| Err::<(), _>(io::Error::from_raw_os_error(99));
        assert!(bind_or_ipv4("[::1]:443".parse().unwrap(), refuse).is_err(), "one that was named is meant");
    }

    #[tokio::test]
    async fn a_socket_passed_on_must_listen() {
        let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = Tcp::adopt(own).unwrap();
        assert_eq!(reaches(&tcp, Ipv4Addr::LOCALHOST.into()).await, Ipv4Addr::LOCALHOST);
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let fd: std::os::fd::OwnedFd = rustix::io::dup(&socket).unwrap();
        let error = Tcp::adopt(fd.into()).unwrap_err();
        assert!(error.to_string().contains("listening"), "{error}");
    }
}
