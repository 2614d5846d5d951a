//! `setup`: from nothing to a server that answers by its name. Three answers, each checked; configuration, record, start,
//! certificate. What is there already is what Enter keeps, so it can be run again.

use serde::Serialize;

use super::args::{Publish, Setup};
use super::{CliError, Exit, print_json, publish};
use crate::config::{Config, ConfigFile, Sources, TlsMode};
use crate::listen::CertificateNow;
use talk::{Talk, Warning};

mod answers;
mod machine;
mod service;
mod talk;
mod wait;

/// What came of it: the JSON output.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Nothing that was to be done failed.
    ok: bool,
    /// The configuration file.
    file: String,
    /// Whether it had to be written.
    changed: bool,
    domain: Option<String>,
    owner: Option<String>,
    /// Where the owner's handle leads, if that could be found out.
    did: Option<String>,
    email: Option<String>,
    /// Whether apps find the server by the owner's account; nothing if that was not looked at.
    published: Option<bool>,
    /// Whether the server was started, or ran already.
    started: bool,
    certificate: Option<CertificateNow>,
    /// Where apps reach it.
    address: String,
    warnings: Vec<Warning>,
    /// What failed after the configuration was written, in words.
    errors: Vec<String>,
}

pub(super) fn run(sources: &Sources, wanted: &Setup, json: bool) -> Result<Exit, CliError> {
    let mut file = ConfigFile::open(sources.file())?;
    file.may_write()?;
    let mut talk = Talk::new(wanted.yes, json);
    let answers = answers::ask(&mut file, sources, wanted, &mut talk)?;
    let config = &answers.config;
    talk.say("This machine:");
    let warned = talk.warnings.len();
    machine::look(config, answers.dns, &mut talk)?;
    if talk.warnings.len() > warned && !talk.goes_on()? {
        return Err(CliError::failed("not_confirmed", "nothing was written"));
    }
    let changed = file.is_changed();
    if changed {
        file.write()?;
    }
    talk.say(&format!(
        "{} {}.",
        if changed { "Written to" } else { "Nothing to change in" },
        file.path().display()
    ));

    let mut errors = Vec::new();
    let published = or_error(published(config, wanted, &talk, json), &mut errors, &talk)?.flatten();
    let mut outcome = Outcome {
        ok: false,
        file: file.path().display().to_string(),
        changed,
        domain: config.domain.clone(),
        owner: config.owner.as_ref().map(|owner| owner.as_str().to_owned()),
        did: answers.did,
        email: config.acme.contact.clone(),
        published,
        started: false,
        certificate: None,
        address: address(config),
        warnings: Vec::new(),
        errors: Vec::new(),
    };
    if wanted.no_start {
        talk.say(&format!("Not started. That is done by: {}", service::command(config)));
    } else if !service::is_installed() {
        talk.say("systemd does not run here, or does not know groundmist-sync. Start the server, or restart it, by: groundmist-sync serve");
    } else if or_error(service::start(config, changed), &mut errors, &talk)?.is_some() {
        outcome.started = true;
        outcome.certificate = or_error(wait::wait(config, &talk), &mut errors, &talk)?;
    }
    outcome.ok = errors.is_empty();
    outcome.errors = errors;
    outcome.warnings = talk.warnings.split_off(0);
    talk.say(&ending(config, &outcome));
    if json {
        print_json(&outcome)?;
    }
    Ok(if outcome.ok { Exit::Success } else { Exit::Failure })
}

/// What fails once the configuration is written is told, and the rest is done all the same. Only Ctrl-C ends everything.
fn or_error<T>(
    result: Result<T, CliError>,
    errors: &mut Vec<String>,
    talk: &Talk,
) -> Result<Option<T>, CliError> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.code() == publish::INTERRUPTED => Err(error),
        Err(error) => {
            talk.say(&format!("  error: {error}"));
            errors.push(error.to_string());
            Ok(None)
        }
    }
}

/// Offers to write the record; `None` if nobody wanted to know.
fn published(config: &Config, wanted: &Setup, talk: &Talk, json: bool) -> Result<Option<bool>, CliError> {
    if wanted.no_publish || !(wanted.publish || talk.asks()) {
        return Ok(None);
    }
    talk.say("\nApps find your server by a record in your account. It is written with an app password, which is not kept;\nyou can do that later as well, by: groundmist-sync publish");
    let record = Publish { host: None, remove: false, yes: wanted.publish };
    match publish::perform(config, &record, json) {
        Ok(_) => Ok(Some(true)),
        Err(error) if error.code() == publish::NOT_CONFIRMED => Ok(Some(false)),
        Err(error) => Err(error),
    }
}

/// Where apps reach it.
fn address(config: &Config) -> String {
    config
        .domain
        .as_ref()
        .map_or_else(|| format!("http://{}", config.listen.address), |domain| format!("https://{domain}"))
}

/// What she does now.
fn ending(config: &Config, outcome: &Outcome) -> String {
    let address = &outcome.address;
    let mut text = match (outcome.started, outcome.ok) {
        (true, true) => format!("\nYour server is at {address}\n"),
        _ => format!("\nYour server will be at {address}\n"),
    };
    if config.tls == TlsMode::Acme && config.acme.is_staging() {
        text += "Its certificates are for trying things out, and apps refuse them. When all works: groundmist-sync setup --no-staging\n";
    }
    if outcome.published != Some(true) {
        text += "Let your apps find it: groundmist-sync publish\n";
    }
    text += "Open an app and sign in with your account. It is turned away, and waits for you: ";
    if config.domain.is_some() {
        text += &format!("open {address}, sign in, and approve it; or here:\n");
    }
    text + "\n    groundmist-sync apps pending\n    groundmist-sync apps approve 1\n\nThen try again in the app. Is everything right? groundmist-sync doctor\n"
}
