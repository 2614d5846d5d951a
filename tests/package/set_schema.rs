//! Makes a stopped server's store one of another schema: `set_schema STORE NUMBER`. It loses what newer
//! schemas brought, as if an older version had written it; no change in it may be large, and below 2 no document deleted.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use redb::{Database, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

/// As src/store/schema.rs has them.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
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
    if number < 3 {
        let table: TableDefinition<&[u8; 30], &[u8]> = TableDefinition::new("large_changes");
        assert!(transaction.open_table(table).unwrap().is_empty().unwrap(), "it has large changes");
        assert!(transaction.delete_table(table).unwrap());
    }
    let lost = if number < 2 { lose_schema_2(&transaction) } else { 0 };
    let mut meta = transaction.open_table(META).unwrap();
    let live = u64::from_be_bytes(meta.get("live_bytes").unwrap().unwrap().value().try_into().unwrap());
    meta.insert("live_bytes", (live - lost).to_be_bytes().as_slice()).unwrap();
    for name in ["schema", "needs_schema"] {
        meta.insert(name, number.to_be_bytes().as_slice()).unwrap();
    }
    drop(meta);
    transaction.commit().unwrap();
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
