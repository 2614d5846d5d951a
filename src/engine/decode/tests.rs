//! Which messages wait, for whom, and what they leave behind.

use std::time::Duration;

use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, ROOT};

use super::*;
use crate::engine::app::AppShares;
use crate::sync::message::Draft;
use crate::types::{ConnectionId, Party};

/// An app that has used up nothing.
fn app() -> Arc<AppShare> {
    AppShares::default().of(&lane("a", "1", 1).party.approval, 1)
}

fn lane(approval: &str, device: &str, connection: u64) -> Lane {
    Lane {
        party: Party::new("xyz.app".parse().unwrap(), approval, device),
        connection: ConnectionId(connection),
    }
}

/// A change that claims so many operations in some 70 bytes: all set key "k" to null.
fn change(operations: u64) -> Vec<u8> {
    use crate::sync::leb::put_unsigned;
    let leb = |value: u64| {
        let mut bytes = Vec::new();
        put_unsigned(&mut bytes, value);
        bytes
    };
    // A positive signed LEB128 whose last byte has no sign bit.
    let run = |value: &[u8]| {
        let mut bytes = leb(operations);
        if let Some(last) = bytes.last_mut().filter(|last| **last & 0x40 != 0) {
            *last |= 0x80;
            bytes.push(0);
        }
        [&bytes, value].concat()
    };
    let columns = [
        (0x15, run(&[1, b'k'])),
        (0x34, leb(operations)),
        (0x42, run(&[1])),
        (0x56, run(&[0])),
        (0x70, run(&[0])),
    ];
    let mut content = vec![0, 1, 7, 1, 1, 0, 0, 0, columns.len() as u8];
    for (spec, data) in &columns {
        content.extend(leb(*spec));
        content.push(data.len() as u8);
    }
    columns.iter().for_each(|(_, data)| content.extend(data));
    let body = [&[1], &leb(content.len() as u64)[..], &content].concat();
    let sum: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&body).into();
    [&[0x85, 0x6f, 0x4a, 0x83], &sum[..4], &body].concat()
}

fn payload(chunks: &[Bytes]) -> Bytes {
    Draft { have: Some(&[]), chunks, v2: true, ..Draft::default() }.encode().into()
}

fn claims(operations: u64) -> Bytes {
    payload(&[change(operations).into()])
}

fn pool() -> DecodePool {
    DecodePool::start(Limits::default(), &Vital::new()).unwrap()
}

#[tokio::test]
async fn cheap_messages_do_not_wait_and_others_are_decoded_all_the_same() {
    let pool = pool();
    let mut doc = AutoCommit::new();
    doc.put(ROOT, "key", "value").unwrap();
    let small = Bytes::copy_from_slice(doc.get_last_local_change().unwrap().raw_bytes());
    doc.put(ROOT, "key", "long ".repeat(100_000)).unwrap();
    let large = Bytes::from(doc.get_last_local_change().unwrap().clone().bytes().into_owned());
    for (chunks, at_once) in
        [(vec![small.clone()], true), (vec![large.clone()], false), (vec![small, large], false)]
    {
        let payload = payload(&chunks);
        assert_eq!(pool.at_once(&payload, Access::ReadWrite, &app()).is_some(), at_once);
        let decoded = pool.decode(&lane("a", "1", 1), &payload, Access::ReadWrite, &app()).await.unwrap();
        assert_eq!(
            decoded.changes.iter().map(|change| &change.bytes).collect::<Vec<_>>(),
            chunks.iter().collect::<Vec<_>>()
        );
        let read = pool.decode(&lane("a", "1", 1), &payload, Access::ReadOnly, &app()).await.unwrap();
        assert!(read.changes.is_empty() && read.have.len() == 1);
    }
    assert!(pool.at_once(&claims(4_096), Access::ReadWrite, &app()).is_some());
    assert!(pool.at_once(&claims(4_097), Access::ReadWrite, &app()).is_none());
    assert!(pool.at_once(&claims(4_097), Access::ReadOnly, &app()).is_some(), "nothing of it is decoded");
    assert_eq!(pool.refusals(), 0);
}

#[tokio::test]
async fn what_is_over_a_limit_is_refused_however_it_comes() {
    let limits = Limits { operations: 10_000, inflated_bytes: 1 << 20, ..Limits::default() };
    let pool = DecodePool::start(limits, &Vital::new()).unwrap();
    let refused =
        async |payload| match pool.decode(&lane("a", "1", 1), &payload, Access::ReadWrite, &app()).await {
            Err(DecodeError::Refused(Refused::TooExpensive(excess))) => excess.limit,
            other => panic!("{other:?}"),
        };
    // Where it arrives, for the limit is below what is cheap.
    assert_eq!(refused(claims(10_001)).await, 10_000);
    // On a thread of the pool, for its size.
    let many: Vec<Bytes> = vec![change(10).into(); 1_001];
    assert_eq!(refused(payload(&many)).await, 10_000);
    let mut doc = AutoCommit::new();
    doc.put(ROOT, "key", "long ".repeat(1 << 18)).unwrap();
    let bomb = Bytes::from(doc.get_last_local_change().unwrap().clone().bytes().into_owned());
    assert_eq!(refused(payload(&[bomb])).await, 1 << 20);
    assert_eq!(pool.refusals(), 3);
    pool.decode(&lane("a", "1", 1), &claims(10_000), Access::ReadWrite, &app()).await.unwrap();
    let malformed =
        pool.decode(&lane("a", "1", 1), &Bytes::from_static(&[0x42]), Access::ReadWrite, &app()).await;
    assert!(matches!(malformed, Err(DecodeError::Refused(Refused::Malformed(_)))));
    assert_eq!((pool.refusals(), pool.waiting()), (3, 0));
}

#[tokio::test]
async fn a_flood_of_one_approval_does_not_hold_up_another() {
    let pool = Arc::new(pool());
    let flood: Vec<_> = (0..40)
        .map(|n| {
            let pool = pool.clone();
            // Twenty devices with two sockets each.
            let lane = lane("flood", &(n / 2).to_string(), n);
            tokio::spawn(async move {
                pool.decode(&lane, &claims(200_000), Access::ReadWrite, &app()).await.map(drop).unwrap();
            })
        })
        .collect();
    while pool.waiting() < 38 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = pool.waiting();
    pool.decode(&lane("other", "1", 100), &claims(20_000), Access::ReadWrite, &app()).await.unwrap();
    // Two steps, price and decode, on the thread that the flood cannot have.
    // A job that was priced waits again, so there may also be one more than before.
    let after = pool.waiting();
    assert!(before < after + 20, "{before} {after}");
    for one in flood {
        one.await.unwrap();
    }
}

#[tokio::test]
async fn who_is_gone_costs_nothing_more() {
    let pool = pool();
    for n in 0..100 {
        let payload = claims(8 << 20);
        let lane = lane("gone", "1", n);
        let waiting = pool.in_turn(&lane, &payload, Access::ReadWrite);
        // Polled once, to be pushed, and dropped.
        assert!(tokio::time::timeout(Duration::ZERO, waiting).await.is_err());
    }
    // At most the two that the threads had taken up are decoded to the end.
    pool.decode(&lane("gone", "1", 100), &claims(20_000), Access::ReadWrite, &app()).await.unwrap();
    assert_eq!(pool.waiting(), 0);
}

#[tokio::test]
async fn memory_is_bounded_and_what_is_larger_is_alone() {
    let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
    let value = "x".repeat(12 << 20);
    let mut doc = AutoCommit::new();
    doc.put(ROOT, "key", value).unwrap();
    let change = Bytes::from(doc.get_last_local_change().unwrap().clone().bytes().into_owned());
    let priced = || Priced::new(&payload(std::slice::from_ref(&change)), &Limits::default(), 0).unwrap();
    // Three copies of 12 MiB.
    let memory = priced().price().memory();
    assert!(memory > 36 << 20 && memory < 37 << 20);
    for approval in ["a", "b"] {
        let (answer, _open) = oneshot::channel();
        std::mem::forget(_open);
        let job = Job { step: Step::Decode(Box::new(priced())), cost: 1, answer };
        shared.push(&lane(approval, "1", 1), job);
    }
    let (first, _job) = shared.next().unwrap();
    let second = {
        let shared = shared.clone();
        std::thread::spawn(move || shared.next().unwrap().0)
    };
    while !lock(&shared.state).queue.is_empty() {
        std::thread::yield_now();
    }
    // It was taken up, and waits for the memory of the first.
    assert_eq!(lock(&shared.state).memory, memory);
    assert!(!second.is_finished());
    shared.finish(&first, memory, 0);
    let second = second.join().unwrap();
    assert_eq!([first, second].map(|lane| lane.party.approval.client_id), ["a".into(), "b".into()]);
    assert_eq!(lock(&shared.state).memory, memory);
}

#[tokio::test]
async fn a_panic_costs_the_message_only_and_a_pool_that_ends_says_so() {
    assert_eq!(guarded::<()>(|| panic!("as automerge may")), Err(DecodeError::Panicked));
    assert_eq!(guarded(|| Ok(1)), Ok(1));
    let pool = pool();
    let shared = pool.shared.clone();
    drop(pool);
    let (answer, answered) = oneshot::channel();
    shared.push(&lane("a", "1", 1), Job { step: Step::Price(claims(1), Access::ReadWrite), cost: 1, answer });
    assert!(answered.await.is_err());
    assert!(shared.next().is_none());
}
