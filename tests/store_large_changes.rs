//! Large changes beside small ones: what is stored beside one costs no more for it, and none of it is lost.
#![allow(clippy::unwrap_used)]

mod store_support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use groundmist_sync::store::{Op, SnapshotInfo, Store, StoreError};
use groundmist_sync::types::DocKey;
use redb::{ReadableDatabase as _, ReadableTableMetadata as _, StorageBackend, TableDefinition};
use store_support::{MemoryDisk, OPTIONS, Rng, append, key, rows};

const LARGE: u64 = 8 << 20;
/// What one small commit may write: today some 50 kB, for pages are written whole.
const MOST_OF_A_SMALL_COMMIT: u64 = 512 << 10;

/// A disk that counts what is written to it.
#[derive(Debug, Clone, Default)]
struct Counted {
    disk: MemoryDisk,
    written: Arc<AtomicU64>,
}

impl Counted {
    fn open(&self) -> Store {
        let disk = self.clone();
        Store::open_backend(move || Ok(Box::new(disk.clone())), &OPTIONS).unwrap()
    }

    /// Bytes written meanwhile.
    fn during(&self, work: impl FnOnce()) -> u64 {
        let before = self.written.load(Ordering::Relaxed);
        work();
        self.written.load(Ordering::Relaxed) - before
    }
}

impl StorageBackend for Counted {
    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.disk.write(offset, data)
    }
}

/// A change of so many bytes, as the row `row`.
fn change(rng: &mut Rng, row: u64, bytes: u64) -> groundmist_sync::store::Row {
    let mut made = rows(rng, row, 1, 1).remove(0);
    made.bytes = rng.bytes(bytes);
    made
}

/// Commits one small change at the end of a document.
fn type_in(store: &Store, rng: &mut Rng, document: &DocKey) {
    let next = store.head(document).unwrap().map_or(0, |head| head.next_row);
    store.commit(&[append(document, vec![change(rng, next, 100)], 1)]).unwrap();
}

#[test]
fn a_keystroke_beside_a_large_change_writes_no_more_than_elsewhere() {
    let disk = Counted::default();
    let store = disk.open();
    let mut rng = Rng(1);
    let (large, before, after) = (key("xyz.app", 5), key("xyz.app", 4), key("xyz.app", 6));
    for document in [&before, &large, &after] {
        (0..3).for_each(|_| type_in(&store, &mut rng, document));
    }
    let pasted = vec![change(&mut rng, 3, LARGE), change(&mut rng, 4, 100), change(&mut rng, 5, LARGE)];
    store.commit(&[append(&large, pasted, 1)]).unwrap();
    store.commit(&[append(&key("xyz.app", 7), vec![change(&mut rng, 0, LARGE)], 1)]).unwrap();
    for document in [&large, &before, &after] {
        for n in 0..50 {
            let written = disk.during(|| type_in(&store, &mut rng, document));
            assert!(written < MOST_OF_A_SMALL_COMMIT, "{n}: {written} bytes");
        }
    }
}

#[test]
fn a_large_change_comes_back_whole_at_every_size_and_goes_with_its_row() {
    // About the largest row, one part, and two.
    let sizes = [1, 3_900, 3_999, 4_000, 4_001, 16_311, 16_312, 16_313, 32_632, 32_633, 1_000_000];
    let store = Counted::default().open();
    let mut rng = Rng(2);
    let document = key("xyz.app", 1);
    let written: Vec<_> = (0..).zip(sizes).map(|(row, size)| change(&mut rng, row, size)).collect();
    store.commit(&[append(&document, written.clone(), 1)]).unwrap();
    let live = |store: &Store| store.stats().map(|stats| stats.file_bytes - stats.dead_bytes).unwrap();
    let (head, _, read) = store.whole(&document).unwrap().unwrap();
    assert_eq!(read, written);
    assert_eq!(head.tail_bytes, sizes.iter().sum::<u64>());
    // From the middle of them.
    let mut some = Vec::new();
    store
        .tail(&document, 4..7, &mut |row| {
            some.push(row);
            true
        })
        .unwrap();
    assert_eq!(some, written[4..7]);

    // Folded into a snapshot one after the other, until none is left.
    let before = live(&store);
    for below_row in 1..=sizes.len() as u64 {
        let info = SnapshotInfo { heads: vec![], changes: below_row, bytes: 0 };
        let (content, heads) = (rng.bytes(10), vec![]);
        store
            .commit(&[Op::Snapshot {
                key: document.clone(),
                below_row,
                info,
                document: content.clone(),
                index: content,
                heads,
                by: None,
                modified: None,
            }])
            .unwrap();
        let (head, _, read) = store.whole(&document).unwrap().unwrap();
        assert_eq!(read, written[below_row as usize..]);
        assert_eq!(head.tail_bytes, sizes[below_row as usize..].iter().sum::<u64>());
    }
    let freed = before - live(&store);
    assert!(freed > sizes.iter().sum::<u64>() - 1000, "{freed}");
}

/// As src/store/schema.rs has it.
const LARGE_CHANGES: TableDefinition<&[u8; 30], &[u8]> = TableDefinition::new("large_changes");

#[test]
fn a_large_change_that_lost_a_part_is_damage_and_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("groundmist.redb");
    let mut rng = Rng(3);
    let document = key("xyz.app", 1);
    let store = Store::open(&path, &OPTIONS).unwrap();
    store
        .commit(&[append(&document, vec![change(&mut rng, 0, 50_000), change(&mut rng, 1, 10)], 1)])
        .unwrap();
    drop(store);
    for part in [3, 1, 0] {
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(LARGE_CHANGES).unwrap();
        let mut place = [0; 30];
        place[4..20].copy_from_slice(&[1; 16]);
        place[29] = part;
        assert!(table.remove(&place).unwrap().is_some());
        drop(table);
        transaction.commit().unwrap();
        drop(database);
        let store = Store::open(&path, &OPTIONS).unwrap();
        let error = store.whole(&document).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(&document.document.to_string()), "{error}");
        // What stands behind it is there.
        let mut rows = 0;
        store
            .tail(&document, 1..2, &mut |_| {
                rows += 1;
                true
            })
            .unwrap();
        assert_eq!(rows, 1);
    }
}

#[test]
fn purging_a_document_takes_its_large_changes_and_no_other_ones() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("groundmist.redb");
    let store = Store::open(&path, &OPTIONS).unwrap();
    let mut rng = Rng(4);
    let kept = [key("xyz.app", 1), key("xyz.app", 3)];
    let purged = key("xyz.app", 2);
    for document in [&kept[0], &purged, &kept[1]] {
        store.commit(&[append(document, vec![change(&mut rng, 0, 10_000)], 1)]).unwrap();
    }
    let dispose = |what, now| Op::Dispose { key: purged.clone(), what, now };
    store.commit(&[dispose(groundmist_sync::store::Disposal::Delete, 2)]).unwrap();
    store.commit(&[dispose(groundmist_sync::store::Disposal::Purge { deleted_by: 3 }, 3)]).unwrap();
    for document in &kept {
        assert_eq!(store.whole(document).unwrap().unwrap().2.len(), 1);
    }
    drop(store);
    let database = redb::Database::open(&path).unwrap();
    let table = database.begin_read().unwrap().open_table(LARGE_CHANGES).unwrap();
    assert_eq!(table.len().unwrap(), 2);
}
