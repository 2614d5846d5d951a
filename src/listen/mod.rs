//! Sockets; hands accepted streams up.
//!
//! A listener knows nothing of what is spoken on its streams: whoever serves them implements [`Serve`].

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

pub mod acme;
mod activation;
mod admin;
mod again;
mod certificate;
pub mod domain;
mod files;
mod half_open;
mod host;
mod https;
mod leaf;
mod listeners;
mod open_files;
mod pem;
mod per_address;
mod plain;
mod redirect;
mod tcp;

pub use activation::Inherited;
pub use admin::AdminSocket;
pub use again::again;
pub use certificate::{Certificate, CertificateNow, PROBE_ALPN};
pub use files::CertificateFromFiles;
pub use half_open::{HalfOpen, Place};
pub use host::{BAD_HOST, has_its_host};
pub use https::{Encrypted, Https, MAX_HANDSHAKES};
pub use listeners::{Listeners, Listening, Spoken};
pub use open_files::raise_open_files;
pub use pem::PemError;
pub use per_address::{PerAddress, Seat, Seated};
pub use plain::Plain;
pub use redirect::{MAX_REDIRECTS, Redirect};
pub use tcp::Tcp;

/// Shortest and longest pause when the system has no room for another connection.
const BACK_OFF: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, not ours, or its port not for everybody.
    #[error("listening on {address} ({setting}) failed: {source}; {}", advice(source, setting, address.port()))]
    Tcp {
        /// Which setting says so.
        setting: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Plain HTTP would let tokens be read on the way.
    #[error(
        "{0} is not a loopback address: plain HTTP is served on this machine only; put a proxy with TLS before it, and if it is in another container name the containers' network in listen.plain_from"
    )]
    NotLoopback(SocketAddr),
    /// TLS could not be set up.
    #[error(
        "setting up encryption failed: {0}; this machine lacks something that encryption needs, such as random numbers"
    )]
    Tls(rustls::Error),
    /// The admin socket could not be made.
    #[error("{operation} the admin socket {path} failed: {source}", path = path.display())]
    Unix {
        /// What was being done.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody answers on it.
    #[error("another server answers on {path}: stop it first, or use another data directory", path = .0.display())]
    InUse(PathBuf),
}

/// What to do when a socket cannot be opened.
fn advice(error: &io::Error, setting: &str, port: u16) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program uses this port (`ss -ltnp sport = :{port}`, as root, shows which; on 80 and 443 it is often nginx, Apache or Caddy): stop it, or choose another address with {setting}"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "only root may open ports below 1024: let systemd open it (start groundmist-sync-https.socket and groundmist-sync-http.socket), or allow it to the program (`setcap cap_net_bind_service=+ep`, as root, with its path), or choose another port with {setting}"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address: choose one that it has with {setting}")
        }
        _ => format!("choose another address with {setting}"),
    }
}

/// Serves an accepted stream.
pub trait Serve<S>: Clone + Send + Sync + 'static {
    /// Until it ends. `from` is the address at its other end, if it has one.
    fn serve(self, stream: S, from: Option<IpAddr>) -> impl Future<Output = ()> + Send + 'static;
}

/// Something that accepts streams.
pub trait Accept {
    /// What it accepts.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next stream, and from where. Cancel safe.
    /// # Errors
    /// A connection that is gone already, or no room for one.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<IpAddr>)>> + Send;
    /// What it is, for the log.
    fn name(&self) -> String;
}

/// Accepts streams and gives each to a task of its own, until `stopping` turns true.
pub async fn accept<A: Accept, S: Serve<A::Stream>>(
    listener: A,
    serve: S,
    mut stopping: watch::Receiver<bool>,
) {
    let mut pause = *BACK_OFF.start();
    let mut told = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stopping) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                tokio::spawn(serve.clone().serve(stream, from));
                pause = *BACK_OFF.start();
                told = false;
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                if !told {
                    let (listener, what) = (listener.name(), trouble(&error));
                    tracing::warn!(listener, %error, "no connection can be taken: {what}");
                }
                told = true;
                tokio::select! {
                    () = stopped(&mut stopping) => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(*BACK_OFF.end());
            }
        }
    }
}

/// Returns when `stopping` is true, or whoever could say so is gone.
pub async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// The client gave up while it waited, or the way to it is gone: accept(2) reports that on the listener.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
    )
}

/// What stands in the way of all connections.
fn trouble(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::MFILE) => {
            "too many files are open; raise the limit on them (LimitNOFILE in the systemd unit)"
        }
        Some(rustix::io::Errno::NFILE) => {
            "too many files are open on this machine; see which program has them (lsof), or raise fs.file-max"
        }
        _ => "it is tried again every second",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Clone, Default)]
    struct Count(Arc<AtomicUsize>);

    impl<S: Send + 'static> Serve<S> for Count {
        async fn serve(self, _stream: S, _from: Option<IpAddr>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Fails in turn before it gives streams.
    struct Failing {
        calls: AtomicUsize,
        stop: watch::Sender<bool>,
    }

    impl Accept for Failing {
        type Stream = tokio::io::DuplexStream;

        async fn accept(&self) -> io::Result<(Self::Stream, Option<IpAddr>)> {
            match self.calls.fetch_add(1, Ordering::SeqCst) {
                0 => Err(io::Error::from_raw_os_error(100)),    // ENETDOWN
                1 | 2 => Err(io::Error::from_raw_os_error(24)), // EMFILE
                3 => Ok((tokio::io::duplex(1).0, None)),
                _ => {
                    self.stop.send_replace(true);
                    std::future::pending().await
                }
            }
        }

        fn name(&self) -> String {
            "failing".into()
        }
    }

    #[test]
    fn what_to_do_about_a_socket_is_said() {
        for (errno, part) in [
            (98, "`ss -ltnp sport = :443`"),      // EADDRINUSE
            (13, "groundmist-sync-https.socket"), // EACCES
            (99, "no such address"),              // EADDRNOTAVAIL
            (12, "choose another address"),       // ENOMEM
        ] {
            let source = io::Error::from_raw_os_error(errno);
            let error =
                ListenError::Tcp { setting: "listen.https", address: "[::]:443".parse().unwrap(), source };
            let text = error.to_string();
            assert!(text.contains("[::]:443") && text.contains("listen.https"), "{text}");
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_stands_in_the_way_of_connections_is_said() {
        for (errno, is_of_one, words) in [
            (100, true, ""),
            (113, true, ""),
            (24, false, "LimitNOFILE"),
            (23, false, "fs.file-max"),
            (12, false, "again"),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(is_of_the_connection(&error), is_of_one, "{error}");
            assert!(is_of_one || trouble(&error).contains(words), "{error}");
        }
    }

    #[tokio::test]
    async fn accepting_goes_on_after_errors_and_ends_when_told() {
        let stop = watch::Sender::new(false);
        let count = Count::default();
        let listener = Failing { calls: AtomicUsize::new(0), stop: stop.clone() };
        accept(listener, count.clone(), stop.subscribe()).await;
        tokio::task::yield_now().await;
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
}
