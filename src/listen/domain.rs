//! Where DNS says that this server is. The only place that asks: for the certificate, for `doctor` and for `setup`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::timeout;

use crate::net::{Dns, DnsError, is_public};

/// Time for all questions to DNS about addresses.
pub const DNS_TIME: Duration = Duration::from_secs(20);
/// Most addresses of a name that are tried; authorities try fewer.
pub const MAX_ADDRESSES: usize = 16;

/// The name leads nowhere that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}. {}", self.found(), self.fix())]
pub enum DomainError {
    /// NXDOMAIN.
    NoSuchName(String),
    /// The name has other records.
    NoAddress(String),
    /// SERVFAIL, or no answer.
    Dns {
        /// Which name.
        domain: String,
        /// Why.
        reason: String,
    },
    /// Addresses that only some network knows.
    Private {
        /// Which name.
        domain: String,
        /// Those that are private.
        addresses: Vec<IpAddr>,
    },
    /// More than [`MAX_ADDRESSES`].
    TooManyAddresses(String),
}

impl DomainError {
    /// What is wrong.
    pub fn found(&self) -> String {
        match self {
            Self::NoSuchName(domain) => format!("DNS has no name {domain}"),
            Self::NoAddress(domain) => format!("DNS knows the name {domain}, but no address for it"),
            Self::Dns { domain, reason } => format!("DNS does not say where {domain} is: {reason}"),
            Self::Private { domain, addresses } => format!(
                "DNS says that {domain} is at {}, which exists only inside a private network: the certificate authority cannot come there",
                list(addresses)
            ),
            Self::TooManyAddresses(domain) => {
                format!("DNS gives {domain} more than {MAX_ADDRESSES} addresses")
            }
        }
    }

    /// What to do.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::NoSuchName(_) => {
                "Where you manage your domain, make an A record for it with this machine's public IPv4 address (and an AAAA record if it has a public IPv6 address); it can take some minutes until it is seen"
            }
            Self::NoAddress(_) => {
                "Where you manage your domain, add an A record with this machine's public IPv4 address, or an AAAA record with its IPv6 address"
            }
            Self::Dns { .. } => {
                "Check this machine's connection and its name servers (/etc/resolv.conf, or identity.name_servers); if others cannot look it up either, the DNS of your domain is broken (often DNSSEC): ask its provider"
            }
            Self::Private { .. } => {
                "Put the public address into the A or AAAA record (of your internet connection, if this machine is at home, with port 443 forwarded to it)"
            }
            Self::TooManyAddresses(_) => "Leave only those of this machine",
        }
    }
}

/// All addresses of `domain`, as strangers are told them now, by these name servers or the system's.
///
/// # Errors
/// There are none, or too many, or DNS does not answer within [`DNS_TIME`].
pub async fn addresses(name_servers: &[SocketAddr], domain: &str) -> Result<Vec<IpAddr>, DomainError> {
    let dns = Dns::as_strangers(name_servers.to_vec());
    let failed = |reason| DomainError::Dns { domain: domain.into(), reason };
    match timeout(DNS_TIME, dns.a_and_aaaa(domain)).await {
        Ok(Ok(found)) if found.is_empty() => Err(DomainError::NoAddress(domain.into())),
        Ok(Ok(found)) if found.len() > MAX_ADDRESSES => Err(DomainError::TooManyAddresses(domain.into())),
        Ok(Ok(found)) => Ok(found),
        Ok(Err(DnsError::NotFound)) => Err(DomainError::NoSuchName(domain.into())),
        Ok(Err(DnsError::Failed(reason))) => Err(failed(reason)),
        Err(_) => Err(failed(format!("no answer in {} s", DNS_TIME.as_secs()))),
    }
}

/// Whether an authority on the internet can come to all of them.
///
/// # Errors
/// It cannot.
pub fn public(domain: &str, found: &[IpAddr]) -> Result<(), DomainError> {
    let addresses: Vec<IpAddr> = found.iter().copied().filter(|address| !is_public(*address)).collect();
    if addresses.is_empty() { Ok(()) } else { Err(DomainError::Private { domain: domain.into(), addresses }) }
}

/// `a, b, c`.
pub fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_named() {
        let found = ["1.1.1.1".parse().unwrap(), "192.168.1.5".parse().unwrap(), "fd00::1".parse().unwrap()];
        let error = public("sync.example.org", &found).unwrap_err().to_string();
        assert!(error.contains("at 192.168.1.5, fd00::1, which exists only"), "{error}");
        assert!(error.contains(". Put the public address"), "{error}");
        assert_eq!(public("sync.example.org", &found[..1]), Ok(()));
    }
}
