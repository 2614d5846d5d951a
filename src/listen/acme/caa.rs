//! Whether the domain's CAA records let the authority issue (RFC 8659, and RFC 8657 for the way of validation).

use crate::net::{Caa, Dns, DnsError};
use crate::types::is_misleading;

/// Tags that authorities understand: who may issue, for what, and where to report.
const KNOWN: &[&str] =
    &["issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone"];
/// How this server proves the name.
const METHOD: &str = "tls-alpn-01";

/// The records forbid it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Others may issue.
    #[error("they allow {}", if allowed.is_empty() { "nobody".into() } else { format!("only {}", allowed.join(", ")) })]
    Others {
        /// Who, as named there.
        allowed: Vec<String>,
    },
    /// The authority may, by other ways of validation.
    #[error("they allow it only with validationmethods={0}, and this server uses {METHOD}")]
    Method(String),
    /// A record that no authority understands forbids it to all of them.
    #[error("one of them has the tag {0:?} and is marked critical, which no authority understands")]
    Critical(String),
}

/// The records that count: those of the name, or of the nearest name above that has any, and whose they are. `None`:
/// anyone may issue.
///
/// # Errors
/// DNS does not answer: authorities refuse then as well.
pub async fn relevant(dns: &Dns, domain: &str) -> Result<Option<(String, Vec<Caa>)>, DnsError> {
    let mut name = domain;
    loop {
        match dns.caa(name).await {
            Ok(records) if !records.is_empty() => return Ok(Some((name.to_owned(), records))),
            Ok(_) | Err(DnsError::NotFound) => {}
            Err(error) => return Err(error),
        }
        match name.split_once('.') {
            Some((_, above)) if !above.is_empty() => name = above,
            _ => return Ok(None),
        }
    }
}

/// Whether an authority with one of these names may issue for a name that is no wildcard.
///
/// # Errors
/// It may not.
pub fn check(records: &[Caa], identities: &[String]) -> Result<(), Forbidden> {
    let known = |tag: &str| KNOWN.iter().any(|known| known.eq_ignore_ascii_case(tag));
    if let Some(record) = records.iter().find(|record| record.critical && !known(&record.tag)) {
        return Err(Forbidden::Critical(shown(&record.tag)));
    }
    let issue: Vec<String> = records
        .iter()
        .filter(|record| record.tag.eq_ignore_ascii_case("issue"))
        .map(|record| String::from_utf8_lossy(&record.value).into_owned())
        .collect();
    if issue.is_empty() {
        return Ok(());
    }
    let mut method = None;
    let mut allowed = Vec::new();
    for value in &issue {
        let (issuer, parameters) = value.split_once(';').unwrap_or((value, ""));
        let issuer = issuer.trim();
        if !identities.iter().any(|identity| identity.eq_ignore_ascii_case(issuer)) {
            if !issuer.is_empty() {
                allowed.push(shown(issuer));
            }
            continue;
        }
        let methods = parameters.split([';', ' ', '\t']).find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("validationmethods").then(|| value.trim())
        });
        match methods {
            Some(methods) if !methods.split(',').any(|method| method.trim() == METHOD) => {
                method = Some(shown(methods));
            }
            _ => return Ok(()),
        }
    }
    Err(method.map_or(Forbidden::Others { allowed }, Forbidden::Method))
}

/// Somebody's text, made fit for a message.
fn shown(text: &str) -> String {
    const SHOWN: usize = 80;
    text.chars().filter(|c| !is_misleading(*c)).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_allow_or_forbid() {
        let ours = ["letsencrypt.org".to_owned()];
        let critical = true;
        for (records, expected) in [
            (vec![], None),
            (vec![("issue", "letsencrypt.org")], None),
            (vec![("ISSUE", " LetsEncrypt.org ")], None),
            (vec![("issue", "letsencrypt.org; accounturi=https://x")], None),
            (vec![("issue", "other.example"), ("issue", "letsencrypt.org")], None),
            (vec![("iodef", "mailto:a@b.example")], None),
            (vec![("issuewild", "other.example")], None),
            (vec![("issuewild", ";"), ("issue", "letsencrypt.org")], None),
            (vec![("issue", ";")], Some("nobody")),
            (vec![("issue", "")], Some("nobody")),
            (vec![("issue", "other.example")], Some("only other.example")),
            (vec![("issue", "a.example"), ("issue", "b.example")], Some("only a.example, b.example")),
            (vec![("issue", "xletsencrypt.org")], Some("only")),
            (vec![("issue", "letsencrypt.org;validationmethods=dns-01,http-01")], Some("dns-01,http-01")),
            (vec![("issue", "letsencrypt.org; validationmethods=dns-01,tls-alpn-01")], None),
            (vec![("issue", "letsencrypt.org;validationmethods=dns-01"), ("issue", "letsencrypt.org")], None),
            (vec![("issue", "\u{1b}[31m")], Some("only [31m")),
        ] {
            let made = |critical: bool| -> Vec<Caa> {
                let record = |(tag, value): &(&str, &str)| Caa {
                    critical,
                    tag: (*tag).into(),
                    value: value.as_bytes().into(),
                };
                records.iter().map(record).collect()
            };
            for critical in [false, critical] {
                let found = check(&made(critical), &ours).map_err(|error| error.to_string());
                match expected {
                    None => assert_eq!(found, Ok(()), "{records:?}"),
                    Some(part) => {
                        assert!(found.as_ref().unwrap_err().contains(part), "{records:?}: {found:?}")
                    }
                }
            }
        }
        let unknown = |critical| Caa { critical, tag: "tbs".into(), value: vec![0xff] };
        assert_eq!(check(&[unknown(false)], &ours), Ok(()));
        assert_eq!(check(&[unknown(true)], &ours), Err(Forbidden::Critical("tbs".into())));
    }
}
