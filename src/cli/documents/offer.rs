//! One document on its way in: its files are read and checked here, what is whole of them goes to the server.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::path::Path;

use bytes::Bytes;
use hyper::Method;

use super::report::{Damaged, Imported, Outcome};
use super::server::Server;
use super::{CliError, path};
use crate::appliance::options;
use crate::config::Config;
use crate::directory::Directory;
use crate::sync::parcel::Parcel;
use crate::sync::price::Limits;
use crate::types::DocKey;
use crate::web::admin::{MAX_DOCUMENT_BYTES, Merged};

/// Refusals that are about one document; others would meet the next one too.
const OF_ONE: [&str; 4] = ["bad_document", "body_too_large", "quarantined", "store_failed"];

/// Refusals that the owner asked for.
const DELETED: [&str; 2] = ["deleted", "purged"];

/// What there is of one document.
pub(super) struct Offer {
    key: DocKey,
    parcel: Parcel,
    limits: Limits,
    /// Bytes that may still be read.
    room: u64,
    files: usize,
    damaged: Vec<Damaged>,
}

impl Offer {
    pub(super) fn new(key: DocKey, config: &Config) -> Self {
        let limits = options::message_price(&config.limits).for_files();
        let room = MAX_DOCUMENT_BYTES as u64;
        Self { key, parcel: Parcel::default(), limits, room, files: 0, damaged: Vec::new() }
    }

    /// Adds what is whole of a file that the person names.
    pub(super) fn file_at(&mut self, path: &Path) {
        match Directory::of_file(path) {
            Ok((directory, name)) => self.file(&directory, &name),
            Err(error) => self.damage(path, error.to_string()),
        }
    }

    /// Adds what is whole of a file in a directory.
    pub(super) fn file(&mut self, directory: &Directory, name: &OsStr) {
        let path = directory.path_of(name);
        let read = read(directory, name, self.room).and_then(|bytes| {
            self.room -= bytes.len() as u64;
            self.parcel.add(&bytes, &self.limits).map_err(|bad| bad.to_string())
        });
        match read {
            Ok(()) => self.files += 1,
            Err(reason) => self.damage(&path, reason),
        }
    }

    /// Counts a file, or something in place of one, of which not all can be used.
    pub(super) fn damage(&mut self, path: &Path, reason: String) {
        self.files += 1;
        self.damaged.push(Damaged { file: path.display().to_string(), reason });
    }

    /// Sends it; what became of it.
    /// # Errors
    /// There is no sense in going on with others.
    pub(super) fn send(mut self, server: &Server) -> Result<Imported, CliError> {
        let mut imported = Imported {
            namespace: self.key.namespace.to_string(),
            document: self.key.document.to_string(),
            outcome: Outcome::Unchanged,
            files: self.files,
            whole: self.files - self.damaged.len(),
            left_out: 0,
            heads: Vec::new(),
            message: None,
            damaged: std::mem::take(&mut self.damaged),
        };
        if self.parcel.is_empty() {
            let lost = !imported.damaged.is_empty();
            imported.outcome = if lost { Outcome::Failed } else { Outcome::Unchanged };
            imported.message = Some(if lost { "nothing of it is whole" } else { "it has no changes" }.into());
            return Ok(imported);
        }
        self.parcel.put_in_order();
        let bytes = self.parcel.to_bytes();
        let merged: Merged =
            match server.call(Method::POST, &format!("{}/automerge", path(&self.key)), Some(bytes)) {
                Ok(merged) => merged,
                Err(CliError::Failed { code, message }) if OF_ONE.contains(&code.as_str()) => {
                    imported.outcome = Outcome::Failed;
                    imported.message = Some(message);
                    return Ok(imported);
                }
                Err(CliError::Failed { code, message }) if DELETED.contains(&code.as_str()) => {
                    imported.outcome = Outcome::Skipped;
                    imported.message = Some(message);
                    return Ok(imported);
                }
                Err(error) => return Err(error),
            };
        let strangers = merged.new && !self.knows(&merged.heads);
        imported.left_out = merged.left_out;
        (imported.outcome, imported.message) = if !merged.refused.is_empty() {
            (Outcome::Failed, Some(merged.refused.join("; ")))
        } else if merged.heads.is_empty() {
            let message = "all that is whole of it rests on changes that are lost";
            (Outcome::Failed, Some(message.into()))
        } else if strangers {
            (Outcome::Failed, Some("the server's heads are not those of the files: report this".into()))
        } else if merged.left_out > 0 || !imported.damaged.is_empty() {
            (Outcome::Partly, None)
        } else if merged.changed {
            (Outcome::Imported, None)
        } else {
            (Outcome::Unchanged, None)
        };
        imported.heads = merged.heads;
        Ok(imported)
    }

    /// All heads of a new document must be among those that the files make.
    fn knows(&self, heads: &[String]) -> bool {
        let whole = self.parcel.documents.iter().flat_map(|whole| &whole.heads);
        let hashes = whole.chain(self.parcel.changes.iter().map(|change| &change.hash));
        let known: HashSet<String> = hashes.map(ToString::to_string).collect();
        heads.iter().all(|head| known.contains(head))
    }
}

/// A regular file of at most `limit` bytes. No link is followed, and nothing is waited for.
fn read(directory: &Directory, name: &OsStr, limit: u64) -> Result<Bytes, String> {
    let failed = |error: io::Error| error.to_string();
    let file = directory.open_given(name).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mut bytes = Vec::new();
    if metadata.len() <= limit {
        file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    }
    if metadata.len() > limit || bytes.len() as u64 > limit {
        return Err(format!(
            "a document may have {MAX_DOCUMENT_BYTES} bytes in all, and with this file it has more"
        ));
    }
    Ok(bytes.into())
}
