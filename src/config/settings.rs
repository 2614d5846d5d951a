//! Every setting: its key, default and range, each once.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::error::ConfigError;
use super::reader::{Effective, Reader};
use super::sources::{Merged, Sources};
use super::values::without_scheme;
use super::{
    ADMIN_SOCKET, Access, Approve, Config, Identity, Limits, Log, Memory, Network, Owner, Storage, Sync,
    TOKEN_LIFE, tls,
};
use crate::sys::memory::machine_bytes;
use crate::types::{
    Did, DidMethod, Hosts, LogFormat, LogLevel, MIN_SECRET_BYTES, Secret, authorities_in, origin_url,
    public_plc_directory,
};

/// Key of the port that `PORT` and `--port` put in place of the one in `listen.address`.
pub(super) const PORT: &str = "listen.port";
/// Port without TLS.
const PLAIN_PORT: u16 = 3030;
/// Longest path of a Unix socket in bytes (`sun_path` less its NUL).
const MAX_SOCKET_PATH_BYTES: usize = 107;
/// Port of name servers (RFC 1035).
const DNS_PORT: u16 = 53;
/// Most bytes of a secret file.
const MAX_SECRET_BYTES: u64 = 4096;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Memory for half-received messages beside the largest one, by default. Bytes.
const POOL: u64 = 16 * MIB;
/// What is left for the server itself when `memory.opener` is chosen by the machine's memory. Bytes.
const SERVER: u64 = 192 * MIB;
/// The most that `limits.message_bytes` can be.
pub const MOST_MESSAGE_BYTES: u64 = GIB;
/// The most that `limits.inflated_bytes` can be.
pub const MOST_INFLATED_BYTES: u64 = 4 * GIB;
/// The most that `limits.operations` can be.
pub const MOST_OPERATIONS: u64 = 1_000_000_000;
/// The most that `limits.changes` can be.
pub const MOST_CHANGES: u64 = 100_000_000;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// A checked configuration, and every setting with its source.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the server runs with.
    pub config: Config,
    /// What `config check` shows.
    pub settings: Vec<Effective>,
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        check(Merged::read(sources)?, sources.dev)
    }
}

/// Checks everything.
pub(super) fn check(merged: Merged, dev: bool) -> Result<Loaded, ConfigError> {
    let mut reader = Reader::new(merged);
    let config = read(&mut reader, dev);
    let known: Vec<&'static str> = reader.effective.iter().map(|row| row.key).collect();
    Ok(Loaded { config, settings: reader.finish(&known)? })
}

/// Every setting that there is, with its default.
pub(super) fn known() -> Vec<Effective> {
    let mut reader = Reader::new(Merged::nothing());
    read(&mut reader, false);
    reader.effective
}

fn read(r: &mut Reader, dev: bool) -> Config {
    let (data_dir, data_dir_is_temporary) = data_dir(r, dev);
    let domain = r.parsed("domain", None, domain);
    let tls_mode = tls::mode(r, domain.as_deref(), dev);
    let plain_from = tls::plain_from(r);
    let plain = address(r, &plain_from);
    let config = Config {
        data_dir,
        data_dir_is_temporary,
        owner: r.parsed("owner", None, |text| match Owner::from_str(text) {
            Ok(owner) => Ok((owner.clone(), owner.as_str().to_owned())),
            Err(fix) => Err(format!("is neither a DID nor a handle: {fix}")),
        }),
        domain,
        secret: secret(r),
        tls: tls_mode,
        listen: tls::listen(r, plain, plain_from, tls_mode),
        certificate: tls::certificate(r, tls_mode),
        acme: tls::acme(r),
        sync: Sync {
            announce: r.flag("sync.announce", false),
            request_timeout: r.time("sync.request_timeout", 10 * SECOND, SECOND / 10..=300 * SECOND),
        },
        memory: Memory {
            budget: r.bytes("memory.budget", 56 * MIB, MIB..=64 * GIB),
            opener: r.bytes("memory.opener", opener_bytes(machine_bytes()), 16 * MIB..=1024 * GIB),
            redb_cache: r.bytes("memory.redb_cache", 8 * MIB, MIB..=64 * GIB),
        },
        limits: limits(r),
        storage: Storage {
            compact_floor: r.count("storage.compact_floor", 1_024, 1..=10_000_000) as u64,
            compact_grace: r.time("storage.compact_grace", 3600 * SECOND, Duration::ZERO..=365 * DAY),
        },
        identity: identity(r, dev),
        access: Access {
            token_life: r.time("access.token_life", 30 * DAY, TOKEN_LIFE),
            session_max: r.time("access.session_max", 90 * DAY, TOKEN_LIFE),
            approve: choice(r, "access.approve", Approve::Ask, Approve::as_str, Approve::CHOICES),
            allow_loopback_clients: r.flag("access.allow_loopback_clients", false),
            probe: r.flag("access.probe", true),
        },
        log: Log {
            level: choice(r, "log.level", LogLevel::Info, LogLevel::as_str, LogLevel::CHOICES),
            format: choice(r, "log.format", LogFormat::Auto, LogFormat::as_str, LogFormat::CHOICES),
        },
    };
    check_together(r, &config);
    config
}

/// How much of a machine's memory processes that open documents may take by default. The unit's `MemoryMax` is three
/// quarters of the machine, which is the control group that the server sees; server and openers fit in it.
fn opener_bytes(machine_bytes: u64) -> u64 {
    let bytes = (machine_bytes / 2).min(machine_bytes.saturating_sub(SERVER)).clamp(32 * MIB, 4 * GIB);
    // A number that people can read.
    bytes / MIB * MIB
}

fn limits(r: &mut Reader) -> Limits {
    let message_bytes = r.bytes("limits.message_bytes", 32 * MIB, 64 * KIB..=MOST_MESSAGE_BYTES);
    Limits {
        message_bytes,
        operations: r.count("limits.operations", 8_388_608, 10_000..=MOST_OPERATIONS),
        inflated_bytes: r.bytes("limits.inflated_bytes", 32 * MIB, 64 * KIB..=MOST_INFLATED_BYTES),
        changes: r.count("limits.changes", 524_288, 1_000..=MOST_CHANGES),
        hashes: r.count("limits.hashes", 16_384, 100..=1_000_000),
        bloom_bytes: r.bytes("limits.bloom_bytes", 4 * MIB, 64 * KIB..=GIB),
        receive_bytes: r.bytes("limits.receive_bytes", message_bytes as u64 + POOL, 64 * KIB..=2 * GIB),
        receive_rate: r.bytes("limits.receive_rate", 4 * KIB, 1..=GIB),
        receive_timeout: r.time("limits.receive_timeout", 45 * 60 * SECOND, SECOND..=DAY),
        send_rate: r.bytes("limits.send_rate", KIB, 1..=GIB),
        documents: r.count("limits.documents", 50_000, 1..=10_000_000),
        requests: r.count("limits.requests", 1_000, 1..=1_000_000),
        connections: r.count("limits.connections", 1_000, 1..=100_000),
        connections_per_session: r.count("limits.connections_per_session", 64, 1..=100_000),
        connections_per_address: r.count("limits.connections_per_address", 128, 1..=100_000),
        handshake_timeout: r.time("limits.handshake_timeout", 10 * SECOND, SECOND / 10..=300 * SECOND),
        ping_interval: r.time("limits.ping_interval", 30 * SECOND, SECOND / 10..=3600 * SECOND),
        outbox_bytes: r.bytes("limits.outbox_bytes", MIB, 64 * KIB..=GIB),
        outbox_total_bytes: r.bytes("limits.outbox_total_bytes", 32 * MIB, 4 * MIB..=1024 * GIB),
        authenticate: r.count("limits.authenticate", 1_000, 1..=1_000_000) as u64,
        authenticate_per_address: r.count("limits.authenticate_per_address", 120, 1..=60_000_000) as u64,
        inbox_bytes: r.bytes("limits.inbox_bytes", 40 * MIB, 64 * KIB..=2 * GIB),
    }
}

/// What no setting shows alone.
fn check_together(r: &mut Reader, config: &Config) {
    let from = |r: &Reader, keys: &[&str]| -> String {
        let found: Vec<&str> = keys.iter().filter_map(|key| r.origin(key)).collect();
        if found.is_empty() { "default".into() } else { found.join(" and ") }
    };
    let limits = &config.limits;
    if limits.inbox_bytes < limits.message_bytes {
        let why = "so the largest message could never be received";
        too_small(r, "limits.inbox_bytes", "limits.message_bytes", "", why);
    }
    if limits.receive_bytes < limits.message_bytes + MIB as usize {
        let why = "so others could send nothing while the largest message is received";
        too_small(r, "limits.receive_bytes", "limits.message_bytes", " and 1 MiB more", why);
    }
    let socket = config.data_dir.join(ADMIN_SOCKET);
    if socket.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
        let origin = from(r, &["data_dir"]);
        let longest = MAX_SOCKET_PATH_BYTES - ADMIN_SOCKET.len() - 1;
        r.problem(
            "data_dir",
            origin,
            format!("is too long a path for the admin socket inside it: use one of at most {longest} bytes"),
        );
    }
}

/// One size has to hold another. The problem stands under the setting that somebody wrote, with where it was written.
fn too_small(r: &mut Reader, small: &str, held: &str, more: &str, why: &str) {
    let value = |r: &Reader, key: &str| r.value(key).unwrap_or_default().to_owned();
    let (small_value, held_value) = (value(r, small), value(r, held));
    match (r.origin(small).map(str::to_owned), r.origin(held).map(str::to_owned)) {
        (None, Some(origin)) => {
            let fix = format!(
                "is too much for {small}, which is {small_value} by default, {why}: lower it, or set {small} to at least as much{more}"
            );
            r.problem(held, origin, fix);
        }
        (origin, of_held) => {
            let from = of_held.unwrap_or_else(|| "the default".into());
            let fix = format!(
                "{small_value} is too little for {held}, which is {held_value} ({from}), {why}: make it at least as large{more}"
            );
            r.problem(small, origin.unwrap_or_else(|| "default".into()), fix);
        }
    }
}

fn data_dir(r: &mut Reader, dev: bool) -> (PathBuf, bool) {
    let fallback = if dev { fresh_dir() } else { PathBuf::from("/var/lib/groundmist-sync") };
    let shown = fallback.display().to_string();
    let dir = r.parsed("data_dir", Some((fallback.clone(), shown)), |text| {
        let path = std::path::absolute(text).map_err(|error| format!("is not a usable path: {error}"))?;
        let shown = path.display().to_string();
        Ok((path, shown))
    });
    let temporary = dev && r.origin("data_dir").is_none();
    (dir.unwrap_or(fallback), temporary)
}

/// A path in the temp directory that nobody else can have guessed.
fn fresh_dir() -> PathBuf {
    let mut random = [0u8; 8];
    // Without random bytes the name may be taken: then making the directory fails, which is safe.
    let _ = getrandom::fill(&mut random);
    std::env::temp_dir().join(format!("groundmist-sync-dev-{}", bs58::encode(random).into_string()))
}

fn address(r: &mut Reader, plain_from: &[Network]) -> SocketAddr {
    let default = match plain_from {
        [] => SocketAddr::from(([127, 0, 0, 1], PLAIN_PORT)),
        _ => SocketAddr::from(([0u16; 8], PLAIN_PORT)),
    };
    let address = r.parsed("listen.address", Some((default, default.to_string())), |text| {
        let address: SocketAddr = text
            .parse()
            .map_err(|_| format!("is not an address and a port: write one such as \"{default}\""))?;
        if address.ip().is_loopback() || !plain_from.is_empty() {
            Ok((address, address.to_string()))
        } else {
            Err(format!(
                "can be reached from other machines, and this listener is not encrypted: sync tokens could be read on the way. Listen on 127.0.0.1:{} and put a proxy with TLS in front of it; is that proxy in another container, name the containers' network in listen.plain_from",
                address.port()
            ))
        }
    });
    let mut address = address.unwrap_or(default);
    let port = r.parsed(PORT, None, |text| match text.trim().parse::<u16>() {
        Ok(port) => Ok((port, port.to_string())),
        Err(_) => Err("is not a port: write a number from 0 (any free one) to 65535".into()),
    });
    if let Some(port) = port {
        address.set_port(port);
        let origin = r.origin(PORT).unwrap_or_default().to_owned();
        r.replace("listen.address", address.to_string(), origin);
    }
    address
}

/// A host name that certificates and did:web can have: no address, no port. It may be copied from a browser, with `https://` before it
/// and a slash behind it.
fn domain(text: &str) -> Result<(String, String), String> {
    let name = without_scheme(text).trim_end_matches('/').to_ascii_lowercase();
    let usable = matches!(
        format!("did:web:{name}").parse::<Did>().map(|did| match did.method() {
            DidMethod::Web { port, .. } => port.is_none(),
            DidMethod::Plc => false,
        }),
        Ok(true)
    ) && name.contains('.');
    if usable {
        return Ok((name.clone(), name));
    }
    Err("is not a host name: write the name alone, such as \"sync.example.org\", without a port".into())
}

fn identity(r: &mut Reader, dev: bool) -> Identity {
    let default = public_plc_directory();
    let shown = |url: &Url| url.origin().ascii_serialization();
    let url = |text: &str| {
        let url = origin_url(text).filter(|url| url.scheme() == "https" || dev);
        url.ok_or_else(|| {
            format!("is not an https: URL without a path: write one such as \"{}\" (http: only with --dev, on this machine)", shown(&default))
        })
    };
    let plc_directory =
        r.parsed("identity.plc_directory", Some((default.clone(), shown(&default))), |text| {
            let url = url(text)?;
            let shown = shown(&url);
            Ok((url, shown))
        });
    let mut hosts = Hosts::default();
    let ca_file = ca_file(r, "identity.ca_file");
    r.list("identity.hosts", |entry| hosts.insert(entry));
    let name_servers = r.list("identity.name_servers", |entry| {
        let address =
            entry.parse().or_else(|_| entry.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT)));
        address
            .map_err(|_| "is not an address, alone or with a port: write one such as \"9.9.9.9\"".to_owned())
    });
    Identity {
        plc_directory: plc_directory.unwrap_or(default),
        ca_file,
        hosts,
        name_servers,
        allow_loopback: dev,
    }
}

/// A file with certificates of authorities to trust.
pub(super) fn ca_file(r: &mut Reader, key: &'static str) -> Option<PathBuf> {
    r.parsed(key, None, |text| {
        let path = PathBuf::from(text);
        match authorities_in(&path) {
            Ok(_) => Ok((path, text.to_owned())),
            Err(reason) => Err(format!("holds no certificates (PEM) that can be used: {reason}")),
        }
    })
}

fn secret(r: &mut Reader) -> Option<Secret> {
    let hidden = || "(not shown)".to_owned();
    let long_enough = |bytes: &[u8]| {
        if bytes.len() >= MIN_SECRET_BYTES {
            Ok((Secret::new(bytes), hidden()))
        } else {
            Err(format!(
                "has {} bytes, which could be guessed: use at least {MIN_SECRET_BYTES} (`openssl rand -hex 32` makes a good one), or leave it out to have one made",
                bytes.len()
            ))
        }
    };
    let given = r.parsed("secret", None, |text| long_enough(text.as_bytes()));
    let mut read = None;
    r.parsed("secret_file", None, |text| {
        let bytes = read_secret(Path::new(text)).map_err(|error| format!("cannot be read: {error}"))?;
        let end = bytes.iter().rposition(|b| !b"\r\n".contains(b)).map_or(0, |last| last + 1);
        read = Some(long_enough(&bytes[..end])?.0);
        Ok(((), text.to_owned()))
    });
    if let (Some(one), Some(other)) = (r.origin("secret"), r.origin("secret_file")) {
        let origin = format!("{one} and {other}");
        r.problem("secret", origin, "secret and secret_file are both set: keep one of them".into());
    }
    given.or(read)
}

fn read_secret(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(std::io::Error::other(format!("it is larger than {MAX_SECRET_BYTES} bytes")));
    }
    Ok(bytes)
}

pub(super) fn choice<T: FromStr + Copy>(
    r: &mut Reader,
    key: &'static str,
    default: T,
    as_str: fn(T) -> &'static str,
    choices: &[&str],
) -> T {
    let value = r.parsed(key, Some((default, as_str(default).to_owned())), |text| {
        let value = T::from_str(text).map_err(|_| format!("is not one of {}", choices.join(", ")))?;
        Ok((value, as_str(value).to_owned()))
    });
    value.unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_and_openers_fit_in_the_memory_that_there_is() {
        for (machine, opener) in [(128, 32), (256, 64), (512, 256), (768, 384), (4096, 2048), (65_536, 4096)]
        {
            assert_eq!(opener_bytes(machine * MIB + 5), opener * MIB, "{machine} MiB");
            assert!(machine < 256 || opener + SERVER / MIB <= machine);
        }
        assert_eq!(opener_bytes(u64::MAX), 4 * GIB);
    }
}
