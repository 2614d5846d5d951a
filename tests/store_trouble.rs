//! What an owner meets: a full disk, a damaged, foreign, locked or newer file, an older schema.
#![allow(clippy::unwrap_used)]

mod store_support;

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use groundmist_sync::store::{
    Commit, CommitError, Disposal, Head, Op, RecordKind, SnapshotInfo, Store, StoreError, Totals, Whole,
};
use groundmist_sync::types::{DocKey, DocumentId};
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableHandle};
use store_support::faulty_disk::{Fault, FaultyDisk};
use store_support::{MemoryDisk, OPTIONS, Rng, append, key, rows};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

fn new_file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("groundmist.redb");
    (directory, path)
}

fn snapshot(rng: &mut Rng, key: &DocKey, below_row: u64, length: u64) -> Op {
    Op::Snapshot {
        key: key.clone(),
        below_row,
        info: SnapshotInfo { heads: vec![rng.hash()], changes: below_row, bytes: 0 },
        document: rng.bytes(length),
        index: rng.bytes(length),
        heads: vec![rng.hash()],
        by: None,
        modified: None,
    }
}

/// A few documents with everything in them.
fn fill(store: &Store) -> Vec<(DocKey, Option<Whole>)> {
    let mut rng = Rng(3);
    let keys = [key("xyz.app", 1), key("xyz.app", 2), key("xyz.other", 1)];
    for key in &keys {
        store.commit(&[append(key, rows(&mut rng, 0, 40, 500), 1)]).unwrap();
    }
    let storage = "device".parse().unwrap();
    let shared_heads = vec![rng.hash()];
    store
        .commit(&[
            snapshot(&mut rng, &keys[0], 30, 50_000),
            Op::SyncState { key: keys[1].clone(), storage, shared_heads },
            Op::Record { kind: RecordKind::Session, key: b"s".to_vec(), row: Some(vec![1; 100]) },
            Op::Record { kind: RecordKind::Grant, key: b"app".to_vec(), row: Some(vec![2; 50]) },
        ])
        .unwrap();
    keys.into_iter().map(|key| (key.clone(), store.whole(&key).unwrap())).collect()
}

fn assert_holds(store: &Store, expected: &[(DocKey, Option<Whole>)]) {
    for (key, whole) in expected {
        assert_eq!(store.whole(key).unwrap(), *whole);
    }
}

/// A file system of a given size, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=700"), "tmpfs"])
            .arg(directory.path())
            .output()
            .map_err(|error| error.to_string())?;
        let message = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        if done.status.success() { Ok(Self(directory)) } else { Err(message) }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_refuses_commits_keeps_reads_and_heals_without_restart() {
    let disk = match SmallDisk::mount(3 << 20) {
        Ok(disk) => disk,
        Err(reason) => return println!("skipped: no tmpfs can be mounted here: {reason}"),
    };
    let path = disk.path().join("groundmist.redb");
    let store = Store::open(&path, &OPTIONS).unwrap();
    let mut known = fill(&store);
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let mut rng = Rng(5);
    let document = key("xyz.app", 7);
    let mut next = 0;
    let refused = loop {
        match store.commit(&[append(&document, rows(&mut rng, next, 10, 20_000), 1)]) {
            Ok(()) => next += 10,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused}");
    assert!(refused.is_retryable());
    known.push((document.clone(), store.whole(&document).unwrap()));
    assert_eq!(store.head(&document).unwrap().unwrap().next_row, next, "part of the refused commit was kept");
    for _ in 0..3 {
        let large = rows(&mut rng, next, 50, 20_000);
        let error = store.commit(&[append(&document, large, 1)]).unwrap_err();
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
        assert_holds(&store, &known);
    }
    fs::remove_file(&ballast).unwrap();
    store.commit(&[append(&document, rows(&mut rng, next, 10, 20_000), 1)]).unwrap();
    assert_eq!(store.head(&document).unwrap().unwrap().next_row, next + 10);
    drop(store);
    let store = Store::open(&path, &OPTIONS).unwrap();
    assert_eq!(store.head(&document).unwrap().unwrap().next_row, next + 10);
    known.pop();
    assert_holds(&store, &known);
}

/// Each kind comes from a disk that fails, or from a step that does not fit; and the next commit succeeds.
#[tokio::test]
async fn a_failed_commit_says_of_which_kind_its_failure_is() {
    let disk = FaultyDisk::new(Vec::new(), None);
    let store = Arc::new(Store::open_backend(disk.factory(), &OPTIONS).unwrap());
    let mut rng = Rng(9);
    let document = key("xyz.app", 1);
    let mut step = async |first, fault: Option<io::ErrorKind>| {
        let ops = vec![append(&document, rows(&mut rng, first, 1, 500), 1)];
        disk.set_fault(fault.map(|kind| (disk.operations(), Fault::Error(kind))));
        store.make_durable(ops).await
    };
    step(0, None).await.unwrap();
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        let full = step(1, Some(kind)).await.unwrap_err();
        assert!(matches!(full, CommitError::Full { operation: "commit", .. }), "{full:?}");
        assert!(full.to_string().contains("disk is full; free some space"), "{full}");
    }
    let broken = step(1, Some(io::ErrorKind::Other)).await.unwrap_err();
    assert!(
        matches!(&broken, CommitError::Storage(error) if matches!(**error, StoreError::Io { .. })),
        "{broken:?}"
    );
    let refused = step(7, None).await.unwrap_err();
    assert!(
        matches!(&refused, CommitError::Refused(error) if matches!(**error, StoreError::Order { .. })),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("the first row is 7"), "{refused}");
    step(1, None).await.unwrap();
    let too_large = StoreError::TooLarge { object: "a snapshot".into(), bytes: 2, limit: 1 };
    assert!(matches!(too_large.into(), CommitError::Refused(_)));
}

#[test]
fn the_file_is_for_its_owner_only() {
    let (_directory, path) = new_file();
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    drop(Store::open(&path, &OPTIONS).unwrap());
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(Store::open(&path, &OPTIONS).unwrap());
    assert_eq!(mode(), 0o600);
}

#[test]
fn what_cannot_be_opened_is_named() {
    let (directory, path) = new_file();
    let open = || Store::open(&path, &OPTIONS).unwrap_err();

    let missing = Store::open(&directory.path().join("no/groundmist.redb"), &OPTIONS).unwrap_err();
    assert!(matches!(missing, StoreError::Io { .. }) && missing.to_string().contains("no/groundmist.redb"));

    for foreign in [&b"hello"[..], &[0x55; 9000]] {
        fs::write(&path, foreign).unwrap();
        assert!(matches!(open(), StoreError::NotAStore { .. }));
        assert_eq!(fs::read(&path).unwrap(), foreign, "a foreign file was changed");
    }
    fs::remove_file(&path).unwrap();

    let other: TableDefinition<&str, u32> = TableDefinition::new("other");
    let database = redb::Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(other).unwrap().insert("a", 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(open(), StoreError::NotAStore { .. }));
    fs::remove_file(&path).unwrap();

    let store = Store::open(&path, &OPTIONS).unwrap();
    let locked = open();
    assert!(matches!(locked, StoreError::Locked { .. }));
    assert!(locked.to_string().contains("another groundmist-sync"), "{locked}");
    drop(store);
    drop(Store::open(&path, &OPTIONS).unwrap());
}

fn set_meta(path: &Path, rows: &[(&str, Option<&[u8]>)]) {
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let mut meta = transaction.open_table(META).unwrap();
    for (name, value) in rows {
        match value {
            Some(value) => drop(meta.insert(name, value).unwrap()),
            None => drop(meta.remove(name).unwrap()),
        }
    }
    drop(meta);
    transaction.commit().unwrap();
}

fn schema(path: &Path) -> u32 {
    let database = redb::Database::open(path).unwrap();
    let meta = database.begin_read().unwrap().open_table(META).unwrap();
    let row = ReadableTable::get(&meta, "schema").unwrap().unwrap();
    u32::from_be_bytes(row.value().try_into().unwrap())
}

#[test]
fn a_kind_of_record_that_is_newer_than_the_store_comes_with_its_first_record() {
    let (_directory, path) = new_file();
    drop(Store::open(&path, &OPTIONS).unwrap());
    let certificates: TableDefinition<&[u8], &[u8]> = TableDefinition::new("certificates");
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.delete_table(certificates).unwrap());
    transaction.commit().unwrap();
    drop(database);
    let store = Store::open(&path, &OPTIONS).unwrap();
    let kind = RecordKind::Certificate;
    assert_eq!((store.record(kind, b"k").unwrap(), store.records(kind).unwrap()), (None, vec![]));
    store.commit(&[Op::Record { kind, key: b"k".into(), row: Some(b"v".into()) }]).unwrap();
    assert_eq!(store.record(kind, b"k").unwrap(), Some(b"v".into()));
}

#[test]
fn an_older_schema_is_migrated_and_a_copy_kept() {
    let (directory, path) = new_file();
    let store = Store::open(&path, &OPTIONS).unwrap();
    let known = fill(&store);
    let id = store.storage_id().clone();
    let live = |store: &Store| {
        let stats = store.stats().unwrap();
        stats.file_bytes - stats.dead_bytes
    };
    let (live_before, totals) = (live(&store), store.totals().unwrap());
    assert_eq!(totals.iter().map(|(_, totals)| totals.documents).sum::<u64>(), 3);
    drop(store);
    make_schema_0(&path);

    let store = Store::open(&path, &OPTIONS).unwrap();
    assert_holds(&store, &known);
    assert_eq!(store.storage_id(), &id);
    // Counted anew, it is what was kept count of.
    assert_eq!(live(&store), live_before);
    assert_eq!(store.totals().unwrap(), totals);
    drop(store);
    assert_eq!(schema(&path), 4);
    let copy = directory.path().join("groundmist.redb.v0-backup");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(schema(&copy), 0);
    assert_holds(&Store::open(&copy, &OPTIONS).unwrap(), &known);
}

#[test]
fn root_migrating_writes_through_no_link_and_the_copy_is_the_servers() {
    let (directory, path) = new_file();
    drop(Store::open(&path, &OPTIONS).unwrap());
    make_schema_0(&path);
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    symlink(elsewhere.path(), directory.path().join("groundmist.redb.v0-backup.unfinished")).unwrap();
    // Whose directory and store are; who is not root cannot give them away.
    let given = chown(directory.path(), Some(61_184), Some(61_184)).is_ok();
    if given {
        // A file that root put there is not copied to where that user can read it.
        let refused = Store::open(&path, &OPTIONS).unwrap_err().to_string();
        assert!(
            refused.contains("belongs to user 0") && refused.contains("chown it to 61184:61184"),
            "{refused}"
        );
        chown(&path, Some(61_184), Some(61_184)).unwrap();
    }
    drop(Store::open(&path, &OPTIONS).unwrap());
    let copy = fs::symlink_metadata(directory.path().join("groundmist.redb.v0-backup")).unwrap();
    assert!(copy.is_file());
    assert_eq!(fs::read(elsewhere.path()).unwrap(), b"");
    if given {
        assert_eq!((copy.uid(), copy.gid()), (61_184, 61_184));
    }
}

/// Schema 0 had no count of live bytes, and nothing of what schemas 2 and 3 brought.
fn make_schema_0(path: &Path) {
    let transaction = redb::Database::open(path).unwrap().begin_write().unwrap();
    for newer in ["totals", "growth"] {
        let table: TableDefinition<&[u8], &[u8]> = TableDefinition::new(newer);
        assert!(transaction.delete_table(table).unwrap());
    }
    for newer in ["bin", "tombstones"] {
        let table: TableDefinition<&[u8; 20], &[u8]> = TableDefinition::new(newer);
        assert!(transaction.delete_table(table).unwrap());
    }
    let newer: TableDefinition<&[u8; 30], &[u8]> = TableDefinition::new("large_changes");
    assert!(transaction.delete_table(newer).unwrap());
    transaction.commit().unwrap();
    set_meta(path, &[("schema", Some(&[0; 4])), ("needs_schema", Some(&[0; 4])), ("live_bytes", None)]);
}

/// The first document of [`fill`], in the tables that have a row for each document.
fn first_document() -> Vec<u8> {
    [&[0; 4][..], &[1; 16]].concat()
}

#[test]
fn a_damaged_head_row_keeps_no_store_from_its_migration() {
    let (_directory, path) = new_file();
    let store = Store::open(&path, &OPTIONS).unwrap();
    let known = fill(&store);
    let totals = store.totals().unwrap();
    let damaged = store.head(&known[0].0).unwrap().unwrap();
    drop(store);
    make_schema_0(&path);
    overwrite(&path, "heads", &first_document());
    let store = Store::open(&path, &OPTIONS).unwrap();
    assert!(store.head(&known[0].0).is_err());
    assert_holds(&store, &known[1..]);
    // All else is counted.
    let mut expected = totals;
    expected[0].1.documents -= 1;
    expected[0].1.changes -= damaged.changes();
    expected[0].1.bytes -= damaged.bytes();
    assert_eq!(store.totals().unwrap(), expected);
}

#[test]
fn a_damaged_head_row_hides_its_own_document_only() {
    let (_directory, path) = new_file();
    let store = Store::open(&path, &OPTIONS).unwrap();
    let known = fill(&store);
    let namespace = &known[0].0.namespace;
    drop(store);
    let ids = |list: Vec<(DocumentId, Head)>| list.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let good = vec![known[1].0.document];
    overwrite(&path, "heads", &first_document());
    let store = Store::open(&path, &OPTIONS).unwrap();
    // Also at the start of a page, and as all that is left for one.
    assert_eq!(ids(store.documents(namespace, None, 1).unwrap()), good);
    assert_eq!(ids(store.documents(namespace, None, 10).unwrap()), good);
    assert_eq!(store.ranked(None, false, Head::bytes, 10).unwrap().len(), 2);
    store.commit(&[Op::Dispose { key: known[1].0.clone(), what: Disposal::Delete, now: 5 }]).unwrap();
    assert_eq!(store.documents(namespace, None, 10).unwrap(), []);
    assert_eq!(ids(store.deleted(namespace, None, 10).unwrap()), good);
    drop(store);
    let place: Vec<u8> = [&[0; 4][..], &known[1].0.document.0].concat();
    overwrite(&path, "bin", &place);
    let store = Store::open(&path, &OPTIONS).unwrap();
    assert_eq!(store.deleted(namespace, None, 10).unwrap(), []);
    assert_eq!(store.ranked(None, true, Head::bytes, 10).unwrap(), []);
}

#[test]
fn a_damaged_count_keeps_no_commit_from_its_document() {
    let (_directory, path) = new_file();
    let store = Store::open(&path, &OPTIONS).unwrap();
    let known = fill(&store);
    store.commit(&[Op::Dispose { key: known[1].0.clone(), what: Disposal::Delete, now: 5 }]).unwrap();
    let (totals, growth) = (store.totals().unwrap(), store.growth(400, 5).unwrap());
    assert_eq!((totals[0].1.documents, totals[0].1.deleted), (1, 1));
    drop(store);
    overwrite(&path, "totals", &[0; 4]);
    let store = Store::open(&path, &OPTIONS).unwrap();
    // Counted for who asks, and by the next commit for good.
    let counted = |store: &Store| store.totals().unwrap()[0].1;
    assert_eq!(Totals { modified: 5, ..counted(&store) }, totals[0].1);
    assert_eq!(store.growth(400, 5).unwrap().len(), growth.len());
    store.commit(&[append(&known[0].0, rows(&mut Rng(9), 40, 1, 50), 6)]).unwrap();
    let kept = store.head(&known[0].0).unwrap().unwrap();
    let old = totals[0].1;
    assert_eq!(counted(&store), Totals { changes: 41, bytes: kept.bytes(), modified: 6, ..old });
    drop(store);
    let store = Store::open(&path, &OPTIONS).unwrap();
    store.commit(&[Op::Dispose { key: known[1].0.clone(), what: Disposal::Restore, now: 7 }]).unwrap();
    assert_eq!((counted(&store).documents, counted(&store).deleted), (2, 0));
    assert_eq!(store.totals().unwrap()[1], totals[1]);
}

#[test]
fn a_newer_schema_is_refused_with_the_version_it_needs() {
    let (_directory, path) = new_file();
    drop(Store::open(&path, &OPTIONS).unwrap());
    set_meta(&path, &[("schema", Some(&9u32.to_be_bytes())), ("needs_schema", Some(&7u32.to_be_bytes()))]);
    let error = Store::open(&path, &OPTIONS).unwrap_err();
    assert!(matches!(error, StoreError::Newer { needs: 7, knows: 4, .. }), "{error:?}");
    assert!(error.to_string().contains("schema 7"), "{error}");
    // A newer version may say that older programs can use the file.
    set_meta(&path, &[("needs_schema", Some(&1u32.to_be_bytes()))]);
    drop(Store::open(&path, &OPTIONS).unwrap());
    assert_eq!(schema(&path), 9);
}

#[test]
fn a_damaged_row_names_its_document() {
    let (_directory, path) = new_file();
    let store = Store::open(&path, &OPTIONS).unwrap();
    let known = fill(&store);
    drop(store);
    let (damaged, other) = (&known[0].0, &known[2]);
    let place = |length: usize, tail: &[u8]| {
        let mut place = vec![0; 4];
        place.extend([1; 16]);
        place.extend(tail);
        assert_eq!(place.len(), length);
        place
    };
    type Read<'a> = &'a dyn Fn(&Store) -> Option<StoreError>;
    let damage: [(&str, Vec<u8>, Read); 4] = [
        ("heads", place(20, &[]), &|store| store.head(damaged).err()),
        ("changes", place(28, &35u64.to_be_bytes()), &|store| {
            store.tail(damaged, 30..40, &mut |_| true).err()
        }),
        ("snapshots", place(22, &1u16.to_be_bytes()), &|store| store.snapshot(damaged).err()),
        ("snapshot_indexes", place(22, &0u16.to_be_bytes()), &|store| store.snapshot_index(damaged).err()),
    ];
    let whole_file = fs::read(&path).unwrap();
    for (table, place, read) in damage {
        fs::write(&path, &whole_file).unwrap();
        overwrite(&path, table, &place);
        let store = Store::open(&path, &OPTIONS).unwrap();
        let error = read(&store).unwrap_or_else(|| panic!("damage in {table} was not noticed"));
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&damaged.document.to_string()) && text.contains(table), "{text}");
        assert!(store.whole(damaged).is_err() || table == "snapshot_indexes");
        assert_eq!(store.whole(&other.0).unwrap(), other.1, "another document was hurt");
    }
}

/// Replaces a row by three bytes that mean nothing.
fn overwrite(path: &Path, table: &str, place: &[u8]) {
    const JUNK: &[u8] = &[0xff, 0xff, 0xff];
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    macro_rules! replace {
        ($length:literal) => {{
            let definition: TableDefinition<&[u8; $length], &[u8]> = TableDefinition::new(table);
            let mut rows = transaction.open_table(definition).unwrap();
            let place: &[u8; $length] = place.try_into().unwrap();
            let old = rows.insert(place, JUNK).unwrap();
            assert!(old.is_some(), "{} has no such row", definition.name());
        }};
    }
    match place.len() {
        4 => {
            let table: TableDefinition<&[u8], &[u8]> = TableDefinition::new(table);
            let mut rows = transaction.open_table(table).unwrap();
            assert!(rows.insert(place, JUNK).unwrap().is_some());
        }
        20 => replace!(20),
        22 => replace!(22),
        _ => replace!(28),
    }
    transaction.commit().unwrap();
}

/// Bytes changed anywhere in the file: an error or an answer, never a panic. (redb checks no page it reads; that a
/// change is still the one its hash names is for those to check who use it.)
#[test]
fn a_damaged_file_never_panics() {
    let disk = MemoryDisk::default();
    let store = Store::open_backend(disk.factory(), &OPTIONS).unwrap();
    let known = fill(&store);
    drop(store);
    let content = disk.content().clone();
    let mut noticed = 0;
    for seed in 0..300 {
        let mut rng = Rng(seed);
        let mut damaged = content.clone();
        for _ in 0..1 + rng.below(6) {
            let limit = if rng.one_in(2) { 16_384 } else { damaged.len() as u64 };
            let place = rng.below(limit) as usize;
            let end = damaged.len().min(place + 1 + rng.below(64) as usize);
            damaged[place..end].fill(rng.next() as u8);
        }
        let disk = MemoryDisk::of(damaged);
        let Ok(store) = Store::open_backend(disk.factory(), &OPTIONS) else {
            noticed += 1;
            continue;
        };
        for (key, whole) in &known {
            match store.whole(key) {
                Ok(found) if found == *whole => {}
                _ => noticed += 1,
            }
            let _ = store.snapshot_index(key);
            let _ = store.documents(&key.namespace, None, 10);
        }
        let _ = (store.records(RecordKind::Session), store.stats());
        let _ = store.commit(&[append(&key("xyz.new", 1), rows(&mut rng, 0, 1, 50), 1)]);
        let _ = store.settle();
    }
    assert!(noticed > 30, "only {noticed} of the damages hit anything");
}
