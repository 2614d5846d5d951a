//! The three answers: asked for or given by flags, each checked at once.

use super::talk::{Talk, Warning};
use crate::cli::doctor::{self, Finding, Outcome};
use crate::cli::{CliError, args, runtime};
use crate::config::{Config, ConfigError, ConfigFile, Loaded, Sources};

/// Removes an answer that may be left out.
const NOTHING: &str = "-";

/// Something to be known.
struct Question {
    key: &'static str,
    flag: &'static str,
    /// What stands before the flag's value in an error.
    value: &'static str,
    words: &'static str,
    optional: bool,
}

const DOMAIN: Question = Question {
    key: "domain",
    flag: "--domain",
    value: "NAME",
    words: "Name by which your apps reach this server, such as sync.example.com",
    optional: false,
};
const OWNER: Question = Question {
    key: "owner",
    flag: "--owner",
    value: "HANDLE",
    words: "Your handle, such as alice.example.com, or your DID",
    optional: false,
};
const EMAIL: Question = Question {
    key: "acme.contact",
    flag: "--email",
    value: "ADDRESS",
    words: "E-mail address that the certificate authority may write to; Enter for none",
    optional: true,
};

/// What came of it: changes in the file, not written yet, and what they make of the configuration.
pub(super) struct Answers {
    pub(super) config: Config,
    /// The owner's DID, if it could be found out.
    pub(super) did: Option<String>,
    /// DNS knows addresses of the domain that will do.
    pub(super) dns: bool,
}

/// Asks for what no flag gives; what is in force already is what Enter keeps.
///
/// # Errors
/// An answer is missing or wrong, and there is no terminal to ask on; or the configuration has other faults.
pub(super) fn ask(
    file: &mut ConfigFile,
    sources: &Sources,
    wanted: &args::Setup,
    talk: &mut Talk,
) -> Result<Answers, CliError> {
    let in_force = Config::load(sources).ok().map(|loaded| loaded.config);
    let config = in_force.as_ref();
    let known = |file: &ConfigFile, question: &Question, other: Option<String>| {
        let written = file.get(question.key).ok().and_then(|values| values.into_iter().next());
        written.or(other)
    };
    let domain = known(file, &DOMAIN, config.and_then(|config| config.domain.clone()));
    let owner =
        known(file, &OWNER, config.and_then(|config| config.owner.as_ref()?.as_str().to_owned().into()));
    let email = known(file, &EMAIL, config.and_then(|config| config.acme.contact.clone()));
    if !talk.asks() {
        let missing = [(&DOMAIN, &wanted.domain, &domain), (&OWNER, &wanted.owner, &owner)];
        missing_flags(missing.into_iter().filter(|(_, flag, known)| flag.is_none() && known.is_none()))?;
    }
    if wanted.staging || wanted.no_staging {
        let value = if wanted.staging { "true" } else { "" };
        file.set("acme.staging", value).map_err(unusable)?;
    }
    let mut dns = false;
    answer(&DOMAIN, wanted.domain.as_deref(), domain, file, sources, talk, |loaded, talk| {
        let Some(domain) = &loaded.config.domain else { return Ok(true) };
        let (finding, _) = runtime()?.block_on(doctor::domain::dns(&loaded.config, domain));
        dns = finding.outcome == Outcome::Ok;
        Ok(report(talk, [finding]))
    })?;
    let mut did = None;
    answer(&OWNER, wanted.owner.as_deref(), owner, file, sources, talk, |loaded, talk| {
        let context = match doctor::Context::new(&loaded.config, loaded.config.domain.clone()) {
            Ok(context) => context,
            Err(error) => return Err(CliError::failed("network", error)),
        };
        let (findings, account) = runtime()?.block_on(doctor::owner::check(&context));
        did = account.map(|account| account.did().to_string());
        Ok(report(talk, findings))
    })?;
    let loaded = answer(&EMAIL, wanted.email.as_deref(), email, file, sources, talk, |_, _| Ok(true))?;
    Ok(Answers { config: loaded.config, did, dns })
}

fn missing_flags<'a, T: 'a>(
    missing: impl Iterator<Item = (&'a Question, T, &'a Option<String>)>,
) -> Result<(), CliError> {
    let flags: Vec<String> =
        missing.map(|(question, ..)| format!("{} {}", question.flag, question.value)).collect();
    if flags.is_empty() {
        return Ok(());
    }
    Err(CliError::Usage(format!(
        "there is nobody to ask, without a terminal or with --yes: give {} as well",
        flags.join(" and ")
    )))
}

/// Until there is an answer that can be used, and that she is content with. `look` says whether all was well.
fn answer(
    question: &Question,
    flag: Option<&str>,
    known: Option<String>,
    file: &mut ConfigFile,
    sources: &Sources,
    talk: &mut Talk,
    mut look: impl FnMut(&Loaded, &mut Talk) -> Result<bool, CliError>,
) -> Result<Loaded, CliError> {
    let mut flag = flag.map(str::to_owned);
    loop {
        let by_flag = flag.is_some();
        let text = match flag.take() {
            Some(given) => given,
            None if talk.asks() => asked(question, known.as_deref(), talk)?,
            None => known.clone().unwrap_or_default(),
        };
        let text = if question.optional && text == NOTHING { String::new() } else { text };
        let before = file.clone();
        let warned = talk.warnings.len();
        match set(file, sources, question.key, &text) {
            Ok(loaded) if look(&loaded, talk)? || talk.goes_on()? => return Ok(loaded),
            // What was wrong with an answer that is taken back concerns nobody.
            Ok(_) => talk.warnings.truncate(warned),
            Err(ConfigError::Problems(problems))
                if problems.iter().all(|problem| problem.setting == question.key) =>
            {
                let words: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
                let words = words.join("; ");
                if !talk.asks() {
                    let from = if by_flag { question.flag } else { question.key };
                    return Err(CliError::Usage(format!("{from}: {words}; nothing was changed")));
                }
                talk.say(&format!("  {words}"));
            }
            Err(error) => return Err(unusable(error)),
        }
        *file = before;
    }
}

fn asked(question: &Question, known: Option<&str>, talk: &Talk) -> Result<String, CliError> {
    let shown = known.map_or_else(String::new, |known| format!(" [{known}]"));
    let remove = if question.optional && known.is_some() { " (- for none)" } else { "" };
    loop {
        let line = talk.line(&format!("{}{remove}{shown}: ", question.words))?;
        match (line.is_empty(), known) {
            (false, _) => return Ok(line),
            (true, Some(known)) => return Ok(known.to_owned()),
            (true, None) if question.optional => return Ok(line),
            (true, None) => talk.say("  This has to be known."),
        }
    }
}

/// Written as the configuration understands it: a name in lower case, a handle without its @.
fn set(file: &mut ConfigFile, sources: &Sources, key: &str, text: &str) -> Result<Loaded, ConfigError> {
    file.set(key, text)?;
    let loaded = file.check(sources)?;
    let config = &loaded.config;
    let understood = match key {
        "domain" => config.domain.as_deref(),
        "owner" => config.owner.as_ref().map(|owner| owner.as_str()),
        _ => config.acme.contact.as_deref(),
    };
    file.set(key, understood.unwrap_or_default())?;
    Ok(loaded)
}

/// Faults of the configuration that no answer here mends.
fn unusable(error: ConfigError) -> CliError {
    CliError::Setting(format!("nothing was changed, because {error}"))
}

/// Whether all is well.
fn report(talk: &mut Talk, findings: impl IntoIterator<Item = Finding>) -> bool {
    let mut well = true;
    for Finding { check, outcome, found, fix } in findings {
        if matches!(outcome, Outcome::Ok | Outcome::Skipped) {
            talk.say(&format!("  {found}"));
        } else {
            well = false;
            talk.warn(Warning { about: check.into(), found, fix });
        }
    }
    well
}
