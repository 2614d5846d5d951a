//! Brings the parts up in order and down again.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::access::secret::{self, SecretError};
use crate::access::{
    Access, AccessError, LOCAL_CLIENT, LOCAL_DID, NewSession, Ownership, SignIns, SigningSecret,
};
use crate::atproto::{Resolver, Us, Verifier};
use crate::config::{Config, Loaded, Sources, TlsMode};
use crate::directory::Directory;
use crate::engine::Engine;
use crate::listen::{self, AdminSocket, ListenError, PemError};
use crate::net::{Http, HttpError};
use crate::store::{Store, StoreError};
use crate::telemetry::Level;
use crate::types::{Millis, NameError, now};
use crate::web::admin::{Admin, Backups, DocumentsApi, RecordWatch, ReloadFuture, SignInLinks};
use crate::web::metrics::{Doors, Metrics};
use crate::web::{AdminHttp, Door, OwnersPage, Web};
use data_dir::DataDir;
use life::Life;
use reload::{Part, Prepared, Reload};
use signals::{Asked, Signals};
use sockets::Sockets;
use systemd::notify;

pub use aside::Aside;

mod aside;
mod bin;
mod data_dir;
mod life;
pub mod options;
mod reload;
mod signals;
mod sockets;
mod systemd;
mod trim;

/// One bad request must not end the server: what panics unwinds.
const _: () = assert!(cfg!(panic = "unwind"), "the server must be built with panic = \"unwind\"");

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
    #[error("its part {0} failed, and the server cannot go on: start it again; the log says more")]
    Died(String),
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
        // Steps of tasks between two looks at what has come, and between two looks at what other threads have woken. One step may
        // take a millisecond, so tokio's 61 may take as many.
        .event_interval(8)
        .global_queue_interval(2)
        .thread_name("sockets")
        .enable_all()
        .build()
}

/// Serves until SIGTERM or SIGINT, then stops with nothing lost; a second signal ends the process at once. SIGHUP has
/// `sources` read again, from which `loaded` came. With `sources.dev` an address for apps, with a fresh token, and one of
/// the owner's page are printed on stdout.
/// # Errors
/// The server could not start, and nothing was served; or [`Error::Died`].
pub async fn run(loaded: Loaded, sources: Sources, level: Level) -> Result<(), Error> {
    let (config, dev, started) = (loaded.config.clone(), sources.dev, now());
    // First, so that a signal during the start is not lost.
    let mut signals =
        Signals::new().map_err(|source| Error::System { operation: "listening for signals", source })?;
    let directory = DataDir::prepare(&config)?;
    let (last_saved, last_end) = (life::last_saved(directory.opened()), life::last_end(directory.opened()));
    let store = Arc::new(open_store(&config, directory.opened())?);
    secret::adopt(&store, directory.opened())?;
    let secret = secret::load_or_create(&config, directory.opened())?;
    let kept_in = config.secret.is_none().then(|| directory.opened().clone());
    let secret = SigningSecret::new(secret, kept_in);
    let options = options::engine(&config);
    let engine = Engine::start_after(last_end, store.clone(), options).map_err(Error::Engine)?;
    let life = Life::begin(directory.opened().clone(), last_saved, engine.interrupted());
    let reload = |parts| Arc::new(Reload::new(sources, loaded, parts));
    let start = Start { config: &config, dev, started, engine: &engine, store, secret: &secret, life: &life };
    let served = serve(start, level, reload, &mut signals).await;
    if served.as_ref().is_err_and(|error| !matches!(error, Error::Died(_))) {
        // It never served, and whoever started it was told why.
        life.stop();
        engine.shutdown().await;
    }
    served
}

/// What [`serve`] starts from.
struct Start<'a> {
    config: &'a Config,
    dev: bool,
    started: Millis,
    engine: &'a Engine,
    store: Arc<Store>,
    secret: &'a Arc<SigningSecret>,
    life: &'a Arc<Life>,
}

async fn serve(
    start: Start<'_>,
    level: Level,
    reload: impl FnOnce(Vec<Part>) -> Arc<Reload>,
    signals: &mut Signals,
) -> Result<(), Error> {
    let Start { config, dev, started, engine, store, secret, life } = start;
    let access = Access::open(store.clone(), Arc::new(engine.clone()), &secret.now(), config.access.clone())?;
    let sockets = Sockets::open(config)?;
    let admin = AdminSocket::bind(&config.admin_socket())?;
    let stopping = watch::Sender::new(false);
    let mut limits = config.limits.clone();
    limits.connections = connections_within(limits.connections, config.tls, listen::raise_open_files());
    if limits.connections < config.limits.connections {
        tracing::info!(
            connections = limits.connections,
            "fewer connections than limits.connections are served: the limit on open files is too low for them (LimitNOFILE in the systemd unit)"
        );
    }
    let (door, http, resolver) = door(config, sockets.port(), &store, engine)?;
    access
        .sessions()
        .into_iter()
        .filter_map(|(session, _)| session.jkt)
        .for_each(|jkt| door.verifier.know(jkt));
    let (ownership, verifier) = (Arc::clone(&door.owner), Arc::clone(&door.verifier));
    let doors = Arc::<Doors>::default();
    let metrics = Arc::new(Metrics {
        engine: engine.clone(),
        access: access.clone(),
        store: store.clone(),
        doors: doors.clone(),
        certificate: sockets.certificate.clone(),
        per_address: sockets.per_address.clone(),
        started,
    });
    let mut parts = vec![log_level(level), who_gets_in(access.clone(), verifier)];
    parts.extend(sockets.certificate_again());
    let reload = reload(parts);
    let sign_ins = Arc::new(SignIns::new());
    let admin_api = Arc::new(Admin {
        access: access.clone(),
        engine: engine.clone(),
        store: store.clone(),
        documents: DocumentsApi::new(engine.clone(), store.clone()).noted_in(access.clone()),
        record: RecordWatch::new(http, resolver, ownership.clone(), config.domain.clone()),
        ownership,
        secret: secret.clone(),
        sign_in_links: SignInLinks::new(sign_ins.clone()),
        domain: config.domain.clone(),
        origin: sockets.origin(config),
        listen: sockets.list.clone(),
        certificate: sockets.certificate.clone(),
        memory_budget: config.memory.budget,
        started: Instant::now(),
        unclean_ends: life.ends(),
        backups: Arc::new(Backups::new(
            store.clone(),
            secret.clone(),
            config.data_dir.clone(),
            stopping.subscribe(),
        )),
        reload: {
            let reload = reload.clone();
            Arc::new(move || reload_now(reload.clone()))
        },
        metrics: metrics.clone(),
    });
    if dev {
        announce_dev(&access, &sign_ins, &sockets.url(config), &sockets.origin(config)).await?;
    }
    let page = OwnersPage { sign_ins, admin: admin_api.clone(), origin: sockets.origin(config), dev };
    let (domain, proxies) = (config.domain.clone(), sockets.proxies(config));
    let until = stopping.subscribe();
    let web = Web::new(engine.clone(), access.clone(), door, doors, page, domain, proxies, limits, until);
    let (notes, bin) = (sockets.note(), store.clone());
    let mut listening = sockets.serve(config, &web, &metrics, store, engine, &stopping)?;
    listening.spawn(listen::accept(
        admin,
        AdminHttp::new(admin_api, stopping.subscribe()),
        stopping.subscribe(),
    ));
    // Its connections hold it; `drain` waits for all of them.
    drop(web);
    tracing::info!(data_dir = %config.data_dir.display(), "serving");
    notify(&[NotifyState::Ready]);
    let informing = tokio::spawn(systemd::inform(engine.clone(), notes));
    let emptying = tokio::spawn(bin::empty(engine.clone(), bin));
    let trimming = tokio::spawn(trim::keep_trim(engine.clone()));
    let following = tokio::spawn(life.clone().follow(engine.ended_badly()));
    let writing = tokio::spawn(engine.keep_troubles());
    let died = until_the_end(engine, listening, &reload, signals).await;
    // Before anything else: if the rest takes too long and the process is killed, the server was stopped all the same.
    match &died {
        None => life.stop(),
        Some(part) => life.fail(part),
    }
    informing.abort();
    // They hold what must be closed when this returns.
    for task in [trimming, emptying, following, writing] {
        task.abort();
        let _ = task.await;
    }
    notify(&[NotifyState::Stopping]);
    match &died {
        None => tracing::info!("stopping: clients are told to come back later"),
        Some(part) => tracing::error!(
            part,
            "a part of the server has failed, and it cannot go on: it ends to be started anew; what it acknowledged is safe"
        ),
    }
    tokio::select! {
        drained = timeout(DRAIN, drain(engine, &access, &stopping)) => {
            if drained.is_err() {
                tracing::warn!("some clients did not hang up in time");
            }
        }
        () = signals.stop() => {
            if config.data_dir_is_temporary {
                let _ = fs::remove_dir_all(&config.data_dir);
            }
            tracing::warn!("second signal: ending at once");
            std::process::exit(1);
        }
    }
    died.map_or(Ok(()), |part| Err(Error::Died(part)))
}

/// Serves, and reads the configuration again when asked to, until asked to stop, or a part that nothing can do without
/// has died: its name.
async fn until_the_end(
    engine: &Engine,
    mut listening: JoinSet<()>,
    reload: &Arc<Reload>,
    signals: &mut Signals,
) -> Option<String> {
    let died = engine.died();
    let mut died = std::pin::pin!(died);
    loop {
        tokio::select! {
            thread = &mut died => break Some(thread),
            // Their sockets are closed by then.
            Some(ended) = listening.join_next() => {
                if ended.is_err() {
                    break Some("listener".into());
                }
            }
            asked = signals.next() => match asked {
                Asked::Stop => break None,
                // The log tells what came of it.
                Asked::Reload => drop(tokio::spawn(reload_now(reload.clone()))),
            },
        }
    }
}

/// Reads the configuration again; also if nobody waits for it any more.
fn reload_now(reload: Arc<Reload>) -> ReloadFuture {
    let work = tokio::task::spawn_blocking(move || reload.run());
    Box::pin(async {
        work.await.unwrap_or_else(|ended| {
            Err(if ended.is_panic() {
                "reading the configuration failed by a fault of this program; the log says more".into()
            } else {
                "the server is stopping".into()
            })
        })
    })
}

fn log_level(level: Level) -> Part {
    let prepare = move |config: &Config| {
        let (level, wanted) = (level.clone(), config.log.level);
        Ok(Prepared::settings(move || level.set(wanted)))
    };
    Part { settings: &["log.level"], prepare: Box::new(prepare) }
}

fn who_gets_in(access: Arc<Access>, verifier: Arc<Verifier>) -> Part {
    const SETTINGS: &[&str] = &[
        "access.token_life",
        "access.session_max",
        "access.approve",
        "access.allow_loopback_clients",
        "access.probe",
    ];
    let prepare = move |config: &Config| {
        let (access, verifier, wanted) = (access.clone(), verifier.clone(), config.access.clone());
        Ok(Prepared::settings(move || {
            verifier.set_probe(wanted.probe);
            access.reconfigure(wanted);
        }))
    };
    Part { settings: SETTINGS, prepare: Box::new(prepare) }
}

/// What lets apps in: everything that asks other servers shares one HTTP client and its limits.
fn door(
    config: &Config,
    port: u16,
    store: &Arc<Store>,
    engine: &Engine,
) -> Result<(Door, Http, Arc<Resolver>), Error> {
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
    let identity = options::identity(config);
    let http = Http::new(&identity.http)?;
    let resolver = Arc::new(Resolver::new(http.clone(), identity.plc_directory));
    let commit = Arc::new(engine.clone());
    let owner = Ownership::open(config.owner.as_ref(), store.clone(), commit, resolver.clone())?;
    let verifier = Verifier::new(us, http.clone(), resolver.clone(), config.access.probe, &nonce_secret);
    let door = Door::new(verifier, owner, &config.limits)
        .map_err(|source| Error::System { operation: "starting the threads that let apps in", source })?;
    Ok((door, http, resolver))
}

/// Accepting ends, what waits is committed, sockets close, and the last connection is gone.
async fn drain(engine: &Engine, access: &Arc<Access>, stopping: &watch::Sender<bool>) {
    stopping.send_replace(true);
    // Before anything that takes time: whoever stops the server may end its processes too.
    engine.end_openings();
    if let Err(error) = access.flush().await {
        tracing::warn!(%error, "who asked to be approved lately is forgotten");
    }
    engine.shutdown().await;
    stopping.closed().await;
}

/// As many connections as were asked for and the limit on open files leaves room for.
fn connections_within(wanted: usize, tls: TlsMode, open_files: Option<usize>) -> usize {
    let encrypted = if tls == TlsMode::Off { 0 } else { listen::MAX_HANDSHAKES + listen::MAX_REDIRECTS };
    // As many again are spared while they are answered.
    let others = OTHER_FILES + crate::web::MAX_LEAVING + 2 * crate::web::MAX_HALF_OPEN + encrypted;
    match open_files {
        Some(limit) => wanted.min(limit.saturating_sub(others).max(limit / 4)),
        None => wanted,
    }
}

fn open_store(config: &Config, data_dir: &Arc<Directory>) -> Result<Store, Error> {
    let failed = |source| Error::Store { path: data_dir.path_of(STORE_FILE), source };
    let mut store = Store::open_in(data_dir, STORE_FILE, &options::store(config)).map_err(failed)?;
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

/// Prints an address for a client, and one for a browser in which the owner is then signed in.
async fn announce_dev(
    access: &Arc<Access>,
    sign_ins: &SignIns,
    url: &str,
    origin: &str,
) -> Result<(), Error> {
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
    let link = sign_ins.link(now())?;
    // In one write: whoever reads the first line may hang up after it. Each address is the last word of its line.
    let lines = format!("For apps:   {url}/?token={token}\nYour page:  {origin}/sign-in/{link}\n");
    let mut out = io::stdout().lock();
    out.write_all(lines.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| Error::System { operation: "printing the addresses", source })
}

#[cfg(test)]
mod tests;
