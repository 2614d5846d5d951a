//! `docs import`: single files, or the directory that `docs export --all` writes.

use std::path::Path;
use std::sync::Arc;

use super::super::args::DocsImport;
use super::entries::{Entry, entries};
use super::offer::Offer;
use super::report::Report;
use super::server::Server;
use super::{CliError, Exit, namespace};
use crate::config::Config;
use crate::directory::Directory;
use crate::types::{DocKey, DocumentId, Namespace};

/// What the files' names end in.
pub(super) const EXTENSION: &str = "automerge";

pub(super) fn run(config: &Config, wanted: &DocsImport, json: bool) -> Result<Exit, CliError> {
    if wanted.document.is_some() && wanted.files.len() != 1 {
        return Err(CliError::Usage(
            "--as gives the id of one file's document: name exactly one file".into(),
        ));
    }
    if wanted.files.is_empty() {
        return directory(config, Path::new(&wanted.target), json);
    }
    let namespace = namespace(&wanted.target)?;
    let given = wanted.document.as_deref().map(str::parse::<DocumentId>).transpose();
    let given = given.map_err(|error| CliError::Usage(error.to_string()))?;
    let server = Server::of(config)?;
    let mut report = Report::new(json);
    let done = wanted.files.iter().try_for_each(|file| {
        let document = match given.or_else(|| id_of(file)) {
            Some(document) => document,
            None => new_id()?,
        };
        one(config, &server, &mut report, DocKey { namespace: namespace.clone(), document }, file)
    });
    let exit = report.finish();
    done.map(|()| exit)
}

fn one(
    config: &Config,
    server: &Server,
    report: &mut Report,
    key: DocKey,
    file: &Path,
) -> Result<(), CliError> {
    let mut offer = Offer::new(key, config);
    offer.file_at(file);
    report.tell(offer.send(server)?);
    Ok(())
}

/// `DIR/NAMESPACE/DOCUMENT.automerge`.
fn directory(config: &Config, dir: &Path, json: bool) -> Result<Exit, CliError> {
    let found = Directory::open(dir).map(Arc::new).and_then(|directory| entries(&directory));
    let found = found.map_err(|error| {
        let what = "name a directory that `docs export --all` wrote, or a namespace and files";
        CliError::Usage(format!("{} cannot be read: {error}; {what}", dir.display()))
    })?;
    let server = Server::of(config)?;
    let mut report = Report::new(json);
    let done = found.into_iter().try_for_each(|entry| {
        match entry.name().and_then(|name| name.parse::<Namespace>().ok()) {
            Some(namespace) if entry.is_dir() => folder(config, &server, &mut report, &namespace, &entry),
            _ => {
                report.note(&entry.path(), "passed over: not a directory named like a namespace");
                Ok(())
            }
        }
    });
    let exit = report.finish();
    done.map(|()| exit)
}

fn folder(
    config: &Config,
    server: &Server,
    report: &mut Report,
    namespace: &Namespace,
    folder: &Entry,
) -> Result<(), CliError> {
    let found = match folder.entries() {
        Ok(found) => found,
        Err(error) => {
            report.unreadable(&folder.path(), &error);
            return Ok(());
        }
    };
    for entry in found {
        match id_of(Path::new(&entry.name)) {
            Some(document) => {
                let mut offer = Offer::new(DocKey { namespace: namespace.clone(), document }, config);
                offer.file(&entry.directory, &entry.name);
                report.tell(offer.send(server)?);
            }
            None => report.note(&entry.path(), "passed over: not named DOCUMENT.automerge"),
        }
    }
    Ok(())
}

/// The id that a file's name is.
fn id_of(file: &Path) -> Option<DocumentId> {
    let extension = file.extension().is_none_or(|extension| extension == EXTENSION);
    file.file_stem().filter(|_| extension)?.to_str()?.parse().ok()
}

fn new_id() -> Result<DocumentId, CliError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| CliError::failed("random", error))?;
    Ok(DocumentId(bytes))
}
