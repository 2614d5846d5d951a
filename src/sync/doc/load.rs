//! Reading a document's changes from the store.

use std::ops::Range;

use bytes::Bytes;

use super::Doc;
use crate::store::StoreError;
use crate::sync::chunk;
use crate::sync::graph::{Graph, Parking};
use crate::sync::snapshot::Index;
use crate::sync::storage::Storage;
use crate::types::DocumentId;

/// A document that cannot be worked with now.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The store could not read it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store gave back does not decode.
    #[error("stored changes of document {document} do not decode: {what}")]
    Damaged {
        /// The document.
        document: DocumentId,
        /// The fault, in words.
        what: &'static str,
    },
    /// The store is between two states of this document; try again after the commit.
    #[error("document {0} is being compacted")]
    Moving(DocumentId),
}

impl Doc {
    /// Load the graph, and with `index` the snapshot's index.
    /// # Errors
    /// When the store cannot give it.
    pub fn load(&mut self, storage: &dyn Storage, index: bool) -> Result<&mut Graph, Fault> {
        let mut graph = match self.graph.take() {
            Some(graph) => graph,
            None => {
                let mut graph = Box::new(self.read_graph(storage)?);
                graph.set_parking(self.parked.take().map_or_else(Parking::default, |parked| *parked));
                graph
            }
        };
        let result = if index && graph.lacks_index() { self.read_index(&mut graph, storage) } else { Ok(()) };
        let graph = self.graph.insert(graph);
        result.map(|()| &mut **graph)
    }

    fn read_graph(&self, storage: &dyn Storage) -> Result<Graph, Fault> {
        let Some(head) = &self.head else { return Ok(Graph::new(0, Vec::new())) };
        let base = head.next_row - head.tail_changes;
        let mut graph =
            Graph::new(base, head.snapshot.as_ref().map_or_else(Vec::new, |info| info.heads.clone()));
        let mut fault = None;
        storage.tail(&self.key, base..head.next_row, &mut |row| match chunk::stored_change(
            &row.bytes, row.hash, row.max_op,
        ) {
            Ok(change) if graph.restore(row.row, &change) => true,
            Ok(_) => {
                fault = Some(Fault::Moving(self.key.document));
                false
            }
            Err(bad) => {
                fault = Some(Fault::Damaged { document: self.key.document, what: bad.0 });
                false
            }
        })?;
        match fault {
            Some(fault) => Err(fault),
            None if graph.end() != head.next_row => Err(Fault::Moving(self.key.document)),
            None => Ok(graph),
        }
    }

    fn read_index(&self, graph: &mut Graph, storage: &dyn Storage) -> Result<(), Fault> {
        let bytes = storage.snapshot_index(&self.key)?.ok_or_else(|| Fault::Moving(self.key.document))?;
        graph.set_index(
            Index::decode(&bytes)
                .map_err(|bad| Fault::Damaged { document: self.key.document, what: bad.0 })?,
        );
        Ok(())
    }

    /// Bytes of rows at hand or in the store: `rows` in order until `each` says no.
    /// # Errors
    /// When the store cannot read them.
    pub fn each_row(
        &self,
        rows: Range<u64>,
        storage: &dyn Storage,
        each: &mut dyn FnMut(u64, Bytes) -> bool,
    ) -> Result<(), Fault> {
        let mut next = rows.start;
        let recent = |row| self.graph.as_ref().and_then(|graph| graph.recent(row)).cloned();
        let mut go_on = true;
        if recent(next).is_none() && next < rows.end {
            let mut gap = false;
            storage.tail(&self.key, next..rows.end, &mut |row| {
                gap = row.row != next;
                if gap {
                    return false;
                }
                next += 1;
                go_on = each(row.row, row.bytes);
                go_on && recent(next).is_none()
            })?;
            if gap || (go_on && next < rows.end && recent(next).is_none()) {
                return Err(Fault::Moving(self.key.document));
            }
        }
        while go_on && next < rows.end {
            let Some(bytes) = recent(next) else { return Err(Fault::Moving(self.key.document)) };
            go_on = each(next, bytes);
            next += 1;
        }
        Ok(())
    }
}
