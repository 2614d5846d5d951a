//! `import DIR`: the prototype's data directory, a tree for each lexicon authority domain, as
//! `@automerge/automerge-repo-storage-nodefs` writes it:
//!
//! ```text
//! DIR/xyz.example/3n/Gy8…/snapshot/HASH       what automerge saved
//!                        /incremental/HASH    changes since, one or more to a file
//!                        /sync-state/ID       what a peer had; not needed
//!                /st/orage-adapter-id
//! ```
//!
//! Nothing in it is trusted or changed: links are not followed, and what is no document is named and passed over.

use std::sync::Arc;

use super::super::args::Import;
use super::entries::{Entry, entries};
use super::offer::Offer;
use super::report::Report;
use super::server::Server;
use super::{CliError, Exit, namespace};
use crate::config::Config;
use crate::directory::Directory;
use crate::types::{DocKey, DocumentId, Namespace};

/// The start of a document's id that is a directory of its own, in characters.
const SPLIT: usize = 2;

pub(super) fn run(config: &Config, wanted: &Import, json: bool) -> Result<Exit, CliError> {
    let only = wanted.namespace.as_deref().map(namespace).transpose()?;
    let found = Directory::open(&wanted.dir).map(Arc::new).and_then(|directory| entries(&directory));
    let found = found.map_err(|error| {
        CliError::Usage(format!(
            "{} cannot be read: {error}; give the prototype's DATA_DIR",
            wanted.dir.display()
        ))
    })?;
    let mut trees = Vec::new();
    let mut report_later = Vec::new();
    match only {
        Some(namespace) => trees.push((namespace, Tree::Given(found))),
        None => {
            for entry in found {
                match entry.name().and_then(|name| name.parse::<Namespace>().ok()) {
                    Some(namespace) if entry.is_dir() => trees.push((namespace, Tree::Found(entry))),
                    _ => report_later.push(entry),
                }
            }
        }
    }
    if trees.is_empty() {
        return Err(CliError::Usage(format!(
            "{} has no directory named like an app's lexicon authority domain, such as xyz.example: give the prototype's DATA_DIR, or, if this is the documents of one app, say which with --namespace",
            wanted.dir.display()
        )));
    }
    let server = Server::of(config)?;
    let mut import = Walk { config, server: &server, report: Report::new(json) };
    for entry in report_later {
        import
            .report
            .note(&entry.path(), "passed over: not a directory named like a lexicon authority domain");
    }
    let done = trees.into_iter().try_for_each(|(namespace, tree)| import.tree(&namespace, tree));
    let exit = import.report.finish();
    done.map(|()| exit)
}

/// Documents of one namespace.
enum Tree {
    /// In the directory that was named: its entries.
    Given(Vec<Entry>),
    Found(Entry),
}

struct Walk<'a> {
    config: &'a Config,
    server: &'a Server,
    report: Report,
}

impl Walk<'_> {
    fn tree(&mut self, namespace: &Namespace, tree: Tree) -> Result<(), CliError> {
        let starts = match tree {
            Tree::Given(entries) => entries,
            Tree::Found(entry) => self.entries(&entry),
        };
        for start in starts {
            let Some(first) = start.name().filter(|name| name.chars().count() == SPLIT).map(str::to_owned)
            else {
                self.report.note(&start.path(), "passed over: not the start of a document's id");
                continue;
            };
            if !start.is_dir() {
                self.report.note(&start.path(), "passed over: not a directory");
                continue;
            }
            for rest in self.entries(&start) {
                let id = rest.name().map(|rest| format!("{first}{rest}"));
                match id.as_deref().map(str::parse::<DocumentId>) {
                    Some(Ok(document)) if rest.is_dir() => {
                        let key = DocKey { namespace: namespace.clone(), document };
                        self.document(key, &rest)?;
                    }
                    _ if id.as_deref() == Some("storage-adapter-id") => {}
                    Some(Ok(_)) => self.report.note(&rest.path(), "passed over: not a directory"),
                    _ => self.report.note(&rest.path(), "passed over: not a document's id"),
                }
            }
        }
        Ok(())
    }

    fn document(&mut self, key: DocKey, entry: &Entry) -> Result<(), CliError> {
        let mut offer = Offer::new(key, self.config);
        let mut found = false;
        for part in self.entries(entry) {
            match part.name() {
                Some("snapshot" | "incremental") if part.is_dir() => {
                    for file in self.entries(&part) {
                        found = true;
                        offer.file(&file.directory, &file.name);
                    }
                }
                Some("snapshot" | "incremental") => {
                    found = true;
                    offer.damage(&part.path(), "it is not a directory".into());
                }
                Some("sync-state") => {}
                _ => self.report.note(&part.path(), "passed over: not a part of a document"),
            }
        }
        if found {
            let imported = offer.send(self.server)?;
            self.report.tell(imported);
        } else {
            self.report.note(&entry.path(), "passed over: a document of which nothing was ever stored");
        }
        Ok(())
    }

    fn entries(&mut self, entry: &Entry) -> Vec<Entry> {
        entry.entries().unwrap_or_else(|error| {
            self.report.unreadable(&entry.path(), &error);
            Vec::new()
        })
    }
}
