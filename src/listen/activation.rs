//! Sockets that systemd opened for this process and passed on by name (sd_listen_fds(3)).

use std::net::TcpListener;

use listenfd::ListenFd;

use super::Tcp;

/// Each with its `FileDescriptorName=`.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, Tcp)>);

impl Inherited {
    /// What was passed on to this process; anything but listening TCP sockets is closed with a warning. To be called
    /// once, within a tokio runtime.
    pub fn from_env() -> Self {
        // Taking the sockets removes the other variables.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self::take_all(ListenFd::from_env(), &names)
    }

    fn take_all(mut passed: ListenFd, names: &str) -> Self {
        let mut names = names.split(':');
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
            match take(&mut passed, index) {
                Ok(tcp) => sockets.push((name, tcp)),
                Err(error) => {
                    tracing::warn!(socket = name, %error, "a socket that systemd passed on cannot be used");
                    close(&mut passed, index);
                }
            }
        }
        Self(sockets)
    }

    /// Those of a name.
    pub fn take(&mut self, name: &str) -> Vec<Tcp> {
        self.0.extract_if(.., |(other, _)| other == name).map(|(_, tcp)| tcp).collect()
    }

    /// Closes what nobody took.
    pub fn close_others(self) {
        for (name, tcp) in self.0 {
            tracing::warn!(
                socket = name,
                address = %tcp.address(),
                "systemd passed on a socket that this configuration has no use for, and it was closed: FileDescriptorName= in the socket unit is https or http, or plain with tls = \"off\""
            );
        }
    }
}

fn take(passed: &mut ListenFd, index: usize) -> std::io::Result<Tcp> {
    let listener: Option<TcpListener> = passed.take_tcp_listener(index)?;
    Tcp::adopt(listener.ok_or_else(|| std::io::Error::other("it was taken before"))?)
}

/// Closes by taking it as what it may be. A file that is none of these stays open, to no harm.
fn close(passed: &mut ListenFd, index: usize) {
    drop(passed.take_unix_listener(index));
    drop(passed.take_udp_socket(index));
    drop(passed.take_unix_datagram(index));
}
