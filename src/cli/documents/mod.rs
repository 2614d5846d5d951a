//! `docs list | show | delete | restore | purge | retry | export | import`, and `import`.

use std::fmt::Write as _;
use std::io::Write as _;

use hyper::Method;

use super::args::{DocsCommand, Import, WhichDocument};
use super::text::{bytes, date, grouped, percent_encode, safe, table};
use super::{CliError, Exit, print, print_json};
use crate::config::Config;
use crate::types::{DocKey, Namespace};
use crate::web::admin::{Document, Documents};
use server::Server;

mod dispose;
mod entries;
mod export;
mod files;
mod offer;
mod prototype;
mod report;
mod server;

/// `docs …`.
pub(super) fn run(config: &Config, command: &DocsCommand, json: bool) -> Result<Exit, CliError> {
    match command {
        DocsCommand::List { namespace, deleted } => {
            list(&Server::of_existing(config)?, namespace.as_deref(), *deleted, json)
        }
        DocsCommand::Show { namespace, document } => {
            show(&Server::of_existing(config)?, &key(namespace, document)?, json)
        }
        DocsCommand::Delete { which, yes } => {
            dispose::delete(&Server::of_existing(config)?, &of(which)?, *yes, json)
        }
        DocsCommand::Restore { which } => dispose::restore(&Server::of_existing(config)?, &of(which)?, json),
        DocsCommand::Purge { which, yes } => {
            dispose::purge(&Server::of_existing(config)?, &of(which)?, *yes, json)
        }
        DocsCommand::Retry { which } => dispose::retry(&Server::of_existing(config)?, &of(which)?, json),
        DocsCommand::Export(wanted) => export::run(&Server::of_existing(config)?, wanted, json),
        DocsCommand::Import(wanted) => files::run(config, wanted, json),
    }
}

/// `import DIR`.
pub(super) fn import(config: &Config, wanted: &Import, json: bool) -> Result<Exit, CliError> {
    prototype::run(config, wanted, json)
}

fn namespace(text: &str) -> Result<Namespace, CliError> {
    text.parse().map_err(|error: crate::types::NameError| CliError::Usage(error.to_string()))
}

fn key(in_namespace: &str, document: &str) -> Result<DocKey, CliError> {
    let document =
        document.parse().map_err(|error: crate::types::NameError| CliError::Usage(error.to_string()))?;
    Ok(DocKey { namespace: namespace(in_namespace)?, document })
}

fn of(which: &WhichDocument) -> Result<DocKey, CliError> {
    key(&which.namespace, &which.document)
}

fn path(key: &DocKey) -> String {
    format!("/api/documents/{}/{}", key.namespace, key.document)
}

/// All documents, page after page, until `each` fails.
fn every(
    server: &Server,
    namespace: Option<&Namespace>,
    deleted: bool,
    mut each: impl FnMut(Document) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut next: Option<String> = None;
    loop {
        let state = if deleted { "deleted" } else { "kept" };
        let mut path = format!("/api/documents?state={state}&");
        if let Some(namespace) = namespace {
            let _ = write!(path, "namespace={namespace}&");
        }
        if let Some(after) = &next {
            let _ = write!(path, "after={}", percent_encode(after));
        }
        let page: Documents = server.call(Method::GET, &path, None)?;
        page.documents.into_iter().try_for_each(&mut each)?;
        next = page.next;
        if next.is_none() {
            return Ok(());
        }
    }
}

/// In pages, as they come: there may be very many.
fn list(server: &Server, in_namespace: Option<&str>, deleted: bool, json: bool) -> Result<Exit, CliError> {
    let only = in_namespace.map(namespace).transpose()?;
    let mut count: u64 = 0;
    let mut out = std::io::stdout().lock();
    if json {
        let _ = write!(out, "{{\"documents\":[");
    }
    every(server, only.as_ref(), deleted, |document| {
        // A reader that has gone away is not an error.
        let _ = if json {
            let comma = if count == 0 { "" } else { "," };
            let row =
                serde_json::to_string(&document).map_err(|error| CliError::failed("internal", error))?;
            write!(out, "{comma}\n{row}")
        } else {
            let aside = match (document.purge_at, &document.quarantined) {
                (Some(at), _) => format!("  deleted, can be restored until {}", date(at)),
                (None, Some(_)) => "  quarantined".into(),
                (None, None) => String::new(),
            };
            let (changes, size) = (grouped(document.changes), bytes(document.bytes));
            let (place, id, when) = (&document.namespace, &document.document, date(document.modified));
            writeln!(out, "{place}  {id}  {changes:>9} changes  {size:>10}  {when}{aside}")
        };
        count += 1;
        Ok(())
    })?;
    if json {
        let _ = writeln!(out, "\n]}}");
    } else if count == 0 {
        let _ = writeln!(out, "{}", if deleted { "Nothing is deleted." } else { "No documents yet." });
    }
    let _ = out.flush();
    Ok(Exit::Success)
}

fn show(server: &Server, key: &DocKey, json: bool) -> Result<Exit, CliError> {
    let document: Document = server.call(Method::GET, &path(key), None)?;
    if json {
        print_json(&document)?;
        return Ok(Exit::Success);
    }
    let inside = |count: u64, what: &str| format!("{what}, {} of them in the snapshot", grouped(count));
    let mut rows = vec![
        ["Document".into(), document.document.clone()],
        ["Namespace".into(), document.namespace.clone()],
        ["Changes".into(), inside(document.snapshot_changes, &grouped(document.changes))],
        [
            "Size".into(),
            format!("{}, the snapshot {}", bytes(document.bytes), bytes(document.snapshot_bytes)),
        ],
        ["Since".into(), date(document.created)],
        ["Last change".into(), date(document.modified)],
    ];
    if let Some(writer) = &document.written_by {
        rows.push(["By".into(), safe(writer)]);
    }
    if let (Some(deleted), Some(until)) = (document.deleted, document.purge_at) {
        let text = format!("{}; `docs restore` brings it back until {}", date(deleted), date(until));
        rows.push(["Deleted".into(), text]);
    }
    if let Some(reason) = &document.quarantined {
        rows.push(["Quarantined".into(), format!("kept aside and not synced: {reason}")]);
    }
    for (place, head) in document.heads.unwrap_or_default().into_iter().enumerate() {
        rows.push([if place == 0 { "Heads".into() } else { String::new() }, head]);
    }
    print(&table(&rows));
    Ok(Exit::Success)
}
