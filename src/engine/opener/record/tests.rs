//! What is recorded over several lives of the process.

use tempfile::TempDir;

use super::durable::MOST_NOTED;
use super::*;
use crate::engine::vital::Vital;
use crate::store::StoreOptions;
use crate::sync::oversize::{Exceeded, MessageLimit, Oversize};
use crate::sync::price::Limits;
use crate::types::DocumentId;

const MEMORY: u64 = 1 << 30;
const MESSAGE: u64 = 1 << 20;
const CHANGES: u64 = 1_000;

fn allowed() -> Allowed {
    let price = Limits { changes: CHANGES, ..Limits::default() };
    Allowed { memory_bytes: MEMORY, message_bytes: MESSAGE, price }
}

fn key(n: u8) -> DocKey {
    DocKey { namespace: "xyz.example".parse().unwrap(), document: DocumentId([n; 16]) }
}

/// The document of this number among many.
fn one_of_many(n: usize) -> DocKey {
    let document = DocumentId((n as u128).to_be_bytes());
    DocKey { document, ..key(0) }
}

fn app(name: &str) -> Party {
    Party::new(key(0).namespace, name, "device")
}

/// How many entries the app has, and whether the document is among its.
fn held<'a>(clients: impl Iterator<Item = &'a String>, name: &str) -> usize {
    clients.filter(|client| *client == name).count()
}

/// One life of the process: what is done in it and written, then it is gone without a word. `row`: what stands there before.
fn life(dir: &TempDir, row: Option<&str>, live: impl FnOnce(&Arc<Record>)) {
    life_after(LastEnd::Unknown, dir, row, live);
}

fn life_after(last_end: LastEnd, dir: &TempDir, row: Option<&str>, live: impl FnOnce(&Arc<Record>)) {
    let store = Store::open(&dir.path().join("store"), &StoreOptions { cache_bytes: 1 << 20 }).unwrap();
    let store = Arc::new(store);
    if let Some(row) = row {
        let row = Some(row.as_bytes().to_vec());
        store.commit(&[Op::Record { kind: RecordKind::Pin, key: PIN.into(), row }]).unwrap();
    }
    let journal = Journal::start(store.clone(), &Vital::new()).unwrap();
    let record = Record::load(&store, journal.clone(), &allowed(), last_end);
    live(&record);
    // As if some seconds had passed.
    if let Some(written) = record.write_changed() {
        written.blocking_recv().unwrap().unwrap();
    }
    drop(record);
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
        record.begin(&key(1), None, 100);
        record.begin(&key(2), None, 100);
    });
    life(&dir, None, |record| {
        assert!(record.closed().is_empty(), "once may be chance");
        assert_eq!((record.bad_ends(&key(1)), record.bad_ends(&key(2)), record.bad_ends(&key(3))), (1, 1, 0));
        assert_eq!(record.troubles().len(), 2, "and the owner hears of it");
        record.begin(&key(2), None, 100);
        record.end(&key(2), 100);
        record.begin(&key(1), None, 100);
    });
    life(&dir, None, |record| {
        assert_eq!((record.bad_ends(&key(1)), record.bad_ends(&key(2))), (2, 0));
        assert_eq!(record.closed().len(), 1);
        assert!(record.troubles().is_empty(), "said once");
    });
    life(&dir, None, |record| {
        assert_eq!(record.bad_ends(&key(1)), 2, "for good");
        let runtime = tokio::runtime::Runtime::new().unwrap();
        assert_eq!(runtime.block_on(record.retry(&key(1))).unwrap(), Known::Trouble);
        assert_eq!(runtime.block_on(record.retry(&key(1))).unwrap(), Known::Nothing);
    });
    life(&dir, None, |record| assert_eq!(record.bad_ends(&key(1)), 0, "the owner said so"));
}

#[test]
fn a_bad_end_counts_and_a_clean_stop_does_not() {
    let dir = TempDir::new().unwrap();
    life(&dir, None, |record| {
        record.end_badly(&key(1), None, 100, "it was killed");
        record.begin(&key(2), None, 100);
        record.begin(&key(3), None, 100);
        record.cancel(&key(3));
        record.stop();
        record.end_badly(&key(2), None, 100, "it was killed by the stop");
    });
    life(&dir, None, |record| {
        let ends = [1, 2, 3].map(|n| record.bad_ends(&key(n)));
        assert_eq!(ends, [1, 0, 0]);
        assert_eq!(record.troubles()[0].reason, "it was killed");
        record.end_badly(&key(1), None, 100, "it hung");
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

#[test]
fn an_app_with_many_troubles_pushes_out_its_own() {
    let dir = TempDir::new().unwrap();
    let trouble = |n, party: Option<&Party>| Trouble {
        need_bytes: MEMORY + 1,
        ..Trouble::new(TroubleKind::TooLargeToTakeIn, &one_of_many(n), party)
    };
    let (honest, other, hostile) = (app("honest"), app("other"), app("hostile"));
    life(&dir, None, |record| {
        for n in 0..3 {
            record.note(trouble(n, Some(&honest)));
            record.note(trouble(10 + n, None));
        }
        for n in 100..100 + 2 * MOST_NOTED {
            record.note(trouble(n, Some(&hostile)));
        }
        record.note(trouble(20, Some(&other)));
        // Another app that has the same trouble with the document does not make it its own.
        record.note(trouble(0, Some(&hostile)));
    });
    life(&dir, None, |record| {
        let troubles = record.troubles();
        let of = |name| held(troubles.iter().map(|trouble| &trouble.client), name);
        assert_eq!(troubles.len(), MOST_NOTED);
        assert_eq!((of("honest"), of(""), of("other"), of("hostile")), (3, 3, 1, MOST_NOTED - 7));
        let newest = trouble(99 + 2 * MOST_NOTED, Some(&hostile));
        assert!(troubles.contains(&newest), "the oldest went");
    });
}

#[test]
fn an_app_with_many_bad_ends_pushes_out_its_own() {
    let dir = TempDir::new().unwrap();
    let (honest, hostile) = (app("honest"), app("hostile"));
    life(&dir, None, |record| {
        for n in [0, 0, 1] {
            record.end_badly(&one_of_many(n), Some(&honest), 100, "it hung");
        }
        record.end_badly(&one_of_many(2), None, 100, "it hung");
        for n in 100..100 + 2 * MOST_NOTED {
            record.end_badly(&one_of_many(n), Some(&hostile), 100, &"long ".repeat(1000));
        }
        record.end_badly(&one_of_many(1), Some(&hostile), 100, "it hung");
        record.end_badly(&one_of_many(99), Some(&hostile), 100, "it hung");
    });
    life(&dir, None, |record| {
        let ends = [0, 1, 2, 99, 100].map(|n| record.bad_ends(&one_of_many(n)));
        assert_eq!(ends, [2, 2, 1, 1, 0]);
        let (closed, once) = (record.closed(), record.troubles());
        assert!(closed.iter().all(|bad| bad.client == "honest"));
        assert_eq!(held(once.iter().map(|trouble| &trouble.client), "hostile"), MOST_NOTED - 3);
        assert!(once.iter().all(|trouble| trouble.reason.len() <= 300));
    });
}

#[test]
fn what_an_older_version_stored_beyond_the_limits_is_cut() {
    let dir = TempDir::new().unwrap();
    let bad: Vec<_> = (0..1000).map(|n| BadEnd::of(&one_of_many(n), None, 1, "it hung")).collect();
    let row = serde_json::to_string(&Durable { bad, ..Durable::default() }).unwrap();
    life(&dir, Some(&row), |record| assert_eq!(record.troubles().len(), MOST_NOTED));
}

#[test]
fn troubles_are_written_many_at_once() {
    let dir = TempDir::new().unwrap();
    let failed = |n| Trouble::new(TroubleKind::Failed, &one_of_many(n), None);
    life(&dir, None, |record| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let written = async |commits| {
                while record.journal.commits() < commits {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::spawn(record.clone().keep_written());
            record.note(failed(0));
            written(1).await;
            for n in 1..50 {
                record.note(failed(n));
                record.is_well(&one_of_many(n - 1), &[TroubleKind::Failed]);
                tokio::time::sleep(TROUBLES_EVERY / 60).await;
            }
            assert_eq!(record.journal.commits(), 1);
            tokio::time::sleep(TROUBLES_EVERY).await;
            written(2).await;
            tokio::time::sleep(2 * TROUBLES_EVERY).await;
            assert_eq!(record.journal.commits(), 2);
        });
    });
    life(&dir, None, |record| {
        assert_eq!(record.troubles(), [failed(49)]);
        record.note(failed(60));
        record.stop();
        assert!(record.write_changed().is_none(), "a clean stop writes what waits");
    });
    life(&dir, None, |record| assert_eq!(record.troubles().len(), 2));
}

#[test]
fn what_is_well_or_known_costs_no_commit() {
    let dir = TempDir::new().unwrap();
    let failed = |n| Trouble::new(TroubleKind::Failed, &key(n), None);
    life(&dir, None, |record| {
        record.note(failed(1));
        record.write_changed().unwrap().blocking_recv().unwrap().unwrap();
        record.note(failed(1));
        record.is_well(&key(1), &[TroubleKind::NoProcess]);
        record.is_well(&key(2), &[TroubleKind::Failed]);
        record.end(&key(1), 100);
        record.cancel(&key(1));
        assert!(record.write_changed().is_none());
        assert_eq!((record.journal.waiting(), record.journal.commits()), (0, 1));
    });
}

#[test]
fn an_end_that_no_opening_is_to_blame_for_does_not_count() {
    let dir = TempDir::new().unwrap();
    for _ in 0..3 {
        life(&dir, None, |record| record.begin(&key(1), None, 100));
        life_after(LastEnd::Explained, &dir, None, |record| {
            assert_eq!(record.interrupted().len(), 1, "it can be named");
            assert_eq!((record.bad_ends(&key(1)), record.troubles().len()), (0, 0));
        });
    }
}

#[test]
fn an_upload_that_proves_nothing_ends_no_trouble() {
    let dir = TempDir::new().unwrap();
    let need = |memory_bytes, size_bytes| Need { memory_bytes, size_bytes, reserved_bytes: 0 };
    let too_large = || Trouble::new(TroubleKind::TooLargeToTakeIn, &key(1), None).of(&need(MEMORY + 5, 1000));
    life(&dir, None, |record| {
        for (taken_in, left) in [(need(100, 10), 1), (need(100, 1000), 0), (need(MEMORY + 5, 10), 0)] {
            record.note(too_large());
            record.came_in(&key(1), &taken_in);
            assert_eq!(record.troubles().len(), left, "{taken_in:?}");
        }
    });
}

#[test]
fn another_try_mends_no_message_that_was_too_large() {
    let dir = TempDir::new().unwrap();
    let oversize = |n| Trouble::new(TroubleKind::MessageTooLarge, &key(n), Some(&app("app")));
    life(&dir, None, |record| {
        (1..3).for_each(|n| assert!(record.note(oversize(n))));
        record.note(Trouble::new(TroubleKind::Failed, &key(2), None));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let known = [1, 2, 3].map(|n| runtime.block_on(record.retry(&key(n))).unwrap());
        assert_eq!(known, [Known::Oversize, Known::Trouble, Known::Nothing]);
        assert_eq!(record.troubles(), []);
    });
}

#[test]
fn a_message_that_was_too_large_is_told_until_its_limit_is_raised() {
    let dir = TempDir::new().unwrap();
    let device = app("app");
    let sent = |n, size_bytes, name, value| {
        Trouble::oversize(&key(n), &device, Oversize { size_bytes, exceeded: Exceeded { name, value } })
    };
    let of_earlier_versions =
        |n, size_bytes| Trouble { limit: None, ..sent(n, size_bytes, MessageLimit::MessageBytes, 0) };
    let stay = [
        sent(1, MESSAGE + 1, MessageLimit::MessageBytes, MESSAGE / 2),
        sent(2, 70, MessageLimit::Changes, CHANGES),
        sent(3, 70, MessageLimit::Operations, Limits::default().operations + 1),
        of_earlier_versions(4, MESSAGE + 1),
    ];
    life(&dir, None, |record| {
        assert!(stay.iter().all(|trouble| record.note(trouble.clone())));
        record.note(sent(11, MESSAGE, MessageLimit::MessageBytes, MESSAGE / 2));
        record.note(sent(12, 70, MessageLimit::Changes, CHANGES - 1));
        record.note(sent(13, 70, MessageLimit::InflatedBytes, 1));
        record.note(of_earlier_versions(14, MESSAGE));
    });
    life(&dir, None, |record| assert_eq!(record.troubles(), stay));
}

#[test]
fn what_has_come_another_way_is_no_trouble_any_more() {
    let dir = TempDir::new().unwrap();
    let device = |session| Party::new(key(0).namespace, "app", session);
    let oversize = |n, session| Trouble::new(TroubleKind::MessageTooLarge, &key(n), Some(&device(session)));
    life(&dir, None, |record| {
        record.note(oversize(1, "laptop"));
        record.note(oversize(2, "laptop"));
        for (party, n, left) in [
            (device("phone"), 1, 2),
            (Party::new(key(0).namespace, "other", "laptop"), 1, 2),
            (device("laptop"), 3, 2),
            (device("laptop"), 1, 1),
        ] {
            record.saved(&party, &key(n));
            assert_eq!(record.troubles().len(), left);
        }
    });
    life(&dir, None, |record| assert_eq!(record.troubles().len(), 0, "what had no size fits"));
}

#[test]
fn what_one_app_sends_changes_nothing_that_the_owner_reads_of_another() {
    let dir = TempDir::new().unwrap();
    let sent = |app: &Party, size_bytes| {
        let exceeded = Exceeded { name: MessageLimit::MessageBytes, value: MESSAGE };
        Trouble::oversize(&key(1), app, Oversize { size_bytes, exceeded })
    };
    let (honest, hostile) = (app("honest"), app("hostile"));
    life(&dir, None, |record| {
        record.note(sent(&honest, 2 * MESSAGE));
        assert!(record.note(sent(&hostile, 1 << 30)));
        assert!(!record.note(sent(&honest, 3 * MESSAGE)), "the latest is shown, and not written");
        assert_eq!(record.troubles(), [sent(&honest, 3 * MESSAGE), sent(&hostile, 1 << 30)]);
    });
}
