//! What the factors say of documents that were measured.

use std::cell::Cell;

use automerge::transaction::{CommitOptions, Transactable as _};
use automerge::{AutoCommit, ObjType, ROOT, ReadDoc as _};
use bytes::Bytes;

use super::*;
use crate::store::{Head, Whole};
use crate::types::{ChangeHash, ConnectionId, DocumentId, Namespace, StorageId};

fn text(characters: usize) -> AutoCommit {
    let mut doc = AutoCommit::new();
    let text = doc.put_object(ROOT, "text", ObjType::Text).unwrap();
    doc.splice_text(&text, 0, 0, &"x".repeat(characters)).unwrap();
    doc
}

#[test]
fn a_few_bytes_that_claim_many_operations_are_a_large_opening() {
    let mut doc = text(100_000);
    let saved = doc.save();
    let claims = count([&saved[..]].into_iter());
    assert!(saved.len() < 1_000 && claims.operations >= 100_001, "{} bytes: {claims:?}", saved.len());
    assert_eq!((claims.changes, claims.actors), (1, 1));
    let mut change = doc.get_changes(&[])[0].clone();
    let applied = count([&change.bytes()[..]].into_iter());
    assert_eq!(applied.operations, claims.operations);
    assert!(applied.applied() > 100_000 * 565, "measured: 565 bytes for each operation");
    assert!(claims.loaded() > 100_000 * 97 && claims.loaded() < applied.applied() / 4);
}

#[test]
fn a_large_value_counts_by_its_inflated_bytes() {
    let mut doc = AutoCommit::new();
    let mut random = vec![0; 500_000];
    getrandom::fill(&mut random).unwrap();
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    for (value, saved_bytes) in [(hex, 500_000..700_000), ("0".repeat(1_000_000), 0..10_000)] {
        doc.put(ROOT, "value", value).unwrap();
        let mut change = doc.get_last_local_change().unwrap().clone();
        let saved = change.bytes().into_owned();
        assert!(saved_bytes.contains(&saved.len()), "{}", saved.len());
        let claims = count([&saved[..]].into_iter());
        assert!((1_000_000..1_010_000).contains(&claims.bytes), "{claims:?}");
        assert!(claims.loaded() >= 9_000_000 && claims.size == saved.len() as u64);
    }
    doc.put(ROOT, "value", random).unwrap();
    let claims = count([&doc.get_last_local_change().unwrap().clone().bytes()[..]].into_iter());
    assert!((500_000..501_000).contains(&claims.bytes), "random bytes do not count twice: {claims:?}");
}

#[test]
fn a_long_key_that_is_repeated_counts_as_often() {
    let mut doc = AutoCommit::new();
    for n in 0..100 {
        doc.put(ROOT, "k".repeat(10_000), n).unwrap();
    }
    let mut change = doc.get_changes(&[])[0].clone();
    let claims = count([&change.bytes()[..]].into_iter());
    assert!(claims.name_bytes >= 100 * 10_000, "{claims:?}");
    assert!(claims.applied() > 1_000_000);
}

#[test]
fn changes_times_actors_are_counted() {
    let claims = Claims { changes: 40_000, actors: 40_000, ..Claims::default() };
    assert!(claims.loaded() > 469_000_000, "measured");
    let huge = Claims { operations: 1 << 60, names: u64::MAX, name_bytes: u64::MAX, ..claims };
    assert_eq!((huge.applied(), huge.loaded()), (u64::MAX, u64::MAX));
}

#[test]
fn damaged_bytes_are_no_reason_to_fail() {
    let saved = text(10).save();
    for length in 0..saved.len() {
        assert!(count([&saved[..length]].into_iter()).bytes >= length as u64);
    }
}

/// A document of `changes` changes, each with one operation: all with one long key, or with one long message.
fn shared_name(changes: usize, length: usize, in_key: bool) -> Vec<u8> {
    let name = "n".repeat(length);
    let mut doc = AutoCommit::new();
    for n in 0..changes {
        doc.put(ROOT, if in_key { &name } else { "k" }, n as i64).unwrap();
        let options = CommitOptions::default().with_time(0);
        doc.commit_with(if in_key { options } else { options.with_message(&name) });
    }
    doc.save()
}

#[test]
fn a_name_that_is_stored_once_counts_for_every_change_that_has_it() {
    for in_key in [true, false] {
        let saved = shared_name(300, 100_000, in_key);
        assert!(saved.len() < 4_000, "{}", saved.len());
        let claims = count([&saved[..]].into_iter());
        // Measured: 4.1 bytes for each byte of a message, 2.1 of a key.
        assert!(claims.loaded() > 300 * 100_000 * 41 / 10, "{claims:?}");
        assert!(claims.taken_out() > 300 * 100_000);
    }
}

fn key() -> DocKey {
    DocKey { namespace: "xyz.example".parse().unwrap(), document: DocumentId([1; 16]) }
}

/// A document in the store: a snapshot, and the changes that are not in it.
struct Stored {
    head: Option<Head>,
    snapshot: Bytes,
    rows: Vec<Row>,
    snapshots_read: Cell<usize>,
    rows_read: Cell<usize>,
}

impl Stored {
    fn new(snapshot: &mut AutoCommit, changes: &[automerge::Change]) -> Self {
        let mut heads = snapshot.get_heads();
        heads.sort_unstable();
        let bytes = Bytes::from(snapshot.save());
        let row = |(row, change): (usize, &automerge::Change)| Row {
            row: row as u64 + 1,
            hash: change.hash(),
            max_op: change.max_op(),
            bytes: Bytes::copy_from_slice(change.raw_bytes()),
        };
        let rows: Vec<_> = changes.iter().enumerate().map(row).collect();
        let mut head = Head::new(0);
        head.next_row = rows.len() as u64 + 1;
        head.tail_changes = rows.len() as u64;
        let changes = snapshot.get_changes(&[]).len() as u64;
        head.snapshot = Some(SnapshotInfo { heads, changes, bytes: bytes.len() as u64 });
        let (snapshots_read, rows_read) = Default::default();
        Self { head: Some(head), snapshot: bytes, rows, snapshots_read, rows_read }
    }

    fn heads(&self) -> Vec<ChangeHash> {
        self.head.as_ref().unwrap().snapshot.as_ref().unwrap().heads.clone()
    }

    fn extraction(&self, snapshot: Vec<ChangeHash>) -> Job {
        Job::Extract { key: key(), connection: ConnectionId(1), snapshot, have: Vec::new(), skip: 0 }
    }

    fn compaction(&self) -> Job {
        Job::Compact { key: key(), below: self.rows.len() as u64 + 1 }
    }
}

impl Storage for Stored {
    fn head(&self, _: &DocKey) -> Result<Option<Head>, StoreError> {
        Ok(self.head.clone())
    }
    fn tail(
        &self,
        _: &DocKey,
        rows: std::ops::Range<u64>,
        each: &mut dyn FnMut(Row) -> bool,
    ) -> Result<(), StoreError> {
        for row in self.rows.iter().filter(|row| rows.contains(&row.row)) {
            self.rows_read.set(self.rows_read.get() + 1);
            if !each(row.clone()) {
                break;
            }
        }
        Ok(())
    }
    fn snapshot(&self, _: &DocKey) -> Result<Option<Bytes>, StoreError> {
        self.snapshots_read.set(self.snapshots_read.get() + 1);
        Ok(Some(self.snapshot.clone()))
    }
    fn snapshot_index(&self, _: &DocKey) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }
    fn whole(&self, _: &DocKey) -> Result<Option<Whole>, StoreError> {
        Ok(None)
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

#[test]
fn a_snapshot_is_counted_once_and_not_at_all_where_its_size_is_too_much() {
    let stored = Stored::new(&mut text(1_000), &[]);
    let mut estimator = Estimator::new(1 << 30);
    let job = stored.extraction(stored.heads());
    let need = estimator.estimate(&job, &stored).unwrap().unwrap();
    assert_eq!(estimator.estimate(&job, &stored).unwrap(), Some(need));
    assert!(estimator.estimate(&stored.compaction(), &stored).unwrap().unwrap().memory_bytes > BASE);
    assert_eq!(stored.snapshots_read.get(), 1);
    let mut small = Estimator::new(stored.snapshot.len() as u64 * BYTE - 1);
    assert!(small.estimate(&job, &stored).unwrap().unwrap().memory_bytes > small.allowed_bytes);
    assert_eq!(stored.snapshots_read.get(), 1);
    // Another snapshot has other claims, and is not the one that was meant.
    let larger = Stored::new(&mut text(100_000), &[]);
    assert_eq!(estimator.estimate(&job, &larger).unwrap(), None);
    assert!(estimator.estimate(&larger.extraction(larger.heads()), &larger).unwrap().unwrap() != need);
}

#[test]
fn a_tail_of_many_changes_by_few_actors_needs_little_and_one_by_many_much() {
    let mut base = text(10);
    let mut write = |actors: usize| -> Vec<automerge::Change> {
        let (_, object) = base.get(ROOT, "text").unwrap().unwrap();
        let mut changes = Vec::new();
        // Each names who made the text.
        let mut doc = base.fork();
        for n in 0..2_000 {
            if n % (2_000 / actors) == 0 {
                doc = doc.fork();
            }
            doc.splice_text(&object, 0, 0, "y").unwrap();
            doc.commit();
            changes.push(doc.get_last_local_change().unwrap().clone());
        }
        changes
    };
    let needs = [5, 1_000].map(|actors| {
        let stored = Stored::new(&mut text(10), &write(actors));
        let need = Estimator::new(1 << 40).estimate(&stored.compaction(), &stored).unwrap();
        need.unwrap().memory_bytes
    });
    assert!(needs[0] < BASE + 2_000 * 2 * (APPLIED + APPLIED_CHANGE), "{needs:?}");
    assert!(needs[1] - needs[0] > 2_000 * 900 / CLOCK_DIVISOR, "{needs:?}");
}

#[test]
fn counting_a_tail_ends_where_it_is_too_much() {
    let mut doc = text(10);
    let base = doc.get_heads();
    for n in 0..100 {
        doc.put(ROOT, "value", "v".repeat(100_000) + &n.to_string()).unwrap();
        doc.commit();
    }
    let changes: Vec<_> = doc.get_changes(&base).into_iter().collect();
    let mut stored = Stored::new(&mut text(10), &changes);
    // As they are stored, not deflated.
    for (row, change) in stored.rows.iter_mut().zip(&changes) {
        row.bytes = Bytes::copy_from_slice(change.raw_bytes());
    }
    let need = Estimator::new(20 << 20).estimate(&stored.compaction(), &stored).unwrap().unwrap();
    assert!(need.memory_bytes > 20 << 20 && stored.rows_read.get() < 50, "{}", stored.rows_read.get());
}
