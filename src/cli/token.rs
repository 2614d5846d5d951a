//! `token create | list | revoke`.

use std::fmt::Write as _;
use std::io::Write as _;

use hyper::Method;

use super::admin_client::call;
use super::text::{date, percent_encode, table};
use super::{CliError, Exit, args, print, print_json};
use crate::config::{Config, parse_duration};
use crate::types::now;
use crate::web::admin::{CreateToken, CreatedToken, RevokedToken, Tokens};

pub(super) fn create(config: &Config, wanted: &args::CreateToken, json: bool) -> Result<Exit, CliError> {
    let expires_in = match &wanted.expires {
        None => None,
        Some(text) => {
            let life = parse_duration(text)
                .map_err(|fix| CliError::Usage(format!("--expires {text:?} is not a time: {fix}")))?;
            // Below a second the server says what is allowed.
            Some(life.as_secs())
        }
    };
    let body = CreateToken {
        name: wanted.name.clone(),
        namespace: wanted.namespace.clone(),
        read_only: wanted.read_only,
        expires_in,
    };
    let created: CreatedToken = call(config, Method::POST, "/api/tokens", Some(&body))?;
    if json {
        print_json(&created)?;
        return Ok(Exit::Success);
    }
    print(&format!("{}\n", created.token));
    let session = &created.session;
    let _ = writeln!(
        std::io::stderr(),
        "{} for {} until {}, {}. Keep it: it cannot be shown again. Take it back with: groundmist-sync token revoke {}",
        session.name,
        session.namespace,
        date(session.expires),
        if session.read_only { "read only" } else { "read and write" },
        session.id,
    );
    Ok(Exit::Success)
}

pub(super) fn list(config: &Config, json: bool) -> Result<Exit, CliError> {
    let listed: Tokens = call(config, Method::GET, "/api/tokens", None::<&()>)?;
    if json {
        print_json(&listed)?;
        return Ok(Exit::Success);
    }
    if listed.tokens.is_empty() {
        print("No tokens yet. Make one with: groundmist-sync token create --name NAME --namespace DOMAIN\n");
        return Ok(Exit::Success);
    }
    let now = now();
    let mut rows = vec![["ID", "NAME", "NAMESPACE", "MAY", "EXPIRES", "LAST USED"].map(String::from)];
    rows.extend(listed.tokens.into_iter().map(|session| {
        let mut expires = date(session.expires);
        if session.expires <= now {
            let _ = write!(expires, " (expired)");
        }
        [
            session.id,
            session.name,
            session.namespace.to_string(),
            if session.read_only { "read" } else { "read, write" }.into(),
            expires,
            session.last_used.map_or_else(|| "never".into(), date),
        ]
    }));
    print(&table(&rows));
    Ok(Exit::Success)
}

pub(super) fn revoke(config: &Config, id_or_name: &str, json: bool) -> Result<Exit, CliError> {
    let path = format!("/api/tokens/{}", percent_encode(id_or_name));
    let revoked: RevokedToken = call(config, Method::DELETE, &path, None::<&()>)?;
    if json {
        print_json(&revoked)?;
    } else {
        print(&format!("Revoked {}. Its connections are closed.\n", revoked.revoked));
    }
    Ok(Exit::Success)
}
