//! What is checked before an order, because the authority counts orders that fail: that it answers, that DNS leads here,
//! and that it may issue. While one of these fails, nothing is asked of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use tokio::time::timeout;

use super::Options;
use super::authority::{Authority, AuthorityError};
use super::caa::{self, Forbidden};
use super::reach::{self, Reached};
use crate::listen::Certificate;
use crate::listen::domain::{self, DomainError, list};
use crate::net::Dns;

/// Time for all questions to DNS about CAA.
const CAA_TIME: Duration = Duration::from_secs(20);

/// What is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreflightError {
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// DNS, of addresses.
    #[error(transparent)]
    Domain(#[from] DomainError),
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
    let addresses = domain::addresses(&options.name_servers, domain).await?;
    let mut warnings = Vec::new();
    private(domain, &addresses, authority.is_public, &mut warnings)?;
    let dns = Dns::as_strangers(options.name_servers.clone());
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

/// A public authority comes from the internet. One's own may come from anywhere.
fn private(
    domain: &str,
    found: &[IpAddr],
    public_authority: bool,
    warnings: &mut Vec<String>,
) -> Result<(), DomainError> {
    match domain::public(domain, found) {
        Err(DomainError::Private { domain, addresses }) if !public_authority => {
            warnings.push(format!(
                "{domain} is at {}, which exists only inside a private network: only devices in it reach this server",
                list(&addresses)
            ));
            Ok(())
        }
        outcome => outcome,
    }
}

async fn issuers(dns: &Dns, domain: &str, identities: &[String]) -> Result<(), PreflightError> {
    if identities.is_empty() {
        return Ok(());
    }
    let unknown = |reason| PreflightError::CaaUnknown { domain: domain.into(), reason };
    let found = match timeout(CAA_TIME, caa::relevant(dns, domain)).await {
        Ok(found) => found.map_err(|error| unknown(error.to_string()))?,
        Err(_) => return Err(unknown(format!("no answer in {} s", CAA_TIME.as_secs()))),
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
