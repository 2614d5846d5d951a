//! One document in use: what is durable of it, its change graph when needed, and its peers.

use std::sync::Arc;

use bytes::Bytes;

use super::chunk::{self, Change, Chunk};
use super::graph::{Added, Graph, Misfit};
use super::message::SyncMessage;
use super::parking::Parking;
use super::peer::{Base, Peer};
use super::snapshot::Index;
use super::storage::Storage;
use crate::store::{Head, Op, SnapshotInfo, StoreError};
use crate::types::{ChangeHash, ConnectionId, DocKey, DocumentId, Millis, StorageId};

/// How long a peer with changes that we lack counts as uploading after each of its messages, in milliseconds.
pub const UPLOAD_GRACE_MS: Millis = 10_000;

/// Why a deleted document is not synced.
pub const DELETED: &str = "it is deleted";

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
        /// What is wrong.
        what: &'static str,
    },
    /// The store is between two states of this document; try again after the commit.
    #[error("document {0} is being compacted")]
    Moving(DocumentId),
}

/// What came of a message.
#[derive(Debug, Default)]
pub struct Received {
    /// Changes were appended and wait to be made durable.
    pub appended: u64,
    /// Chunks for the opener.
    pub documents: Vec<Chunk>,
    /// Operations that those chunks claim to hold.
    pub operations: u64,
    /// A change contradicted the graph.
    pub misfit: Option<Misfit>,
}

/// A document in use.
#[derive(Debug)]
pub struct Doc {
    /// Its name.
    pub key: DocKey,
    /// What is durable; `None`: the store does not have it.
    pub head: Option<Head>,
    /// Loaded when changes come or peers differ.
    pub graph: Option<Box<Graph>>,
    /// What waits for its dependencies, while the graph is not loaded.
    pub parked: Option<Box<Parking>>,
    /// Connections with a share in it.
    pub peers: Vec<Peer>,
    /// When it was last used, in the shard's ticks.
    pub used: u64,
    /// Rows below this are durable or in the commit under way.
    pub taken: u64,
    /// Document chunks that are neither taken in and durable nor refused.
    pub intakes: u32,
    /// Intakes that the opener is yet to tell of.
    pub at_opener: u32,
    /// So many of them it got before the document started over; it does them first, and nothing of them is taken.
    pub stale_intakes: u32,
    /// Who wrote the last change that is not durable yet.
    pub writer: Option<Arc<str>>,
    /// The document stands in the shard's `dirty`.
    pub in_dirty: bool,
    /// The opener compacts it, or its new snapshot is in the commit under way.
    pub compacting: bool,
    /// Messages that wait until the opener has taken in a new document.
    pub held: Vec<(ConnectionId, SyncMessage)>,
    /// Opening the document has ended the process before: it is not compacted, and its snapshot is only sent whole.
    pub stays_closed: bool,
    /// No compaction before this time, unless the tail is very long.
    pub compact_after: Millis,
    /// Why it is not synced, in words.
    pub broken: Option<String>,
    /// Bytes that the graph was last counted with in the shard's budget.
    pub counted: usize,
}

impl Doc {
    /// As the store has it.
    pub fn new(key: DocKey, head: Option<Head>) -> Self {
        let broken = head.as_ref().and_then(|head| match head.deleted {
            Some(_) => Some(DELETED.into()),
            None => head.quarantined.clone(),
        });
        let taken = head.as_ref().map_or(0, |head| head.next_row);
        Self {
            key,
            head,
            graph: None,
            parked: None,
            peers: Vec::new(),
            used: 0,
            taken,
            intakes: 0,
            at_opener: 0,
            stale_intakes: 0,
            writer: None,
            in_dirty: false,
            compacting: false,
            held: Vec::new(),
            stays_closed: false,
            compact_after: 0,
            broken,
            counted: 0,
        }
    }

    /// Durable heads.
    pub fn heads(&self) -> &[ChangeHash] {
        self.head.as_ref().map_or(&[], |head| &head.heads)
    }

    /// Rows below this are durable.
    pub fn durable_end(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.next_row)
    }

    /// Changes wait to be made durable.
    pub fn is_dirty(&self) -> bool {
        self.graph.as_ref().is_some_and(|graph| graph.end() > self.taken)
    }

    /// The graph can be dropped and read again without loss.
    pub fn is_evictable(&self) -> bool {
        let clean = |graph: &Graph| graph.end() == self.durable_end();
        !self.compacting && self.intakes == 0 && self.graph.as_ref().is_some_and(|graph| clean(graph))
    }

    /// Drops the graph, which must be evictable. What waits for its dependencies stays: whoever sent it would not send it
    /// again on the same connection.
    pub fn evict(&mut self) {
        let parking = self.graph.take().map(|mut graph| graph.take_parking());
        self.parked = parking.filter(|parking| !parking.is_empty()).map(Box::new);
    }

    /// Drops what waits for its dependencies.
    pub fn drop_parked(&mut self) {
        self.parked = None;
        if let Some(graph) = &mut self.graph {
            drop(graph.take_parking());
        }
        self.peers.iter_mut().for_each(|peer| peer.parked = 0);
    }

    /// Gives a connection a share in the document.
    pub fn attach(&mut self, peer: Peer) {
        // Most documents are open on one connection, and a vector's first allocation has room for four.
        if self.peers.is_empty() {
            self.peers.reserve_exact(1);
        }
        self.peers.push(peer);
    }

    /// Nobody needs it in memory.
    pub fn is_idle(&self) -> bool {
        self.peers.is_empty()
            && !self.compacting
            && self.intakes == 0
            && self.at_opener == 0
            // What is parked goes too: who comes back sends it again.
            && self.graph.as_ref().is_none_or(|graph| graph.end() == self.durable_end())
    }

    /// The connection's share.
    pub fn peer(&mut self, connection: ConnectionId) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.connection == connection)
    }

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

    /// Take in what a peer sent. The peer must have a share in the document.
    /// # Errors
    /// When the store cannot give what is needed to judge it; the message is lost then.
    pub fn receive(
        &mut self,
        connection: ConnectionId,
        remote: Option<&StorageId>,
        mut message: SyncMessage,
        storage: &dyn Storage,
        now: Millis,
    ) -> Result<Received, Fault> {
        let mut received = Received::default();
        let writer = self.peer(connection).is_some_and(|peer| peer.writer);
        if writer && !message.changes.is_empty() {
            let graph = self.load(storage, true)?;
            let (before, parked) = (graph.end(), graph.parked_bytes());
            let mut theirs = Vec::with_capacity(message.changes.len());
            for change in std::mem::take(&mut message.changes) {
                match graph.add(change) {
                    Ok(Added::At(row) | Added::Known(Some(row))) => theirs.push(row),
                    Ok(Added::Known(None) | Added::Parked) => {}
                    Err(misfit) => received.misfit = Some(misfit),
                }
            }
            received.appended = graph.end() - before;
            let (still, parked) = (graph.parked_bytes(), graph.parked_bytes().saturating_sub(parked));
            if still == 0 {
                self.peers.iter_mut().for_each(|peer| peer.parked = 0);
            }
            if let Some(peer) = self.peer(connection) {
                peer.parked += parked;
                theirs.into_iter().for_each(|row| peer.has_row(row));
            }
        }
        self.hear(connection, remote, &message, storage, now)?;
        if writer && !message.documents.is_empty() {
            received.operations = message.operations;
            received.documents = message.documents;
            if let Some(peer) = self.peer(connection) {
                // Nothing to ask or answer before the opener has looked.
                peer.need = Vec::new();
                peer.answer_due = false;
            }
        }
        Ok(received)
    }

    /// What the message says of the peer.
    fn hear(
        &mut self,
        connection: ConnectionId,
        remote: Option<&StorageId>,
        message: &SyncMessage,
        storage: &dyn Storage,
        now: Millis,
    ) -> Result<(), Fault> {
        let Some(at) = self.peers.iter().position(|peer| peer.connection == connection) else {
            return Ok(());
        };
        // Out of the list while the graph is borrowed; put back at the same place.
        let mut peer = std::mem::take(&mut self.peers[at]);
        let result = self.hear_peer(&mut peer, remote, message, storage);
        peer.uploading_until = now + UPLOAD_GRACE_MS;
        self.peers[at] = peer;
        result
    }

    fn hear_peer(
        &mut self,
        peer: &mut Peer,
        remote: Option<&StorageId>,
        message: &SyncMessage,
        storage: &dyn Storage,
    ) -> Result<(), Fault> {
        let anew = peer.hear(message);
        peer.answer_due |= anew;
        let end = self.graph.as_ref().map_or(self.durable_end(), |graph| graph.end());
        let ours = self.graph.as_ref().map_or(self.heads(), |graph| graph.heads());
        peer.need = Vec::new();
        if peer.their_heads == ours {
            peer.has_all(end);
        } else if peer.their_heads.is_empty() {
            if anew {
                peer.has_nothing(self.head.as_ref());
            }
        } else if self.head.is_none() && self.graph.is_none() {
            peer.has_all(0);
            peer.need.clone_from(&peer.their_heads);
        } else {
            let (key, snapshot_bytes) = (self.key.clone(), self.snapshot_bytes());
            let graph = self.load(storage, true)?;
            if anew {
                let remembered =
                    || remote.and_then(|remote| storage.sync_state(&key, remote).ok()?).unwrap_or_default();
                peer.place(graph, snapshot_bytes, &message.have, remembered);
            }
            peer.need = graph.missing(&peer.their_heads);
            if peer.takes_none {
                peer.known_heads =
                    peer.their_heads.iter().filter(|head| graph.knows(head)).copied().collect();
            }
        }
        if !message.need.is_empty()
            && let Some(graph) = &self.graph
        {
            let asked = message.need.iter().filter_map(|hash| graph.row(hash));
            peer.resend.extend(asked.filter(|row| *row < peer.cursor || peer.extra.contains(row)));
        }
        if !peer.writer {
            peer.need = Vec::new();
        }
        peer.answer_due |= !peer.need.is_empty() && peer.need != peer.asked_for;
        Ok(())
    }

    fn snapshot_bytes(&self) -> u64 {
        self.head.as_ref().and_then(|head| head.snapshot.as_ref()).map_or(0, |snapshot| snapshot.bytes)
    }

    /// What the opener found in a document chunk: append what is new. Rows and graph as in [`Doc::receive`].
    /// # Errors
    /// As there.
    pub fn take_changes(
        &mut self,
        connection: ConnectionId,
        changes: Vec<Change>,
        storage: &dyn Storage,
    ) -> Result<Received, Fault> {
        let mut received = Received::default();
        let graph = self.load(storage, true)?;
        let before = graph.end();
        let mut theirs = Vec::with_capacity(changes.len());
        for change in changes {
            match graph.add(change) {
                Ok(Added::At(row) | Added::Known(Some(row))) => theirs.push(row),
                Ok(Added::Known(None) | Added::Parked) => {}
                Err(misfit) => received.misfit = Some(misfit),
            }
        }
        received.appended = graph.end() - before;
        self.recheck(connection);
        if let Some(peer) = self.peer(connection) {
            theirs.into_iter().for_each(|row| peer.has_row(row));
        }
        Ok(received)
    }

    /// After the opener's work: what is still missing of what this peer has.
    pub fn recheck(&mut self, connection: ConnectionId) {
        let Some(at) = self.peers.iter().position(|peer| peer.connection == connection) else { return };
        let mut peer = std::mem::take(&mut self.peers[at]);
        if let Some(graph) = &self.graph {
            peer.need = if peer.writer { graph.missing(&peer.their_heads) } else { Vec::new() };
            if peer.their_heads == graph.heads() {
                peer.has_all(graph.end());
            }
        }
        peer.answer_due = true;
        self.peers[at] = peer;
    }

    /// The step that makes the new changes durable.
    pub fn take_op(&mut self, now: Millis) -> Option<Op> {
        let graph = self.graph.as_ref().filter(|_| self.is_dirty())?;
        let rows = graph.rows_from(self.taken);
        self.taken = graph.end();
        let heads = graph.heads().to_vec();
        Some(Op::Append { key: self.key.clone(), rows, heads, by: self.writer.take(), now })
    }

    /// An [`Op::Append`] is durable.
    pub fn appended(&mut self, end: u64, bytes: u64, heads: Vec<ChangeHash>, now: Millis) {
        let head = self.head.get_or_insert_with(|| Head::new(now));
        head.tail_changes += end - head.next_row;
        head.tail_bytes += bytes;
        head.next_row = end;
        head.heads = heads;
        head.modified = now;
        if let Some(graph) = &mut self.graph {
            graph.trim(end);
        }
    }

    /// An [`Op::Snapshot`] is durable: `head` is what the store says now.
    pub fn snapshotted(&mut self, below: u64, info: &SnapshotInfo, head: Option<Head>) {
        self.compacting = false;
        self.head = head;
        match &mut self.graph {
            Some(graph) if graph.end() >= below => graph.rebase(below, info.heads.clone()),
            _ => self.evict(),
        }
        self.taken = self.taken.max(below);
        let end = self.graph.as_ref().map_or(self.durable_end(), |graph| graph.end());
        for peer in &mut self.peers {
            peer.resend.retain(|row| *row >= below);
            let behind = peer.cursor < below || !matches!(peer.base, Base::Has);
            if self.head.as_ref().is_some_and(|head| head.heads == peer.their_heads) {
                peer.has_all(end);
                peer.need = Vec::new();
            } else if peer.heard && behind {
                // What it lacked lies inside the snapshot now: start over from its heads at its next turn.
                peer.stale = true;
            }
        }
    }

    /// Place again a peer that a compaction has overtaken.
    /// # Errors
    /// When the store cannot give the graph.
    pub fn replace_stale(&mut self, connection: ConnectionId, storage: &dyn Storage) -> Result<(), Fault> {
        let Some(at) = self.peers.iter().position(|peer| peer.connection == connection && peer.stale) else {
            return Ok(());
        };
        let snapshot_bytes = self.snapshot_bytes();
        let mut peer = std::mem::take(&mut self.peers[at]);
        let result = if peer.their_heads.is_empty() {
            peer.has_nothing(self.head.as_ref());
            Ok(())
        } else {
            self.load(storage, true).map(|graph| {
                peer.place(graph, snapshot_bytes, &[], Vec::new);
                peer.need = if peer.writer { graph.missing(&peer.their_heads) } else { Vec::new() };
            })
        };
        peer.stale = result.is_err();
        self.peers[at] = peer;
        result
    }

    /// Bytes of rows at hand or in the store: `rows` in order until `each` says no.
    /// # Errors
    /// When the store cannot read them.
    pub fn each_row(
        &self,
        rows: std::ops::Range<u64>,
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
