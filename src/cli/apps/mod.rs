//! `apps list | pending | approve | deny | revoke | forget-root | log`.

use hyper::Method;

use super::admin_client::call;
use super::args::{AppsCommand, WhichApp};
use super::text::safe;
use super::{CliError, Exit, print, print_json};
use crate::access::Decision;
use crate::config::Config;
use crate::web::admin::{Apps, AuditTrail, Decide, DecidedNow, ForgetRoot, RootForgotten};

mod find;
mod words;

use find::{find, with_root_document};
use words::{decided_words, pending_words, trail_words};

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
        AppsCommand::Approve { app, read_only } => decide(config, "approve", app, *read_only, json)?,
        AppsCommand::Deny { app } => decide(config, "deny", app, false, json)?,
        AppsCommand::Revoke { app } => decide(config, "revoke", app, false, json)?,
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
    verb: &str,
    which: &WhichApp,
    read_only: bool,
    json: bool,
) -> Result<(), CliError> {
    let (client_id, namespace) = find(&apps(config)?, which)?;
    let body = Decide { client_id, namespace, read_only };
    let decided: DecidedNow = call(config, Method::POST, &format!("/api/apps/{verb}"), Some(&body))?;
    if json {
        return print_json(&decided);
    }
    let ended = match decided.sessions_ended {
        0 => String::new(),
        1 => " Its session is ended and its connections are closed.".into(),
        many => format!(" Its {many} sessions are ended and their connections closed."),
    };
    let client_id = safe(&decided.client_id);
    let done = match decided.decision {
        Decision::ReadWrite => "Approved, to read and write",
        Decision::ReadOnly => "Approved, to read only",
        Decision::Denied => "Denied",
        Decision::Revoked => "Revoked",
    };
    print(&format!("{done} in {}: {client_id}.{ended}\n", decided.namespace));
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
