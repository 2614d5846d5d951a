//! The real server with its own processes: its memory, what others notice, and processes that are killed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use groundmist_sync::types::DocumentId;

use crate::common::peer::new_document;
use crate::common::{Peer, Server, Start, answer, wait_for};
use crate::{children, kill};

/// Characters of the text, an operation each: its compaction takes seconds and some 250 MB.
const LARGE_TEXT: usize = 400_000;
/// What the server may take while documents are opened elsewhere, in bytes.
const SERVER_BYTES: u64 = 128 << 20;

fn start(data_dir: &Path) -> Server {
    Start::default()
        .data_dir(data_dir)
        .set("STORAGE__COMPACT_GRACE", "0s")
        .set("STORAGE__COMPACT_FLOOR", "5")
        .set("MEMORY__OPENER", "1GiB")
        .set("LOG__LEVEL", "debug")
        .run()
}

fn edits(peer: &mut Peer, document: DocumentId, name: &str) {
    for n in 0..6 {
        peer.store(document, "edit", &format!("{name} {n}"));
    }
}

/// The process that compacts a document, once it has begun: it has the job, and memory of its own.
fn opener(server: &Server) -> u32 {
    wait_for("an opener process", || {
        let of_compaction = server.log().contains("kind=\"compaction\"");
        children(server.pid()).into_iter().find(|pid| of_compaction && resident_kib(*pid) > 64 << 10)
    })
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn is_compacted(data_dir: &Path, document: DocumentId) -> bool {
    let shown = answer(data_dir, 0, &["docs", "show", "dev.local", &document.to_string()]);
    shown["snapshot_changes"] != 0
}

fn warnings(data_dir: &Path, code: &str) -> Vec<String> {
    let status = answer(data_dir, 0, &["status"]);
    let warnings = status["warnings"].as_array().unwrap().iter();
    let of_code = warnings.filter(|warning| warning["code"] == code);
    of_code.map(|warning| format!("{} {}", warning["message"], warning["fix"])).collect()
}

#[test]
fn a_picture_as_text_is_compacted_elsewhere_while_another_device_syncs() {
    for text in ["x".repeat(LARGE_TEXT), base64(LARGE_TEXT)] {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        let server = start(&data_dir);
        let (picture, note) = (new_document(), new_document());
        let mut writer = Peer::join(&server, "writer");
        writer.store_text(picture, "picture", &text);
        let mut other = Peer::join(&server, "other");
        other.store(note, "k", "v");
        edits(&mut writer, picture, "edit");
        let pid = opener(&server);
        // It holds the three pipes and nothing of the server's: no store, no socket, no secret. What whoever started the test
        // passed on to everything is not the server's.
        if let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) {
            for open in open.flatten().map(|entry| entry.file_name().into_string().unwrap()) {
                let target = |of: &str| fs::read_link(format!("/proc/{of}/fd/{open}")).ok();
                let is_passed_on = target(&pid.to_string()) == target("self");
                assert!(["0", "1", "2"].contains(&&*open) || is_passed_on, "{open} is open");
            }
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            assert!(environment.is_empty());
            let first = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default();
            assert!(first.is_empty() || first.trim() == "1000", "{first}");
        }
        // The first sync of another device is not behind it.
        let mut newcomer = Peer::join(&server, "newcomer");
        assert_eq!(newcomer.find(note, "k"), "v");
        let mine = new_document();
        newcomer.store(mine, "k", "mine");
        let is_under_way = children(server.pid()).contains(&pid);
        assert!(is_under_way, "the compaction ended before the small documents synced");
        wait_for("the compaction", || is_compacted(&data_dir, picture).then_some(()));
        wait_for("the process's end", || children(server.pid()).is_empty().then_some(()));
        let (_, metrics) = server.admin_get("/metrics");
        assert!(
            metrics.contains("groundmist_openings_total{kind=\"compaction\",place=\"child\"} 1\n"),
            "{metrics}"
        );
        let peak = server.peak_rss();
        assert!(peak < SERVER_BYTES, "the server took {} MB", peak >> 20);
        assert!(warnings(&data_dir, "opening_failed").is_empty());
        let mut reader = Peer::join(&server, "reader");
        reader.request(picture);
        let heads = writer.heads(picture);
        reader.until("all of the picture", |peer| peer.heads(picture) == heads);
    }
}

/// As a picture pasted as text looks.
fn base64(characters: usize) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = 1u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(ALPHABET[(random >> 58) as usize])
    };
    (0..characters).map(|_| next()).collect()
}

#[test]
fn a_killed_process_is_told_and_the_second_one_closes_the_document() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let mut server = start(&data_dir);
    let document = new_document();
    let mut writer = Peer::join(&server, "writer");
    writer.store_text(document, "text", &"x".repeat(LARGE_TEXT));
    edits(&mut writer, document, "first");
    kill(opener(&server));
    wait_for("the warning", || (!warnings(&data_dir, "opening_failed").is_empty()).then_some(()));
    let told = warnings(&data_dir, "opening_failed").concat();
    assert!(told.contains(&document.to_string()) && told.contains("killed"), "{told}");
    assert!(server.is_running());
    edits(&mut writer, document, "second");
    kill(opener(&server));
    wait_for("the document to be closed", || {
        (!warnings(&data_dir, "document_closed").is_empty()).then_some(())
    });
    edits(&mut writer, document, "third");
    let mut reader = Peer::join(&server, "reader");
    assert_eq!(reader.find(document, "edit"), "third 5", "the document syncs on");
    assert!(!is_compacted(&data_dir, document) && children(server.pid()).is_empty());
    answer(&data_dir, 0, &["docs", "retry", "dev.local", &document.to_string()]);
    edits(&mut writer, document, "fourth");
    wait_for("the compaction", || is_compacted(&data_dir, document).then_some(()));
    assert!(warnings(&data_dir, "opening_failed").is_empty());
    assert_eq!(answer(&data_dir, 0, &["status"])["engine"]["closed_documents"].as_array().unwrap().len(), 0);
}

#[test]
fn processes_end_with_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    for clean in [false, true] {
        let mut server = start(&data_dir);
        let document = new_document();
        let mut writer = Peer::join(&server, "writer");
        writer.store_text(document, "text", &"x".repeat(LARGE_TEXT));
        edits(&mut writer, document, "edit");
        let pid = opener(&server);
        let began = Instant::now();
        if clean {
            assert!(server.terminate().success());
            assert!(began.elapsed() < Duration::from_secs(9), "nothing waits for the process");
        } else {
            server.kill();
        }
        let is_gone = || {
            let name = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            (name.is_empty() || name.contains(") Z ")).then_some(())
        };
        wait_for("the process's end", is_gone);
    }
    let _server = start(&data_dir);
    let status = answer(&data_dir, 0, &["status"]);
    assert!(status["engine"]["closed_documents"].as_array().unwrap().is_empty());
}

#[test]
fn the_device_and_the_owner_are_told_what_is_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let server = Start::default().data_dir(&data_dir).set("MEMORY__OPENER", "32MiB").run();
    let (large, small) = (new_document(), new_document());
    let mut writer = Peer::join(&server, "writer");
    writer.put_text(large, "text", &"x".repeat(LARGE_TEXT));
    // The first sync of a 2.x client brings the document whole.
    writer.until("the reason", |peer| !peer.errors.is_empty());
    assert!(writer.errors[0].contains("memory.opener"), "{:?}", writer.errors);
    let told = warnings(&data_dir, "document_too_large").concat();
    assert!(told.contains(&large.to_string()) && told.contains("memory.opener"), "{told}");
    let text = String::from_utf8(server.command(&["status"]).stdout).unwrap();
    assert!(!text.contains("All is well"), "{text}");
    let (_, metrics) = server.admin_get("/metrics");
    assert!(metrics.contains("groundmist_openings_refused_total{reason=\"too_large\"} 1\n"), "{metrics}");
    // When the device comes back it sends the changes one by one, which needs no opening, and that ends the warning.
    writer.rejoin(&server).unwrap();
    writer.store(small, "k", "v");
    writer.until("the acknowledgement", |peer| peer.is_acknowledged(large));
    wait_for("the warning's end", || warnings(&data_dir, "document_too_large").is_empty().then_some(()));
    let mut reader = Peer::join(&server, "reader");
    reader.request(large);
    let heads = writer.heads(large);
    reader.until("all of the document", |peer| peer.heads(large) == heads);
    let (_, metrics) = server.admin_get("/metrics");
    assert!(metrics.contains("groundmist_openings_refused_total{reason=\"too_large\"} 1\n"), "{metrics}");
    assert!(metrics.contains("groundmist_openings_total{kind=\"intake\",place=\"thread\"} 1\n"), "{metrics}");
    // A document that is no longer wanted is no trouble any more.
    let unwanted = new_document();
    reader.put_text(unwanted, "text", &"x".repeat(LARGE_TEXT));
    reader.until("the reason", |peer| !peer.errors.is_empty());
    assert!(!warnings(&data_dir, "document_too_large").is_empty());
    answer(&data_dir, 0, &["docs", "retry", "dev.local", &unwanted.to_string()]);
    assert!(warnings(&data_dir, "document_too_large").is_empty());
}
