//! `doctor`: looks at everything that has to be right, and says how to mend what is not.
//!
//! A file for each check, or for a few that need the same answer; each gives [`Finding`]s. What a later check needs of
//! an earlier one is in [`Found`].

use serde::Serialize;

use super::account::{self, Pinned};
use super::text::safe;
use super::{CliError, Exit, args, print, print_json, runtime};
use crate::atproto::Resolver;
use crate::config::{Config, ConfigError, Loaded, Owner, TlsMode};
use crate::net::{Http, HttpError};
use crate::web::admin::OwnerNow;

mod certificate;
mod clock;
mod disk;
pub(super) mod domain;
pub(super) mod owner;
mod pds;
mod permissions;
mod record;
mod server;

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Ok,
    /// It works, and something is to be done about it.
    Warning,
    /// It does not work.
    Failure,
    /// An earlier failure leaves nothing to look at.
    Skipped,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) outcome: Outcome,
    /// What was found, in words.
    pub(super) found: String,
    /// How to mend it.
    pub(super) fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl ToString) -> Self {
        Self { check, outcome: Outcome::Ok, found: found.to_string(), fix: None }
    }

    fn warning(check: &'static str, found: impl ToString, fix: impl ToString) -> Self {
        Self { check, outcome: Outcome::Warning, found: found.to_string(), fix: Some(fix.to_string()) }
    }

    fn failure(check: &'static str, found: impl ToString, fix: impl ToString) -> Self {
        Self { check, outcome: Outcome::Failure, found: found.to_string(), fix: Some(fix.to_string()) }
    }

    fn skipped(check: &'static str, why: &str) -> Self {
        Self { check, outcome: Outcome::Skipped, found: format!("not looked at: {why}"), fix: None }
    }
}

/// What checks go by.
pub(super) struct Context<'a> {
    config: &'a Config,
    /// By what name apps are to find this server, if that is known.
    host: Option<String>,
    http: Http,
    resolver: Resolver,
    /// The running server's word about its owner.
    server: Result<OwnerNow, CliError>,
    /// What it pinned the configured handle to.
    pinned: Pinned,
}

impl<'a> Context<'a> {
    /// Asks the server, if one runs. `host`: by what name apps are to find it.
    pub(super) fn new(config: &'a Config, host: Option<String>) -> Result<Self, HttpError> {
        let (http, resolver) = account::network(config)?;
        let server = account::of_server(config);
        let pinned = match &config.owner {
            Some(Owner::Handle(handle)) => account::pinned(config, handle, &server),
            _ => Pinned::NotYet,
        };
        Ok(Self { config, host, http, resolver, server, pinned })
    }
}

pub(super) fn run(
    loaded: Result<Loaded, ConfigError>,
    wanted: &args::Doctor,
    json: bool,
) -> Result<Exit, CliError> {
    let findings = match loaded {
        Err(error) => vec![Finding::failure("configuration", error, "put that right and run doctor again")],
        Ok(loaded) => {
            let mut findings = vec![Finding::ok("configuration", "every setting can be used")];
            findings.extend(checks(&loaded.config, wanted)?);
            findings
        }
    };
    let ok = findings.iter().all(|finding| finding.outcome != Outcome::Failure);
    if json {
        print_json(&serde_json::json!({ "ok": ok, "checks": findings }))?;
    } else {
        print(&report(&findings));
    }
    Ok(if ok { Exit::Success } else { Exit::Failure })
}

fn checks(config: &Config, wanted: &args::Doctor) -> Result<Vec<Finding>, CliError> {
    let host = wanted.host.clone().or_else(|| config.domain.clone());
    let context = match Context::new(config, host) {
        Ok(context) => context,
        Err(error) => {
            return Ok(vec![Finding::failure("network", error, "put that right and run doctor again")]);
        }
    };
    let certificate = certificate::check(config);
    Ok(runtime()?.block_on(async {
        let mut findings = vec![server::check(&context), permissions::check(&context), disk::check(&context)];
        let reached = config.tls == TlsMode::Acme && certificate.outcome == Outcome::Ok;
        findings.extend(domain::check(&context, reached).await);
        findings.push(certificate);
        let (found, account) = owner::check(&context).await;
        findings.extend(found);
        let (found, pds) = pds::check(&context, account.as_deref()).await;
        findings.push(found);
        findings.push(clock::check(&context, pds).await);
        findings.push(record::check(&context, account.as_deref(), pds).await);
        findings
    }))
}

fn report(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { check, outcome, found, fix } in findings {
        let mark = match outcome {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Failure => "FAILURE",
            Outcome::Skipped => "-",
        };
        let indent = format!("\n{:25}", "");
        let lines = |text: &str| text.lines().map(safe).collect::<Vec<_>>().join(&indent);
        text += &format!("{mark:<9}{check:<16}{}\n", lines(found));
        if let Some(fix) = fix {
            text += &format!("{:25}To mend it: {}\n", "", lines(fix));
        }
    }
    let count = |outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
    text += &match (count(Outcome::Failure), count(Outcome::Warning)) {
        (0, 0) => "\nAll is well.\n".into(),
        (0, warnings) => format!("\nIt works; warnings: {warnings}.\n"),
        (failures, warnings) => {
            format!("\nSomething does not work; failures: {failures}, warnings: {warnings}.\n")
        }
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_lines_with_the_fix_below() {
        let findings = [
            Finding::ok("one", "fine"),
            Finding::failure("two", "broken\u{1b}[2J\nin two lines", "do this"),
            Finding::skipped("three", "two is broken"),
        ];
        let text = report(&findings);
        let blank = " ".repeat(25);
        for part in [
            "ok       one             fine\n".to_owned(),
            format!(
                "FAILURE  two             broken\\u{{1b}}[2J\n{blank}in two lines\n{blank}To mend it: do this\n"
            ),
            "-        three           not looked at: two is broken\n".to_owned(),
            "failures: 1, warnings: 0".to_owned(),
        ] {
            assert!(text.contains(&part), "{part:?} is not in {text}");
        }
        assert!(report(&findings[..1]).ends_with("\nAll is well.\n"));
    }
}
