//! Damages what a stopped server keeps for certificates: `damage STORE chain|account`. redb would notice by itself what is
//! done to its file.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use groundmist_sync::store::{Op, RecordKind, Store, StoreOptions};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (path, what) = (arguments.next().unwrap(), arguments.next().unwrap());
    let store = Store::open(Path::new(&path), &StoreOptions { cache_bytes: 1 << 20 }).unwrap();
    let damaged: Vec<Op> = store
        .records(RecordKind::Certificate)
        .unwrap()
        .into_iter()
        .filter(|(key, _)| key.starts_with(what.as_bytes()))
        .map(|(key, mut row)| {
            let (from, to) = (row.len() / 3, row.len() / 2);
            row[from..to].fill(b'!');
            Op::Record { kind: RecordKind::Certificate, key, row: Some(row) }
        })
        .collect();
    assert!(!damaged.is_empty(), "there is no {what}");
    store.commit(&damaged).unwrap();
}
