//! `apps list | pending | approve | deny | revoke | forget-root | log`.

use hyper::Method;

use super::admin_client::call;
use super::args::{AppsCommand, WhichApp};
use super::text::safe;
use super::{CliError, Exit, print, print_json};
use crate::config::Config;
use crate::web::admin::{Apps, AuditTrail, Decide, DecidedNow, ForgetRoot, RootForgotten};

mod find;
mod words;

use find::{Verb, approved_elsewhere, find, with_root_document};
use words::{decided_words, decision_words, pending_words, trail_words};

pub(super) fn run(config: &Config, command: &AppsCommand, json: bool) -> Result<Exit, CliError> {
    match command {
        AppsCommand::List => {
            let apps = apps(config)?;
            if json { print_json(&apps)? } else { print(&decided_words(&apps)) }
        }
        AppsCommand::Pending => {
            let pending = apps(config)?.pending;
            if json {
                print_json(&serde_json::json!({ "pending": pending }))?;
            } else {
                print(&pending_words(&pending));
            }
        }
        AppsCommand::Approve { app, read_only } => decide(config, Verb::Approve, app, *read_only, json)?,
        AppsCommand::Deny { app } => decide(config, Verb::Deny, app, false, json)?,
        AppsCommand::Revoke { app } => decide(config, Verb::Revoke, app, false, json)?,
        AppsCommand::ForgetRoot { client_id, namespace } => {
            forget_root(config, client_id, namespace.as_deref(), json)?
        }
        AppsCommand::Log => {
            let trail: AuditTrail = call(config, Method::GET, "/api/audit", None::<&()>)?;
            if json { print_json(&trail)? } else { print(&trail_words(&trail.events)) }
        }
    }
    Ok(Exit::Success)
}

fn apps(config: &Config) -> Result<Apps, CliError> {
    call(config, Method::GET, "/api/apps", None::<&()>)
}

fn decide(
    config: &Config,
    verb: Verb,
    which: &WhichApp,
    read_only: bool,
    json: bool,
) -> Result<(), CliError> {
    let known = apps(config)?;
    let (client_id, namespaces) = find(&known, verb, which)?;
    let path = format!("/api/apps/{}", verb.name());
    let mut all = Vec::new();
    for namespace in &namespaces {
        let body = Decide { client_id: client_id.clone(), namespace: namespace.clone(), read_only };
        let decided: DecidedNow = call(config, Method::POST, &path, Some(&body))?;
        if !json {
            print(&decision_words(&decided));
        }
        all.push(decided);
    }
    if json {
        return match all.as_slice() {
            [one] => print_json(one),
            _ => print_json(&serde_json::json!({ "decided": all })),
        };
    }
    let elsewhere = match (verb, &which.namespace) {
        (Verb::Approve | Verb::Deny, None) => approved_elsewhere(&known, &client_id, &namespaces),
        _ => Vec::new(),
    };
    if !elsewhere.is_empty() {
        print(&format!(
            "It stays approved in {}; `groundmist-sync apps revoke CLIENT_ID` takes that back.\n",
            elsewhere.join(", ")
        ));
    }
    Ok(())
}

fn forget_root(
    config: &Config,
    client_id: &str,
    namespace: Option<&str>,
    json: bool,
) -> Result<(), CliError> {
    let (client_id, namespace) = with_root_document(&apps(config)?, client_id, namespace)?;
    let body = ForgetRoot { client_id, namespace };
    let done: RootForgotten = call(config, Method::POST, "/api/apps/forget-root", Some(&body))?;
    if json {
        return print_json(&done);
    }
    let next = match &done.next {
        Some(next) => format!("{}, which is stored", safe(next)),
        None => "the next document that one of them offers".into(),
    };
    print(&format!(
        "Forgot {} for {} in {}. Its devices now start from {next}. The forgotten document stays as it is.\n",
        safe(&done.forgotten),
        safe(&done.client_id),
        done.namespace
    ));
    Ok(())
}
