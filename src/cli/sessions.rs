//! `sessions list | revoke`.

use std::fmt::Write as _;

use hyper::Method;

use super::admin_client::call;
use super::text::{count, date, percent_encode, safe};
use super::{CliError, Exit, print, print_json};
use crate::config::Config;
use crate::types::Millis;
use crate::types::now;
use crate::web::admin::{OpenSession, RevokedSession, RevokedSessions, Sessions};

pub(super) fn list(config: &Config, json: bool) -> Result<Exit, CliError> {
    let listed: Sessions = call(config, Method::GET, "/api/sessions", None::<&()>)?;
    if json {
        print_json(&listed)?;
    } else if listed.sessions.is_empty() {
        print("Nobody has a session.\n");
    } else {
        print(&words(&listed.sessions, now()));
    }
    Ok(Exit::Success)
}

/// A block for each: a `client_id` is what the owner goes by, so it is never cut to fit a column.
fn words(sessions: &[OpenSession], now: Millis) -> String {
    let mut text = String::new();
    for OpenSession { session, connections } in sessions {
        let name = safe(&session.name);
        // A name that an app gave stands on a line of its own, or it could read as another app's id.
        let _ = match session.is_local() {
            true => writeln!(text, "{}  {name}  token made by command", session.id),
            false => writeln!(text, "{}  {}\n    calls itself: {name}", session.id, safe(&session.client_id)),
        };
        let may = if session.read_only { "reads" } else { "reads and writes" };
        let used = session.last_used.map_or_else(|| "never".into(), date);
        let until = if session.expires <= now { "expired" } else { "until" };
        let _ = writeln!(
            text,
            "    {may} {}, {connections} connected, last used {used}, {until} {}",
            session.namespace,
            date(session.expires)
        );
        if let Some(copied) = &session.copied {
            let [one, other] = copied.addresses;
            let _ = writeln!(
                text,
                "    this token may have been copied: in use from {one} and {other} at once, last noticed on {}; `groundmist-sync sessions revoke {}` ends it",
                date(copied.at),
                session.id
            );
        }
        if let Some(address) = session.address {
            let _ = writeln!(text, "    from {address}");
        }
        if let Some(agent) = &session.user_agent {
            let _ = writeln!(text, "    with {}", safe(agent));
        }
    }
    text
}

pub(super) fn revoke(config: &Config, id_or_name: &str, json: bool) -> Result<Exit, CliError> {
    let path = format!("/api/sessions/{}", percent_encode(id_or_name));
    let revoked: RevokedSession = call(config, Method::DELETE, &path, None::<&()>)?;
    if json {
        print_json(&revoked)?;
    } else {
        print(&format!(
            "Revoked {}. Its connections are closed. An approved app may get a new one: `apps revoke` keeps it out.\n",
            revoked.revoked
        ));
    }
    Ok(Exit::Success)
}

pub(super) fn revoke_all(config: &Config, json: bool) -> Result<Exit, CliError> {
    let revoked: RevokedSessions = call(config, Method::DELETE, "/api/sessions", None::<&()>)?;
    if json {
        print_json(&revoked)?;
    } else {
        print(&format!(
            "Revoked {}, tokens included. All connections are closed; approved apps may come back.\n",
            count(revoked.revoked, "session")
        ));
    }
    Ok(Exit::Success)
}
