//! One document's chunks from files instead of from a peer: what of them is whole, in an order in which it can be taken in.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::chunk::{self, Change, Chunk, Kind};
use super::leb::Bad;
use super::meter::Meter;
use super::price::{Limits, Refused};
use super::pricing::Pricing;
use crate::types::ChangeHash;

/// Inflated bytes of a change that are kept from pricing it for decoding it.
const KEEP_BYTES: u64 = 64 * 1024;

/// A document chunk and the heads that it claims.
#[derive(Debug, Clone)]
pub struct Whole {
    /// The chunk, checked but not opened.
    pub chunk: Chunk,
    /// Its heads, as its header has them.
    pub heads: Vec<ChangeHash>,
}

/// Chunks of one document, all checked.
#[derive(Debug, Clone, Default)]
pub struct Parcel {
    /// Document chunks.
    pub documents: Vec<Whole>,
    /// Changes, each once.
    pub changes: Vec<Change>,
}

impl Parcel {
    /// Take what is whole of a file's bytes. Documents stay slices of them, changes are copied. Each chunk may cost
    /// what `limits` allow.
    /// # Errors
    /// What is wrong with the rest, the first of it; the whole chunks are taken all the same.
    pub fn add(&mut self, bytes: &Bytes, limits: &Limits) -> Result<(), Refused> {
        let (chunks, wrong) = chunk::salvage(bytes);
        let mut wrong = wrong.map(Refused::from);
        if chunks.is_empty() && wrong.is_none() {
            wrong = Some(Bad("it is empty").into());
        }
        for chunk in chunks {
            // automerge, which decodes each change, may panic on foreign bytes.
            let taken = catch_unwind(AssertUnwindSafe(|| self.add_chunk(chunk, limits)));
            if let Err(refused) = taken.unwrap_or(Err(Bad("automerge cannot decode it").into())) {
                wrong.get_or_insert(refused);
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    fn add_chunk(&mut self, chunk: Chunk, limits: &Limits) -> Result<(), Refused> {
        let mut pricing = Pricing::new(Meter::new(limits), KEEP_BYTES);
        let frame = pricing.chunk(&chunk.raw())?;
        if chunk.kind == Kind::Document {
            let heads = chunk::check_document(&chunk.raw())?;
            self.documents.push(Whole { chunk, heads });
        } else {
            let most = pricing.meter.price().inflated_bytes;
            self.changes.push(chunk::take_in(&chunk.raw(), frame, most)?);
        }
        Ok(())
    }

    /// Nothing in it could bring a change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.documents.iter().all(|whole| whole.heads.is_empty())
    }

    /// Documents first, the largest of them before the others; changes after what they depend on.
    pub fn put_in_order(&mut self) {
        self.documents.sort_by_key(|whole| std::cmp::Reverse(whole.chunk.bytes.len()));
        let mut places = HashMap::with_capacity(self.changes.len());
        for (place, change) in self.changes.iter().enumerate() {
            places.entry(change.hash).or_insert(place);
        }
        let mut ordered = Vec::with_capacity(places.len());
        // Each place twice: to put what it depends on before it, then itself. A hash cannot depend on itself.
        let mut next: Vec<(usize, bool)> =
            (0..self.changes.len()).rev().map(|place| (place, false)).collect();
        while let Some((place, ready)) = next.pop() {
            let change = &self.changes[place];
            if ready {
                if places.remove(&change.hash).is_some() {
                    ordered.push(place);
                }
            } else if places.contains_key(&change.hash) {
                next.push((place, true));
                let waits = change.deps.iter().filter_map(|dep| places.get(dep));
                next.extend(waits.map(|place| (*place, false)));
            }
        }
        let mut changes: Vec<Option<Change>> =
            std::mem::take(&mut self.changes).into_iter().map(Some).collect();
        self.changes = ordered.into_iter().filter_map(|place| changes[place].take()).collect();
    }

    /// Its chunks behind one another, as [`Parcel::add`] takes them.
    pub fn to_bytes(&self) -> Bytes {
        let documents = self.documents.iter().map(|whole| &whole.chunk.bytes);
        let chunks: Vec<&Bytes> = documents.chain(self.changes.iter().map(|change| &change.bytes)).collect();
        if let [one] = chunks[..] {
            return one.clone();
        }
        let mut bytes = BytesMut::with_capacity(chunks.iter().map(|chunk| chunk.len()).sum());
        chunks.into_iter().for_each(|chunk| bytes.put_slice(chunk));
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use automerge::{AutoCommit, ROOT, transaction::Transactable};

    /// A saved document of ten changes, and twenty more changes behind it.
    fn document() -> (Bytes, Vec<Bytes>) {
        let mut doc = AutoCommit::new();
        let change = |doc: &mut AutoCommit, n: u32| {
            doc.put(ROOT, "n", n).unwrap();
            doc.commit();
            Bytes::from(doc.get_last_local_change().unwrap().clone().bytes().into_owned())
        };
        for n in 0..10 {
            change(&mut doc, n);
        }
        let saved = doc.save().into();
        (saved, (10..30).map(|n| change(&mut doc, n)).collect())
    }

    #[test]
    fn damage_costs_the_chunk_it_is_in_and_no_other() {
        let (saved, changes) = document();
        let all: Vec<u8> = changes.concat();
        let whole = changes[3].len();
        let before: usize = changes[..3].iter().map(Bytes::len).sum();
        for at in before..before + whole {
            let mut bad = all.clone();
            bad[at] ^= 0x55;
            let mut parcel = Parcel::default();
            assert!(parcel.add(&bad.into(), &Limits::default()).is_err(), "byte {at}");
            assert_eq!(parcel.changes.len(), 19, "byte {at}");
        }
        for length in 0..all.len() {
            let mut parcel = Parcel::default();
            let whole = parcel.add(&Bytes::copy_from_slice(&all[..length]), &Limits::default()).is_ok();
            let bytes: usize = parcel.changes.iter().map(|change| change.bytes.len()).sum();
            assert_eq!(whole, bytes == length && length > 0);
        }
        let mut parcel = Parcel::default();
        assert!(parcel.add(&saved.slice(..saved.len() - 1), &Limits::default()).is_err());
        assert!(parcel.is_empty());
    }

    #[test]
    fn what_stands_first_rests_on_nothing_that_comes_later() {
        let (saved, changes) = document();
        let mut parcel = Parcel::default();
        for change in changes.iter().rev().chain(&changes) {
            parcel.add(change, &Limits::default()).unwrap();
        }
        parcel.add(&saved, &Limits::default()).unwrap();
        parcel.put_in_order();
        assert_eq!(
            parcel.changes.iter().map(|change| &change.bytes).collect::<Vec<_>>(),
            changes.iter().collect::<Vec<_>>()
        );
        let bytes = parcel.to_bytes();
        assert!(bytes.starts_with(&saved) && bytes.len() == saved.len() + changes.concat().len());
        let mut again = Parcel::default();
        again.add(&bytes, &Limits::default()).unwrap();
        assert_eq!(again.to_bytes(), bytes);
        assert_eq!(automerge::Automerge::load(&bytes).unwrap().get_changes(&[]).len(), 30);
    }
}
