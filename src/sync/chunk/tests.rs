use super::*;
use automerge::{AutoCommit, ROOT, transaction::Transactable};

use crate::sync::meter::Meter;
use crate::sync::price::{Limits, Price};
use crate::sync::pricing::Pricing;

fn split(blob: &Bytes) -> Result<Vec<Chunk>, Bad> {
    let (chunks, wrong) = salvage(blob);
    wrong.map_or(Ok(chunks), Err)
}

fn priced(chunk: &Chunk, limits: &Limits, keep: u64) -> Result<(Option<Frame>, Price), Refused> {
    let mut pricing = Pricing::new(Meter::new(limits), keep);
    let frame = pricing.chunk(&chunk.raw())?;
    Ok((frame, *pricing.meter.price()))
}

fn take(chunk: &Chunk) -> Result<Change, Refused> {
    let frame = priced(chunk, &Limits::default(), 1 << 20)?.0;
    take_in(&chunk.raw(), frame, 0)
}

fn change(text: &str) -> automerge::Change {
    let mut doc = AutoCommit::new();
    doc.put(ROOT, "k", text).unwrap();
    doc.get_last_local_change().unwrap().clone()
}

#[test]
fn changes_plain_and_deflated_are_taken_in() {
    for (text, kind) in [("short".to_owned(), Kind::Change), ("long ".repeat(1000), Kind::Deflated)] {
        let mut made = change(&text);
        let blob = Bytes::from(made.bytes().into_owned());
        let chunks = split(&blob).unwrap();
        assert_eq!(chunks[0].kind, kind);
        let taken = take(&chunks[0]).unwrap();
        assert_eq!((taken.hash, taken.seq, taken.max_op), (made.hash(), 1, made.max_op()));
        assert_eq!(taken.bytes, blob);
        let again = stored_change(&blob, taken.hash, taken.max_op).unwrap();
        assert_eq!((again.actor, again.deps), (taken.actor, taken.deps));
    }
}

#[test]
fn damage_is_noticed_at_every_byte() {
    let mut made = change("some text that is short");
    let bytes = made.bytes().into_owned();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x21;
        let chunks = split(&Bytes::from(bad));
        assert!(chunks.is_err() || take(&chunks.unwrap()[0]).is_err(), "byte {at}");
    }
}

#[test]
fn a_change_costs_the_same_kept_or_counted_in_passing() {
    let mut made = change(&"x".repeat(100_000));
    let chunks = split(&Bytes::from(made.bytes().into_owned())).unwrap();
    let content = made.raw_bytes().len() as u64 - 12;
    let limits = |inflated_bytes| Limits { inflated_bytes, ..Limits::default() };
    let mut prices = Vec::new();
    for keep in [0, 10_000, content, 1 << 20] {
        let (frame, price) = priced(&chunks[0], &limits(content), keep).unwrap();
        assert_eq!((price.inflated_bytes, price.operations), (content, 1));
        assert_eq!(frame.is_some(), keep >= content);
        let taken = take_in(&chunks[0].raw(), frame, content).unwrap();
        assert_eq!(taken.hash, made.hash());
        prices.push(price);
        let over = priced(&chunks[0], &limits(content - 1), keep);
        assert!(matches!(over, Err(Refused::TooExpensive(_))), "{keep}");
    }
    assert!(prices.iter().all(|price| *price == prices[0]));
    assert!(prices[0].chunk_memory >= 3 * 100_000);
    assert!(take_in(&chunks[0].raw(), None, content - 1).is_err());
}

#[test]
fn documents_are_checked() {
    let mut doc = AutoCommit::new();
    for n in 0..200 {
        doc.put(ROOT, format!("key {n}"), "value ".repeat(20)).unwrap();
        doc.commit();
    }
    let bytes = doc.save();
    let chunks = split(&Bytes::from(bytes.clone())).unwrap();
    assert_eq!(chunks.len(), 1);
    let price = priced(&chunks[0], &Limits::default(), 0).unwrap().1;
    // 200 operations come on top of 200 changes.
    assert_eq!((price.operations, price.documents, price.chunk_memory), (400, 1, 0));
    let tight = Limits { inflated_bytes: price.inflated_bytes - 1, ..Limits::default() };
    assert!(priced(&chunks[0], &tight, 0).is_err());
    assert_eq!(check_document(&chunks[0].raw()).unwrap(), doc.get_heads());
    let mut bad = bytes;
    let last = bad.len() - 1;
    bad[last] ^= 1;
    assert!(check_document(&split(&Bytes::from(bad)).unwrap()[0].raw()).is_err());
}
