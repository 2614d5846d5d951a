//! Takes in what a peer says of a document, and the changes that it brings.

use super::{Doc, Fault, Peer, UPLOAD_GRACE_MS};
use crate::sync::chunk::{Change, Chunk};
use crate::sync::graph::{Added, Misfit};
use crate::sync::message::SyncMessage;
use crate::sync::storage::Storage;
use crate::types::{ConnectionId, Steady, StorageId};

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

impl Doc {
    /// Take in what a peer sent. The peer must have a share in the document.
    /// # Errors
    /// When the store cannot give what is needed to judge it; the message is lost then.
    pub fn receive(
        &mut self,
        connection: ConnectionId,
        remote: Option<&StorageId>,
        mut message: SyncMessage,
        storage: &dyn Storage,
        now: Steady,
    ) -> Result<Received, Fault> {
        let mut received = Received::default();
        let writer = self.peer(connection).is_some_and(|peer| peer.writer);
        if writer && !message.changes.is_empty() {
            received = self.add_changes(connection, std::mem::take(&mut message.changes), storage)?;
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
        now: Steady,
    ) -> Result<(), Fault> {
        let Some(at) = self.peers.iter().position(|peer| peer.connection == connection) else {
            return Ok(());
        };
        // Out of the list while the graph is borrowed; put back at the same place.
        let mut peer = std::mem::take(&mut self.peers[at]);
        let result = self.hear_peer(&mut peer, remote, message, storage);
        peer.uploading_until = Some(now + UPLOAD_GRACE_MS);
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

    /// Appends what is new of what the opener found in a document chunk from this peer.
    /// # Errors
    /// The store cannot give what is needed to judge the changes; they are lost then.
    pub fn take_changes(
        &mut self,
        connection: ConnectionId,
        changes: Vec<Change>,
        storage: &dyn Storage,
    ) -> Result<Received, Fault> {
        let received = self.add_changes(connection, changes, storage)?;
        self.recheck(connection);
        Ok(received)
    }

    /// Appends or parks changes, and notes that this peer has them.
    fn add_changes(
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
            match graph.add(change, connection) {
                Ok(Added::At(row) | Added::Known(Some(row))) => theirs.push(row),
                Ok(Added::Known(None) | Added::Parked) => {}
                Err(misfit) => received.misfit = Some(misfit),
            }
        }
        received.appended = graph.end() - before;
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
}
