//! `docs delete | restore | purge | retry`.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use hyper::Method;

use super::super::text::{bytes, count, date};
use super::super::{CliError, Exit, print, print_json};
use super::path;
use super::server::Server;
use crate::types::DocKey;
use crate::web::admin::{Deleted, Document, Purged, Retried};

/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 64;

pub(super) fn delete(server: &Server, key: &DocKey, yes: bool, json: bool) -> Result<Exit, CliError> {
    confirm(server, key, yes, "Delete it? It can be restored for 30 days.")?;
    let deleted: Deleted = server.call(Method::DELETE, &path(key), None)?;
    if json {
        print_json(&deleted)?;
    } else {
        let until = date(deleted.purge_at);
        print(&format!(
            "Deleted. Until {until} `groundmist-sync docs restore {} {}` brings it back.\n",
            key.namespace, key.document
        ));
    }
    Ok(Exit::Success)
}

pub(super) fn restore(server: &Server, key: &DocKey, json: bool) -> Result<Exit, CliError> {
    let document: Document = server.call(Method::POST, &format!("{}/restore", path(key)), None)?;
    if json {
        print_json(&document)?;
    } else {
        print(&format!("Restored, with {}.\n", count(document.changes, "change")));
    }
    Ok(Exit::Success)
}

pub(super) fn purge(server: &Server, key: &DocKey, yes: bool, json: bool) -> Result<Exit, CliError> {
    confirm(server, key, yes, "Delete it for good? Nothing brings it back.")?;
    let purged: Purged = server.call(Method::POST, &format!("{}/purge", path(key)), None)?;
    if json {
        print_json(&purged)?;
    } else {
        print("Gone for good. Its id is not taken again.\n");
    }
    Ok(Exit::Success)
}

pub(super) fn retry(server: &Server, key: &DocKey, json: bool) -> Result<Exit, CliError> {
    let retried: Retried = server.call(Method::POST, &format!("{}/retry", path(key)), None)?;
    if json {
        print_json(&retried)?;
    } else if retried.retried {
        print(
            "The server has forgotten what went wrong with the document, and tries again when it needs to.\n",
        );
    } else {
        print("Nothing was recorded of the document: the server opens it when it needs to.\n");
    }
    Ok(Exit::Success)
}

/// Asks on the terminal, if there is one. The question goes to stderr: stdout is for results.
fn confirm(server: &Server, key: &DocKey, yes: bool, question: &str) -> Result<(), CliError> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage("there is no terminal to ask on: say --yes".into()));
    }
    let document: Document = server.call(Method::GET, &path(key), None)?;
    let (changes, size) = (count(document.changes, "change"), bytes(document.bytes));
    let changed = date(document.modified);
    let _ = write!(
        std::io::stderr(),
        "{} in {}: {changes}, {size}, last changed {changed}.\n{question} [y/N] ",
        document.document,
        document.namespace
    );
    let mut answer = String::new();
    let asked = std::io::stdin().lock().take(MAX_ANSWER_BYTES).read_line(&mut answer);
    match (asked, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(CliError::failed("not_confirmed", "nothing was done")),
    }
}
