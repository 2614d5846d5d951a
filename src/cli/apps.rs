//! `apps list | pending | approve | deny | revoke | log`.

use std::fmt::Write as _;

use hyper::Method;

use super::admin_client::call;
use super::args::{AppsCommand, WhichApp};
use super::text::{date, safe};
use super::{CliError, Exit, print, print_json};
use crate::access::{Decision, Event, Pending, Proof, What};
use crate::config::Config;
use crate::web::admin::{Apps, AuditTrail, Decide, DecidedApp, DecidedNow};

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

/// The app and namespace that the owner means.
fn find(apps: &Apps, which: &WhichApp) -> Result<(String, String), CliError> {
    if let Ok(number) = which.app.trim_start_matches('#').parse::<u64>() {
        let Some(pending) = apps.pending.iter().find(|pending| pending.number == number) else {
            return Err(CliError::failed(
                "not_found",
                format!(
                    "no app with the number {number} waits: `groundmist-sync apps pending` lists those that do"
                ),
            ));
        };
        let namespace = pending.namespace.to_string();
        return match &which.namespace {
            Some(other) if !other.eq_ignore_ascii_case(&namespace) => Err(CliError::Usage(format!(
                "number {number} asked for {namespace}, not {}: name the app by its client_id to decide about another namespace",
                safe(other)
            ))),
            _ => Ok((pending.client_id.clone(), namespace)),
        };
    }
    if let Some(namespace) = &which.namespace {
        return Ok((which.app.clone(), namespace.clone()));
    }
    let decided = apps.apps.iter().map(|app| (&app.grant.client_id, &app.grant.namespace));
    let asked = apps.pending.iter().map(|pending| (&pending.client_id, &pending.namespace));
    let mut namespaces: Vec<String> = decided
        .chain(asked)
        .filter(|(client_id, _)| **client_id == which.app)
        .map(|(_, namespace)| namespace.to_string())
        .collect();
    namespaces.sort();
    namespaces.dedup();
    match namespaces.as_slice() {
        [one] => Ok((which.app.clone(), one.clone())),
        [] => Err(CliError::failed(
            "not_found",
            format!("{} has not asked: check it, or say where with --namespace", safe(&which.app)),
        )),
        many => Err(CliError::failed(
            "ambiguous_app",
            format!("this app is known in {}: say which with --namespace", many.join(", ")),
        )),
    }
}

/// A block for each app: a `client_id` is what the owner decides on, so it is never cut to fit a column.
fn decided_words(apps: &Apps) -> String {
    let mut text = String::new();
    for DecidedApp { grant, sessions, connections } in &apps.apps {
        let may = match grant.decision {
            Decision::ReadWrite => "approved, reads and writes",
            Decision::ReadOnly => "approved, reads only",
            Decision::Denied => "denied",
            Decision::Revoked => "revoked",
        };
        let _ = writeln!(
            text,
            "{}\n    {}: {may} since {}",
            safe(&grant.client_id),
            grant.namespace,
            date(grant.decided)
        );
        if grant.decision.lets_in() {
            let _ = writeln!(text, "    sessions: {sessions}, connected: {connections}");
        }
    }
    if apps.apps.is_empty() {
        text.push_str("Nothing is decided about any app.\n");
    }
    if !apps.pending.is_empty() {
        let _ = writeln!(text, "Waiting for you: {} (groundmist-sync apps pending)", apps.pending.len());
    }
    text
}

fn pending_words(pending: &[Pending]) -> String {
    if pending.is_empty() {
        return "No app waits. One appears here when it has tried to connect as you.\n".into();
    }
    let mut text = String::new();
    for app in pending {
        let wants = if app.read_only { "read" } else { "read and write" };
        let how = match app.how {
            Proof::Probe => "an access token that your PDS knows",
            Proof::Relay => "your PDS answering for it",
            Proof::IssuerKey => "an access token with your PDS's signature",
            Proof::ServiceAuth => "a token by your own key, and its published key",
            Proof::Consent => "your own word at /connect",
        };
        let _ = writeln!(text, "#{}  {}", app.number, safe(&app.client_id));
        let _ = writeln!(text, "    wants to {wants} {}", app.namespace);
        let _ = writeln!(text, "    proved by {how}");
        let times = if app.count == 1 { "asked once".into() } else { format!("asked {} times", app.count) };
        let address = app.address.map_or_else(String::new, |address| format!(", from {address}"));
        let _ = writeln!(text, "    {times}, last {}{address}", date(app.last_asked));
        if let Some(agent) = &app.user_agent {
            let _ = writeln!(text, "    with {}", safe(agent));
        }
    }
    text.push_str("Decide with: groundmist-sync apps approve NUMBER [--read-only], or apps deny NUMBER\n");
    text
}

fn trail_words(events: &[Event]) -> String {
    if events.is_empty() {
        return "Nothing has happened yet.\n".into();
    }
    let mut text = String::new();
    for event in events {
        let what = match event.what {
            What::Approved => "approved, to read and write",
            What::ApprovedReadOnly => "approved, to read only",
            What::ApprovedOnFirstUse => "approved on first use",
            What::Denied => "denied",
            What::Revoked => "revoked",
            What::TokenMade => "token made",
            What::SessionRevoked => "session revoked",
            What::AllSessionsRevoked => "all sessions revoked",
            What::DocumentDeleted => "document deleted",
            What::DocumentRestored => "document restored",
            What::DocumentPurged => "document deleted for good",
            What::Entered => "entered",
            What::NotApproved => "turned away: not approved",
            What::RefusedDenied => "turned away: denied",
            What::RefusedLoopback => "turned away: an app on localhost",
            What::RefusedReplay => "turned away: a token used twice",
            What::EndedByReplay => "ended: a code or refresh token used twice",
            What::AppSignedOut => "gave its tokens back",
            What::SignedIn => "the owner signed in",
            What::SignInRefused => "turned away: somebody else signed in",
            What::SignedOut => "the owner signed out",
        };
        let _ = write!(text, "{}  {what}", date(event.last));
        if event.count > 1 {
            let _ = write!(text, ", {} times", event.count);
        }
        if let Some(namespace) = &event.namespace {
            let _ = write!(text, ", {}", safe(namespace));
        }
        if let Some(document) = &event.document {
            let _ = write!(text, ", {}", safe(document));
        }
        if let Some(session) = &event.session {
            let _ = write!(text, ", session {}", safe(session));
        }
        if let Some(address) = event.address {
            let _ = write!(text, ", from {address}");
        }
        text.push('\n');
        if let Some(client_id) = &event.client_id {
            let _ = writeln!(text, "    {}", safe(client_id));
        }
    }
    text
}
