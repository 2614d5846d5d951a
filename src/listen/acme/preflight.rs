//! What is checked before an order, because the authority counts orders that fail: that it answers, that DNS leads here,
//! and that it may issue. While one of these fails, nothing is asked of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use tokio::time::timeout;

use super::authority::{Authority, AuthorityError};
use super::caa::{self, Forbidden};
use super::reach::{self, MAX_ADDRESSES, Reached};
use super::{Options, list};
use crate::atproto::{Dns, DnsError, is_public};
use crate::listen::Certificate;

/// Time for all questions to DNS about addresses, and for all about CAA.
pub const DNS_TIME: Duration = Duration::from_secs(20);

/// What is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreflightError {
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// NXDOMAIN.
    #[error(
        "DNS has no name {0}. Where you manage your domain, make an A record for it with this machine's public IPv4 address (and an AAAA record if it has a public IPv6 address); it can take some minutes until it is seen"
    )]
    NoSuchName(String),
    /// The name has other records.
    #[error(
        "DNS knows the name {0}, but no address for it. Where you manage your domain, add an A record with this machine's public IPv4 address, or an AAAA record with its IPv6 address"
    )]
    NoAddress(String),
    /// SERVFAIL, or no answer.
    #[error(
        "DNS does not say where {domain} is: {reason}. Check this machine's connection and its name servers (/etc/resolv.conf, or identity.name_servers); if others cannot look it up either, the DNS of your domain is broken (often DNSSEC): ask its provider"
    )]
    Dns {
        /// Which name.
        domain: String,
        /// Why.
        reason: String,
    },
    /// Addresses that only some network knows.
    #[error(
        "DNS says that {domain} is at {}, which exists only inside a private network: the certificate authority cannot come there. Put the public address into the A or AAAA record (of your internet connection, if this machine is at home, with port 443 forwarded to it)",
        list(addresses)
    )]
    Private {
        /// Which name.
        domain: String,
        /// Those that are private.
        addresses: Vec<IpAddr>,
    },
    /// More than any authority tries.
    #[error("DNS gives {0} more than {MAX_ADDRESSES} addresses. Leave only those of this machine")]
    TooManyAddresses(String),
    /// CAA records forbid it.
    #[error(
        "the CAA records of {at} do not let this authority ({}) make certificates for {domain}: {forbidden}. Where you manage your domain, add the CAA record: 0 issue \"{}\"",
        identities.join(", "),
        identities.first().map_or("", String::as_str)
    )]
    Caa {
        /// Which name.
        domain: String,
        /// Whose records.
        at: String,
        /// The authority's names.
        identities: Vec<String>,
        /// Why.
        forbidden: Forbidden,
    },
    /// CAA records could not be had.
    #[error(
        "DNS does not say whether certificates may be made for {domain} (CAA): {reason}. Certificate authorities refuse then. If this does not pass, the DNS of your domain is broken for such questions: ask its provider"
    )]
    CaaUnknown {
        /// Which name.
        domain: String,
        /// Why.
        reason: String,
    },
    /// Somebody else answers.
    #[error(
        "{domain} leads to {address}, and what answers there on port 443 is not this server: {how}. If that is not this machine's address, correct the A or AAAA record; if it is, another program has port 443, or the router sends it elsewhere. If it is your router, and only from inside your network, set acme.check_reach = false"
    )]
    Elsewhere {
        /// Which name.
        domain: String,
        /// Where.
        address: IpAddr,
        /// How that shows.
        how: String,
    },
    /// One of several addresses is dead.
    #[error(
        "{domain} leads here, but also to {address}, where nothing answers on port 443: {why}. {}",
        if address.is_ipv6() {
            "The authority tries IPv6 first: remove that AAAA record, or make this machine reachable by that address"
        } else {
            "Remove that A record, or make this machine reachable by that address"
        }
    )]
    Silent {
        /// Which name.
        domain: String,
        /// Where.
        address: IpAddr,
        /// Why, as far as can be known.
        why: String,
    },
    /// Something that should not happen.
    #[error("trying to reach this server by its own name could not be set up: {0}")]
    Setup(String),
}

/// An order may be made.
#[derive(Debug)]
pub struct Ready {
    /// The authority, which has answered.
    pub authority: Authority,
    /// Nobody answered at our name, which need not mean that nobody can reach it from outside.
    pub unseen: bool,
    /// What the owner should know all the same.
    pub warnings: Vec<String>,
}

/// Runs all checks, up to the first that fails.
///
/// # Errors
/// Nothing may be ordered now.
pub async fn check(
    options: &Options,
    certificate: &Certificate,
    provider: &Arc<CryptoProvider>,
) -> Result<Ready, PreflightError> {
    let domain = options.domain.as_str();
    let authority = Authority::ask(&options.directory, options.ca_file.as_deref(), provider).await?;
    let dns = Dns::as_strangers(options.name_servers.clone());
    let addresses = addresses(&dns, domain).await?;
    let mut warnings = Vec::new();
    private(domain, &addresses, authority.is_public, &mut warnings)?;
    issuers(&dns, domain, &authority.caa_identities).await?;
    let mut unseen = false;
    if options.check_reach {
        let found = reach::probe(certificate, domain, &addresses, reach::PORT, provider)
            .await
            .map_err(PreflightError::Setup)?;
        unseen = judge(domain, &found, &mut warnings)?;
    }
    Ok(Ready { authority, unseen, warnings })
}

async fn addresses(dns: &Dns, domain: &str) -> Result<Vec<IpAddr>, PreflightError> {
    let failed = |reason| PreflightError::Dns { domain: domain.into(), reason };
    match timeout(DNS_TIME, dns.a_and_aaaa(domain)).await {
        Ok(Ok(found)) if found.is_empty() => Err(PreflightError::NoAddress(domain.into())),
        Ok(Ok(found)) if found.len() > MAX_ADDRESSES => Err(PreflightError::TooManyAddresses(domain.into())),
        Ok(Ok(found)) => Ok(found),
        Ok(Err(DnsError::NotFound)) => Err(PreflightError::NoSuchName(domain.into())),
        Ok(Err(DnsError::Failed(reason))) => Err(failed(reason)),
        Err(_) => Err(failed(format!("no answer in {} s", DNS_TIME.as_secs()))),
    }
}

/// A public authority comes from the internet. One's own may come from anywhere.
fn private(
    domain: &str,
    found: &[IpAddr],
    public_authority: bool,
    warnings: &mut Vec<String>,
) -> Result<(), PreflightError> {
    let addresses: Vec<IpAddr> = found.iter().copied().filter(|address| !is_public(*address)).collect();
    if addresses.is_empty() {
        return Ok(());
    }
    if public_authority {
        return Err(PreflightError::Private { domain: domain.into(), addresses });
    }
    warnings.push(format!(
        "{domain} is at {}, which exists only inside a private network: only devices in it reach this server",
        list(&addresses)
    ));
    Ok(())
}

async fn issuers(dns: &Dns, domain: &str, identities: &[String]) -> Result<(), PreflightError> {
    if identities.is_empty() {
        return Ok(());
    }
    let unknown = |reason| PreflightError::CaaUnknown { domain: domain.into(), reason };
    let found = match timeout(DNS_TIME, caa::relevant(dns, domain)).await {
        Ok(found) => found.map_err(|error| unknown(error.to_string()))?,
        Err(_) => return Err(unknown(format!("no answer in {} s", DNS_TIME.as_secs()))),
    };
    let Some((at, records)) = found else { return Ok(()) };
    caa::check(&records, identities).map_err(|forbidden| PreflightError::Caa {
        domain: domain.into(),
        at,
        identities: identities.into(),
        forbidden,
    })
}

/// Whether nobody at all answered.
fn judge(
    domain: &str,
    found: &[(IpAddr, Reached)],
    warnings: &mut Vec<String>,
) -> Result<bool, PreflightError> {
    for (address, reached) in found {
        if let Reached::Other(how) = reached {
            let (domain, how) = (domain.into(), how.clone());
            return Err(PreflightError::Elsewhere { domain, address: *address, how });
        }
    }
    let silent: Vec<(IpAddr, &String)> = found
        .iter()
        .filter_map(|(address, reached)| match reached {
            Reached::Nothing(why) => Some((*address, why)),
            _ => None,
        })
        .collect();
    let each = || list(&silent.iter().map(|(address, why)| format!("{address} ({why})")).collect::<Vec<_>>());
    if silent.len() == found.len() {
        warnings.push(format!(
            "nothing answers at {domain}, {}, when this server tries to reach itself there on port 443. A router at home need not lead back from inside, so the authority is asked all the same; if it cannot come in either, check that the address is this machine's, that port 443 is forwarded to it, and that no firewall closes it",
            each()
        ));
        return Ok(true);
    }
    // IPv4 may end at a router that does not lead back, where IPv6 leads straight here.
    let us_by_v4 = found.iter().any(|(address, reached)| address.is_ipv4() && *reached == Reached::Us);
    if let Some((address, why)) = silent.iter().find(|(address, _)| address.is_ipv6() || us_by_v4) {
        let (domain, why) = (domain.into(), (*why).clone());
        return Err(PreflightError::Silent { domain, address: *address, why });
    }
    if !silent.is_empty() {
        warnings.push(format!("{domain} leads here by IPv6, and nothing answers at {}", each()));
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "sync.example.org";

    #[test]
    fn who_answers_decides_whether_an_order_is_made() {
        let us = || Reached::Us;
        let other = || Reached::Other("it shows another certificate".into());
        let nothing = || Reached::Nothing("Connection refused".into());
        for (found, expected) in [
            (vec![("203.0.113.1", us())], Ok((false, 0))),
            (vec![("2001:db8::1", us()), ("203.0.113.1", us())], Ok((false, 0))),
            (vec![("203.0.113.1", nothing())], Ok((true, 1))),
            (vec![("2001:db8::1", nothing()), ("203.0.113.1", nothing())], Ok((true, 1))),
            (vec![("2001:db8::1", us()), ("203.0.113.1", nothing())], Ok((false, 1))),
            (vec![("203.0.113.1", other())], Err("leads to 203.0.113.1, and what answers")),
            (vec![("2001:db8::1", us()), ("203.0.113.1", other())], Err("203.0.113.1, and what")),
            (vec![("203.0.113.1", nothing()), ("203.0.113.2", other())], Err("203.0.113.2, and what")),
            (vec![("2001:db8::1", nothing()), ("203.0.113.1", us())], Err("remove that AAAA record")),
            (vec![("2001:db8::1", us()), ("2001:db8::2", nothing())], Err("2001:db8::2, where nothing")),
            (vec![("203.0.113.1", us()), ("203.0.113.2", nothing())], Err("Remove that A record")),
        ] {
            let found: Vec<(IpAddr, Reached)> =
                found.into_iter().map(|(address, reached)| (address.parse().unwrap(), reached)).collect();
            let mut warnings = Vec::new();
            let judged = judge(DOMAIN, &found, &mut warnings).map(|unseen| (unseen, warnings.len()));
            match expected {
                Ok(expected) => assert_eq!(judged, Ok(expected), "{found:?}"),
                Err(part) => {
                    let error = judged.unwrap_err().to_string();
                    assert!(error.contains(part), "{found:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn private_addresses_are_no_place_for_a_public_authority() {
        let found = ["1.1.1.1".parse().unwrap(), "192.168.1.5".parse().unwrap()];
        let mut warnings = Vec::new();
        let error = private(DOMAIN, &found, true, &mut warnings).unwrap_err().to_string();
        assert!(error.contains("at 192.168.1.5, which exists only"), "{error}");
        private(DOMAIN, &found, false, &mut warnings).unwrap();
        private(DOMAIN, &found[..1], true, &mut warnings).unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains("192.168.1.5"), "{warnings:?}");
    }
}
