//! Documents out and in again, by the real commands, with the server running and without; and layouts that mean no good.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, Automerge, ROOT};
use common::peer::new_document;
use common::{Peer, Server, answer, run};
use groundmist_sync::store::{Op, Row, Store, StoreOptions};
use groundmist_sync::types::{DocKey, DocumentId, now};

mod common;

const NAMESPACE: &str = "dev.local";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A document of so many changes; its bytes.
fn saved(changes: usize) -> Vec<u8> {
    let mut doc = AutoCommit::new();
    for n in 0..changes {
        doc.put(ROOT, format!("k{}", n % 50), n as i64).unwrap();
        doc.commit();
    }
    doc.save()
}

fn changes_of(file: &Path) -> usize {
    Automerge::load(&fs::read(file).unwrap()).unwrap().get_changes(&[]).len()
}

#[test]
fn what_is_exported_is_imported_again_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start();
    let mut peer = Peer::join(&server, "writer");
    let written: Vec<DocumentId> = (0..5).map(|_| new_document()).collect();
    written.iter().for_each(|document| peer.store(*document, "key", "value"));
    // One that is kept as a snapshot, whose name is no id, and one with a name given.
    let (large, given) = (dir.path().join("large.automerge"), new_document().to_string());
    fs::write(&large, saved(1000)).unwrap();
    let new = answer(&server.data_dir, 0, &["docs", "import", "xyz.example", text(&large)]);
    let large_id = new["documents"][0]["document"].as_str().unwrap();
    answer(&server.data_dir, 0, &["docs", "import", "xyz.example", text(&large), "--as", &given]);
    let shown = answer(&server.data_dir, 0, &["docs", "show", "xyz.example", large_id]);
    assert_eq!((&shown["changes"], &shown["snapshot_changes"]), (&1000.into(), &1000.into()));
    assert_eq!(shown["heads"], new["documents"][0]["heads"]);

    let out = dir.path().join("out");
    for _ in 0..2 {
        assert_eq!(answer(&server.data_dir, 0, &["docs", "export", "--all", text(&out)])["documents"], 7);
    }
    assert_eq!(
        fs::read_dir(out.join(NAMESPACE)).unwrap().count(),
        5,
        "no file besides the documents is left"
    );
    assert_eq!(changes_of(&out.join(format!("xyz.example/{large_id}.automerge"))), 1000);
    let first = out.join(format!("{NAMESPACE}/{}.automerge", written[0]));
    assert_eq!(fs::metadata(&first).unwrap().permissions().mode() & 0o077, 0, "for its owner only");
    let piped = run(&server.data_dir, &["docs", "export", NAMESPACE, &written[0].to_string(), "-"]);
    assert_eq!(piped.stdout, fs::read(&first).unwrap());

    // Into another store, with no server; and back, where everything is there.
    let other = dir.path().join("other");
    let there = answer(&other, 0, &["docs", "import", text(&out)]);
    assert_eq!(there["summary"]["imported"], 7);
    for only in [None, Some(NAMESPACE)] {
        let list = |data_dir| {
            let more = only.map_or(vec![], |only| vec!["--namespace", only]);
            let listed = answer(data_dir, 0, &[vec!["docs", "list"], more].concat());
            let rows = listed["documents"].as_array().unwrap().clone();
            rows.into_iter().map(|row| (row["document"].clone(), row["changes"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(list(&other), list(&server.data_dir));
    }
    assert_eq!(answer(&server.data_dir, 0, &["docs", "import", text(&out)])["summary"]["unchanged"], 7);

    // Somebody has it open and has gone on: both sides' changes are there in the end, and she sees the others' at once.
    let mut doc = AutoCommit::load(&fs::read(&first).unwrap()).unwrap();
    doc.put(ROOT, "elsewhere", "yes").unwrap();
    fs::write(&first, doc.save()).unwrap();
    peer.store(written[0], "meanwhile", "yes");
    answer(&server.data_dir, 0, &["docs", "import", NAMESPACE, text(&first)]);
    peer.until("the imported change", |peer| peer.get(written[0], "elsewhere").is_some());
    let mut newcomer = Peer::join(&server, "newcomer");
    assert_eq!(newcomer.find(written[0], "meanwhile"), "yes");
    assert_eq!(newcomer.get(written[0], "elsewhere").as_deref(), Some("yes"));
}

#[test]
fn the_store_is_opened_by_one_at_a_time_and_a_missing_one_is_not_made_by_looking() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(dir.path(), &["docs", "list"]);
    assert_eq!(output.status.code(), Some(69));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let file = dir.path().join("groundmist.redb");
    let _open = Store::open(&file, &StoreOptions { cache_bytes: 1 << 20 }).unwrap();
    let output = run(dir.path(), &["docs", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use by another process"));
}

#[test]
fn a_document_that_is_kept_aside_comes_out_and_takes_nothing_in() {
    let dir = tempfile::tempdir().unwrap();
    let key = DocKey { namespace: NAMESPACE.parse().unwrap(), document: new_document() };
    let mut doc = AutoCommit::new();
    doc.put(ROOT, "k", 1).unwrap();
    let mut change = doc.get_last_local_change().unwrap().clone();
    let (hash, max_op) = (change.hash(), change.max_op());
    let bytes = bytes::Bytes::from(change.bytes().into_owned());
    {
        let store =
            Store::open(&dir.path().join("groundmist.redb"), &StoreOptions { cache_bytes: 1 << 20 }).unwrap();
        let rows = vec![Row { row: 0, hash, max_op, bytes: bytes.clone() }];
        let append = Op::Append { key: key.clone(), rows, heads: vec![hash], by: None, now: now() };
        let aside = Op::Quarantine { key: key.clone(), reason: "automerge cannot open it".into() };
        store.commit(&[append, aside]).unwrap();
    }
    let id = key.document.to_string();
    assert_eq!(run(dir.path(), &["docs", "export", NAMESPACE, &id, "-"]).stdout, bytes);
    let shown = answer(dir.path(), 0, &["docs", "show", NAMESPACE, &id]);
    assert_eq!(shown["quarantined"], "automerge cannot open it");
    let more = dir.path().join("more.automerge");
    fs::write(&more, saved(3)).unwrap();
    let refused = answer(dir.path(), 1, &["docs", "import", NAMESPACE, text(&more), "--as", &id]);
    assert!(refused["documents"][0]["message"].as_str().unwrap().contains("quarantined"), "{refused}");
}

#[test]
fn names_and_bytes_that_mean_no_good_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start();
    let id = new_document().to_string();
    for (arguments, code, part) in [
        (&["docs", "show", "../etc", &id][..], 2, "lexicon authority domain"),
        (&["docs", "export", NAMESPACE, "../../etc/passwd"], 2, "base58check"),
        (&["docs", "show", NAMESPACE, &id], 1, "docs list"),
        (&["docs", "export", NAMESPACE, &id], 1, "docs list"),
        (&["import", "/nonexistent"], 2, "DATA_DIR"),
    ] {
        let message = answer(&server.data_dir, code, arguments);
        assert!(message["message"].as_str().unwrap().contains(part), "{message}");
    }
    for (path, status) in [
        ("/api/documents?after=nonsense", "400"),
        ("/api/documents?limit=0", "400"),
        ("/api/documents?limit=2000", "400"),
        ("/api/documents?what=1", "400"),
        ("/api/documents/..%2f/x", "400"),
        ("/api/documents/a.b/c/d/e", "404"),
        ("/api/documentsx", "404"),
        ("/api/documents?limit=1", "200"),
    ] {
        let (head, _) = server.admin_get(path);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
    }

    // A tree with everything wrong that a tree can have, and one good document in it.
    let tree = dir.path().join("tree/xyz.example");
    let place = |id: &str| tree.join(&id[..2]).join(&id[2..]);
    let (good, bad, sealed) = (id, new_document().to_string(), new_document().to_string());
    for id in [&good, &bad, &sealed] {
        fs::create_dir_all(place(id).join("snapshot")).unwrap();
        fs::create_dir_all(place(id).join("incremental")).unwrap();
    }
    fs::write(place(&good).join("snapshot/a"), saved(20)).unwrap();
    symlink(place(&good).join("snapshot/a"), place(&bad).join("snapshot/link")).unwrap();
    fs::create_dir(place(&bad).join("incremental/directory")).unwrap();
    let fifo = Command::new("mkfifo").arg(place(&bad).join("incremental/fifo")).status().unwrap();
    assert!(fifo.success());
    let huge = fs::File::create(place(&bad).join("snapshot/huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let loose = place(&sealed).join("snapshot");
    fs::remove_dir(&loose).unwrap();
    fs::write(&loose, "not a directory").unwrap();
    symlink("/", tree.join("zz")).unwrap();
    let report = answer(&server.data_dir, 1, &["import", text(&dir.path().join("tree"))]);
    let of = |id: &str| {
        let documents = report["documents"].as_array().unwrap();
        documents.iter().find(|it| it["document"] == id).unwrap().clone()
    };
    assert_eq!(of(&good)["outcome"], "imported");
    assert_eq!((of(&bad)["outcome"].clone(), of(&bad)["files"].clone()), ("failed".into(), 4.into()));
    assert_eq!(of(&sealed)["outcome"], "failed");
    assert_eq!(report["summary"]["failed"], 2);
    assert!(report["notes"][0]["path"].as_str().unwrap().ends_with("zz"), "{report}");
}

#[test]
fn lists_come_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("groundmist.redb");
    let mut change = {
        let mut doc = AutoCommit::new();
        doc.put(ROOT, "k", 1).unwrap();
        doc.get_last_local_change().unwrap().clone()
    };
    let (hash, max_op) = (change.hash(), change.max_op());
    let bytes = bytes::Bytes::from(change.bytes().into_owned());
    {
        let store = Store::open(&file, &StoreOptions { cache_bytes: 1 << 20 }).unwrap();
        let append = |namespace: &str| Op::Append {
            key: DocKey { namespace: namespace.parse().unwrap(), document: new_document() },
            rows: vec![Row { row: 0, hash, max_op, bytes: bytes.clone() }],
            heads: vec![hash],
            by: None,
            now: now(),
        };
        // The first namespace ends where a page does.
        let of = |count, namespace: &'static str| (0..count).map(move |_| append(namespace));
        let ops: Vec<Op> = of(2000, "a.example").chain(of(3, "b.example")).collect();
        store.commit(&ops).unwrap();
    }
    let count = |arguments: &[&str]| answer(dir.path(), 0, arguments)["documents"].as_array().unwrap().len();
    assert_eq!(count(&["docs", "list"]), 2003);
    assert_eq!(count(&["docs", "list", "--namespace", "a.example"]), 2000);
    assert_eq!(count(&["docs", "list", "--namespace", "b.example"]), 3);
    assert_eq!(count(&["docs", "list", "--namespace", "c.example"]), 0);
}
