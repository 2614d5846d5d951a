//! Names to addresses and TXT and CAA records, by the system's name servers or given ones.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};

/// Where the system says which name servers to ask.
const SYSTEM_FILE: &str = "/etc/resolv.conf";
/// Time for one name server's answer.
const ANSWER_TIME: Duration = Duration::from_secs(3);
/// Answers kept in memory, for as long as they say.
const CACHED_ANSWERS: u64 = 256;

/// A name could not be looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// DNS knows no such record.
    #[error("DNS has no such name")]
    NotFound,
    /// DNS does not work.
    #[error("{0}")]
    Failed(String),
}

/// A CAA record: which authorities may issue certificates for a name (RFC 8659, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caa {
    /// Who does not understand the tag must not issue.
    pub critical: bool,
    /// What it is about, such as `issue`.
    pub tag: String,
    /// As it stands in the record.
    pub value: Vec<u8>,
}

/// Asks name servers. The system's list is read again whenever its file has changed: at boot it may be empty.
pub struct Dns {
    servers: Vec<SocketAddr>,
    as_strangers: bool,
    current: Mutex<Option<(Option<SystemTime>, TokioResolver)>>,
}

impl Dns {
    /// With these name servers, or the system's if there are none.
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, as_strangers: false, current: Mutex::new(None) }
    }

    /// The same, told what strangers are told, now: nothing from the hosts file, nothing kept.
    pub fn as_strangers(servers: Vec<SocketAddr>) -> Self {
        Self { servers, as_strangers: true, current: Mutex::new(None) }
    }

    /// The addresses of a name by its A and AAAA records; none if it has none.
    ///
    /// # Errors
    /// There is no such name, or DNS does not answer one of the two questions.
    pub async fn a_and_aaaa(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let (v4, v6) = tokio::join!(self.records(name, RecordType::A), self.records(name, RecordType::AAAA));
        let addresses = v6?.into_iter().chain(v4?).filter_map(|data| data.ip_addr());
        Ok(addresses.collect())
    }

    /// The CAA records of this very name; none if it has none.
    ///
    /// # Errors
    /// There is no such name, or DNS does not answer.
    pub async fn caa(&self, name: &str) -> Result<Vec<Caa>, DnsError> {
        let found = self.records(name, RecordType::CAA).await?;
        let caa = found.into_iter().filter_map(|data| match data {
            RData::CAA(caa) => Some(Caa { critical: caa.issuer_critical, tag: caa.tag, value: caa.value }),
            _ => None,
        });
        Ok(caa.collect())
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, DnsError> {
        match self.resolver()?.lookup(absolute(name), kind).await {
            Ok(found) => Ok(found.answers().iter().map(|record| record.data.clone()).collect()),
            Err(error) if error.is_no_records_found() && !error.is_nx_domain() => Ok(Vec::new()),
            Err(error) => Err(failed(&error)),
        }
    }

    /// All addresses of a name.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let found = self.resolver()?.lookup_ip(absolute(name)).await.map_err(|e| failed(&e))?;
        Ok(found.iter().collect())
    }

    /// All TXT records of a name, the parts of each joined; what is not UTF-8 is left out.
    pub(super) async fn txt(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let found = self.resolver()?.txt_lookup(absolute(name)).await.map_err(|e| failed(&e))?;
        let texts = found.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(txt) => String::from_utf8(txt.txt_data.concat()).ok(),
            _ => None,
        });
        Ok(texts.collect())
    }

    fn resolver(&self) -> Result<TokioResolver, DnsError> {
        let changed = match self.servers.as_slice() {
            [] => std::fs::metadata(SYSTEM_FILE).and_then(|file| file.modified()).ok(),
            _ => None,
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((as_of, resolver)) = &*current
            && *as_of == changed
        {
            return Ok(resolver.clone());
        }
        let made = self.make().map_err(|error| {
            DnsError::Failed(format!(
                "the name servers in {SYSTEM_FILE} cannot be used ({error}): put that right, or set identity.name_servers"
            ))
        })?;
        *current = Some((changed, made.clone()));
        Ok(made)
    }

    fn make(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.servers.iter().map(|server| {
                let on_port = |mut connection: ConnectionConfig| {
                    connection.port = server.port();
                    connection
                };
                let connections = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
                NameServerConfig::new(server.ip(), true, connections)
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.timeout = ANSWER_TIME;
        options.cache_size = CACHED_ANSWERS;
        if self.as_strangers {
            options.cache_size = 0;
            options.use_hosts_file = ResolveHosts::Never;
        }
        builder.build()
    }
}

/// With the final dot, so that no search domain is tried.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn failed(error: &NetError) -> DnsError {
    if error.is_nx_domain() || error.is_no_records_found() {
        DnsError::NotFound
    } else {
        DnsError::Failed(format!("the name servers do not answer it: {error}"))
    }
}
