//! Whether the running server has a certificate that clients accept, and will have one.

use hyper::Method;

use super::Finding;
use crate::cli::CliError;
use crate::cli::admin_client::call;
use crate::cli::status;
use crate::config::Config;
use crate::listen::CertificateNow;
use crate::types::{now, rfc3339};
use crate::web::admin::{Status, certificate_trouble};

const CHECK: &str = "certificate";

pub(super) fn check(config: &Config) -> Finding {
    match call::<Status>(config, Method::GET, "/api/status", None::<&()>) {
        Ok(status) => judge(&status.certificate),
        Err(CliError::NotRunning(_)) => Finding::skipped(CHECK, "no server is running"),
        Err(error) => Finding::skipped(CHECK, &format!("the running server cannot be asked: {error}")),
    }
}

fn judge(known: &CertificateNow) -> Finding {
    match certificate_trouble(known, now()) {
        None => Finding::ok(CHECK, status::certificate(known)),
        Some(trouble) => {
            let next = known.next_attempt.map_or_else(String::new, |at| format!(" at {}", rfc3339(at)));
            let fix = format!(
                "do what is said there; the server tries again by itself{next}, or at once after: groundmist-sync reload"
            );
            Finding::failure(CHECK, trouble, fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Outcome;

    #[test]
    fn what_keeps_clients_away_is_a_failure_with_the_next_attempt() {
        let day = 86_400_000;
        let known = |valid_until, error: Option<&str>| CertificateNow {
            mode: "acme".into(),
            valid_until,
            last_error: error.map(str::to_owned),
            next_attempt: Some(now() + day),
            ..CertificateNow::default()
        };
        for (known, outcome) in [
            (known(Some(now() + 60 * day), None), Outcome::Ok),
            (known(Some(now() - 1), None), Outcome::Failure),
            (known(None, Some("DNS has no name a.example")), Outcome::Failure),
            (CertificateNow { mode: "off".into(), ..CertificateNow::default() }, Outcome::Ok),
        ] {
            let finding = judge(&known);
            assert_eq!(finding.outcome, outcome, "{finding:?}");
            assert!(outcome == Outcome::Ok || finding.fix.is_some_and(|fix| fix.contains("by itself at 20")));
            assert!(known.last_error.is_none_or(|error| finding.found.contains(&error)));
        }
    }
}
