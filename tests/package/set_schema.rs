//! Makes a stopped server's store one of another schema: `set_schema STORE NUMBER`.
#![allow(missing_docs, clippy::unwrap_used)]

use redb::{Database, TableDefinition};

/// As src/store/schema.rs has it.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (path, number) = (arguments.next().unwrap(), arguments.next().unwrap().parse::<u32>().unwrap());
    let transaction = Database::open(path).unwrap().begin_write().unwrap();
    let mut meta = transaction.open_table(META).unwrap();
    for name in ["schema", "needs_schema"] {
        meta.insert(name, number.to_be_bytes().as_slice()).unwrap();
    }
    drop(meta);
    transaction.commit().unwrap();
}
