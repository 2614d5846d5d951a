//! Processes that are killed, hang, say nonsense, lie, or cannot be started: the store stays as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use automerge::{AutoCommit, ROOT, transaction::Transactable as _};
use groundmist_sync::engine::{OPENER_COMMAND, TroubleKind};

use crate::engine::{LARGE, Lab, MEMORY, PROGRAM, key, text};

// The kinds of frames, as src/engine/opener/frame.rs has them.
const HELLO: u8 = 1;
const INDEX: u8 = 5;
const END: u8 = 8;
const FAILED: u8 = 9;
const CHANGE: u8 = 11;
const INFO: u8 = 12;

fn frame(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&[tag], &length.to_le_bytes()[..], content].concat()
}

/// What a process of this version says first.
fn hello() -> Vec<u8> {
    let version = Command::new(PROGRAM).arg("--version").output().unwrap().stdout;
    frame(HELLO, String::from_utf8(version).unwrap().trim().as_bytes())
}

/// A program that says some bytes and then goes on as a line of shell says.
fn program(dir: &Path, says: &[u8], then: &str) -> PathBuf {
    let (said, path) = (dir.join("said"), dir.join("program"));
    fs::write(&said, says).unwrap();
    fs::write(&path, format!("#!/bin/sh\n/bin/cat {}\n{then}\n", said.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Reads all that it is sent, so that it answers after the job and not before.
const HEARS: &str = "/bin/sleep 0.3; exit 0";

/// Has a large document taken in by such a process: what the sender reads.
async fn refused(says: &[u8], then: &str) -> (Lab, String) {
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new(&program(dir.path(), says, then), MEMORY);
    let brought = lab.bring(&key(1), &mut text(LARGE)).await.unwrap();
    assert!(brought.heads.is_empty() && brought.refused.len() == 1, "{brought:?}");
    assert!(lab.store.head(&key(1)).unwrap().is_none(), "nothing is stored");
    // Others are taken in as ever, in the server's own process.
    let mut small = AutoCommit::new();
    small.put(ROOT, "k", "v").unwrap();
    let brought = lab.bring(&key(2), &mut small).await.unwrap();
    assert_eq!(brought.heads, small.get_heads());
    (lab, brought.refused.concat())
}

fn said(parts: &[Vec<u8>]) -> Vec<u8> {
    [vec![hello()], parts.to_vec()].concat().concat()
}

/// The way a process ends, and what the owner reads of it.
async fn ends_badly(says: &[u8], then: &str, reason: &str) {
    let (lab, _) = refused(says, then).await;
    let troubles = lab.engine.status().opening_troubles;
    assert_eq!(troubles.len(), 1, "{troubles:?}");
    assert_eq!(troubles[0].kind, TroubleKind::Failed);
    assert!(troubles[0].reason.contains(reason), "{:?} is not {reason:?}", troubles[0].reason);
    lab.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_is_told_apart() {
    ends_badly(&hello(), "kill -9 $$", "killed").await;
    ends_badly(&hello(), "exit 3", "code 3").await;
    ends_badly(&hello(), "kill -SEGV $$", "signal 11").await;
    ends_badly(&hello(), "kill -XCPU $$", "processor time").await;
    let aborts = "echo 'memory allocation of 64 bytes failed' >&2; kill -ABRT $$";
    ends_badly(&hello(), aborts, "more memory than memory.opener").await;
    ends_badly(&hello(), "kill -TERM $$", "signal 15").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_wants_more_than_was_estimated_is_tried_once_with_all_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let (tries, real) = (dir.path().join("tries"), PROGRAM);
    // The first one wants too much, the second one is the real program.
    let then = format!(
        "echo again >>{0}; [ $(/usr/bin/wc -l <{0}) = 1 ] || exec {real} {OPENER_COMMAND}",
        tries.display()
    );
    let program = dir.path().join("program");
    let aborts = "echo 'memory allocation of 64 bytes failed' >&2; kill -ABRT $$";
    let said = dir.path().join("said");
    fs::write(&said, hello()).unwrap();
    let script = format!("#!/bin/sh\n{then}\n/bin/cat {}\n{aborts}\n", said.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let lab = Lab::new(&program, MEMORY);
    let mut doc = text(LARGE);
    let brought = lab.bring(&key(1), &mut doc).await.unwrap();
    assert_eq!((brought.heads, brought.refused.len()), (doc.get_heads(), 0));
    assert_eq!(fs::read_to_string(&tries).unwrap().lines().count(), 2);
    let status = lab.engine.status();
    assert!(status.opening_troubles.is_empty() && status.closed_documents.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_ended_by_a_stop_of_all_processes_says_nothing_of_the_document() {
    let dir = tempfile::tempdir().unwrap();
    let started = dir.path().join("started");
    let then = format!("echo >{}; kill -TERM $$", started.display());
    let lab = Lab::new(&program(dir.path(), &hello(), &then), MEMORY);
    let stop = async {
        crate::common::wait_for_async("the process", async || started.exists().then_some(())).await;
        lab.engine.end_openings();
    };
    let (key, mut doc) = (key(1), text(LARGE));
    // What is under way at a stop is dropped, so nobody is answered.
    tokio::select! {
        _ = lab.bring(&key, &mut doc) => {}
        () = async { stop.await; lab.engine.shutdown().await } => {}
    }
    let status = lab.engine.status();
    assert!(status.opening_troubles.is_empty() && status.closed_documents.is_empty(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_hangs_is_ended_in_time() {
    let began = Instant::now();
    ends_badly(&hello(), "exec /bin/sleep 1000", "in time").await;
    assert!(began.elapsed() < Duration::from_secs(40));
    // What it says on its standard error must not block it, nor us.
    let chatters = "while :; do echo 'a long line of chatter that nobody wants' >&2; done";
    ends_badly(&hello(), chatters, "in time").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_and_lies_are_not_stored() {
    let info = |changes: u8, heads: &[[u8; 32]]| {
        frame(INFO, &[&[changes, u8::try_from(heads.len()).unwrap()], &heads.concat()[..]].concat())
    };
    let change = {
        let mut doc = text(10);
        let mut change = doc.get_changes(&[])[0].clone();
        let mut bytes = change.bytes().into_owned();
        bytes[20] ^= 1;
        bytes
    };
    for (answer, reason) in [
        (frame(77, b"?"), "not an answer"),
        (frame(INFO, b""), "not a snapshot"),
        (info(1, &[]), "other heads"),
        (info(1, &[[7; 32]]), "other heads"),
        (frame(CHANGE, b"no change at all"), "not a chunk"),
        (frame(CHANGE, &change), "does not decode"),
        ([&[FAILED], &u32::MAX.to_le_bytes()[..]].concat(), "larger than it may be"),
        ([frame(INDEX, b""), frame(END, b"")].concat(), "not an answer"),
    ] {
        ends_badly(&said(&[answer]), HEARS, reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_words_reaches_the_sender_clean() {
    let dir = tempfile::tempdir().unwrap();
    let says = said(&[frame(FAILED, b"it is\n\x1b[31m bad")]);
    let lab = Lab::new(&program(dir.path(), &says, HEARS), MEMORY);
    let brought = lab.bring(&key(1), &mut text(LARGE)).await.unwrap();
    let refused = brought.refused.concat();
    assert!(refused.contains("it is") && !refused.contains(['\n', '\x1b']), "{refused:?}");
    assert!(lab.engine.status().opening_troubles.is_empty(), "the process did its job");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_process_can_be_started_large_documents_are_refused_and_told() {
    let other_version = frame(HELLO, b"groundmist-sync 0.0.0 (none)");
    for (says, then, reason) in
        [(&other_version[..], HEARS, "another version"), (b"hello", "exec /bin/cat", "could not be started")]
    {
        let (lab, _) = refused(says, then).await;
        let troubles = lab.engine.status().opening_troubles;
        assert_eq!(troubles[0].kind, TroubleKind::NoProcess, "{troubles:?}");
        assert!(troubles[0].reason.contains(reason), "{troubles:?}");
        assert!(lab.engine.status().closed_documents.is_empty(), "no fault of the document");
        lab.engine.shutdown().await;
    }
    let lab = Lab::new(Path::new("/nonexistent/program"), MEMORY);
    let brought = lab.bring(&key(1), &mut text(LARGE)).await.unwrap();
    assert!(brought.refused[0].contains("could not start another"), "{brought:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_bad_ends_close_a_document_until_the_owner_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let lab = Lab::new(&program(dir.path(), &hello(), "kill -9 $$"), MEMORY);
    let mut doc = text(LARGE);
    for _ in 0..2 {
        assert!(lab.engine.status().closed_documents.is_empty());
        lab.bring(&key(1), &mut doc).await.unwrap();
    }
    assert_eq!(lab.engine.status().closed_documents.len(), 1);
    // With a program that works it stays closed, also over a restart.
    let lab = lab.again(Path::new(PROGRAM), MEMORY).await;
    let brought = lab.bring(&key(1), &mut doc).await.unwrap();
    assert!(brought.refused[0].contains("docs retry"), "{brought:?}");
    assert!(lab.engine.retry(&key(1)).await.unwrap());
    assert!(lab.engine.status().closed_documents.is_empty());
    let brought = lab.bring(&key(1), &mut doc).await.unwrap();
    assert_eq!(brought.heads, doc.get_heads());
    assert!(lab.engine.status().opening_troubles.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_ends_badly_leaves_the_rows_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let mut doc = text(LARGE);
    for n in 0..4 {
        doc.put(ROOT, "n", n).unwrap();
        doc.commit();
    }
    for (says, then) in [(hello(), "kill -9 $$"), (said(&[frame(INFO, &[5, 0])]), HEARS)] {
        let lab = Lab::new(&program(dir.path(), &says, then), MEMORY);
        let brought = lab.bring_changes(&key(1), &mut doc).await;
        assert_eq!(brought.heads, doc.get_heads());
        crate::common::wait_for_async("the bad end", async || {
            (!lab.engine.status().opening_troubles.is_empty()).then_some(())
        })
        .await;
        let before = lab.store.whole(&key(1)).unwrap().unwrap();
        assert!(before.1.is_none() && before.2.len() == 5 && before.0.quarantined.is_none());
        // It syncs on: one more change is taken.
        doc.put(ROOT, "n", 99).unwrap();
        doc.commit();
        let brought = lab.bring_changes(&key(1), &mut doc).await;
        assert_eq!(brought.heads, doc.get_heads());
        let after = lab.store.whole(&key(1)).unwrap().unwrap();
        assert_eq!(before.2[..], after.2[..5]);
        // And a program that works compacts it.
        let lab = lab.again(Path::new(PROGRAM), MEMORY).await;
        lab.engine.retry(&key(1)).await.unwrap();
        doc.put(ROOT, "n", 100).unwrap();
        doc.commit();
        lab.bring_changes(&key(1), &mut doc).await;
        crate::common::wait_for_async("the snapshot", async || {
            lab.store.head(&key(1)).unwrap().unwrap().snapshot
        })
        .await;
        let compacted = lab.store.snapshot(&key(1)).unwrap().unwrap();
        let mut again = AutoCommit::load(&compacted).unwrap();
        let mut whole = doc.fork();
        assert_eq!(again.get_heads(), whole.get_heads());
        lab.engine.shutdown().await;
        doc = text(LARGE);
        for n in 0..4 {
            doc.put(ROOT, "n", n).unwrap();
            doc.commit();
        }
    }
}
