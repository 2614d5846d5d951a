//! Makes a stopped server's store one of another schema: `set_schema STORE NUMBER`. It loses what newer
//! schemas brought, as if an older version had written it; below 2 none of its documents may ever have been deleted. Sessions
//! of devices stay as schema 4 has them, and its migration passes over them.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use redb::{Database, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

/// As src/store/schema.rs has them.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const CHANGES: TableDefinition<&[u8; 28], &[u8]> = TableDefinition::new("changes");
const COUNTS: [&str; 2] = ["totals", "growth"];
const OF_DELETED: [&str; 2] = ["bin", "tombstones"];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (path, number) = (arguments.next().unwrap(), arguments.next().unwrap().parse::<u32>().unwrap());
    set_schema(Path::new(&path), number);
}

/// What the program does; also used by tests/root_files.
pub fn set_schema(path: &Path, number: u32) {
    let transaction = Database::open(path).unwrap().begin_write().unwrap();
    let mut lost = if number < 3 { lose_schema_3(&transaction) } else { 0 };
    lost += if number < 2 { lose_schema_2(&transaction) } else { 0 };
    let mut meta = transaction.open_table(META).unwrap();
    let live = u64::from_be_bytes(meta.get("live_bytes").unwrap().unwrap().value().try_into().unwrap());
    meta.insert("live_bytes", (live - lost).to_be_bytes().as_slice()).unwrap();
    for name in ["schema", "needs_schema"] {
        meta.insert(name, number.to_be_bytes().as_slice()).unwrap();
    }
    drop(meta);
    transaction.commit().unwrap();
}

/// Puts large changes back into their rows. How many live bytes went with it.
fn lose_schema_3(transaction: &WriteTransaction) -> u64 {
    let table: TableDefinition<&[u8; 30], &[u8]> = TableDefinition::new("large_changes");
    let (mut changes, mut lost) = (BTreeMap::<[u8; 28], Vec<u8>>::new(), 0);
    for part in transaction.open_table(table).unwrap().iter().unwrap() {
        let (key, value) = part.unwrap();
        let (row, number) = key.value().split_at(28);
        // The first part starts with the length of the whole.
        let length = if number == [0, 0] { 8 } else { 0 };
        changes.entry(row.try_into().unwrap()).or_default().extend(&value.value()[length..]);
        lost += 30 + length as u64;
    }
    assert!(transaction.delete_table(table).unwrap());
    let mut rows = transaction.open_table(CHANGES).unwrap();
    for (row, change) in changes {
        let known = rows.get(&row).unwrap().unwrap().value().to_vec();
        rows.insert(&row, &[known, change].concat()[..]).unwrap();
    }
    lost
}

/// How many live bytes went with it.
fn lose_schema_2(transaction: &WriteTransaction) -> u64 {
    let mut lost = 0;
    for name in COUNTS {
        let table: TableDefinition<&[u8], &[u8]> = TableDefinition::new(name);
        for row in transaction.open_table(table).unwrap().iter().unwrap() {
            let (key, value) = row.unwrap();
            lost += key.value().len() + value.value().len();
        }
        assert!(transaction.delete_table(table).unwrap());
    }
    for name in OF_DELETED {
        let table: TableDefinition<&[u8; 20], &[u8]> = TableDefinition::new(name);
        assert!(transaction.open_table(table).unwrap().is_empty().unwrap(), "{name} is not empty");
        assert!(transaction.delete_table(table).unwrap());
    }
    lost as u64
}
