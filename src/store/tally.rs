//! What each namespace holds, and what it held at the end of earlier days: kept up by each commit, so that nobody counts.
//!
//! A commit costs one small row for each namespace in it, and one more on the first commit of a day.

use redb::ReadableTable;

use super::schema::{self, DocPrefix};
use super::write::{Batch, COMMIT, open};
use super::{GrowthPoint, Head, RecordKind, StoreError, Totals, codec};
use crate::types::{DAY_MS, DocumentId, Millis, Namespace};

/// For so many days it is remembered what a namespace held.
pub const GROWTH_DAYS: u32 = 400;

/// Days since the Unix epoch, in UTC.
pub(super) fn day_of(at: Millis) -> u32 {
    u32::try_from(at / DAY_MS).unwrap_or(u32::MAX)
}

/// By how much a commit changes what a namespace holds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Delta {
    documents: i64,
    changes: i64,
    bytes: i64,
    deleted: i64,
    modified: Millis,
}

impl Delta {
    /// A document's head was counted and is not any more (`-1`), or is counted now (`1`).
    pub(super) fn count(&mut self, head: &Head, sign: i64) {
        if head.deleted.is_none() {
            self.documents += sign;
            self.changes += sign * head.changes() as i64;
            self.bytes += sign * head.bytes() as i64;
            self.modified = self.modified.max(head.modified);
        } else if !head.purged {
            self.deleted += sign;
        }
    }

    /// What a table (of kept documents, or the bin) has of a namespace. A row that cannot be read is left out:
    /// what is counted must not stand in the way of what is stored.
    pub(super) fn add_up<T: ReadableTable<&'static DocPrefix, &'static [u8]>>(
        &mut self,
        namespace: u32,
        table: &T,
    ) -> Result<(), redb::StorageError> {
        let [first, last] =
            [[0; 16], [0xff; 16]].map(|document| schema::doc_prefix(namespace, DocumentId(document)));
        for row in table.range::<&DocPrefix>(&first..=&last)? {
            let (key, value) = row?;
            match codec::decode_head(value.value()) {
                Ok(head) => self.count(&head, 1),
                Err(bad) => {
                    let document = schema::document_of(key.value());
                    tracing::warn!(%document, namespace, reason = bad.0, "a document whose head row is damaged is not counted");
                }
            }
        }
        Ok(())
    }

    /// Something happened at this time.
    pub(super) fn at(&mut self, now: Millis) {
        self.modified = self.modified.max(now);
    }

    /// What the namespace holds after it. Counts that are damaged stop at zero.
    pub(super) fn apply(&self, totals: &Totals) -> Totals {
        Totals {
            documents: totals.documents.saturating_add_signed(self.documents),
            changes: totals.changes.saturating_add_signed(self.changes),
            bytes: totals.bytes.saturating_add_signed(self.bytes),
            modified: totals.modified.max(self.modified),
            deleted: totals.deleted.saturating_add_signed(self.deleted),
        }
    }
}

/// A row of totals; the day is that of the last commit that changed them.
pub(super) fn encode(totals: &Totals, day: u32) -> Vec<u8> {
    let Totals { documents, changes, bytes, modified, deleted } = *totals;
    codec::encode_numbers(&[documents, changes, bytes, modified, deleted, day.into()])
}

pub(super) fn decode(row: &[u8]) -> Result<(Totals, u32), StoreError> {
    let numbers = codec::decode_numbers(row)
        .map_err(|bad| StoreError::Corrupt { object: "table totals".into(), detail: bad.0.into() })?;
    let [documents, changes, bytes, modified, deleted, day] = numbers;
    Ok((Totals { documents, changes, bytes, modified, deleted }, u32::try_from(day).unwrap_or(u32::MAX)))
}

/// Where a namespace's day is kept.
pub(super) fn growth_key(namespace: u32, day: u32) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&namespace.to_be_bytes());
    key[4..].copy_from_slice(&day.to_be_bytes());
    key
}

/// The points of a namespace from day `from` to `to`: a day without changes has none, and what was before `from` counts
/// as `from`'s.
pub(super) fn points(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    (namespace, number): (&Namespace, u32),
    (last, day): (Totals, u32),
    (from, to): (u32, u32),
) -> Result<Vec<GrowthPoint>, StoreError> {
    let failed = |source: redb::StorageError| StoreError::from_redb("reading", "table growth", source);
    let point = |day: u32, totals| GrowthPoint { day: day.max(from), namespace: namespace.clone(), totals };
    let mut points: Vec<GrowthPoint> = Vec::new();
    let mut put = |new: GrowthPoint| {
        if points.last().is_some_and(|last| last.day == new.day) {
            points.pop();
        }
        points.push(new);
    };
    let (start, end) = (growth_key(number, 0), growth_key(number, to.min(day)));
    for row in table.range::<&[u8]>(&start[..]..&end[..]).map_err(failed)? {
        let (key, value) = row.map_err(failed)?;
        let Some(day) = key.value().last_chunk().copied().map(u32::from_be_bytes) else { continue };
        match decode(value.value()) {
            Ok((totals, _)) => put(point(day, totals)),
            Err(error) => tracing::debug!(%namespace, day, %error, "a day of growth is left out"),
        }
    }
    if day <= to {
        put(point(day, last));
    }
    Ok(points)
}

impl Batch<'_> {
    /// What a namespace holds now; on the first commit of a day also what it held before.
    pub(super) fn tally(&mut self, namespace: u32, delta: &Delta) -> Result<(), StoreError> {
        let key = namespace.to_be_bytes();
        let old = open(self.transaction, schema::records(RecordKind::Totals))?
            .get(&key[..])
            .map_err(|source| StoreError::from_redb(COMMIT, "table totals", source))?
            .map(|row| decode(row.value()));
        let (old, totals) = match old {
            Some(Err(error)) => {
                tracing::warn!(namespace, %error, "what a namespace holds is counted anew");
                (None, self.counted(namespace, delta)?)
            }
            old => {
                let old = old.and_then(Result::ok);
                (old, delta.apply(&old.unwrap_or_default().0))
            }
        };
        let day = day_of(totals.modified);
        if let Some((old, before)) = old.filter(|(_, before)| *before < day) {
            let place = growth_key(namespace, before);
            self.record(RecordKind::Growth, &place, Some(&encode(&old, before)))?;
            // Of what is older the last one stays: it tells what there was when the time began.
            let kept = growth_key(namespace, day.saturating_sub(GROWTH_DAYS));
            let (first, mut freed) = (growth_key(namespace, 0), 0i64);
            let failed = |source: redb::StorageError| StoreError::from_redb(COMMIT, "table growth", source);
            let mut table = open(self.transaction, schema::records(RecordKind::Growth))?;
            let older = table.range::<&[u8]>(&first[..]..&kept[..]).map_err(failed)?.next_back();
            let last = older.transpose().map_err(failed)?.map(|(key, _)| key.value().to_vec());
            if let Some(last) = last {
                let retained = table.retain_in::<&[u8], _>(&first[..]..&last[..], |key, row| {
                    freed += (key.len() + row.len()) as i64;
                    false
                });
                retained.map_err(failed)?;
            }
            drop(table);
            self.grown -= freed;
        }
        self.record(RecordKind::Totals, &key, Some(&encode(&totals, day)))
    }

    /// What the namespace holds with all that is written so far.
    fn counted(&self, namespace: u32, delta: &Delta) -> Result<Totals, StoreError> {
        let mut all = Delta { modified: delta.modified, ..Delta::default() };
        all.add_up(namespace, &self.heads)
            .map_err(|source| StoreError::from_redb(COMMIT, "table heads", source))?;
        all.add_up(namespace, &open(self.transaction, schema::BIN)?)
            .map_err(|source| StoreError::from_redb(COMMIT, "table bin", source))?;
        Ok(all.apply(&Totals::default()))
    }
}
