//! A document whose opening ends the server: after two ends in a row the server leaves the document closed, and lives.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::path::Path;

use common::peer::new_document;
use common::{Peer, Server, Start, answer, wait_for};
use groundmist_sync::types::DocumentId;
use serde_json::Value;

mod common;

/// Characters of the document's one large text: its compaction takes seconds, so there is time to kill the server.
const LARGE_TEXT: usize = 1_500_000;

fn start(data_dir: &Path) -> Server {
    start_in(data_dir, "one-boot")
}

/// In this boot of the machine.
fn start_in(data_dir: &Path, boot: &str) -> Server {
    Start::default()
        .variable("GROUNDMIST_BOOT_ID", boot)
        .data_dir(data_dir)
        .set("STORAGE__COMPACT_GRACE", "0s")
        .set("STORAGE__COMPACT_FLOOR", "5")
        // The document needs more than half of it, so its opening is written down beforehand.
        .set("MEMORY__OPENER", "1500MiB")
        .set("LOG__LEVEL", "debug")
        .run()
}

/// Waits until the server compacts the document, then kills it as the system does when memory runs out.
fn killed_while_it_compacts(mut server: Server) {
    wait_for("a compaction", || server.log().contains("kind=\"compaction\"").then_some(()));
    server.kill();
}

fn warnings(data_dir: &Path, code: &str) -> Vec<Value> {
    let status = answer(data_dir, 0, &["status"]);
    let warnings = status["warnings"].as_array().unwrap();
    warnings.iter().filter(|warning| warning["code"] == code).cloned().collect()
}

fn edits(peer: &mut Peer, document: DocumentId, life: &str) {
    for n in 0..6 {
        peer.store(document, "edit", &format!("{life} {n}"));
    }
}

#[test]
fn a_document_whose_compaction_ends_the_server_twice_stays_closed_and_syncs_on() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let document = new_document();
    let mut writer = {
        let server = start(&data_dir);
        let mut writer = Peer::join(&server, "writer");
        writer.store_text(document, "text", &"x".repeat(LARGE_TEXT));
        edits(&mut writer, document, "first life");
        killed_while_it_compacts(server);
        writer
    };
    {
        let server = start(&data_dir);
        assert!(warnings(&data_dir, "document_closed").is_empty(), "one end may be chance");
        writer.rejoin(&server).unwrap();
        edits(&mut writer, document, "second life");
        killed_while_it_compacts(server);
    }
    let mut server = start(&data_dir);
    let killed = warnings(&data_dir, "was_killed");
    let message = killed[0]["message"].as_str().unwrap();
    assert!(message.contains(&format!("opening document {document} in dev.local")), "{message}");
    assert!(message.contains("for the 2nd time"), "{message}");
    let told = warnings(&data_dir, "document_closed");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0]["message"].as_str().unwrap().contains(&document.to_string()));
    let fix = told[0]["fix"].as_str().unwrap();
    assert!(fix.contains(&format!("docs retry dev.local {document}")), "{fix}");

    writer.rejoin(&server).unwrap();
    edits(&mut writer, document, "third life");
    wait_for("the refusal", || server.log().contains("document stays closed").then_some(()));
    let mut reader = Peer::join(&server, "reader");
    assert_eq!(reader.find(document, "edit"), "third life 5", "the document syncs on");
    assert!(!server.log().contains("kind=\"compaction\""), "the document was opened again");

    let retried = answer(&data_dir, 0, &["docs", "retry", "dev.local", &document.to_string()]);
    assert_eq!(retried["retried"], true);
    edits(&mut writer, document, "allowed again");
    wait_for("the compaction", || server.log().contains("kind=\"compaction\"").then_some(()));
    let snapshot = || {
        let shown = answer(&data_dir, 0, &["docs", "show", "dev.local", &document.to_string()]);
        (shown["snapshot_changes"] != 0).then_some(())
    };
    wait_for("the compacted form", snapshot);
    assert!(server.terminate().success());
    assert!(warnings_after_restart(&data_dir).is_empty());
}

#[test]
fn power_cuts_while_a_document_is_compacted_are_not_held_against_it() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let document = new_document();
    let server = start_in(&data_dir, "boot-0");
    let mut writer = Peer::join(&server, "writer");
    writer.store_text(document, "text", &"x".repeat(LARGE_TEXT));
    edits(&mut writer, document, "before the power cuts");
    killed_while_it_compacts(server);
    for boot in ["boot-1", "boot-2"] {
        let server = start_in(&data_dir, boot);
        writer.rejoin(&server).unwrap();
        edits(&mut writer, document, boot);
        killed_while_it_compacts(server);
    }
    let _server = start_in(&data_dir, "boot-3");
    for code in ["document_closed", "opening_failed", "was_killed"] {
        assert!(warnings(&data_dir, code).is_empty(), "{code}");
    }
}

fn warnings_after_restart(data_dir: &Path) -> Vec<Value> {
    let _server = start(data_dir);
    warnings(data_dir, "document_closed")
}
