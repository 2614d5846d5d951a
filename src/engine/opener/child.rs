//! The process that opens one document: it limits itself, reads the job from its standard input, and answers on its
//! standard output. It opens neither the store nor the configuration and has no secret.

use std::cell::RefCell;
use std::fs;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::process::ExitCode;

use bytes::Bytes;
use rustix::process::{
    Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};

use super::frame::{Info, Order, Work, nonsense, receive, send, tag, version};
use crate::store::{Head, Row, SnapshotInfo, StoreError, Whole};
use crate::sync::job::{Done, Intake, Job, NotExtracted, Snapshot};

use crate::sync::storage::Storage;
use crate::types::{ChangeHash, ConnectionId, DocKey, DocumentId, Namespace, StorageId};

/// Largest frame. The server sends no more than it has stored or received.
const MOST: usize = u32::MAX as usize;
/// What automerge's errors contain where an allocation failed.
const OUT_OF_MEMORY: &str = "out of memory";
/// What the process says then, as the allocator does where it aborts.
const ALLOCATION_FAILED: &str = "memory allocation of a part of the document failed";

/// Serves one document after the handshake, until the server closes the pipe. For a process started for this alone.
pub fn main() -> ExitCode {
    let (mut input, mut output) = (BufReader::new(io::stdin().lock()), BufWriter::new(io::stdout().lock()));
    match serve(&mut input, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The server reads this for its log; on a closed pipe nobody does.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    // A server that is killed takes its openers with it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // When memory runs out the system is to end this process, and not the server. Without /proc it decides for itself.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    send(output, tag::HELLO, &[version().as_bytes()])?;
    output.flush()?;
    let mut opener = super::opener();
    let mut cpu_seconds = 0;
    let mut is_limited = false;
    loop {
        let order = match receive(input, MOST) {
            Ok((tag::JOB, order)) => Order::decode(&order).map_err(io::Error::other)?,
            Ok(_) => return Err(nonsense("not a job")),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        // The server may have died before this process asked for the signal.
        if getppid().map(|pid| u64::from(pid.as_raw_nonzero().get().unsigned_abs())) != Some(order.parent) {
            return Err(io::Error::other("the server has ended"));
        }
        cpu_seconds += order.cpu_seconds;
        let limited = if is_limited { Ok(()) } else { limit(order.memory_bytes) };
        if let Err(error) = limited.and_then(|()| limit_cpu(cpu_seconds)) {
            send(output, tag::UNLIMITED, &[error.to_string().as_bytes()])?;
            return output.flush();
        }
        is_limited = true;
        let (inputs, job) = read_job(order.work, input)?;
        let done = opener.run(job, &inputs);
        drop(inputs);
        // automerge reports some allocations that fail as an error of the document, which the document is not to blame for.
        if failure(&done).is_some_and(|why| why.contains(OUT_OF_MEMORY)) {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, ALLOCATION_FAILED));
        }
        answer(done, output)?;
        output.flush()?;
    }
}

/// No more memory than allowed, no file and no socket besides the pipes, and no core file, for a copy of the memory would hold
/// documents.
fn limit(memory_bytes: u64) -> io::Result<()> {
    let most = |value| Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(Resource::Core, most(0))?;
    setrlimit(Resource::Nofile, most(0))?;
    let allowed = getrlimit(Resource::Data).maximum.map_or(memory_bytes, |maximum| memory_bytes.min(maximum));
    Ok(setrlimit(Resource::Data, most(allowed))?)
}

/// No more processor time than allowed. The soft limit alone ends the process; the hard one stays, because a second order for
/// the document raises the soft one, and because only root may raise a hard limit that the system set.
fn limit_cpu(seconds: u64) -> io::Result<()> {
    let maximum = getrlimit(Resource::Cpu).maximum;
    let current = Some(maximum.map_or(seconds, |maximum| seconds.min(maximum)));
    Ok(setrlimit(Resource::Cpu, Rlimit { current, maximum })?)
}

/// What came with an order, in the place of a store. What is read but once is given away, so that it is not there twice.
#[derive(Default)]
struct Inputs {
    head: Option<Head>,
    snapshot: RefCell<Option<Bytes>>,
    index: Option<Bytes>,
    rows: RefCell<Vec<Row>>,
}

/// The one document that this process knows; its name is no business of the process.
fn the_document() -> io::Result<DocKey> {
    let namespace: Namespace = "document.invalid".parse().map_err(io::Error::other)?;
    Ok(DocKey { namespace, document: DocumentId([0; 16]) })
}

fn read_job(work: Work, input: &mut impl Read) -> io::Result<(Inputs, Job)> {
    let (key, connection) = (the_document()?, ConnectionId(0));
    let (mut inputs, mut rows, mut chunks) = (Inputs::default(), Vec::new(), Vec::new());
    loop {
        match receive(input, MOST)? {
            (tag::END, _) => break,
            (tag::CHUNK, chunk) => chunks.push(Bytes::from(chunk)),
            (tag::SNAPSHOT, bytes) => inputs.snapshot = RefCell::new(Some(bytes.into())),
            (tag::INDEX, bytes) => inputs.index = Some(bytes.into()),
            (tag::KNOWN, hashes) => {
                for hash in hashes.as_chunks::<32>().0 {
                    let row = rows.len() as u64;
                    rows.push(Row { row, hash: ChangeHash(*hash), max_op: 0, bytes: Bytes::new() });
                }
            }
            (tag::ROW, row) => {
                let (hash, bytes) =
                    row.split_first_chunk().ok_or_else(|| nonsense("a row without a hash"))?;
                let bytes = Bytes::copy_from_slice(bytes);
                rows.push(Row { row: rows.len() as u64, hash: ChangeHash(*hash), max_op: 0, bytes });
            }
            _ => return Err(nonsense("not a part of a job")),
        }
    }
    let mut head = Head::new(0);
    head.next_row = rows.len() as u64;
    head.tail_changes = head.next_row;
    inputs.rows = RefCell::new(rows);
    let job = match work {
        Work::Intake { existing } => Job::Intake { key, connection, chunks, operations: 0, existing },
        Work::Extract { snapshot, have, skip } => {
            head.snapshot = Some(SnapshotInfo { heads: snapshot.clone(), changes: 0, bytes: 0 });
            Job::Extract { key, connection, snapshot, have, skip }
        }
        Work::Compact { snapshot_changes } => {
            let snapshot = inputs.snapshot.borrow();
            let info = |_: &Bytes| SnapshotInfo { heads: Vec::new(), changes: snapshot_changes, bytes: 0 };
            head.snapshot = snapshot.as_ref().map(info);
            Job::Compact { key, below: head.next_row }
        }
    };
    inputs.head = Some(head);
    Ok((inputs, job))
}

impl Storage for Inputs {
    fn head(&self, _: &DocKey) -> Result<Option<Head>, StoreError> {
        Ok(self.head.clone())
    }
    fn tail(&self, _: &DocKey, _: Range<u64>, each: &mut dyn FnMut(Row) -> bool) -> Result<(), StoreError> {
        let _ = self.rows.take().into_iter().all(each);
        Ok(())
    }
    fn snapshot(&self, _: &DocKey) -> Result<Option<Bytes>, StoreError> {
        Ok(self.snapshot.take())
    }
    fn snapshot_index(&self, _: &DocKey) -> Result<Option<Bytes>, StoreError> {
        Ok(self.index.clone())
    }
    fn whole(&self, _: &DocKey) -> Result<Option<Whole>, StoreError> {
        let rows = self.rows.take();
        Ok(self.head.clone().map(|head| (head, self.snapshot.take(), rows)))
    }
    fn sync_state(&self, _: &DocKey, _: &StorageId) -> Result<Option<Vec<ChangeHash>>, StoreError> {
        Ok(None)
    }
    fn documents(
        &self,
        _: &Namespace,
        _: Option<DocumentId>,
        _: usize,
    ) -> Result<Vec<(DocumentId, Head)>, StoreError> {
        Ok(Vec::new())
    }
}

/// Why a job failed.
fn failure(done: &Done) -> Option<String> {
    match done {
        Done::Intake { result: Err(why), .. } | Done::Compact { result: Err(why), .. } => Some(why.clone()),
        // The server knows the snapshot, and judges for itself whether it is damaged.
        Done::Extract { result: Err(NotExtracted::Damaged(why) | NotExtracted::Failed(why)), .. } => {
            Some(why.clone())
        }
        Done::Refused(_, why) => Some(why.to_string()),
        Done::Intake { .. } | Done::Extract { .. } | Done::Compact { .. } => None,
    }
}

fn answer(done: Done, output: &mut impl Write) -> io::Result<()> {
    if let Some(why) = failure(&done) {
        return send(output, tag::FAILED, &[why.as_bytes()]);
    }
    match done {
        Done::Intake { result: Ok(Intake::Changes(changes)), .. } => {
            for change in changes {
                send(output, tag::CHANGE, &[&change.bytes])?;
            }
            send(output, tag::END, &[&[1]])
        }
        // The server has the document that is taken in.
        Done::Intake { result: Ok(Intake::Snapshot(snapshot)), .. } => {
            answer_snapshot(&snapshot, &[], output)
        }
        Done::Compact { result: Ok(Some(snapshot)), .. } => {
            answer_snapshot(&snapshot, &snapshot.document, output)
        }
        Done::Extract { result: Ok(Some((parts, is_last))), .. } => {
            for part in parts {
                send(output, tag::PART, &[&part])?;
            }
            send(output, tag::END, &[&[u8::from(is_last)]])
        }
        // Invariant: failures were sent above.
        _ => send(output, tag::ABSENT, &[]),
    }
}

fn answer_snapshot(snapshot: &Snapshot, document: &[u8], output: &mut impl Write) -> io::Result<()> {
    let Snapshot { info: SnapshotInfo { heads, changes, .. }, index, .. } = snapshot;
    send(output, tag::INFO, &[&Info { heads: heads.clone(), changes: *changes }.encode()])?;
    send(output, tag::INDEX, &[index])?;
    if !document.is_empty() {
        send(output, tag::DOCUMENT, &[document])?;
    }
    send(output, tag::END, &[&[1]])
}
