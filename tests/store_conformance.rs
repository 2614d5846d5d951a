//! The store against a model in plain maps: random steps from printed seeds, on a file and in memory.
#![allow(clippy::unwrap_used)]

mod store_support;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use groundmist_sync::store::{Disposal, Head, Op, RecordKind, Row, SnapshotInfo, Store, StoreError, Totals};
use groundmist_sync::types::{ChangeHash, DocKey, DocumentId, Namespace, StorageId};
use store_support::{MemoryDisk, OPTIONS, Rng, append, key, rows};

/// One is the beginning of another, in text and by label.
const NAMESPACES: [&str; 4] = ["xyz.app", "xyz.app-two", "xyz.app.two", "xyz.ap"];
const DOCUMENTS: [u8; 4] = [0x00, 0x01, 0x7f, 0xff];
const STORAGES: [&str; 3] = ["a", "ab", "device-1"];

#[derive(Clone, Default)]
struct Model {
    documents: BTreeMap<DocKey, Document>,
    sync_states: BTreeMap<(DocKey, StorageId), Vec<ChangeHash>>,
    records: BTreeMap<(RecordKind, Vec<u8>), Vec<u8>>,
}

#[derive(Clone)]
struct Document {
    head: Head,
    rows: Vec<Row>,
    snapshot: Option<(Bytes, Bytes)>,
}

impl Model {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append { key, rows, heads, by, now } => {
                let document = self.documents.entry(key.clone()).or_insert_with(|| Document::new(*now, 0));
                document.rows.extend(rows.iter().cloned());
                document.head.next_row += rows.len() as u64;
                document.head.modified = *now;
                document.head.written_by = by.clone().or(document.head.written_by.take());
                document.set_heads(heads);
            }
            Op::Snapshot { key, below_row, info, document: content, index, heads, by, modified } => {
                let now = modified.unwrap_or_default();
                let document =
                    self.documents.entry(key.clone()).or_insert_with(|| Document::new(now, *below_row));
                document.rows.retain(|row| row.row >= *below_row);
                document.snapshot = Some((content.clone(), index.clone()));
                let mut info = SnapshotInfo { bytes: content.len() as u64, ..info.clone() };
                info.heads.sort();
                document.head.snapshot = Some(info);
                document.head.modified = modified.unwrap_or(document.head.modified);
                document.head.written_by = by.clone().or(document.head.written_by.take());
                document.set_heads(heads);
            }
            Op::SyncState { key, storage, shared_heads } => {
                self.sync_states.insert((key.clone(), storage.clone()), shared_heads.clone());
            }
            Op::Quarantine { key, reason } => {
                self.documents.get_mut(key).unwrap().head.quarantined = Some(reason.clone());
            }
            Op::Dispose { key, what, now } => self.dispose(key, (*what, *now)),
            Op::Record { kind, key, row: Some(row) } => {
                self.records.insert((*kind, key.clone()), row.clone());
            }
            Op::Record { kind, key, row: None } => {
                self.records.remove(&(*kind, key.clone()));
            }
        }
    }

    fn dispose(&mut self, key: &DocKey, what: (Disposal, u64)) {
        let document = self.documents.get_mut(key).unwrap();
        let head = &mut document.head;
        match (what, head.deleted) {
            _ if head.purged => {}
            ((Disposal::Delete, now), None) => head.deleted = Some(now),
            ((Disposal::Restore, _), _) => head.deleted = None,
            ((Disposal::Purge { deleted_by }, _), Some(deleted)) if deleted <= deleted_by => {
                let head = Head { deleted: Some(deleted), purged: true, ..Head::new(deleted) };
                *document = Document { head, rows: vec![], snapshot: None };
                self.sync_states.retain(|(of, _), _| of != key);
            }
            _ => {}
        }
    }

    /// It takes changes.
    fn is_open(&self, key: &DocKey) -> bool {
        self.documents.get(key).is_none_or(|document| document.head.deleted.is_none())
    }

    fn next_row(&self, key: &DocKey) -> u64 {
        self.documents.get(key).map_or(0, |document| document.head.next_row)
    }
}

impl Document {
    fn new(now: u64, next_row: u64) -> Self {
        let head = Head {
            heads: vec![],
            snapshot: None,
            next_row,
            tail_changes: 0,
            tail_bytes: 0,
            created: now,
            modified: now,
            quarantined: None,
            written_by: None,
            deleted: None,
            purged: false,
        };
        Self { head, rows: vec![], snapshot: None }
    }

    fn set_heads(&mut self, heads: &[ChangeHash]) {
        self.head.heads = heads.to_vec();
        self.head.heads.sort();
        self.head.tail_changes = self.rows.len() as u64;
        self.head.tail_bytes = self.rows.iter().map(|row| row.bytes.len() as u64).sum();
    }
}

fn any_key(rng: &mut Rng) -> DocKey {
    key(NAMESPACES[rng.below(4) as usize], DOCUMENTS[rng.below(4) as usize])
}

fn hashes(rng: &mut Rng) -> Vec<ChangeHash> {
    (0..rng.below(4)).map(|_| rng.hash()).collect()
}

/// A step that fits the model.
fn valid_op(rng: &mut Rng, model: &Model) -> Op {
    let key = any_key(rng);
    let now = rng.below(1 << 42);
    match rng.below(10) {
        _ if model.documents.contains_key(&key) && (!model.is_open(&key) || rng.one_in(12)) => {
            let what = match rng.below(8) {
                0 => Disposal::Purge { deleted_by: rng.below(1 << 42) },
                1..=3 => Disposal::Delete,
                _ => Disposal::Restore,
            };
            Op::Dispose { key, what, now }
        }
        0..=4 => {
            let count = 1 + rng.below(20);
            let largest = if rng.one_in(20) { 70_000 } else { 400 };
            let rows = rows(rng, model.next_row(&key), count, largest);
            let by = rng.one_in(2).then(|| format!("https://{}.example/", rng.below(3)).into());
            Op::Append { key, rows, heads: hashes(rng), by, now }
        }
        5..=6 => {
            let known = model.documents.contains_key(&key);
            let limit = if known { model.next_row(&key) } else { 50 };
            let (document, index) = (blob(rng), blob(rng));
            let info = SnapshotInfo { heads: hashes(rng), changes: rng.below(1000), bytes: 0 };
            let modified = (!known || rng.one_in(2)).then_some(now);
            let below_row = rng.below(limit + 1);
            Op::Snapshot { key, below_row, info, document, index, heads: hashes(rng), by: None, modified }
        }
        7 => {
            let storage = STORAGES[rng.below(3) as usize].parse().unwrap();
            Op::SyncState { key, storage, shared_heads: hashes(rng) }
        }
        8 if model.documents.contains_key(&key) => {
            Op::Quarantine { key, reason: format!("reason {}", rng.below(10)) }
        }
        _ => {
            let kinds = RecordKind::ALL.into_iter().filter(|kind| !kind.is_of_store()).collect::<Vec<_>>();
            let kind = kinds[rng.below(kinds.len() as u64) as usize];
            let row = (!rng.one_in(3)).then(|| rng.bytes(50).to_vec());
            Op::Record { kind, key: vec![rng.below(3) as u8], row }
        }
    }
}

/// Lengths around the size of a part.
fn blob(rng: &mut Rng) -> Bytes {
    let length = match rng.below(5) {
        0 => rng.below(3),
        1 => 16_312 - 2 + rng.below(5),
        2 => 16_312 + 16_320 - 2 + rng.below(5),
        3 => rng.below(300_000),
        _ => rng.below(2_000),
    };
    rng.bytes(length)
}

/// A step that must be refused.
fn invalid_op(rng: &mut Rng, model: &Model) -> Op {
    let key = any_key(rng);
    let next = model.next_row(&key);
    match rng.below(7) {
        _ if !model.is_open(&key) => append(&key, rows(rng, next, 1, 50), 1),
        5 => Op::Record { kind: RecordKind::Totals, key: vec![0; 4], row: None },
        6 => Op::Dispose { key: self::key("xyz.nobody", 1), what: Disposal::Delete, now: 1 },
        0 => append(&key, rows(rng, next + 1, 2, 50), 1),
        1 => append(&key, vec![], 1),
        2 => {
            let mut rows = rows(rng, next, 3, 50);
            rows[2].row += 1;
            append(&key, rows, 1)
        }
        3 => Op::Quarantine { key: self::key("xyz.nobody", 1), reason: String::new() },
        _ => {
            let known = model.documents.contains_key(&key);
            let info = SnapshotInfo { heads: vec![], changes: 0, bytes: 0 };
            let (document, index) = (Bytes::from_static(b"d"), Bytes::new());
            let modified = known.then_some(1);
            Op::Snapshot {
                key,
                below_row: next + 1,
                info,
                document,
                index,
                heads: vec![],
                by: None,
                modified,
            }
        }
    }
}

fn compare(store: &Store, model: &Model) {
    for namespace in NAMESPACES {
        let namespace: Namespace = namespace.parse().unwrap();
        let of_namespace: Vec<(DocumentId, Head)> = model
            .documents
            .iter()
            .filter(|(key, document)| key.namespace == namespace && document.head.deleted.is_none())
            .map(|(key, document)| (key.document, document.head.clone()))
            .collect();
        compare_totals(store, model, &namespace);
        assert_eq!(store.documents(&namespace, None, usize::MAX).unwrap(), of_namespace);
        let mut paged: Vec<(DocumentId, Head)> = vec![];
        loop {
            let after = paged.last().map(|(document, _)| *document);
            let page = store.documents(&namespace, after, 2).unwrap();
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, of_namespace);
        for document in DOCUMENTS {
            compare_document(store, model, &key(namespace.as_str(), document));
        }
    }
    for kind in RecordKind::ALL.into_iter().filter(|kind| !kind.is_of_store()) {
        let of_kind = model.records.iter().filter(|((of, _), _)| *of == kind);
        let expected: Vec<_> = of_kind.map(|((_, key), row)| (key.clone(), row.clone())).collect();
        assert_eq!(store.records(kind).unwrap(), expected);
        assert_eq!(store.record(kind, &[0]).unwrap().as_ref(), model.records.get(&(kind, vec![0])));
    }
    let kept = model.documents.values().filter(|document| document.head.deleted.is_none());
    assert_eq!(store.stats().unwrap().documents, kept.count() as u64);
}

/// What the store keeps up is what counting gives.
fn compare_totals(store: &Store, model: &Model, namespace: &Namespace) {
    let documents = model.documents.iter().filter(|(key, _)| key.namespace == *namespace);
    let (kept, gone): (Vec<_>, Vec<_>) = documents.partition(|(_, document)| document.head.deleted.is_none());
    let in_bin: Vec<_> = gone
        .into_iter()
        .filter(|(_, document)| !document.head.purged)
        .map(|(key, document)| (key.document, document.head.clone()))
        .collect();
    assert_eq!(store.deleted(namespace, None, usize::MAX).unwrap(), in_bin);
    let totals = store.totals().unwrap().into_iter().find(|(name, _)| name == namespace);
    let totals = totals.map(|(_, totals)| totals).unwrap_or_default();
    let expected = Totals {
        documents: kept.len() as u64,
        changes: kept.iter().map(|(_, document)| document.head.changes()).sum(),
        bytes: kept.iter().map(|(_, document)| document.head.bytes()).sum(),
        deleted: in_bin.len() as u64,
        modified: totals.modified,
    };
    assert_eq!(totals, expected);
    for (rank, deleted) in [(Head::bytes as fn(&Head) -> u64, false), (|head: &Head| head.modified, true)] {
        let mut ranks: Vec<u64> = match deleted {
            true => in_bin.iter().map(|(_, head)| rank(head)).collect(),
            false => kept.iter().map(|(_, document)| rank(&document.head)).collect(),
        };
        ranks.sort_by_key(|rank| std::cmp::Reverse(*rank));
        ranks.truncate(2);
        let ranked = store.ranked(Some(namespace), deleted, rank, 2).unwrap();
        assert_eq!(ranked.iter().map(|(_, head)| rank(head)).collect::<Vec<_>>(), ranks);
    }
}

fn compare_document(store: &Store, model: &Model, key: &DocKey) {
    let expected = model.documents.get(key);
    assert_eq!(store.head(key).unwrap().as_ref(), expected.map(|document| &document.head), "{key:?}");
    let snapshot = expected.and_then(|document| document.snapshot.clone());
    assert_eq!(store.snapshot(key).unwrap(), snapshot.clone().map(|pair| pair.0));
    assert_eq!(store.snapshot_index(key).unwrap(), snapshot.clone().map(|pair| pair.1));
    let expected_rows = expected.map_or(&[][..], |document| &document.rows);
    let mut tail = vec![];
    store
        .tail(key, 0..u64::MAX, &mut |row| {
            tail.push(row);
            true
        })
        .unwrap();
    assert_eq!(tail, expected_rows);
    if let Some(middle) = expected_rows.get(expected_rows.len() / 2) {
        let mut part = vec![];
        store
            .tail(key, middle.row..middle.row + 3, &mut |row| {
                part.push(row);
                true
            })
            .unwrap();
        let wanted: Vec<Row> = expected_rows
            .iter()
            .filter(|row| (middle.row..middle.row + 3).contains(&row.row))
            .cloned()
            .collect();
        assert_eq!(part, wanted);
    }
    let whole =
        expected.map(|document| (document.head.clone(), snapshot.map(|pair| pair.0), document.rows.clone()));
    assert_eq!(store.whole(key).unwrap(), whole);
    for storage in STORAGES {
        let storage: StorageId = storage.parse().unwrap();
        let expected = model.sync_states.get(&(key.clone(), storage.clone()));
        assert_eq!(store.sync_state(key, &storage).unwrap().as_ref(), expected);
    }
}

fn random_history(seed: u64, open: &dyn Fn() -> Store) {
    println!("seed {seed}");
    let mut rng = Rng(seed);
    let mut model = Model::default();
    let mut store = open();
    let id = store.storage_id().clone();
    for _ in 0..60 {
        let mut after = model.clone();
        let mut ops = vec![];
        for _ in 0..1 + rng.below(8) {
            let op = valid_op(&mut rng, &after);
            after.apply(&op);
            ops.push(op);
        }
        if rng.one_in(5) {
            let place = rng.below(ops.len() as u64 + 1) as usize;
            let mut before = model.clone();
            ops[..place].iter().for_each(|op| before.apply(op));
            ops.insert(place, invalid_op(&mut rng, &before));
            let refused = store.commit(&ops).unwrap_err();
            assert!(matches!(refused, StoreError::Order { .. }), "{refused}");
            assert!(!refused.is_retryable());
        } else {
            store.commit(&ops).unwrap();
            model = after;
        }
        match rng.below(12) {
            0 => {
                drop(store);
                store = open();
                assert_eq!(store.storage_id(), &id);
            }
            1 => store.settle().unwrap(),
            2 => drop(store.reclaim().unwrap()),
            _ => {}
        }
        if rng.one_in(4) {
            compare(&store, &model);
        }
    }
    drop(store);
    compare(&open(), &model);
}

#[test]
fn file_store_behaves_like_the_model() {
    for seed in 0..4 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("groundmist.redb");
        random_history(seed, &|| Store::open(&path, &OPTIONS).unwrap());
    }
}

#[test]
fn memory_store_behaves_like_the_model() {
    for seed in 100..112 {
        let disk = MemoryDisk::default();
        random_history(seed, &|| Store::open_backend(disk.factory(), &OPTIONS).unwrap());
    }
}

#[test]
fn one_document_id_in_two_namespaces_is_two_documents() {
    let store = Store::open_backend(MemoryDisk::default().factory(), &OPTIONS).unwrap();
    let mut rng = Rng(7);
    let (mine, other) = (key("xyz.app", 5), key("xyz.app-two", 5));
    store.commit(&[append(&mine, rows(&mut rng, 0, 3, 100), 1)]).unwrap();
    assert_eq!(store.head(&other).unwrap(), None);
    assert_eq!(store.whole(&other).unwrap(), None);
    assert_eq!(store.documents(&other.namespace, None, 10).unwrap(), vec![]);
    assert_eq!(store.namespaces().unwrap(), vec![mine.namespace.clone()]);
    let before = store.whole(&mine).unwrap();
    store.commit(&[append(&other, rows(&mut rng, 0, 1, 100), 2)]).unwrap();
    assert_eq!(store.whole(&mine).unwrap(), before);
    assert_eq!(store.namespaces().unwrap(), vec![mine.namespace, other.namespace]);
}

const DAY: u64 = 86_400_000;

#[test]
fn growth_is_remembered_by_the_day() {
    let store = Store::open_backend(MemoryDisk::default().factory(), &OPTIONS).unwrap();
    let mut rng = Rng(5);
    let document = key("xyz.app", 1);
    let today = 20_000;
    let mut put = |row, day: u64| {
        let change = Row { bytes: Bytes::from_static(b"0123456789"), ..rows(&mut rng, row, 1, 1).remove(0) };
        store.commit(&[append(&document, vec![change], day * DAY + row)]).unwrap();
    };
    put(0, today - 500);
    put(1, today - 10);
    put(2, today - 10);
    put(3, today - 2);
    let growth = |days, now| {
        let points = store.growth(days, now).unwrap();
        points
            .into_iter()
            .map(|point| (u64::from(point.day), point.totals.changes, point.totals.bytes))
            .collect::<Vec<_>>()
    };
    let now = today * DAY + 5;
    assert_eq!(growth(1, now), [(today, 4, 40)], "what there was when the time began");
    assert_eq!(growth(5, now), [(today - 4, 3, 30), (today - 2, 4, 40)]);
    assert_eq!(growth(400, now), [(today - 399, 1, 10), (today - 10, 3, 30), (today - 2, 4, 40)]);
    // 400 days later nothing older is left.
    put(4, today + 400);
    assert_eq!(store.records(RecordKind::Growth).unwrap().len(), 1);
    let delete = Op::Dispose { key: document.clone(), what: Disposal::Delete, now: (today + 401) * DAY };
    store.commit(&[delete]).unwrap();
    assert_eq!(growth(2, (today + 401) * DAY), [(today + 400, 5, 50), (today + 401, 0, 0)]);
}

fn disk_bytes(path: &Path) -> u64 {
    let metadata = std::fs::metadata(path).unwrap();
    metadata.len().min(metadata.blocks() * 512)
}

#[test]
fn stats_tell_what_reclaiming_gives_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("groundmist.redb");
    let mut store = Store::open(&path, &OPTIONS).unwrap();
    let mut rng = Rng(8);
    let document = key("xyz.app", 1);
    for round in 0..20 {
        store.commit(&[append(&document, rows(&mut rng, round * 50, 50, 4000), 1)]).unwrap();
    }
    let full = store.stats().unwrap();
    assert_eq!(full.file_bytes, disk_bytes(&path));
    assert!(full.dead_bytes < full.file_bytes / 2 + full.file_bytes / 4, "{full:?}");
    let info = SnapshotInfo { heads: vec![], changes: 1000, bytes: 0 };
    let content = rng.bytes(1000);
    let (index, heads) = (content.clone(), vec![]);
    store
        .commit(&[Op::Snapshot {
            key: document,
            below_row: 1000,
            info,
            document: content,
            index,
            heads,
            by: None,
            modified: None,
        }])
        .unwrap();
    let emptied = store.stats().unwrap();
    assert!(emptied.dead_bytes > emptied.file_bytes * 9 / 10, "{emptied:?}");
    assert!(store.reclaim().unwrap());
    let reclaimed = store.stats().unwrap();
    assert_eq!(reclaimed.file_bytes, disk_bytes(&path));
    assert!(reclaimed.file_bytes < emptied.file_bytes / 10, "{reclaimed:?} after {emptied:?}");
    assert!(std::fs::metadata(&path).unwrap().len() < emptied.file_bytes / 10);
}

#[test]
fn dead_space_is_given_back_while_the_store_is_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("groundmist.redb");
    let store = Store::open(&path, &OPTIONS).unwrap();
    let mut rng = Rng(9);
    let (document, other) = (key("xyz.app", 1), key("xyz.app", 2));
    store.commit(&[append(&other, rows(&mut rng, 0, 3, 100), 1)]).unwrap();
    for round in 0..48 {
        store.commit(&[append(&document, rows(&mut rng, round * 10, 10, 100_000), 1)]).unwrap();
    }
    assert!(!store.reclaim_if_quick().unwrap(), "nothing is dead yet");
    let info = SnapshotInfo { heads: vec![], changes: 480, bytes: 0 };
    let content = rng.bytes(1000);
    let (index, heads) = (content.clone(), vec![]);
    let (below_row, by, modified) = (480, None, None);
    store
        .commit(&[Op::Snapshot {
            key: document,
            below_row,
            info,
            document: content,
            index,
            heads,
            by,
            modified,
        }])
        .unwrap();
    let before = store.whole(&other).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(store.whole(&other).unwrap(), before);
            }
        });
        // A read at work may hold it up, never harm it.
        while !matches!(store.reclaim_if_quick(), Ok(true)) {}
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(disk_bytes(&path) < 4 << 20, "{} bytes", disk_bytes(&path));
    store.commit(&[append(&other, rows(&mut rng, 3, 1, 100), 1)]).unwrap();
    let after = store.whole(&other).unwrap();
    drop(store);
    assert_eq!(Store::open(&path, &OPTIONS).unwrap().whole(&other).unwrap(), after);
}
