//! Documents into the bin, out of it, and out of the store.

use super::schema::{self, DocPrefix, PartKey, RowKey, change_part_key, row_key};
use super::write::{Batch, failed, object, open, refused};
use super::{Disposal, Head, StoreError, changes};
use crate::types::{DocKey, Millis};

impl Batch<'_> {
    pub(super) fn dispose(&mut self, key: &DocKey, what: Disposal, now: Millis) -> Result<(), StoreError> {
        let prefix = self.prefix(key)?;
        let Some(document) = self.document(key, prefix)? else {
            return Err(refused(key, "a document that is not stored cannot be deleted or restored"));
        };
        let head = &mut document.head;
        match (what, head.deleted) {
            (_, Some(_)) if head.purged => return Ok(()),
            (Disposal::Delete, None) => head.deleted = Some(now),
            (Disposal::Restore, Some(_)) => head.deleted = None,
            (Disposal::Purge { deleted_by }, Some(deleted)) if deleted <= deleted_by => {
                *head = Head { deleted: Some(deleted), purged: true, ..Head::new(deleted) };
                self.remove_all(key, &prefix)?;
            }
            _ => return Ok(()),
        }
        self.delta(&prefix).at(now);
        Ok(())
    }

    /// Deletes all rows of a document besides its head.
    fn remove_all(&mut self, key: &DocKey, prefix: &DocPrefix) -> Result<(), StoreError> {
        let mut freed = 0i64;
        let (start, end) = (row_key(prefix, 0), row_key(prefix, u64::MAX));
        let rows = self.changes.retain_in::<&RowKey, _>(&start..=&end, |row, value| {
            freed += (row.len() + value.len()) as i64;
            false
        });
        rows.map_err(|source| failed(key, source))?;
        let parts = change_part_key(&start, 0)..=change_part_key(&end, u16::MAX);
        freed += changes::remove_large(self.transaction, parts, &|| object(key, "large_changes"))?.freed;
        let (start, end) = (schema::part_key(prefix, 0), schema::part_key(prefix, u16::MAX));
        for table in [schema::SNAPSHOTS, schema::INDEXES] {
            let parts =
                open(self.transaction, table)?.retain_in::<&PartKey, _>(&start..=&end, |part, value| {
                    freed += (part.len() + value.len()) as i64;
                    false
                });
            parts.map_err(|source| failed(key, source))?;
        }
        // Storage ids are text: no byte of them is 0xff.
        let end = [&prefix[..], &[0xff]].concat();
        let states = open(self.transaction, schema::SYNC_STATES)?.retain_in::<&[u8], _>(
            &prefix[..]..&end[..],
            |state, value| {
                freed += (state.len() + value.len()) as i64;
                false
            },
        );
        states.map_err(|source| failed(key, source))?;
        self.grown -= freed;
        Ok(())
    }
}
