//! `publish`: tells apps where the owner's server is, by a record in her own repository.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::sync::Arc;

use hyper::Method;
use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::account::{self, Pinned};
use super::admin_client::call;
use super::text::safe;
use super::{CliError, Exit, args, hidden_input, print, print_json, runtime};
use crate::atproto::declaration;
use crate::atproto::repo::get_record;
use crate::atproto::{DidDocument, Hidden, PdsError, PdsSession, ResolveError, Resolver};
use crate::config::{Config, Owner};
use crate::net::{Freshness, Http};
use crate::types::Did;
use crate::web::admin::RecordNow;

/// Longest password in bytes; an app password has 19.
const MAX_PASSWORD_BYTES: usize = 1024;
/// Most characters shown of a record, which anything with her password may have written.
const MAX_SHOWN_CHARS: usize = 300;

/// Code of the error when nobody said yes.
pub(super) const NOT_CONFIRMED: &str = "not_confirmed";
/// Code of the error when Ctrl-C was pressed where the password is asked for.
pub(super) const INTERRUPTED: &str = "interrupted";

/// What is to be written, then what was: the JSON output.
#[derive(Debug, Serialize)]
pub(super) struct Publication {
    /// The owner.
    did: String,
    /// Origin of her PDS.
    pds: String,
    /// AT URI of the record.
    uri: String,
    /// What was there.
    before: Option<Value>,
    /// What is there; nothing after `--remove`.
    record: Option<Value>,
    /// Whether these differ, so that something had to be written.
    changed: bool,
}

pub(super) fn run(config: &Config, wanted: &args::Publish, json: bool) -> Result<Exit, CliError> {
    let publication = perform(config, wanted, json)?;
    if json {
        print_json(&publication)?;
    }
    Ok(Exit::Success)
}

/// Shows what will be, asks, and writes; `quietly`: says nothing on stdout.
pub(super) fn perform(
    config: &Config,
    wanted: &args::Publish,
    quietly: bool,
) -> Result<Publication, CliError> {
    let record = if wanted.remove { None } else { Some(declaration::record(&host(config, wanted)?)) };
    let owner = owner(config)?;
    let runtime = runtime()?;
    let (http, resolver) = account::network(config).map_err(|error| CliError::failed("network", error))?;
    let document = runtime
        .block_on(look_up(&resolver, &owner))
        .map_err(|error| CliError::failed("owner_unresolved", error))?;
    let did = document.did();
    let Some(pds) = document.pds() else {
        let message =
            format!("the DID document of {did} names no PDS: the account has to be put right first");
        return Err(CliError::failed("no_pds", message));
    };
    let before = runtime.block_on(get_record(&http, pds, &declaration::key(did))).map_err(failed)?;
    let publication = Publication {
        did: did.to_string(),
        pds: pds.origin().ascii_serialization(),
        uri: declaration::uri(did),
        changed: before != record,
        before,
        record,
    };
    if !quietly {
        print(&plan(&publication, document.handle().map(|handle| handle.as_str())));
    }
    let mut written = Ok(());
    if publication.changed {
        confirm(wanted.yes)?;
        let password = password()?;
        written = runtime.block_on(write(&http, pds, did, &password, publication.record.as_ref()));
    }
    tell_server(config);
    written?;
    if publication.changed && !quietly {
        print(if wanted.remove {
            "Removed. Apps no longer find this server by your account.\n"
        } else {
            "Published, and read back. Apps find this server by your account now.\n"
        });
    }
    Ok(publication)
}

/// Has the running server look at the record, so that `status` and the page do not speak of the old one. It looks for itself:
/// it may be another owner's, or have another name than was published.
fn tell_server(config: &Config) {
    match call::<RecordNow>(config, Method::POST, "/api/record/look", None::<&()>) {
        Ok(_) | Err(CliError::NotRunning(_)) => {}
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "warning: the running server could not be told, so status may speak of the old record for ten minutes: {error}"
            );
        }
    }
}

/// The host that the record is to name.
fn host(config: &Config, wanted: &args::Publish) -> Result<String, CliError> {
    let given = wanted.host.as_deref().or(config.domain.as_deref());
    let Some(given) = given else {
        return Err(CliError::Usage(
            "set `domain` to the name of this server in the configuration, or give it with --host, such as sync.example.com".into(),
        ));
    };
    declaration::host_name(given).ok_or_else(|| {
        CliError::Usage(format!(
            "--host {:?} is not a name by which other machines can find this server: give one such as sync.example.com, without https:// and port",
            safe(given)
        ))
    })
}

/// The owner to publish for: by DID, unless the handle was never asked before. Her password goes to the PDS of whoever
/// that is, so a doubt ends it.
fn owner(config: &Config) -> Result<Owner, CliError> {
    let Some(owner) = &config.owner else {
        let message = "the configuration has no owner: set `owner` to your DID or handle";
        return Err(CliError::failed("no_owner", message));
    };
    let Owner::Handle(handle) = owner else { return Ok(owner.clone()) };
    match account::pinned(config, handle, &account::of_server(config)) {
        Pinned::To(did) => Ok(Owner::Did(did)),
        Pinned::NotYet => Ok(owner.clone()),
        Pinned::Unclear(reason) => Err(CliError::failed(
            "owner_unclear",
            format!("whether the server knows {handle} as another account cannot be told: {reason}"),
        )),
    }
}

async fn look_up(resolver: &Resolver, owner: &Owner) -> Result<Arc<DidDocument>, ResolveError> {
    match owner {
        Owner::Did(did) => resolver.document(did, Freshness::Cached).await,
        Owner::Handle(handle) => resolver.account(handle).await,
    }
}

/// Everything that the owner needs to know before she says yes.
fn plan(publication: &Publication, handle: Option<&str>) -> String {
    let shown = |record: &Option<Value>| match record {
        None => "no record".into(),
        Some(record) => safe(&record.to_string()).chars().take(MAX_SHOWN_CHARS).collect::<String>(),
    };
    let Publication { did, pds, uri, before, record, changed } = publication;
    let account = handle.map_or_else(|| did.clone(), |handle| format!("{did} (@{handle})"));
    let mut text =
        format!("Account   {account}\nPDS       {pds}\nRecord    {uri}\nNow       {}\n", shown(before));
    if *changed {
        text += &format!("Then      {}\n", shown(record));
    } else {
        text += "It is as it should be: there is nothing to do.\n";
    }
    text
}

/// Asks on the terminal. Questions go to stderr: stdout is for results.
fn confirm(yes: bool) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        let message =
            "there is no terminal to ask on: say --yes, and give the app password on standard input";
        return Err(CliError::Usage(message.into()));
    }
    let _ = write!(std::io::stderr(), "Write this? [y/N] ");
    let mut answer = String::new();
    let asked = std::io::stdin().lock().take(MAX_PASSWORD_BYTES as u64).read_line(&mut answer);
    match (asked, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(CliError::failed(NOT_CONFIRMED, "nothing was written")),
    }
}

/// From a prompt without echo, or the first line of standard input.
fn password() -> Result<Hidden, CliError> {
    let unread = |error: std::io::Error| {
        let interrupted = error.kind() == std::io::ErrorKind::Interrupted;
        let code = if interrupted { INTERRUPTED } else { "no_password" };
        CliError::failed(code, format!("the app password cannot be read: {error}"))
    };
    let text = if std::io::stdin().is_terminal() {
        let question = "App password (made in the account's settings, not your own password): ";
        hidden_input::ask(question, MAX_PASSWORD_BYTES).map_err(unread)?
    } else {
        let mut line = String::new();
        std::io::stdin().lock().take(MAX_PASSWORD_BYTES as u64 + 1).read_line(&mut line).map_err(unread)?;
        line
    };
    let text = text.trim_end_matches(['\r', '\n']);
    match text.len() {
        0 => Err(CliError::failed(
            "no_password",
            "there is no app password on standard input: give it as its first line",
        )),
        1..=MAX_PASSWORD_BYTES => Ok(Hidden::new(text.into())),
        _ => Err(CliError::failed("no_password", "what was given is too long for a password")),
    }
}

/// Signs in, writes or removes, signs out whatever came of it, and looks at what is there then.
async fn write(
    http: &Http,
    pds: &Url,
    did: &Did,
    password: &Hidden,
    record: Option<&Value>,
) -> Result<(), CliError> {
    let key = declaration::key(did);
    let session = PdsSession::create(http, pds, did.as_str(), password).await.map_err(failed)?;
    let written = if session.did() != did {
        let message = format!("{pds} signed in to {} instead of {did}: nothing was written", session.did());
        Err(CliError::failed("other_account", message))
    } else {
        match record {
            Some(record) => session.put_record(http, &key, record).await.map(drop).map_err(failed),
            None => session.delete_record(http, &key).await.map_err(failed),
        }
    };
    if let Err(error) = session.delete(http).await {
        let _ =
            writeln!(std::io::stderr(), "warning: signing out failed, the sign-in ends by itself: {error}");
    }
    written?;
    let now = get_record(http, pds, &key).await.map_err(failed)?;
    if now.as_ref() == record {
        return Ok(());
    }
    let message = format!(
        "{pds} took it, and shows something else: look again in a minute with `groundmist-sync doctor`"
    );
    Err(CliError::failed("not_as_written", message))
}

fn failed(error: PdsError) -> CliError {
    let code = match error {
        PdsError::WrongPassword(_) => "wrong_password",
        PdsError::SecondFactor(_) => "second_factor",
        _ => "pds_failed",
    };
    CliError::failed(code, safe(&error.to_string()))
}
