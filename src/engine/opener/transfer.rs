//! Sends a job with all that it needs to an opener process, and takes the answer, which is checked as if it came from an
//! enemy: a document may have found a fault in automerge.

use std::collections::HashSet;
use std::io::{self, BufReader, BufWriter, Read, Write};

use bytes::Bytes;

use super::estimate::for_rows;
use super::frame::{Info, Order, nonsense, receive, send, tag};
use crate::store::{Row, SnapshotInfo, StoreError};
use crate::sync::chunk::{self, Change, Kind};
use crate::sync::graph::MAX_HEADS;
use crate::sync::job::{Done, EXTRACT_BYTES, Intake, Job, NotExtracted, Snapshot};
use crate::sync::leb::Reader;
use crate::sync::meter::Meter;
use crate::sync::opener::{meant_snapshot, not_extracted};
use crate::sync::price::Limits;
use crate::sync::pricing::Pricing;
use crate::sync::snapshot::Index;
use crate::sync::storage::Storage;
use crate::types::ChangeHash;

/// Most bytes of an answer that the server holds in memory.
pub const MOST_BYTES: usize = 128 << 20;
/// Most bytes of a reason.
const REASON_BYTES: usize = 500;
/// What a change in an answer counts besides its bytes.
const CHANGE_BYTES: usize = 320;
/// What decoding one change of an answer may cost. Only the bytes that it inflates to are in memory.
const CHANGE_LIMITS: Limits = Limits {
    operations: 1 << 60,
    inflated_bytes: MOST_BYTES as u64,
    changes: 2,
    hashes: 1 << 20,
    bloom_bytes: 0,
};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted {
    /// The process ended, or says what makes no sense.
    #[error(transparent)]
    Pipe(#[from] io::Error),
    /// The store could not give what the job needs.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process failed at a snapshot that is as it was when the server took it in.
    #[error("it failed at a document that is not damaged: {0}")]
    Failed(String),
    /// What was to be opened has been replaced meanwhile.
    #[error("the snapshot that was meant is no longer there")]
    Replaced,
    /// The changes that were found are more than the server holds in memory.
    #[error("it holds more than 128 MiB of changes")]
    TooMuch,
    /// The process could not limit itself.
    #[error("it could not limit its memory: {0}")]
    Unlimited(String),
}

/// What came of a job.
#[derive(Debug)]
pub enum Answer {
    Failed(String),
    Absent,
    Changes(Vec<Change>),
    Snapshot(Snapshot),
    Parts(Vec<Bytes>, bool),
}

impl Answer {
    /// More of the same document will be asked for.
    pub fn has_more(&self) -> bool {
        matches!(self, Self::Parts(_, false))
    }

    /// As the job's end.
    pub fn into_done(self, job: Job) -> Done {
        match job {
            Job::Intake { key, connection, chunks, operations, .. } => {
                let result = match self {
                    Self::Changes(changes) => Ok(Intake::Changes(changes)),
                    Self::Snapshot(snapshot) => Ok(Intake::Snapshot(snapshot)),
                    Self::Failed(why) => Err(why),
                    // Invariant: `receive_answer` lets only answers through that fit the job.
                    Self::Absent | Self::Parts(..) => Err("it could not be read".into()),
                };
                Done::Intake { key, connection, chunks, operations, result }
            }
            Job::Extract { key, connection, .. } => {
                let result = match self {
                    Self::Parts(parts, is_last) => Ok(Some((parts, is_last))),
                    // Invariant: `run` lets a failure at an intact snapshot through as `Interrupted`.
                    Self::Failed(why) => Err(NotExtracted::Damaged(why)),
                    _ => Ok(None),
                };
                Done::Extract { key, connection, result }
            }
            Job::Compact { key, below } => {
                let result = match self {
                    Self::Snapshot(snapshot) => Ok(Some(snapshot)),
                    Self::Failed(why) => Err(why),
                    _ => Ok(None),
                };
                Done::Compact { key, below, result }
            }
        }
    }
}

/// What the answer must agree with.
#[derive(Debug, Default)]
struct Expected {
    heads: Vec<ChangeHash>,
    changes: Option<u64>,
}

/// Has the process at the other end of `pipe` do the job. `is_open`: it has the document open from the last job.
/// # Errors
/// The job did not come to an end; the process is of no more use.
pub fn run(
    pipe: &mut (impl Read + Write),
    order: &Order,
    job: &Job,
    storage: &dyn Storage,
    is_open: bool,
) -> Result<Answer, Interrupted> {
    let mut to = BufWriter::with_capacity(64 << 10, &mut *pipe);
    send(&mut to, tag::JOB, &[&order.encode()])?;
    let expected = match job {
        Job::Intake { .. } => send_intake(&mut to, job, storage)?,
        Job::Extract { key, snapshot, .. } => {
            if !is_open {
                let snapshot = meant_snapshot(key, snapshot, storage)?.ok_or(Interrupted::Replaced)?;
                send(&mut to, tag::SNAPSHOT, &[&snapshot])?;
            }
            Expected::default()
        }
        Job::Compact { .. } => send_compaction(&mut to, job, storage)?,
    };
    send(&mut to, tag::END, &[])?;
    to.flush()?;
    drop(to);
    let answer = receive_answer(&mut BufReader::with_capacity(64 << 10, pipe), job, &expected)?;
    match (answer, job) {
        (Answer::Failed(why), Job::Extract { key, .. }) => match not_extracted(key, why, storage) {
            NotExtracted::Damaged(why) => Ok(Answer::Failed(why)),
            NotExtracted::Failed(why) => Err(Interrupted::Failed(why)),
        },
        (answer, _) => Ok(answer),
    }
}

fn send_intake(to: &mut impl Write, job: &Job, storage: &dyn Storage) -> Result<Expected, Interrupted> {
    let Job::Intake { key, chunks, existing, .. } = job else { return Ok(Expected::default()) };
    for chunk in chunks {
        send(to, tag::CHUNK, &[chunk])?;
    }
    if *existing {
        if let Some(index) = storage.snapshot_index(key)? {
            send(to, tag::INDEX, &[&index])?;
        }
        if let Some(head) = storage.head(key)? {
            send_rows(head.next_row - head.tail_changes..head.next_row, key, storage, &mut |rows| {
                let hashes: Vec<u8> = rows.iter().flat_map(|row| row.hash.0).collect();
                send(to, tag::KNOWN, &[&hashes])
            })?;
        }
        return Ok(Expected::default());
    }
    let [chunk] = &chunks[..] else { return Ok(Expected::default()) };
    // A damaged chunk has no heads, so that no snapshot of it is taken; the process says what is wrong with it.
    let raw = chunk::next(&mut Reader::new(chunk)).ok();
    let heads = raw.and_then(|raw| chunk::check_document(&raw).ok()).unwrap_or_default();
    Ok(Expected { heads: sorted(heads), changes: None })
}

fn send_compaction(to: &mut impl Write, job: &Job, storage: &dyn Storage) -> Result<Expected, Interrupted> {
    let Job::Compact { key, below } = job else { return Ok(Expected::default()) };
    let Some(head) = storage.head(key)? else { return Ok(Expected::default()) };
    let mut heads = HashSet::new();
    let mut changes = 0;
    if let (Some(info), Some(snapshot)) = (&head.snapshot, storage.snapshot(key)?) {
        heads.extend(info.heads.iter().copied());
        changes = info.changes;
        send(to, tag::SNAPSHOT, &[&snapshot])?;
    }
    send_rows(head.next_row - head.tail_changes..*below, key, storage, &mut |rows| {
        for row in rows {
            let change = chunk::stored_change(&row.bytes, row.hash, row.max_op);
            for dep in change.map_err(io::Error::other)?.deps {
                heads.remove(&dep);
            }
            heads.insert(row.hash);
            changes += 1;
            send(to, tag::ROW, &[&row.hash.0, &row.bytes])?;
        }
        Ok(())
    })?;
    Ok(Expected { heads: sorted(heads.into_iter().collect()), changes: Some(changes) })
}

fn send_rows(
    rows: std::ops::Range<u64>,
    key: &crate::types::DocKey,
    storage: &dyn Storage,
    each: &mut dyn FnMut(&[Row]) -> io::Result<()>,
) -> Result<(), Interrupted> {
    let mut failed = None;
    for_rows(key, rows, storage, &mut |rows| match each(rows) {
        Ok(()) => true,
        Err(error) => {
            failed = Some(error);
            false
        }
    })?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn sorted(mut heads: Vec<ChangeHash>) -> Vec<ChangeHash> {
    heads.sort_unstable();
    heads
}

fn receive_answer(from: &mut impl Read, job: &Job, expected: &Expected) -> Result<Answer, Interrupted> {
    let (first, content) = receive(from, MOST_BYTES)?;
    match (first, job) {
        (tag::UNLIMITED, _) => Err(Interrupted::Unlimited(in_words(&content))),
        (tag::FAILED, _) => Ok(Answer::Failed(in_words(&content))),
        (tag::ABSENT, Job::Extract { .. } | Job::Compact { .. }) => Ok(Answer::Absent),
        (tag::CHANGE | tag::END, Job::Intake { .. }) => Ok(Answer::Changes(changes(first, content, from)?)),
        (tag::PART | tag::END, Job::Extract { .. }) => Ok(parts(first, content, from)?),
        (tag::INFO, Job::Intake { chunks, existing: false, .. }) if chunks.len() == 1 => {
            Ok(Answer::Snapshot(snapshot(&content, Some(&chunks[0]), from, expected)?))
        }
        (tag::INFO, Job::Compact { .. }) => Ok(Answer::Snapshot(snapshot(&content, None, from, expected)?)),
        _ => Err(nonsense("not an answer to this job").into()),
    }
}

/// What a process says in words, for people and logs.
fn in_words(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(&content[..content.len().min(REASON_BYTES)]);
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// One change chunk, and nothing behind it.
fn one_change(content: &[u8]) -> io::Result<chunk::RawChunk<'_>> {
    let mut reader = Reader::new(content);
    let raw = chunk::next(&mut reader).map_err(|_| nonsense("not a chunk"))?;
    match raw.kind {
        Kind::Change | Kind::Deflated if reader.is_empty() => Ok(raw),
        _ => Err(nonsense("not one change")),
    }
}

fn changes(mut tag: u8, mut content: Vec<u8>, from: &mut impl Read) -> Result<Vec<Change>, Interrupted> {
    let (mut changes, mut bytes) = (Vec::new(), 0);
    while tag == tag::CHANGE {
        let raw = one_change(&content)?;
        // As with changes from a device: every field is read from the bytes, and the hash is computed.
        let mut pricing = Pricing::new(Meter::new(&CHANGE_LIMITS), 0);
        pricing.chunk(&raw).map_err(|_| nonsense("a change that does not decode"))?;
        let taken = chunk::take_in(&raw, None, CHANGE_LIMITS.inflated_bytes);
        changes.push(taken.map_err(|_| nonsense("a change that does not decode"))?);
        bytes += content.len() + CHANGE_BYTES;
        (tag, content) =
            receive(from, MOST_BYTES.saturating_sub(bytes)).map_err(|error| match error.kind() {
                io::ErrorKind::FileTooLarge => Interrupted::TooMuch,
                _ => error.into(),
            })?;
    }
    if tag == tag::END { Ok(changes) } else { Err(nonsense("not a change").into()) }
}

fn parts(mut tag: u8, mut content: Vec<u8>, from: &mut impl Read) -> io::Result<Answer> {
    let (mut parts, mut bytes) = (Vec::new(), 0);
    while tag == tag::PART {
        one_change(&content)?;
        if bytes >= EXTRACT_BYTES {
            return Err(nonsense("more than was asked for"));
        }
        bytes += content.len();
        parts.push(Bytes::from(content));
        (tag, content) = receive(from, MOST_BYTES)?;
    }
    match (tag, &content[..]) {
        (tag::END, [1]) => Ok(Answer::Parts(parts, true)),
        // Nothing, and more of it to come, would go on for ever.
        (tag::END, [0]) if !parts.is_empty() => Ok(Answer::Parts(parts, false)),
        _ => Err(nonsense("not an end of changes")),
    }
}

/// `chunk`: the document that was sent, if it is the snapshot as it is.
fn snapshot(
    info: &[u8],
    chunk: Option<&Bytes>,
    from: &mut impl Read,
    expected: &Expected,
) -> io::Result<Snapshot> {
    let Info { heads, changes } = Info::decode(info).map_err(|_| nonsense("not a snapshot"))?;
    // In order and each once, because what is expected is.
    if heads.is_empty() || heads != expected.heads || heads.len() > MAX_HEADS {
        return Err(nonsense("a snapshot with other heads"));
    }
    if expected.changes.is_some_and(|expected| expected != changes) {
        return Err(nonsense("a snapshot with another number of changes"));
    }
    let (tag::INDEX, index) = receive(from, MOST_BYTES)? else { return Err(nonsense("not an index")) };
    let known = Index::decode(&index).map_err(|_| nonsense("not an index"))?.changes();
    if known != changes {
        return Err(nonsense("an index of another number of changes"));
    }
    let document = match chunk {
        Some(chunk) => chunk.clone(),
        None => {
            let (tag::DOCUMENT, document) = receive(from, MOST_BYTES)? else {
                return Err(nonsense("not a document"));
            };
            let mut reader = Reader::new(&document);
            let raw = chunk::next(&mut reader).map_err(|_| nonsense("not a document"))?;
            let claimed = chunk::check_document(&raw).map_err(|_| nonsense("not a document"))?;
            if !reader.is_empty() || sorted(claimed) != heads {
                return Err(nonsense("a document with other heads"));
            }
            document.into()
        }
    };
    let (tag::END, _) = receive(from, 1)? else { return Err(nonsense("more than a snapshot")) };
    let info = SnapshotInfo { heads, changes, bytes: document.len() as u64 };
    Ok(Snapshot { info, document, index: index.into() })
}
