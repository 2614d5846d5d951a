//! Configuration: defaults, file, environment, flags; all of it checked before a socket opens.
//!
//! Every setting's key, default and range is in `settings.rs`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::types::{Hosts, LogFormat, LogLevel, Secret};

mod edit;
mod error;
mod network;
mod reader;
mod replace;
mod settings;
mod sources;
mod tls;
mod units;
mod values;

pub use edit::ConfigFile;
pub use error::{ConfigError, Problem};
pub use network::Network;
pub use reader::Effective;
pub use replace::WriteError;
pub use settings::{Loaded, MOST_CHANGES, MOST_INFLATED_BYTES, MOST_MESSAGE_BYTES, MOST_OPERATIONS};
pub use sources::{Flags, Sources};
pub use units::{parse_duration, show_duration};
pub use values::{Approve, Owner, TlsMode};

/// Where the configuration file is unless `--config` says otherwise.
pub const DEFAULT_FILE: &str = "/etc/groundmist-sync/config.toml";
/// Shortest and longest life of a sync token.
pub const TOKEN_LIFE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3650 * 86_400);
/// Name of the admin socket inside the data directory.
pub const ADMIN_SOCKET: &str = "admin.sock";

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of the store, the secret and the admin socket. Default `/var/lib/groundmist-sync`.
    pub data_dir: PathBuf,
    /// `data_dir` is a fresh path (of `serve --dev`) that does not exist yet and is to be removed at exit.
    pub data_dir_is_temporary: bool,
    /// Whose server this is; nobody can authenticate as the owner while it is missing.
    pub owner: Option<Owner>,
    /// Host name that apps reach the server at, by HTTPS. Without it only this machine can.
    pub domain: Option<String>,
    /// Signs sync tokens; from `secret` or the file named by `secret_file`, at least 16 bytes. Generated when missing.
    pub secret: Option<Secret>,
    /// Where certificates come from.
    pub tls: TlsMode,
    /// Sockets.
    pub listen: Listen,
    /// The owner's own certificate, with `tls = "files"`.
    pub certificate: Option<CertificateFiles>,
    /// The certificate authority, with `tls = "acme"`.
    pub acme: Acme,
    /// The sync protocol.
    pub sync: Sync,
    /// Memory.
    pub memory: Memory,
    /// What one client, or all of them, may use.
    pub limits: Limits,
    /// The store.
    pub storage: Storage,
    /// How to find out who is who.
    pub identity: Identity,
    /// Sessions and tokens.
    pub access: Access,
    /// Logging.
    pub log: Log,
}

/// Section `listen`. A socket that systemd passes on by name (`https`, `http`) takes the place of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Plain HTTP and WebSocket, without TLS. Port 0: any free port. `listen.port` replaces its port. Loopback only, unless
    /// `plain_from` is set. Default `127.0.0.1:3030`, with `plain_from` `[::]:3030`.
    pub address: SocketAddr,
    /// Private networks from which plain connections are taken, besides this machine: where a proxy in another container
    /// is. Default none.
    pub plain_from: Vec<Network>,
    /// HTTPS and WebSocket, with TLS. Default `[::]:443`, which IPv4 reaches as well.
    pub https: SocketAddr,
    /// Where plain HTTP is sent on to HTTPS. Default `[::]:80`.
    pub http: SocketAddr,
    /// Proxies whose `Forwarded` or `X-Forwarded-For` names the client, without TLS here: addresses and networks.
    /// Default none.
    pub trusted_proxies: Vec<Network>,
    /// Where metrics are served besides the admin socket, loopback only. Default none.
    pub metrics: Option<SocketAddr>,
}

/// Section `certificate`. PEM files, read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate and those that lead to its root.
    pub chain_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Section `acme` (RFC 8555).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The authority's directory. Default Let's Encrypt's; with `acme.staging` its staging environment's.
    pub directory: Url,
    /// Certificates (PEM) to trust the directory's own TLS by, instead of the built-in ones.
    pub ca_file: Option<PathBuf>,
    /// E-mail address the authority may write to. Default none.
    pub contact: Option<String>,
    /// How long to wait after a failed order, at first: doubled each time, up to 72 times as long. What fails before an
    /// order is tried again after a fifth of it, up to three times as long. Default 5m, from 1s to 1h, and not below 5m
    /// at Let's Encrypt.
    pub retry: Duration,
    /// Try to reach this server by its own name before an order. Default true.
    pub check_reach: bool,
}

/// Section `sync`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// Offer every document of the namespace to a new peer. Default false.
    pub announce: bool,
    /// How long a peer that was asked for a document may take before that counts as "no".
    /// Default 10s, from 100ms to 300s.
    pub request_timeout: Duration,
}

/// Section `memory`. Bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Bytes that change graphs and what connections hold may take together. Default 56 MiB, from 1 MiB to 64 GiB.
    pub budget: usize,
    /// Bytes that the processes may take together in which large documents are opened. What would need more is not tried.
    /// Default half of the memory of the machine, or of the control group if that is less, and no more than leaves 192 MiB
    /// for the server; 4 GiB at most, from 16 MiB to 1 TiB.
    pub opener: usize,
    /// The store's page cache. Default 8 MiB, from 1 MiB to 64 GiB.
    pub redb_cache: usize,
}

/// Section `limits`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one WebSocket message (all its frames together). Default 32 MiB, from 64 KiB to 1 GiB.
    pub message_bytes: usize,
    /// Operations that one sync message may claim, all its chunks together. Default 8,388,608, from 10,000 to
    /// 1,000,000,000.
    pub operations: usize,
    /// Bytes that one sync message's deflated parts may inflate to, all together. Default 32 MiB, from 64 KiB to 4 GiB.
    pub inflated_bytes: usize,
    /// Changes in one sync message. Default 524,288, from 1,000 to 100,000,000.
    pub changes: usize,
    /// Hashes that one sync message may name: heads, needs and last syncs. Default 16,384, from 100 to 1,000,000.
    pub hashes: usize,
    /// Bytes of one sync message's Bloom filters. Default 4 MiB, from 64 KiB to 1 GiB.
    pub bloom_bytes: usize,
    /// Documents one connection may have open. Default 50,000, from 1 to 10,000,000.
    pub documents: usize,
    /// Requests for unknown documents one connection may have pending. Default 1,000, from 1 to 1,000,000.
    pub requests: usize,
    /// Bytes that half-received messages may take, of all connections together. `message_bytes` of it are for one large
    /// message at a time, the rest is shared by app, device and connection. At least 1 MiB above `message_bytes`.
    /// Default 16 MiB above `message_bytes`: 48 MiB; up to 2 GiB.
    pub receive_bytes: usize,
    /// Bytes a second at which a message has to arrive, on average over a minute (over two of `ping_interval`, if that is
    /// less). Default 4 KiB, from 1 byte to 1 GiB.
    pub receive_rate: usize,
    /// Longest time for one message to arrive. Default 45m, in which 32 MiB arrive at 12 KiB a second; from 1s to 24h.
    pub receive_timeout: Duration,
    /// Bytes a second at which a client has to take what waits for it, on average over `ping_interval`. Default 1 KiB, from 1 byte
    /// to 1 GiB.
    pub send_rate: usize,
    /// WebSocket connections of the whole server. When there are as many, the app that has the most gives way to other apps, and
    /// in it the device that has the most. Default 1,000, from 1 to 100,000.
    pub connections: usize,
    /// WebSocket connections of one session, which is one device. Default 64, from 1 to 100,000.
    pub connections_per_session: usize,
    /// Connections from one address (of IPv6: one /64), whatever they are for; without TLS those that a
    /// trusted proxy passes on for one client. Programs on this machine have no limit. Default 128, from 1 to 100,000.
    pub connections_per_address: usize,
    /// Time for a connection to finish its TLS handshake, to send its HTTP headers and, after the upgrade, its `join`.
    /// Default 10s, from 100ms to 300s.
    pub handshake_timeout: Duration,
    /// Time between pings; a peer that was silent from one to the next is dropped. Also how long one write may stall.
    /// Default 30s, from 100ms to 1h.
    pub ping_interval: Duration,
    /// Bytes queued for one connection before its documents are only marked as behind.
    /// Default 1 MiB, from 64 KiB to 1 GiB.
    pub outbox_bytes: usize,
    /// Bytes that may wait to be sent to all connections together; the first 16 KiB of each do not count. One app may hold as
    /// much as it leaves free, so half when it is alone. Default 32 MiB, from 4 MiB to 1 TiB.
    pub outbox_total_bytes: usize,
    /// Requests to `/authenticate` a second, from everywhere. Default 1,000, from 1 to 1,000,000.
    pub authenticate: u64,
    /// The same a minute from one address (of IPv6: one /64). Default 120, from 1 to 60,000,000.
    pub authenticate_per_address: u64,
    /// Bytes received from all connections of one app in a namespace and not yet worked off before their reading pauses; not
    /// below `message_bytes`. A message counts three times its size, as it takes more memory than it has bytes, and 16 KiB at least. Default
    /// 40 MiB, from 64 KiB to 2 GiB.
    pub inbox_bytes: usize,
}

/// Section `storage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Changes a document's tail needs before it is compacted. Default 1,024, from 1 to 10,000,000.
    pub compact_floor: u64,
    /// How long a tail stays as rows before it may be compacted. Default 1h, up to 365d.
    pub compact_grace: Duration,
}

/// Section `identity`: how other servers are reached. All may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Where did:plc identities are looked up, an origin. Default `https://plc.directory`.
    pub plc_directory: Url,
    /// Certificates (PEM) of authorities to trust besides the built-in ones.
    pub ca_file: Option<PathBuf>,
    /// `NAME=ADDRESS` or `NAME=ADDRESS:PORT`: where to find names instead of by DNS, such as a PDS in the same
    /// house. Only these may have a private address. The port is for URLs that name none.
    pub hosts: Hosts,
    /// Name servers to ask, `ADDRESS` or `ADDRESS:PORT`; the system's if empty.
    pub name_servers: Vec<SocketAddr>,
    /// `http:` to this machine is allowed: with `serve --dev` only, and no setting.
    pub allow_loopback: bool,
}

/// Section `access`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// How long a new sync token is good for. Default 30d, within [`TOKEN_LIFE`].
    pub token_life: Duration,
    /// How long after its last authentication a device that stays in use keeps its session. Default 90d, within [`TOKEN_LIFE`];
    /// use extends nothing if it is no longer than `token_life`.
    pub session_max: Duration,
    /// Whether an app that proves the owner's DID waits for her approval. Default ask.
    pub approve: Approve,
    /// Apps on localhost may be approved, though any program on that machine can claim to be one. Default false.
    pub allow_loopback_clients: bool,
    /// Access tokens that nothing else vouches for may be tried at the owner's PDS, which tells genuine ones from
    /// forged ones as a side effect. Default true: today's apps need it.
    pub probe: bool,
}

/// Section `log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Least important level that is shown. Default info.
    pub level: LogLevel,
    /// How lines look and where they go. Default auto.
    pub format: LogFormat,
}

impl Config {
    /// Path of the admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.data_dir.join(ADMIN_SOCKET)
    }
}
