//! What the `apps` commands print for people.

use std::fmt::Write as _;

use super::super::text::{count, date, safe};
use crate::access::{Decision, Event, Pending, Proof, RootState, What};
use crate::web::admin::{Apps, DecidedApp, DecidedNow};

/// What a decision did.
pub(super) fn decision_words(decided: &DecidedNow) -> String {
    let ended = match decided.sessions_ended {
        0 => String::new(),
        1 => " Its session is ended and its connections are closed.".into(),
        many => format!(" Its {} are ended and their connections closed.", count(many, "session")),
    };
    let done = match decided.decision {
        Decision::ReadWrite => "Approved, to read and write",
        Decision::ReadOnly => "Approved, to read only",
        Decision::Denied => "Denied",
        Decision::Revoked => "Revoked",
    };
    format!("{done} in {}: {}.{ended}\n", decided.namespace, safe(&decided.client_id))
}

/// A block for each app: a `client_id` is what the owner decides on, so it is never cut to fit a column.
pub(super) fn decided_words(apps: &Apps) -> String {
    let mut text = String::new();
    for DecidedApp { grant, sessions, connections, root_document } in &apps.apps {
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
        if let Some(root) = root_document {
            let state = match root.state {
                RootState::Held => "stored",
                RootState::Awaited => "not arrived yet",
                RootState::Lapsed => "never arrived: the next document that a device offers replaces it",
                RootState::Deleted => "deleted: the next document that a device offers replaces it",
            };
            let _ = writeln!(text, "    starts from: {}, {state}", safe(&root.url));
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

pub(super) fn pending_words(pending: &[Pending]) -> String {
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
        let times = if app.count == 1 { "once".into() } else { count(app.count, "time") };
        let address = app.address.map_or_else(String::new, |address| format!(", from {address}"));
        let _ = writeln!(text, "    asked {times}, last {}{address}", date(app.last_asked));
        if let Some(agent) = &app.user_agent {
            let _ = writeln!(text, "    with {}", safe(agent));
        }
    }
    text.push_str("Decide with: groundmist-sync apps approve NUMBER [--read-only], or apps deny NUMBER\n");
    text
}

pub(super) fn trail_words(events: &[Event]) -> String {
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
            What::SecretRotated => "a new signing secret made, all sessions ended",
            What::DocumentDeleted => "document deleted",
            What::DocumentRestored => "document restored",
            What::DocumentPurged => "document deleted for good",
            What::RootForgotten => "root document forgotten",
            What::Entered => "entered",
            What::NotApproved => "turned away: not approved",
            What::RefusedDenied => "turned away: denied",
            What::RefusedLoopback => "turned away: an app on localhost",
            What::RefusedReplay => "turned away: a token used twice",
            What::EndedByReplay => "ended: a code or refresh token used twice",
            What::AppSignedOut => "gave its tokens back",
            What::FormerOwnerEnded => "session of a former owner ended",
            What::LinkMade => "a link made that signs in once",
            What::SignedInByLink => "the owner signed in by a link",
            What::SignedIn => "the owner signed in",
            What::SignInRefused => "turned away: somebody else signed in",
            What::SignedOut => "the owner signed out",
        };
        let _ = write!(text, "{}  {what}", date(event.last));
        if event.count > 1 {
            let _ = write!(text, ", {}", count(event.count, "time"));
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
