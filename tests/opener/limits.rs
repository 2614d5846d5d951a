//! The process limits itself, and what does not fit in `memory.opener` is not tried.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use automerge::{ROOT, transaction::Transactable as _};
use groundmist_sync::engine::{OPENER_COMMAND, TroubleKind};

use crate::engine::{LARGE, Lab, MEMORY, PROGRAM, key, text};

fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn frame(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&[tag], &length.to_le_bytes()[..], content].concat()
}

/// What is said to a process to have it take a document in.
fn job(memory_bytes: u64, cpu_seconds: u64, parent: u32) -> Vec<u8> {
    let mut order = Vec::new();
    [u64::from(parent), memory_bytes, cpu_seconds]
        .into_iter()
        .for_each(|number| unsigned(&mut order, number));
    order.extend([0, 0]);
    [frame(2, &order), frame(3, &text(LARGE).save()), frame(8, b"")].concat()
}

fn process() -> Child {
    let mut program = Command::new(PROGRAM);
    program.arg(OPENER_COMMAND).env_clear();
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Has a process take a document in with so much memory: what it says after its version, on standard error, and its code.
fn take_in(memory_bytes: u64, cpu_seconds: u64, parent: u32) -> (Vec<u8>, String, Option<i32>) {
    let mut process = process();
    // It may have ended by then.
    let _ = process.stdin.take().unwrap().write_all(&job(memory_bytes, cpu_seconds, parent));
    let (mut said, mut errors) = (Vec::new(), String::new());
    process.stdout.take().unwrap().read_to_end(&mut said).unwrap();
    process.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    let version = usize::from(said[1]) + 5;
    (said.split_off(version), errors, process.wait().unwrap().code())
}

#[test]
fn a_process_takes_no_more_memory_than_it_was_allowed() {
    let parent = std::process::id();
    let (answer, errors, code) = take_in(MEMORY, 60, parent);
    assert_eq!((answer.first(), errors.as_str(), code), (Some(&11), "", Some(0)), "one change");
    let (answer, errors, code) = take_in(16 << 20, 60, parent);
    assert!(answer.is_empty() && code.is_none(), "{answer:?}");
    assert!(errors.contains("memory allocation of"), "{errors}");
    let (answer, errors, _) = take_in(MEMORY, 60, parent + 1);
    assert!(answer.is_empty() && errors.contains("the server has ended"), "{errors}");
}

#[test]
fn a_process_that_has_a_document_open_can_open_nothing_else() {
    let mut process = process();
    process.stdin.as_mut().unwrap().write_all(&job(MEMORY, 60, std::process::id())).unwrap();
    let mut answer = [0; 5];
    let said = process.stdout.as_mut().unwrap();
    for _ in ["its version", "the change"] {
        said.read_exact(&mut answer).unwrap();
        let length = u32::from_le_bytes(answer[1..5].try_into().unwrap());
        said.read_exact(&mut vec![0; length as usize]).unwrap();
    }
    assert_eq!(answer[0], 11);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    for name in ["Max open files", "Max core file size"] {
        let limit = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(limit.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"], "{name}");
    }
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_take_in_is_refused_with_a_reason_and_told() {
    let lab = Lab::new(Path::new(PROGRAM), 26 << 20);
    let mut doc = text(LARGE);
    let brought = lab.bring(&key(1), &mut doc).await.unwrap();
    assert!(brought.refused[0].contains("memory.opener"), "{brought:?}");
    let status = lab.engine.status();
    let trouble = &status.opening_troubles[0];
    assert_eq!((trouble.kind, status.opener_memory_bytes), (TroubleKind::TooLargeToTakeIn, 26 << 20));
    assert_eq!(trouble.document, key(1).document.to_string());
    assert!(trouble.need_bytes > 26 << 20 && trouble.size_bytes > 0);
    // With less the warning would come back at the next attempt; with more it is over, and the document is taken in.
    let lab = lab.again(Path::new(PROGRAM), 26 << 20).await;
    assert_eq!(lab.engine.status().opening_troubles.len(), 1);
    let lab = lab.again(Path::new(PROGRAM), MEMORY).await;
    assert!(lab.engine.status().opening_troubles.is_empty());
    assert_eq!(lab.bring(&key(1), &mut doc).await.unwrap().heads, doc.get_heads());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_compact_stays_as_rows_and_syncs_on() {
    let lab = Lab::new(Path::new(PROGRAM), 64 << 20);
    let mut doc = text(LARGE);
    for n in 0..4 {
        doc.put(ROOT, "n", n).unwrap();
        doc.commit();
    }
    for n in 0..3 {
        doc.put(ROOT, "n", n).unwrap();
        doc.commit();
        assert_eq!(lab.bring_changes(&key(1), &mut doc).await.heads, doc.get_heads());
    }
    crate::common::wait_for_async("the refusal", async || {
        let troubles = lab.engine.status().opening_troubles;
        (troubles.first()?.kind == TroubleKind::TooLargeToCompact).then_some(())
    })
    .await;
    let head = lab.store.head(&key(1)).unwrap().unwrap();
    assert!(head.snapshot.is_none() && head.quarantined.is_none());
    assert_eq!(head.tail_changes, 8);
}
