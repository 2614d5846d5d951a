//! Deleted documents, by the real commands and over the wire: nothing brings one back but its owner.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::fs;
use std::path::Path;

use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, ROOT};
use common::peer::new_document;
use common::{Peer, Server, Start, answer, run};
use groundmist_sync::types::DocumentId;
use serde_json::{Value, json};

mod common;

const NAMESPACE: &str = "dev.local";

fn get(server: &Server, path: &str) -> Value {
    serde_json::from_str(&server.admin_get(path).1).unwrap()
}

fn listed(data_dir: &Path, more: &[&str]) -> Vec<Value> {
    let list = answer(data_dir, 0, &[&["docs", "list"], more].concat());
    list["documents"].as_array().unwrap().clone()
}

/// A newcomer hears that there is no such document.
fn is_unavailable(server: &Server, document: DocumentId) {
    let mut newcomer = Peer::join(server, "newcomer");
    newcomer.request(document);
    newcomer.until("no document", |peer| peer.unavailable.contains(&document));
}

/// What the prototype would have of a document, in its layout.
fn prototype(dir: &Path, document: &str) {
    let mut doc = AutoCommit::new();
    doc.put(ROOT, "old", "yes").unwrap();
    let at = dir.join(NAMESPACE).join(&document[..2]).join(&document[2..]).join("snapshot");
    fs::create_dir_all(&at).unwrap();
    fs::write(at.join("1"), doc.save()).unwrap();
}

#[test]
fn a_deleted_document_stays_deleted_whoever_brings_it_and_comes_back_when_restored() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let mut server = Start::default().data_dir(&home).run();
    let document = new_document();
    let id = document.to_string();
    let mut device = Peer::join(&server, "device");
    device.store(document, "key", "value");
    let before = answer(&home, 0, &["docs", "show", NAMESPACE, &id]);
    assert_eq!((&before["deleted"], &before["purge_at"]), (&Value::Null, &Value::Null));
    assert_eq!(before["written_by"], "local:command-line");

    let unasked = run(&home, &["docs", "delete", NAMESPACE, &id]);
    assert_eq!(unasked.status.code(), Some(2), "nobody could be asked");
    let deleted = answer(&home, 0, &["docs", "delete", NAMESPACE, &id, "--yes"]);
    let days = (deleted["purge_at"].as_u64().unwrap() - deleted["deleted"].as_u64().unwrap()) / 86_400_000;
    assert_eq!(days, 30);
    assert_eq!(answer(&home, 0, &["docs", "delete", NAMESPACE, &id, "--yes"]), deleted, "once is enough");
    device.until("its end", |peer| peer.unavailable.contains(&document));
    assert_eq!(listed(&home, &[]), Vec::<Value>::new());
    let bin = listed(&home, &["--deleted"]);
    assert_eq!((&bin[0]["document"], &bin[0]["deleted"]), (&json!(id), &deleted["deleted"]));

    // Connected, and again after the server was killed, with what was written meanwhile.
    device.unavailable.clear();
    device.put(document, "while deleted", "1");
    device.until("a refusal", |peer| peer.unavailable.contains(&document));
    server.kill();
    let mut server = Start::default().data_dir(&home).run();
    device.put_offline(document, "while away", "2");
    device.unavailable.clear();
    device.rejoin(&server).unwrap();
    device.until("a refusal after the restart", |peer| peer.unavailable.contains(&document));
    is_unavailable(&server, document);
    let after = answer(&home, 0, &["docs", "show", NAMESPACE, &id]);
    assert_eq!((&after["heads"], &after["changes"]), (&before["heads"], &before["changes"]));

    // By file neither; a prototype's tree goes on with the rest.
    let file = dir.path().join(format!("{id}.automerge"));
    fs::write(&file, AutoCommit::new().save()).unwrap();
    let exported = run(&home, &["docs", "export", NAMESPACE, &id, "-"]).stdout;
    fs::write(&file, &exported).unwrap();
    let refused = answer(&home, 0, &["docs", "import", NAMESPACE, file.to_str().unwrap()]);
    assert_eq!(refused["documents"][0]["outcome"], "skipped");
    assert!(refused["documents"][0]["message"].as_str().unwrap().contains("docs restore"), "{refused}");

    // A backup has the bin.
    let (backup, other) = (dir.path().join("backup"), dir.path().join("other"));
    assert!(run(&home, &["backup", backup.to_str().unwrap()]).status.success());
    assert!(run(&other, &["restore", backup.to_str().unwrap()]).status.success());
    let restored = answer(&other, 0, &["docs", "restore", NAMESPACE, &id]);
    assert_eq!(restored["heads"], before["heads"], "with no server running too");
    assert_eq!(run(&other, &["docs", "export", NAMESPACE, &id, "-"]).stdout, exported);

    let restored = answer(&home, 0, &["docs", "restore", NAMESPACE, &id]);
    assert_eq!(restored, before, "as it was");
    let twice = answer(&home, 1, &["docs", "restore", NAMESPACE, &id]);
    assert_eq!(twice["error"], "not_deleted");
    let mut newcomer = Peer::join(&server, "newcomer");
    assert_eq!(newcomer.find(document, "key"), "value");
    assert_eq!(newcomer.get(document, "while deleted"), None);
    // The device was sent away to start over, and brings what it has.
    device.rejoin(&server).unwrap();
    device.until("the server to have it", |peer| peer.is_acknowledged(document));
    newcomer.until("what the device wrote", |peer| peer.get(document, "while away").is_some());
    assert_eq!(newcomer.get(document, "while deleted").as_deref(), Some("1"));
    let log = answer(&home, 0, &["apps", "log"]);
    let events = log["events"].as_array().unwrap().iter().filter(|event| event["document"] == json!(id));
    let events: Vec<_> = events.map(|event| event["what"].clone()).collect();
    assert_eq!(events.last(), Some(&json!("document_restored")), "{log}");
    assert!(server.terminate().success());
}

#[test]
fn what_is_deleted_for_good_leaves_its_name_only() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let server = Start::default().data_dir(&home).run();
    let documents: Vec<DocumentId> = (0..3).map(|_| new_document()).collect();
    let mut device = Peer::join(&server, "device");
    documents.iter().for_each(|document| device.store(*document, "key", "value"));
    let id = documents[0].to_string();
    let early = answer(&home, 1, &["docs", "purge", NAMESPACE, &id, "--yes"]);
    assert_eq!(early["error"], "not_deleted");
    for document in &documents[..2] {
        answer(&home, 0, &["docs", "delete", NAMESPACE, &document.to_string(), "--yes"]);
    }
    assert_eq!(answer(&home, 0, &["docs", "purge", NAMESPACE, &id, "--yes"]), json!({"purged": true}));
    for command in [&["docs", "show"][..], &["docs", "restore"], &["docs", "export"]] {
        let gone = answer(&home, 1, &[command, &[NAMESPACE, &id]].concat());
        assert_eq!(gone["error"], "purged", "{command:?}");
    }
    assert_eq!(listed(&home, &["--deleted"]).len(), 1);
    is_unavailable(&server, documents[0]);

    let tree = dir.path().join("tree");
    prototype(&tree, &id);
    prototype(&tree, &new_document().to_string());
    let imported = answer(&home, 0, &["import", tree.to_str().unwrap()]);
    let summary = &imported["summary"];
    assert_eq!(
        (&summary["imported"], &summary["skipped"], &summary["failed"]),
        (&json!(1), &json!(1), &json!(0))
    );
    let skipped = imported["documents"].as_array().unwrap().iter().find(|row| row["outcome"] == "skipped");
    assert!(skipped.unwrap()["message"].as_str().unwrap().contains("never taken again"), "{imported}");

    // What the page shows is kept up, not counted.
    let namespaces = get(&server, "/api/namespaces");
    let list = listed(&home, &[]);
    let sum = |what: &str| list.iter().map(|row| row[what].as_u64().unwrap()).sum::<u64>();
    let now = &namespaces["namespaces"][0];
    assert_eq!(
        (&now["namespace"], &now["documents"], &now["deleted"]),
        (&json!(NAMESPACE), &json!(2), &json!(1))
    );
    assert_eq!((&now["changes"], &now["bytes"]), (&json!(sum("changes")), &json!(sum("bytes"))));
    let growth = get(&server, "/api/growth?days=30");
    let last = growth["points"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["documents"], &last["bytes"]), (&now["documents"], &now["bytes"]));
    let recent = get(&server, "/api/documents?order=recent&limit=1");
    assert_eq!(recent["documents"][0]["written_by"], "local:import");
    let largest = get(&server, "/api/documents?order=largest&limit=5&state=deleted");
    assert_eq!(largest["documents"][0]["document"], json!(documents[1].to_string()));
    let after = format!("order=recent&after={NAMESPACE}/{id}");
    for bad in [&after[..], "order=recent&limit=101", "state=gone", "order=size"] {
        assert_eq!(get(&server, &format!("/api/documents?{bad}"))["error"], "bad_query", "{bad}");
    }
    assert_eq!(get(&server, "/api/growth?days=401")["error"], "bad_query");
}
