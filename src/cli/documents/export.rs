//! `docs export`: a document to a file or standard output, or all of them to a directory.

use std::ffi::OsStr;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use super::super::args::DocsExport;
use super::super::progress::Progress;
use super::super::text::{bytes, count as counted};
use super::files::EXTENSION;
use super::server::Server;
use super::{CliError, Exit, every, key, namespace, path, print, print_json};
use crate::directory::Directory;
use crate::types::DocKey;

pub(super) fn run(server: &Server, wanted: &DocsExport, json: bool) -> Result<Exit, CliError> {
    match (&wanted.all, &wanted.namespace, &wanted.document) {
        (Some(dir), only, _) => all(server, dir, only.as_deref(), json),
        (None, Some(namespace), Some(document)) => {
            let key = key(namespace, document)?;
            let own = PathBuf::from(format!("{}.{EXTENSION}", key.document));
            one(server, &key, wanted.file.as_ref().unwrap_or(&own), json)
        }
        _ => Err(CliError::Usage("name a namespace and a document, or a directory with --all".into())),
    }
}

fn one(server: &Server, key: &DocKey, file: &Path, json: bool) -> Result<Exit, CliError> {
    if file == Path::new("-") {
        let mut out = io::stdout();
        if out.is_terminal() {
            let message = "a document is not text for a terminal: name a file, or pipe it on";
            return Err(CliError::Usage(message.into()));
        }
        server.fetch(&bytes_of(key), &mut out)?;
        out.flush().map_err(|error| CliError::failed("write", error))?;
        return Ok(Exit::Success);
    }
    let (directory, name) = Directory::of_file(file).map_err(|error| failed(file, &error))?;
    let count = write(server, key, &directory, &name)?;
    if json {
        print_json(&serde_json::json!({ "file": file.display().to_string(), "bytes": count }))?;
    } else {
        print(&format!("Wrote {} ({}).\n", file.display(), bytes(count)));
    }
    Ok(Exit::Success)
}

/// One document that fails does not keep the others back.
fn all(server: &Server, dir: &Path, only: Option<&str>, json: bool) -> Result<Exit, CliError> {
    let only = only.map(namespace).transpose()?;
    let (mut count, mut total, mut failed) = (0, 0, Vec::new());
    let mut progress = Progress::new();
    let directory = Directory::make(dir, 0o700).map_err(|error| not_made(dir, &error))?;
    every(server, only.as_ref(), false, |document| {
        // Parsed, so that no answer's name is anything but a name.
        let key = key(&document.namespace, &document.document)?;
        let folder = directory.make_directory(key.namespace.as_str());
        let folder = folder.map_err(|error| not_made(&directory.path_of(key.namespace.as_str()), &error))?;
        match write(server, &key, &folder, format!("{}.{EXTENSION}", key.document).as_ref()) {
            Ok(bytes) => (count, total) = (count + 1, total + bytes),
            Err(error @ CliError::NotRunning(_)) => return Err(error),
            Err(error) => failed.push(format!("{} {}: {error}", key.namespace, key.document)),
        }
        progress.documents(count);
        Ok(())
    })?;
    progress.clear();
    if json {
        print_json(&serde_json::json!({ "documents": count, "bytes": total, "failed": failed }))?;
    } else {
        let failures: String = failed.iter().map(|failure| format!("FAILED  {failure}\n")).collect();
        print(&format!(
            "{failures}Wrote {} ({}) to {}.\n",
            counted(count, "document"),
            bytes(total),
            dir.display()
        ));
    }
    Ok(if failed.is_empty() { Exit::Success } else { Exit::Failure })
}

fn bytes_of(key: &DocKey) -> String {
    format!("{}/automerge", path(key))
}

fn not_made(dir: &Path, error: &io::Error) -> CliError {
    CliError::failed("write", format!("making the directory {} failed: {error}", dir.display()))
}

fn failed(file: &Path, error: &dyn std::fmt::Display) -> CliError {
    CliError::failed("write", format!("writing {} failed: {error}", file.display()))
}

/// The file is there whole or not at all, whatever happens; for its owner only: what is in a document is nobody else's business.
fn write(server: &Server, key: &DocKey, directory: &Directory, name: &OsStr) -> Result<u64, CliError> {
    let file = directory.path_of(name);
    let failed = |error: &dyn std::fmt::Display| failed(&file, error);
    let mut part = name.to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let write = || {
        let mut out = BufWriter::new(directory.create_anew_for_us(&part).map_err(|error| failed(&error))?);
        let count = server.fetch(&bytes_of(key), &mut out)?;
        let out = out.into_inner().map_err(|error| failed(error.error()))?;
        out.sync_all().map_err(|error| failed(&error))?;
        directory.rename(&part, name).map_err(|error| failed(&error))?;
        Ok(count)
    };
    let written = write();
    if written.is_err() {
        let _ = directory.remove(&part);
    }
    written
}
