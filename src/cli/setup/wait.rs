//! Waits until the server that was started runs, and has a certificate.

use std::thread::sleep;
use std::time::{Duration, Instant};

use hyper::Method;

use super::talk::Talk;
use crate::cli::CliError;
use crate::cli::admin_client::call;
use crate::cli::status::certificate;
use crate::cli::text::{date, span};
use crate::config::{Config, TlsMode};
use crate::listen::CertificateNow;
use crate::listen::acme::ORDER_TIME;
use crate::types::{Millis, now};
use crate::web::admin::{Reloaded, Status};

/// Time for the server to answer.
const START_TIME: Duration = Duration::from_secs(30);
/// Time for the certificate: one order, and the checks before it.
const CERTIFICATE_TIME: Duration = Duration::from_secs(ORDER_TIME.as_secs() + 60);
/// How often the server is asked.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// What is known of the certificate once there is one that is in date, or none is needed. `started`: it was begun just
/// now, and may not answer yet.
///
/// # Errors
/// The server does not run, or there is no certificate; why, and what to do.
pub(super) fn wait(config: &Config, talk: &Talk) -> Result<CertificateNow, CliError> {
    let begun = Instant::now();
    let mut told = String::new();
    let mut first = None;
    loop {
        let known = match call::<Status>(config, Method::GET, "/api/status", None::<&()>) {
            Ok(status) => status.certificate,
            Err(CliError::NotRunning(_)) if begun.elapsed() < START_TIME => {
                sleep(ASK_EVERY);
                continue;
            }
            Err(error) => return Err(error),
        };
        if known.mode == TlsMode::Off.as_str() || known.valid_until.is_some_and(|until| until > now()) {
            talk.say(&format!("Certificate: {}.", certificate(&known)));
            return Ok(known);
        }
        if first.is_none() {
            let limit = span(CERTIFICATE_TIME.as_secs());
            talk.say(&format!("The server runs. Waiting for its certificate, for {limit} at most…"));
            // What failed before may be mended: it is tried again now, within the authority's limits.
            if known.failures > 0 {
                call::<Reloaded>(config, Method::POST, "/api/reload", None::<&()>)?;
            }
        }
        let failures = *first.get_or_insert(known.failures);
        let state = if known.ordering { "being ordered" } else { "not ordered yet" };
        if told != state {
            talk.say(&format!("  {state}"));
            state.clone_into(&mut told);
        }
        // The authority's limits may keep the next attempt away for longer than anybody waits here.
        let late = begun.elapsed() > START_TIME && !known.ordering && known.next_attempt.is_some();
        if known.failures > failures || late || begun.elapsed() > CERTIFICATE_TIME {
            return Err(none(&known));
        }
        sleep(ASK_EVERY);
    }
}

fn none(known: &CertificateNow) -> CliError {
    let why = known.last_error.as_deref().unwrap_or("it takes longer than it should");
    let next = known.next_attempt.map_or_else(String::new, |at: Millis| format!(" at {}", date(at)));
    CliError::failed(
        "no_certificate",
        format!(
            "the server runs, but has no certificate yet: {why}. It tries again by itself{next}, or at once after `groundmist-sync reload`; `groundmist-sync doctor` looks at everything"
        ),
    )
}
