//! A TCP connection, encrypted or not.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Deref;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection};

use super::PATIENCE;

/// Dereferences to the bare connection, for its settings.
pub struct Line {
    tcp: TcpStream,
    pub tls: Option<Box<ClientConnection>>,
}

impl Line {
    /// Not encrypted.
    pub fn plain(address: SocketAddr) -> io::Result<Self> {
        Self::plain_on(TcpStream::connect(address)?)
    }

    /// Not encrypted, on a connection that is there.
    pub fn plain_on(tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { tcp, tls: None })
    }

    /// Encrypted, when the handshake with a server of that name is done.
    pub fn encrypted(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        Self::encrypted_on(TcpStream::connect(address)?, config, name)
    }

    /// Encrypted, on a connection that is there.
    pub fn encrypted_on(tcp: TcpStream, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let name = name.to_owned().try_into().unwrap();
        let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut line = Self::plain_on(tcp)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut line.tcp)?;
        }
        line.tls = Some(Box::new(connection));
        Ok(line)
    }

    /// All until the other side closes: without a goodbye from TLS that is an error.
    pub fn read_all(&mut self) -> io::Result<String> {
        let mut answer = String::new();
        self.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Deref for Line {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.tcp
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.tcp).read(buffer),
            None => self.tcp.read(buffer),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.tcp).write(bytes),
            None => self.tcp.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.tcp).flush(),
            None => self.tcp.flush(),
        }
    }
}
