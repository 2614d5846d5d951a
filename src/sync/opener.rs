//! The only place where automerge materialises documents: a [`Job`] in, a [`Done`] out. Slow, so it runs aside.
//!
//! Foreign and damaged documents can make automerge panic; that is caught and counts as an error of the document.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use automerge::{Automerge, LoadOptions, OnPartialLoad, ReadDoc, VerificationMode};
use bytes::Bytes;

use super::chunk::{self, Change};
use super::graph::MAX_HEADS;
use super::job::{Done, EXTRACT_BYTES, Intake, Job, NotExtracted, Snapshot};
use super::leb::Reader;
use super::snapshot::Index;
use super::storage::Storage;
use crate::store::{SnapshotInfo, StoreError};
use crate::types::{ChangeHash, DocKey, count};

/// A document chunk with at most this many changes is kept as single changes, a larger one as a snapshot.
pub const SMALL_DOCUMENT_CHANGES: usize = 256;

/// Runs jobs one after the other.
pub struct Opener {
    /// Fresh random bytes for each snapshot's index.
    salt: Box<dyn FnMut() -> [u8; 16] + Send>,
    /// The document opened last, for the next part of an extraction.
    last: Option<(DocKey, Automerge)>,
}

/// Run what may panic on a bad document.
fn guarded<T>(what: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|_| Err("automerge cannot open it".into()))
}

fn unreadable(error: &StoreError) -> String {
    error.to_string()
}

/// Judges a snapshot that could not be opened by its checksum. Only damaged bytes are reason enough to stop the sync of a
/// document: automerge also fails when memory runs out.
pub fn not_extracted(key: &DocKey, why: String, storage: &dyn Storage) -> NotExtracted {
    let is_whole = |bytes: &[u8]| {
        let mut reader = Reader::new(bytes);
        let raw = chunk::next(&mut reader);
        raw.is_ok_and(|raw| reader.is_empty() && chunk::check_document(&raw).is_ok())
    };
    match storage.snapshot(key) {
        Ok(Some(bytes)) if !is_whole(&bytes) => NotExtracted::Damaged(why),
        _ => NotExtracted::Failed(why),
    }
}

/// A document's snapshot if it is the one with these heads.
/// # Errors
/// The store cannot give it.
pub fn meant_snapshot(
    key: &DocKey,
    heads: &[ChangeHash],
    storage: &dyn Storage,
) -> Result<Option<Bytes>, StoreError> {
    let snapshot = storage.snapshot(key)?;
    // Heads never come back, so a snapshot that is the one that was meant now was it a moment ago too.
    let info = storage.head(key)?.and_then(|head| head.snapshot);
    Ok(snapshot.filter(|_| info.is_some_and(|info| info.heads == heads)))
}

fn load(bytes: &[u8]) -> Result<Automerge, String> {
    let options =
        LoadOptions::new().on_partial_load(OnPartialLoad::Error).verification_mode(VerificationMode::Check);
    Automerge::load_with_options(bytes, options).map_err(|error| format!("it does not load: {error}"))
}

fn to_change(mut change: automerge::Change) -> Change {
    Change {
        hash: change.hash(),
        deps: change.deps().to_vec(),
        actor: Bytes::copy_from_slice(change.actor_id().to_bytes()),
        seq: change.seq(),
        start_op: change.start_op().get(),
        max_op: change.max_op(),
        bytes: Bytes::from(change.bytes().into_owned()),
    }
}

impl Opener {
    /// `salt` gives fresh random bytes.
    pub fn new(salt: impl FnMut() -> [u8; 16] + Send + 'static) -> Self {
        Self { salt: Box::new(salt), last: None }
    }

    /// Let go of the document kept open.
    pub fn rest(&mut self) {
        self.last = None;
    }

    /// Run one job.
    pub fn run(&mut self, job: Job, storage: &dyn Storage) -> Done {
        match job {
            Job::Intake { key, connection, chunks, operations, existing } => {
                let result = guarded(|| self.take_in(&key, &chunks, existing, storage));
                Done::Intake { key, connection, chunks, operations, result }
            }
            Job::Extract { key, connection, snapshot, have, skip } => {
                let result = guarded(|| self.extract(&key, &snapshot, &have, skip, storage));
                let result = result.map_err(|why| not_extracted(&key, why, storage));
                Done::Extract { key, connection, result }
            }
            Job::Compact { key, below } => {
                self.last = None;
                let result = guarded(|| self.compact(&key, below, storage));
                Done::Compact { key, below, result }
            }
        }
    }

    fn index(&mut self, doc: &Automerge) -> (Index, u64) {
        let changes = doc.get_changes_meta(&[]);
        let mut actors: HashMap<Bytes, u64> = HashMap::new();
        for change in &changes {
            match actors.get_mut(change.actor.to_bytes()) {
                Some(seq) => *seq = change.seq.max(*seq),
                None => drop(actors.insert(Bytes::copy_from_slice(change.actor.to_bytes()), change.seq)),
            }
        }
        let max_op = changes.iter().map(|change| change.max_op).max().unwrap_or(0);
        let count = changes.len() as u64;
        (Index::build((self.salt)(), changes.iter().map(|change| change.hash), actors, max_op), count)
    }

    fn take_in(
        &mut self,
        key: &DocKey,
        chunks: &[Bytes],
        existing: bool,
        storage: &dyn Storage,
    ) -> Result<Intake, String> {
        let mut known: HashSet<ChangeHash> = HashSet::new();
        let mut index = None;
        if existing {
            if let Some(bytes) = storage.snapshot_index(key).map_err(|error| unreadable(&error))? {
                index = Index::decode(&bytes).ok();
            }
            if let Some(head) = storage.head(key).map_err(|error| unreadable(&error))? {
                let tail = head.next_row - head.tail_changes..head.next_row;
                let mut note = |row: crate::store::Row| {
                    known.insert(row.hash);
                    true
                };
                storage.tail(key, tail, &mut note).map_err(|error| unreadable(&error))?;
            }
        }
        let mut novel = Vec::new();
        for chunk in chunks {
            let doc = load(chunk)?;
            let count = doc.get_changes_meta(&[]).len();
            if !existing && chunks.len() == 1 && count > SMALL_DOCUMENT_CHANGES {
                let (index, changes) = self.index(&doc);
                let mut heads = doc.get_heads();
                if heads.len() > MAX_HEADS {
                    return Err(format!(
                        "it has {} heads, more than the {MAX_HEADS} that a document may have",
                        heads.len()
                    ));
                }
                heads.sort_unstable();
                let info = SnapshotInfo { heads, changes, bytes: chunk.len() as u64 };
                return Ok(Intake::Snapshot(Snapshot {
                    info,
                    document: chunk.clone(),
                    index: index.encode().into(),
                }));
            }
            // By actor and number, which is exact, not by the index's fingerprints.
            let in_snapshot = |change: &automerge::Change| {
                let last = index.as_ref().and_then(|index| index.actors.get(change.actor_id().to_bytes()));
                last.is_some_and(|last| change.seq() <= *last)
            };
            let is_new = |change: &automerge::Change| !known.contains(&change.hash()) && !in_snapshot(change);
            novel.extend(doc.get_changes(&[]).into_iter().filter(is_new).map(to_change));
        }
        Ok(Intake::Changes(novel))
    }

    fn extract(
        &mut self,
        key: &DocKey,
        meant: &[ChangeHash],
        have: &[ChangeHash],
        skip: u64,
        storage: &dyn Storage,
    ) -> Result<Option<(Vec<Bytes>, bool)>, String> {
        let is_meant = |doc: &Automerge| {
            let mut heads = doc.get_heads();
            heads.sort_unstable();
            heads == meant
        };
        let (_, doc) = match self.last.take().filter(|(last, doc)| last == key && is_meant(doc)) {
            Some(last) => self.last.insert(last),
            None => {
                // Another may take much more memory than was estimated.
                let Ok(Some(bytes)) = meant_snapshot(key, meant, storage) else { return Ok(None) };
                self.last.insert((key.clone(), load(&bytes)?))
            }
        };
        if !is_meant(doc) {
            return Ok(None);
        }
        let have: Vec<ChangeHash> =
            have.iter().filter(|hash| doc.get_change_by_hash(hash).is_some()).copied().collect();
        let mut bytes = 0;
        let mut parts = Vec::new();
        let mut left = doc.get_changes(&have).into_iter().skip(skip as usize);
        for mut change in left.by_ref() {
            let part = Bytes::from(change.bytes().into_owned());
            bytes += part.len();
            parts.push(part);
            if bytes >= EXTRACT_BYTES {
                break;
            }
        }
        let done = left.next().is_none();
        if done {
            self.last = None;
        }
        Ok(Some((parts, done)))
    }

    fn compact(
        &mut self,
        key: &DocKey,
        below: u64,
        storage: &dyn Storage,
    ) -> Result<Option<Snapshot>, String> {
        let Ok(Some((head, snapshot, rows))) = storage.whole(key) else { return Ok(None) };
        let mut doc = match snapshot {
            Some(snapshot) => load(&snapshot)?,
            None => Automerge::new(),
        };
        let mut changes = Vec::with_capacity(rows.len());
        for row in rows.into_iter().filter(|row| row.row < below) {
            let change = automerge::Change::try_from(&row.bytes[..]);
            changes.push(change.map_err(|error| format!("change {} does not decode: {error}", row.hash))?);
        }
        let expected = head.snapshot.as_ref().map_or(0, |info| info.changes) + changes.len() as u64;
        doc.apply_changes(changes).map_err(|error| format!("its changes do not fit together: {error}"))?;
        let (index, changes) = self.index(&doc);
        if changes != expected {
            return Err(format!("automerge took {changes} of its {}", count(expected, "change")));
        }
        let document = Bytes::from(doc.save());
        let mut before = doc.get_heads();
        before.sort_unstable();
        // Two copies of a large document would take twice the memory, so the first goes before the second is made.
        drop(doc);
        // What was saved must load again before it may replace what it was made of.
        let mut heads = load(&document)?.get_heads();
        heads.sort_unstable();
        if heads != before {
            return Err("its compacted form has other heads".into());
        }
        let info = SnapshotInfo { heads, changes, bytes: document.len() as u64 };
        Ok(Some(Snapshot { info, document, index: index.encode().into() }))
    }
}
