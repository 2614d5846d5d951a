//! What is recorded over several lives of the process.

use tempfile::TempDir;

use super::*;
use crate::engine::vital::Vital;
use crate::store::StoreOptions;
use crate::types::DocumentId;

const MESSAGE: u64 = 1 << 20;
const MEMORY: u64 = 1 << 30;

fn key(n: u8) -> DocKey {
    DocKey { namespace: "xyz.example".parse().unwrap(), document: DocumentId([n; 16]) }
}

/// One life of the process: what is done in it, then it is gone without a word. `row`: what stands there before.
fn life(dir: &TempDir, row: Option<&str>, live: impl FnOnce(&Record)) {
    let store = Store::open(&dir.path().join("store"), &StoreOptions { cache_bytes: 1 << 20 }).unwrap();
    let store = Arc::new(store);
    if let Some(row) = row {
        let row = Some(row.as_bytes().to_vec());
        store.commit(&[Op::Record { kind: RecordKind::Pin, key: PIN.into(), row }]).unwrap();
    }
    let journal = Journal::start(store.clone(), &Vital::new()).unwrap();
    live(&Record::load(&store, journal.clone(), MEMORY, MESSAGE));
    journal.stop().blocking_recv().unwrap();
    drop(journal);
    while Arc::strong_count(&store) > 1 {
        std::thread::yield_now();
    }
}

#[test]
fn two_openings_that_end_with_the_server_close_their_documents() {
    let dir = TempDir::new().unwrap();
    life(&dir, None, |record| {
        record.begin(&key(1), 100);
        record.begin(&key(2), 100);
    });
    life(&dir, None, |record| {
        assert!(record.closed().is_empty(), "once may be chance");
        assert_eq!((record.bad_ends(&key(1)), record.bad_ends(&key(2)), record.bad_ends(&key(3))), (1, 1, 0));
        assert_eq!(record.troubles().len(), 2, "and the owner hears of it");
        record.begin(&key(2), 100);
        record.end(&key(2), 100);
        record.begin(&key(1), 100);
    });
    life(&dir, None, |record| {
        assert_eq!((record.bad_ends(&key(1)), record.bad_ends(&key(2))), (2, 0));
        assert_eq!(record.closed().len(), 1);
        assert!(record.troubles().is_empty(), "said once");
    });
    life(&dir, None, |record| {
        assert_eq!(record.bad_ends(&key(1)), 2, "for good");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        assert!(runtime.block_on(record.retry(&key(1))).unwrap());
        assert!(!runtime.block_on(record.retry(&key(1))).unwrap());
    });
    life(&dir, None, |record| assert_eq!(record.bad_ends(&key(1)), 0, "the owner said so"));
}

#[test]
fn a_bad_end_counts_and_a_clean_stop_does_not() {
    let dir = TempDir::new().unwrap();
    life(&dir, None, |record| {
        record.end_badly(&key(1), 100, "it was killed");
        record.begin(&key(2), 100);
        record.begin(&key(3), 100);
        record.cancel(&key(3));
        record.stop();
        record.end_badly(&key(2), 100, "it was killed by the stop");
    });
    life(&dir, None, |record| {
        let ends = [1, 2, 3].map(|n| record.bad_ends(&key(n)));
        assert_eq!(ends, [1, 0, 0]);
        assert_eq!(record.troubles()[0].reason, "it was killed");
        record.end_badly(&key(1), 100, "it hung");
        assert_eq!(record.closed()[0].reason, "it hung");
        record.end(&key(1), 99);
        assert_eq!(record.bad_ends(&key(1)), 2, "a smaller opening proves nothing");
        record.end(&key(1), 100);
    });
    life(&dir, None, |record| assert_eq!(record.bad_ends(&key(1)), 0, "it ended well"));
}

#[test]
fn records_of_older_versions_are_read() {
    let dir = TempDir::new().unwrap();
    let end = |ends| {
        let document = key(1).document;
        format!(r#"{{"namespace":"xyz.example","document":"{document}","ends":{ends}}}"#)
    };
    let old = format!(r#"{{"under_way":{},"bad":[{}]}}"#, end(0), end(1));
    life(&dir, Some(&old), |record| assert_eq!(record.closed().len(), 1));
    let idle = format!(r#"{{"under_way":null,"bad":[{}]}}"#, end(1));
    life(&dir, Some(&idle), |record| assert_eq!(record.bad_ends(&key(1)), 1));
}

#[test]
fn troubles_last_until_they_are_over() {
    let dir = TempDir::new().unwrap();
    let too_large =
        |n, need_bytes| Trouble { need_bytes, ..Trouble::new(TroubleKind::TooLargeToCompact, &key(n), None) };
    life(&dir, None, |record| {
        record.note(too_large(1, MEMORY + 1));
        record.note(too_large(1, MEMORY + 2));
        record.note(too_large(2, MEMORY));
        record.note(Trouble::new(TroubleKind::NoProcess, &key(3), None));
        assert_eq!(record.troubles().len(), 3);
    });
    life(&dir, None, |record| {
        assert_eq!(record.troubles(), [too_large(1, MEMORY + 2)], "the others may be over by now");
        record.is_well(&key(1), &[TroubleKind::Failed]);
        assert_eq!(record.troubles().len(), 1);
        record.is_well(&key(1), &[TroubleKind::TooLargeToCompact]);
    });
    life(&dir, None, |record| assert!(record.troubles().is_empty()));
}
