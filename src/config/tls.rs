//! The settings of encryption: where certificates come from, and the sockets that need them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::reader::Reader;
use super::settings::{ca_file, choice};
use super::{Acme, CertificateFiles, Listen, Network, TlsMode};

/// Let's Encrypt's directory.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// The same for tests: nobody trusts its certificates, and its limits are wide.
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";
/// What the names of its servers end with.
const LETS_ENCRYPT_DOMAIN: &str = "letsencrypt.org";
/// Shortest wait after a failed order there: five failed validations an hour are the most that it takes.
const LETS_ENCRYPT_RETRY: Duration = Duration::from_secs(300);
/// Longest e-mail address in bytes (RFC 5321, section 4.5.3.1.3, less the angle brackets).
const MAX_CONTACT_BYTES: usize = 254;

/// A server that has a name gets itself a certificate, unless it is told to stay on this machine.
pub(super) fn mode(r: &mut Reader, domain: Option<&str>, dev: bool) -> TlsMode {
    let usual = if domain.is_some() && !dev { TlsMode::Acme } else { TlsMode::Off };
    let mode = choice(r, "tls", usual, TlsMode::as_str, TlsMode::CHOICES);
    if mode != TlsMode::Off && domain.is_none() {
        let origin = r.origin("tls").unwrap_or("default").to_owned();
        let fix =
            "needs domain: set it to the name that apps reach this server at, such as \"sync.example.org\"";
        r.problem("tls", origin, format!("\"{}\" {fix}", mode.as_str()));
    }
    mode
}

/// The sockets besides `listen.address`, which the caller has read.
pub(super) fn listen(r: &mut Reader, address: SocketAddr, plain_from: Vec<Network>, mode: TlsMode) -> Listen {
    let plain = ["listen.address", super::settings::PORT].into_iter().find(|key| r.origin(key).is_some());
    if let (Some(key), true) = (plain, mode != TlsMode::Off) {
        let origin = r.origin(key).unwrap_or_default().to_owned();
        let fix = format!(
            "is for a server without encryption, and tls is \"{}\" here: leave it out (listen.https says where encrypted connections come in), or set tls = \"off\" if a proxy on this machine does the encryption",
            mode.as_str()
        );
        r.problem(key, origin, fix);
    }
    let socket = |r: &mut Reader, key, default: SocketAddr| {
        let parsed =
            r.parsed(key, Some((default, default.to_string())), |text| socket_address(text, default));
        parsed.unwrap_or(default)
    };
    let anywhere = |port| SocketAddr::from(([0u16; 8], port));
    let https = socket(r, "listen.https", anywhere(443));
    let http = socket(r, "listen.http", anywhere(80));
    let trusted_proxies = r.list("listen.trusted_proxies", network);
    if let (Some(origin), true) = (r.origin("listen.trusted_proxies"), mode != TlsMode::Off) {
        let origin = origin.to_owned();
        let fix = format!(
            "is for a server behind a proxy that does the encryption, and tls is \"{}\" here: leave it out, or set tls = \"off\"",
            mode.as_str()
        );
        r.problem("listen.trusted_proxies", origin, fix);
    }
    let metrics = r.parsed("listen.metrics", None, |text| {
        let (address, shown) = socket_address(text, SocketAddr::from(([127, 0, 0, 1], 9464)))?;
        if address.ip().is_loopback() {
            return Ok((address, shown));
        }
        Err(format!("can be reached from other machines, and metrics are nobody else's business: listen on 127.0.0.1:{}", address.port()))
    });
    Listen { address, plain_from, https, http, trusted_proxies, metrics }
}

/// Whose plain connections are taken, besides this machine's. With TLS it has no effect and is no mistake: the container
/// image sets it for both.
pub(super) fn plain_from(r: &mut Reader) -> Vec<Network> {
    r.list("listen.plain_from", |entry| match network(entry)? {
        private if private.is_private() => Ok(private),
        _ => Err("is not a private network, and these connections are not encrypted: sync tokens could be read on the Internet. Name the network of your containers, such as \"172.16.0.0/12\"".into()),
    })
}

fn network(entry: &str) -> Result<Network, String> {
    entry.parse().map_err(|()| {
        "is neither an address nor a network: write one such as \"127.0.0.1\" or \"10.0.0.0/8\"".to_owned()
    })
}

fn socket_address(text: &str, such_as: SocketAddr) -> Result<(SocketAddr, String), String> {
    let address: SocketAddr =
        text.parse().map_err(|_| format!("is not an address and a port: write one such as \"{such_as}\""))?;
    Ok((address, address.to_string()))
}

/// Section `certificate`.
pub(super) fn certificate(r: &mut Reader, mode: TlsMode) -> Option<CertificateFiles> {
    let path = |r: &mut Reader, key| r.parsed(key, None, |text| Ok((PathBuf::from(text), text.to_owned())));
    let chain = path(r, "certificate.chain_file");
    let key = path(r, "certificate.key_file");
    match (mode, chain, key) {
        (TlsMode::Files, Some(chain_file), Some(key_file)) => Some(CertificateFiles { chain_file, key_file }),
        (TlsMode::Files, ..) => {
            let origin = r.origin("tls").unwrap_or("default").to_owned();
            let fix =
                "\"files\" needs certificate.chain_file and certificate.key_file: the paths of two PEM files";
            r.problem("tls", origin, fix.into());
            None
        }
        _ => {
            for key in ["certificate.chain_file", "certificate.key_file"] {
                if let Some(origin) = r.origin(key).map(str::to_owned) {
                    let fix = format!(
                        "is not used, because tls is \"{}\": set tls = \"files\", or remove it",
                        mode.as_str()
                    );
                    r.problem(key, origin, fix);
                }
            }
            None
        }
    }
}

/// Section `acme`.
pub(super) fn acme(r: &mut Reader) -> Acme {
    let staging = r.flag("acme.staging", false);
    let default = lets_encrypt(staging);
    let directory = r.parsed("acme.directory", Some((default.clone(), default.to_string())), |text| {
        match Url::parse(text) {
            Ok(url) if url.scheme() == "https" && url.host().is_some() => Ok((url, text.to_owned())),
            _ => Err(format!("is not an https: URL: write one such as \"{LETS_ENCRYPT}\"")),
        }
    });
    if let (Some(staged), Some(set)) = (r.origin("acme.staging"), r.origin("acme.directory"))
        && staging
    {
        let origin = format!("{staged} and {set}");
        r.problem(
            "acme.staging",
            origin,
            "is Let's Encrypt's, and acme.directory names one too: keep one of them".into(),
        );
    }
    let ca_file = ca_file(r, "acme.ca_file");
    let contact = r.parsed("acme.contact", None, |text| {
        let address = text.strip_prefix("mailto:").unwrap_or(text);
        let plausible = address.split_once('@').is_some_and(|(user, host)| {
            !user.is_empty()
                && host.contains('.')
                && !host.contains('@')
                && address.len() <= MAX_CONTACT_BYTES
        });
        if plausible && address.bytes().all(|byte| byte.is_ascii_graphic() && !b",;?<>\"".contains(&byte)) {
            return Ok((address.to_owned(), address.to_owned()));
        }
        Err("is not an e-mail address: write one such as \"you@example.org\", or leave it out".into())
    });
    let directory = directory.unwrap_or(default);
    let retry = r.time("acme.retry", LETS_ENCRYPT_RETRY, Duration::from_secs(1)..=Duration::from_secs(3600));
    let check_reach = r.flag("acme.check_reach", true);
    let acme = Acme { directory, ca_file, contact, retry, check_reach };
    if acme.is_lets_encrypt() && retry < LETS_ENCRYPT_RETRY {
        let origin = r.origin("acme.retry").unwrap_or("default").to_owned();
        let fix = "is less than 5m, and Let's Encrypt shuts out who tries more often: make it 5m or more, or leave it out";
        r.problem("acme.retry", origin, fix.into());
    }
    acme
}

impl Acme {
    /// The authority is Let's Encrypt, or its staging environment.
    pub fn is_lets_encrypt(&self) -> bool {
        self.directory.host_str().is_some_and(|host| host.ends_with(LETS_ENCRYPT_DOMAIN))
    }

    /// It is the staging environment: nobody trusts its certificates.
    pub fn is_staging(&self) -> bool {
        self.directory.as_str() == LETS_ENCRYPT_STAGING
    }
}

fn lets_encrypt(staging: bool) -> Url {
    let text = if staging { LETS_ENCRYPT_STAGING } else { LETS_ENCRYPT };
    #[allow(clippy::expect_used)]
    Url::parse(text).expect("invariant: both constants are URLs")
}
