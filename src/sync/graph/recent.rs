//! The bytes of the last changes, which are at hand for the store and for relaying.

use bytes::Bytes;

use super::Graph;
use crate::store::Row;

/// Bytes of durable changes that a graph keeps at hand for relaying, in bytes; older ones are read from the store.
pub(super) const RECENT_BYTES: usize = 64 * 1024;
/// Changes for which there may be room in the list of those at hand, besides four times those that it has.
pub(super) const MIN_ROOM: usize = 64;

impl Graph {
    /// The rows from `from` on, for the store. Their bytes must still be at hand, as those not yet durable are.
    pub fn rows_from(&self, from: u64) -> Vec<Row> {
        (from..self.end())
            .filter_map(|row| {
                let entry = self.entry(row)?;
                Some(Row { row, hash: entry.hash, max_op: entry.max_op, bytes: self.recent(row)?.clone() })
            })
            .collect()
    }

    /// A change's bytes, if still at hand.
    pub fn recent(&self, row: u64) -> Option<&Bytes> {
        let first = self.end() - self.recent.len() as u64;
        self.recent.get(usize::try_from(row.checked_sub(first)?).ok()?)
    }

    /// Let go of the bytes of durable rows beyond what is kept at hand.
    pub fn trim(&mut self, durable_end: u64) {
        while self.recent_bytes > RECENT_BYTES && self.end() - (self.recent.len() as u64) < durable_end {
            let Some(bytes) = self.recent.pop_front() else { break };
            self.recent_bytes -= bytes.len();
        }
        // A first upload brings a document's whole history at once, and the room for it would stay for good.
        if self.recent.capacity() > 4 * self.recent.len() + MIN_ROOM {
            self.recent.shrink_to_fit();
        }
    }
}
