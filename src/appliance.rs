//! Brings the parts up in order and down again.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::access::secret::{self, SecretError};
use crate::access::{Access, AccessError, LOCAL_CLIENT, LOCAL_DID, NewSession, Ownership};
use crate::atproto::{Http, HttpError, Resolver, Us, Verifier};
use crate::config::{Config, Secret, TlsMode};
use crate::engine::Engine;
use crate::listen::{self, AdminSocket, ListenError, PemError};
use crate::store::{Store, StoreError};
use crate::types::NameError;
use crate::web::admin::Admin;
use crate::web::{AdminHttp, Door, Web};
use sockets::Sockets;

mod sockets;

/// Name of the store inside the data directory.
pub const STORE_FILE: &str = "groundmist.redb";
/// Namespace of the token that `serve --dev` prints.
pub const DEV_NAMESPACE: &str = "dev.local";
/// Life of that token.
const DEV_TOKEN_LIFE: Duration = Duration::from_secs(86_400);
/// From the signal to the end, whatever clients do.
const DRAIN: Duration = Duration::from_secs(10);
/// Open files that are not client connections: store, sockets, logs and the connections that are not WebSockets yet.
const OTHER_FILES: usize = 64;

/// The server could not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{operation} the data directory {path} failed: {source}", path = path.display())]
    DataDir { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("opening the store {path} failed: {source}", path = path.display())]
    Store { path: PathBuf, source: StoreError },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("starting the engine's threads failed: {0}")]
    Engine(io::Error),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Certificate(#[from] PemError),
    #[error("starting access control failed: {0}")]
    Access(#[from] AccessError),
    #[error("starting to ask other servers failed: {0}")]
    Http(#[from] HttpError),
    #[error(transparent)]
    DevNamespace(#[from] NameError),
    #[error("{operation} failed: {source}")]
    System { operation: &'static str, source: io::Error },
}

/// The runtime that [`run`] needs: sockets are little work, the engine has its own threads.
/// # Errors
/// The system has no threads left.
pub fn runtime() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Builder::new_multi_thread()
        .worker_threads((cores / 2).clamp(1, 4))
        .max_blocking_threads(4)
        .thread_name("sockets")
        .enable_all()
        .build()
}

/// Serves until SIGTERM or SIGINT, then stops with nothing lost; a second signal ends the process at once.
/// With `dev` a WebSocket URL with a fresh token is printed on stdout.
/// # Errors
/// The server could not start. Nothing was served then.
pub async fn run(config: Config, dev: bool) -> Result<(), Error> {
    // First, so that a signal during the start is not lost.
    let mut signals =
        Signals::new().map_err(|source| Error::System { operation: "listening for signals", source })?;
    let _directory = DataDir::prepare(&config)?;
    let store = Arc::new(open_store(&config)?);
    let secret = secret::load_or_create(&config)?;
    let engine = Engine::start(store.clone(), config.engine_options()).map_err(Error::Engine)?;
    let served = serve(&config, dev, &engine, store, &secret, &mut signals).await;
    if served.is_err() {
        engine.shutdown().await;
    }
    served
}

async fn serve(
    config: &Config,
    dev: bool,
    engine: &Engine,
    store: Arc<Store>,
    secret: &Secret,
    signals: &mut Signals,
) -> Result<(), Error> {
    let access = Access::open(store.clone(), Arc::new(engine.clone()), secret, config.access.clone())?;
    let sockets = Sockets::open(config)?;
    let admin = AdminSocket::bind(&config.admin_socket())?;
    let stopping = watch::Sender::new(false);
    let mut limits = config.limits.clone();
    limits.connections = connections_within(limits.connections, config.tls, listen::open_files_limit());
    if limits.connections < config.limits.connections {
        tracing::info!(
            connections = limits.connections,
            "fewer connections than limits.connections are served: the limit on open files is too low for them (LimitNOFILE in the systemd unit)"
        );
    }
    let door = door(config, sockets.port(), &store, engine)?;
    access
        .sessions()
        .into_iter()
        .filter_map(|(session, _)| session.jkt)
        .for_each(|jkt| door.verifier.know(jkt));
    let ownership = Arc::clone(&door.owner);
    let (domain, proxies) = (config.domain.clone(), sockets.proxies(config));
    let web = Web::new(engine.clone(), access.clone(), door, domain, proxies, limits, stopping.subscribe());
    let api = Admin {
        access: access.clone(),
        engine: engine.clone(),
        store,
        ownership,
        listen: sockets.list.clone(),
        certificate: sockets.certificate.clone(),
        memory_budget: config.memory.budget,
        started: Instant::now(),
    };
    tokio::spawn(listen::accept(admin, AdminHttp::new(api, stopping.subscribe()), stopping.subscribe()));
    if dev {
        announce_dev(&access, &sockets.url(config)).await?;
    }
    sockets.serve(config, &web, &stopping)?;
    // Its connections hold it; `drain` waits for all of them.
    drop(web);
    tracing::info!(data_dir = %config.data_dir.display(), "serving");
    notify(&[NotifyState::Ready]);
    let watchdog = tokio::spawn(feed_watchdog(engine.clone()));
    signals.next().await;
    watchdog.abort();
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping: clients are told to come back later");
    tokio::select! {
        drained = timeout(DRAIN, drain(engine, &access, &stopping)) => {
            if drained.is_err() {
                tracing::warn!("some clients did not hang up in time");
            }
        }
        () = signals.next() => {
            if config.data_dir_is_temporary {
                let _ = fs::remove_dir_all(&config.data_dir);
            }
            tracing::warn!("second signal: ending at once");
            std::process::exit(1);
        }
    }
    Ok(())
}

/// What lets apps in: everything that asks other servers shares one HTTP client and its limits.
fn door(config: &Config, port: u16, store: &Arc<Store>, engine: &Engine) -> Result<Door, Error> {
    let us = match &config.domain {
        Some(domain) => Us::at_domain(domain),
        None => Us::at_loopback(port),
    };
    let us =
        us.map_err(|source| Error::System { operation: "reading domain", source: io::Error::other(source) })?;
    let mut nonce_secret = [0; 32];
    getrandom::fill(&mut nonce_secret).map_err(|source| Error::System {
        operation: "drawing a secret from the system's random source",
        source: io::Error::other(source),
    })?;
    let identity = config.identity_options();
    let http = Http::new(&identity.http)?;
    let resolver = Arc::new(Resolver::new(http.clone(), identity.plc_directory));
    let commit = Arc::new(engine.clone());
    let owner = Ownership::open(config.owner.as_ref(), store.clone(), commit, resolver.clone())?;
    let verifier = Verifier::new(us, http, resolver, config.access.probe, &nonce_secret);
    Door::new(verifier, owner, &config.limits)
        .map_err(|source| Error::System { operation: "starting the threads that let apps in", source })
}

/// Accepting ends, what waits is committed, sockets close, and the last connection is gone.
async fn drain(engine: &Engine, access: &Arc<Access>, stopping: &watch::Sender<bool>) {
    stopping.send_replace(true);
    if let Err(error) = access.flush().await {
        tracing::warn!(%error, "who asked to be approved lately is forgotten");
    }
    engine.shutdown().await;
    stopping.closed().await;
}

/// As many connections as were asked for and the limit on open files leaves room for.
fn connections_within(wanted: usize, tls: TlsMode, open_files: Option<usize>) -> usize {
    let encrypted = if tls == TlsMode::Off { 0 } else { listen::MAX_HANDSHAKES + listen::MAX_REDIRECTS };
    let others = OTHER_FILES + crate::web::MAX_HALF_OPEN + encrypted;
    match open_files {
        Some(limit) => wanted.min(limit.saturating_sub(others).max(limit / 4)),
        None => wanted,
    }
}

fn open_store(config: &Config) -> Result<Store, Error> {
    let path = config.data_dir.join(STORE_FILE);
    let failed = |source| Error::Store { path: path.clone(), source };
    let mut store = Store::open(&path, &config.store_options()).map_err(failed)?;
    let stats = store.stats().map_err(failed)?;
    if stats.is_worth_reclaiming() {
        tracing::info!(dead_bytes = stats.dead_bytes, "giving dead space in the store back to the disk");
        match store.reclaim() {
            Ok(true) => tracing::info!("dead space given back"),
            Ok(false) => tracing::info!("no dead space could be given back"),
            Err(error) => tracing::warn!(%error, "dead space could not be given back; the store is whole"),
        }
    }
    Ok(store)
}

async fn announce_dev(access: &Arc<Access>, url: &str) -> Result<(), Error> {
    let (token, _) = access
        .create(NewSession {
            namespace: DEV_NAMESPACE.parse()?,
            name: "serve --dev".into(),
            did: LOCAL_DID.into(),
            client_id: LOCAL_CLIENT.into(),
            read_only: false,
            life: Some(DEV_TOKEN_LIFE),
        })
        .await?;
    let mut out = io::stdout().lock();
    writeln!(out, "{url}/?token={token}")
        .and_then(|()| out.flush())
        .map_err(|source| Error::System { operation: "printing the URL", source })
}

/// Tells systemd, if it started us.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told about the server's state");
    }
}

/// Feeds systemd's watchdog while shards and journal answer, so that a hung server is restarted.
async fn feed_watchdog(engine: Engine) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    loop {
        tokio::time::sleep(limit / 3).await;
        if engine.is_alive() {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The data directory, removed at the end if it is temporary.
struct DataDir {
    temporary: Option<PathBuf>,
}

impl DataDir {
    /// Makes the directory if it is missing, open to its owner only.
    fn prepare(config: &Config) -> Result<Self, Error> {
        let path = &config.data_dir;
        let failed = |operation, source| Error::DataDir { operation, path: path.clone(), source };
        let make = |recursive| DirBuilder::new().mode(0o700).recursive(recursive).create(path);
        if config.data_dir_is_temporary {
            // Not recursive: in a directory that all users share the last step must be ours.
            make(false).map_err(|error| failed("making", error))?;
            return Ok(Self { temporary: Some(path.clone()) });
        }
        make(true).map_err(|error| failed("making", error))?;
        close_to_others(path).map_err(|error| failed("closing to other users", error))?;
        Ok(Self { temporary: None })
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if let Some(path) = &self.temporary
            && let Err(error) = fs::remove_dir_all(path)
        {
            tracing::warn!(%error, path = %path.display(), "the temporary data directory could not be removed");
        }
    }
}

/// Closes a directory of our own to other users. One with other things in it is somebody else's to decide on.
fn close_to_others(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let ours = path.join(STORE_FILE).exists() || fs::read_dir(path)?.next().is_none();
    if ours {
        tracing::info!(path = %path.display(), "the data directory is now closed to other users");
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))
    } else {
        tracing::warn!(
            path = %path.display(),
            "other users of this machine can look into the data directory: give the server one of its own, or close it with chmod 700"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_other_files() {
        assert_eq!(connections_within(1000, TlsMode::Off, None), 1000);
        assert_eq!(connections_within(1000, TlsMode::Acme, Some(524_288)), 1000);
        assert_eq!(connections_within(1000, TlsMode::Off, Some(1024)), 704);
        assert_eq!(connections_within(1000, TlsMode::Files, Some(1024)), 384);
        assert_eq!(connections_within(1000, TlsMode::Off, Some(256)), 64);
    }

    #[test]
    fn a_data_directory_of_our_own_is_closed_to_others() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("somebody's"), "").unwrap();
        close_to_others(dir.path()).unwrap();
        assert_eq!(mode(dir.path()), 0o755);
        fs::write(dir.path().join(STORE_FILE), "").unwrap();
        close_to_others(dir.path()).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
    }
}
