//! Whether the server's name leads to its ports: DNS, 443, and 80.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Context, Finding};
use crate::config::{Config, TlsMode};
use crate::listen::domain::{addresses, list, public};
use crate::net::http;

const DNS: &str = "DNS";
const ENCRYPTED: &str = "port 443";
const PLAIN: &str = "port 80";
const SILENCE: &str = "nothing answers";
/// Time for each thing that is tried.
const TRY_TIME: Duration = Duration::from_secs(8);
/// Bytes read of an answer on port 80.
const MAX_ANSWER_BYTES: u64 = 2048;

/// Who is at an address.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// What was expected.
    Good,
    /// Somebody, who is not what was expected; why.
    Wrong(String),
    /// Nobody; why.
    Nothing(String),
}

/// `reached`: the certificate authority has reached the server by its name.
pub(super) async fn check(context: &Context<'_>, reached: bool) -> Vec<Finding> {
    let config = context.config;
    let Some(domain) = &config.domain else {
        let found = "the configuration names no domain: apps get in on this machine only";
        return vec![Finding::warning(DNS, found, "set `domain` to the name that apps are to use")];
    };
    let (finding, addresses) = dns(config, domain).await;
    let mut findings = vec![finding];
    if addresses.is_empty() {
        return findings;
    }
    let tls = match http::tls(config.identity.ca_file.as_deref()) {
        Ok(tls) => Arc::new(tls),
        Err(error) => {
            findings.push(Finding::failure(ENCRYPTED, error, "put that right and run doctor again"));
            return findings;
        }
    };
    let encrypted = each(&addresses, async |address| ask_encrypted(address, domain, &tls).await).await;
    let open = "forward it to this machine, open it in the firewall, and see that the server runs";
    findings.push(match judge(ENCRYPTED, domain, encrypted, open) {
        finding if reached => from_behind_a_router(finding),
        finding => finding,
    });
    if config.tls == TlsMode::Off {
        findings.push(Finding::skipped(PLAIN, "with tls = \"off\" it is the proxy's"));
    } else {
        let plain = each(&addresses, async |address| ask_plain(address, domain).await).await;
        let mut finding =
            judge(PLAIN, domain, plain, "open it as well, so that whoever writes http:// is sent on");
        // Nothing needs it but people who type the name.
        if finding.outcome == super::Outcome::Failure {
            finding.outcome = super::Outcome::Warning;
        }
        findings.push(finding);
    }
    findings
}

/// Where DNS says that the server is, and whether that will do.
pub(in crate::cli) async fn dns(config: &Config, domain: &str) -> (Finding, Vec<IpAddr>) {
    match addresses(&config.identity.name_servers, domain).await {
        Ok(found) => {
            let certain = config.tls == TlsMode::Acme && config.acme.is_lets_encrypt();
            let finding = match public(domain, &found) {
                Err(error) if certain => Finding::warning(DNS, error.found(), error.fix()),
                _ => Finding::ok(DNS, format!("{domain} is at {}", list(&found))),
            };
            (finding, found)
        }
        Err(error) => (Finding::failure(DNS, error.found(), error.fix()), Vec::new()),
    }
}

async fn each(addresses: &[IpAddr], ask: impl AsyncFn(IpAddr) -> Answer) -> Vec<(IpAddr, Answer)> {
    let mut found = Vec::new();
    for address in addresses {
        let answer = timeout(TRY_TIME, ask(*address)).await;
        let late = || Answer::Nothing(format!("no answer in {} s", TRY_TIME.as_secs()));
        found.push((*address, answer.unwrap_or_else(|_| late())));
    }
    found
}

async fn ask_encrypted(address: IpAddr, domain: &str, tls: &Arc<ClientConfig>) -> Answer {
    let stream = match TcpStream::connect(SocketAddr::new(address, 443)).await {
        Ok(stream) => stream,
        Err(error) => return Answer::Nothing(error.to_string()),
    };
    let Ok(name) = ServerName::try_from(domain.to_owned()) else {
        return Answer::Wrong("the domain is no name that certificates can have".into());
    };
    match TlsConnector::from(Arc::clone(tls)).connect(name, stream).await {
        Ok(_) => Answer::Good,
        Err(error) => Answer::Wrong(format!("clients refuse what answers there: {error}")),
    }
}

async fn ask_plain(address: IpAddr, domain: &str) -> Answer {
    let mut stream = match TcpStream::connect(SocketAddr::new(address, 80)).await {
        Ok(stream) => stream,
        Err(error) => return Answer::Nothing(error.to_string()),
    };
    let request = format!("GET / HTTP/1.1\r\nHost: {domain}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let asked = async {
        stream.write_all(request.as_bytes()).await?;
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await
    };
    if let Err(error) = asked.await {
        return Answer::Wrong(format!("it takes connections and does not answer: {error}"));
    }
    if sends_on(&String::from_utf8_lossy(&answer), domain) {
        return Answer::Good;
    }
    Answer::Wrong("what answers there is another program: it does not send on to https".into())
}

/// Whether an HTTP answer is a redirect to our name, encrypted.
fn sends_on(answer: &str, domain: &str) -> bool {
    let redirect =
        answer.split(' ').nth(1).is_some_and(|status| ["301", "302", "307", "308"].contains(&status));
    let to = format!("https://{domain}");
    redirect
        && answer.lines().any(|line| {
            line.split_once(':').is_some_and(|(name, value)| {
                let rest = value.trim().strip_prefix(&to);
                name.eq_ignore_ascii_case("location")
                    && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']))
            })
        })
}

fn judge(check: &'static str, domain: &str, found: Vec<(IpAddr, Answer)>, open: &str) -> Finding {
    let good = found.iter().filter(|(_, answer)| *answer == Answer::Good).count();
    for (address, answer) in &found {
        if let Answer::Wrong(why) = answer {
            let fix = format!(
                "see what has that port (ss -ltnp), whether {address} is this machine's, and what the line about the certificate says"
            );
            return Finding::failure(check, format!("{domain} at {address}: {why}"), fix);
        }
    }
    let silent: Vec<String> = found
        .iter()
        .filter_map(|(address, answer)| match answer {
            Answer::Nothing(why) => Some(format!("{address} ({why})")),
            _ => None,
        })
        .collect();
    match (good, silent.is_empty()) {
        (_, true) => Finding::ok(check, format!("{domain} answers")),
        (0, false) => {
            let found = format!(
                "{SILENCE} at {}; from inside a home network that can be the router, which does not lead back",
                silent.join(", ")
            );
            Finding::failure(check, found, open)
        }
        _ => {
            let found = format!("{domain} answers, but not at {}", silent.join(", "));
            Finding::warning(check, found, format!("remove that address from DNS, or {open}"))
        }
    }
}

/// Somebody outside has reached the port: that nobody answers from here is no fault of the server's.
fn from_behind_a_router(finding: Finding) -> Finding {
    if finding.outcome != super::Outcome::Failure || !finding.found.starts_with(SILENCE) {
        return finding;
    }
    let found = format!("{}; the certificate authority has reached it from outside", finding.found);
    let fix = "if devices outside reach it, only those in your network cannot: let the network's DNS answer the name with this machine's address, or have the router lead back (hairpin NAT)";
    Finding::warning(ENCRYPTED, found, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Outcome;

    #[test]
    fn behind_a_router_that_does_not_lead_back_the_port_is_no_failure_once_it_was_reached() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let judged = |answer| judge(ENCRYPTED, "sync.example.org", vec![(address, answer)], "open it");
        let silent = from_behind_a_router(judged(Answer::Nothing("Connection refused".into())));
        assert!(silent.outcome == Outcome::Warning && silent.fix.is_some_and(|fix| fix.contains("hairpin")));
        // Another program in its place is one all the same.
        assert_eq!(from_behind_a_router(judged(Answer::Wrong("no".into()))).outcome, Outcome::Failure);
        assert_eq!(from_behind_a_router(judged(Answer::Good)).outcome, Outcome::Ok);
    }

    #[test]
    fn only_a_redirect_to_our_name_will_do() {
        let answer =
            |status: &str, location: &str| format!("HTTP/1.1 {status} x\r\nLocation: {location}\r\n\r\n");
        for (answer, expected) in [
            (answer("308", "https://sync.example.org/"), true),
            (answer("301", "https://sync.example.org"), true),
            (answer("308", "https://sync.example.org.evil.example/"), false),
            (answer("308", "http://sync.example.org/"), false),
            (answer("200", "https://sync.example.org/"), false),
            ("HTTP/1.1 308 x\r\n\r\nLocation".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(sends_on(&answer, "sync.example.org"), expected, "{answer}");
        }
    }

    #[test]
    fn one_bad_address_is_told() {
        let good = || Answer::Good;
        let nothing = || Answer::Nothing("Connection refused".into());
        let wrong = || Answer::Wrong("no".into());
        for (answers, outcome) in [
            (vec![good()], Outcome::Ok),
            (vec![good(), good()], Outcome::Ok),
            (vec![good(), nothing()], Outcome::Warning),
            (vec![nothing(), nothing()], Outcome::Failure),
            (vec![good(), wrong()], Outcome::Failure),
        ] {
            let addresses = (1..).map(|last| IpAddr::from([192, 0, 2, last]));
            let found: Vec<(IpAddr, Answer)> = addresses.zip(answers).collect();
            let shown = format!("{found:?}");
            assert_eq!(judge("x", "sync.example.org", found, "open it").outcome, outcome, "{shown}");
        }
    }
}
