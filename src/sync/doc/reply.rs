//! The next message that one peer is owed about one document.

use std::collections::HashSet;

use bytes::Bytes;

use super::peer::{Base, Peer};
use super::{Doc, Fault};
use crate::sync::message::{Draft, flags};
use crate::sync::storage::Storage;
use crate::sync::wire::Body;
use crate::types::{ChangeHash, ConnectionId, DocumentId};

/// Bytes of changes in one message, about; a single larger change goes alone.
pub const MESSAGE_BYTES: usize = 256 * 1024;

/// What a message takes besides hashes and changes, about, in bytes: names, addresses, lengths.
pub const FIXED_BYTES: usize = 1024;

/// The request by which a client is asked for a document that the server lacks, in one piece or `singly`, change by change.
pub fn question(document: DocumentId, singly: bool) -> Body {
    Body::Request { document, data: Draft { have: Some(&[]), singly, ..Draft::default() }.encode().into() }
}

/// The next message for a peer.
#[derive(Debug)]
pub enum Reply {
    /// Send this; so many changes are in it.
    Send(Body, u64),
    /// Changes inside the snapshot are needed from the opener: those after `skip`, without what `have` implies.
    Extract {
        /// Hashes that the peer has.
        have: Vec<ChangeHash>,
        /// Changes taken before.
        skip: u64,
    },
    /// Nothing now.
    Nothing,
    /// There is something, and it needs more room. Nothing is counted as sent.
    NoRoom,
}

impl Doc {
    /// True when the peer is owed a message. `may_extract`: the connection may have the opener work for it.
    pub fn has_news(&self, peer: &Peer) -> bool {
        if peer.tell_unavailable {
            return true;
        }
        if !self.is_synced() {
            return false;
        }
        if peer.offer_due && !peer.heard {
            return self.head.is_some();
        }
        if !peer.subscribed || !peer.heard {
            return false;
        }
        if self.head.is_none() {
            return peer.answer_due && !peer.their_heads.is_empty() && !self.is_settling();
        }
        let told = peer.last_sent.as_deref() == Some(self.heads());
        if (peer.answer_due && !self.is_settling()) || !told || peer.stale {
            return true;
        }
        if peer.takes_none {
            return false;
        }
        let base = match &peer.base {
            Base::Has | Base::Lacking => false,
            Base::Whole => true,
            Base::Part(extract) => !extract.parts.is_empty() || !extract.running,
        };
        base || !peer.resend.is_empty()
            || (matches!(peer.base, Base::Has) && peer.cursor < self.durable_end())
    }

    /// Make the next message for a connection, of `room` bytes at most. `may_extract`: the opener is not at work for it
    /// already.
    /// # Errors
    /// When the store cannot give what is to be sent; nothing is counted as sent then.
    pub fn reply(
        &mut self,
        connection: ConnectionId,
        storage: &dyn Storage,
        may_extract: bool,
        room: usize,
    ) -> Result<Reply, Fault> {
        if room < FIXED_BYTES {
            return Ok(Reply::NoRoom);
        }
        self.replace_stale(connection, storage)?;
        let Some(at) = self.peers.iter().position(|peer| peer.connection == connection) else {
            return Ok(Reply::Nothing);
        };
        let document = self.key.document;
        let peer = &mut self.peers[at];
        if std::mem::take(&mut peer.tell_unavailable) {
            return Ok(Reply::Send(Body::Unavailable { document }, 0));
        }
        peer.advance();
        let peer = &self.peers[at];
        if !self.has_news(peer) {
            return Ok(Reply::Nothing);
        }
        if let Base::Part(extract) = &peer.base
            && peer.heard
            && !peer.takes_none
            && extract.parts.is_empty()
            && !extract.running
            && !extract.done
        {
            if may_extract {
                let (have, skip) = (extract.have.clone(), extract.taken);
                if let Base::Part(extract) = &mut self.peers[at].base {
                    extract.running = true;
                }
                return Ok(Reply::Extract { have, skip });
            }
            let waits =
                (!peer.answer_due || self.is_settling()) && peer.last_sent.as_deref() == Some(self.heads());
            if waits {
                return Ok(Reply::Nothing);
            }
        }
        self.message(at, storage, room)
    }

    /// Changes are on their way to the disk. An answer meanwhile would tell heads without them, and the peer that sent
    /// them would take them for lost and send them again.
    fn is_settling(&self) -> bool {
        self.graph.as_ref().is_some_and(|graph| graph.end() > self.durable_end())
    }

    fn message(&mut self, at: usize, storage: &dyn Storage, room: usize) -> Result<Reply, Fault> {
        let peer = &self.peers[at];
        // Heads stand in it twice at most.
        let hashes = 2 * self.heads().len() + peer.known_heads.len() + peer.need.len();
        let fixed = FIXED_BYTES + size_of::<ChangeHash>() * hashes;
        // What it did not have room for before is not read again in vain.
        if room < fixed.max(peer.needs_room) {
            return Ok(Reply::NoRoom);
        }
        let room = room - fixed;
        let load =
            if peer.takes_none || !peer.heard { Load::default() } else { self.gather(peer, storage, room)? };
        if load.is_refused() {
            self.peers[at].needs_room = fixed + load.needs;
            return Ok(Reply::NoRoom);
        }
        let need = match &self.graph {
            Some(graph) if !peer.need.is_empty() => graph.missing(&peer.need),
            _ => peer.need.clone(),
        };
        let claimed: HashSet<&ChangeHash> =
            if need.is_empty() { HashSet::new() } else { peer.their_heads.iter().collect() };
        let complete = peer.heard && load.complete && need.iter().all(|hash| claimed.contains(hash));
        let have = match (peer.takes_none, complete) {
            (true, _) => Some(&peer.known_heads[..]),
            (false, true) => Some(self.heads()),
            (false, false) => None,
        };
        let draft = Draft {
            heads: self.heads(),
            need: &need,
            have,
            chunks: &load.chunks,
            v2: peer.v2,
            flags: if peer.writer { 0 } else { flags::READ_ONLY },
            singly: peer.writer && self.opener.is_singly(),
        };
        let data = draft.encode().into();
        let changes = load.chunks.len() as u64;
        let heads = self.heads().to_vec();
        let peer = &mut self.peers[at];
        peer.last_sent = Some(heads);
        peer.needs_room = 0;
        peer.answer_due = false;
        peer.offer_due = false;
        peer.asked_for = need;
        peer.moved |= changes > 0;
        load.settle(peer);
        Ok(Reply::Send(Body::Sync { document: self.key.document, data }, changes))
    }

    /// Collect up to [`MESSAGE_BYTES`] of what the peer lacks, or one larger change, but never more than `room` bytes.
    fn gather(&self, peer: &Peer, storage: &dyn Storage, room: usize) -> Result<Load, Fault> {
        let mut load = Load { room, cursor: peer.cursor, ..Load::default() };
        match &peer.base {
            Base::Has => {}
            Base::Lacking => return Ok(load),
            Base::Whole => {
                let bytes =
                    self.head.as_ref().and_then(|head| head.snapshot.as_ref()).map_or(0, |info| info.bytes);
                if bytes > room as u64 {
                    load.refuse(usize::try_from(bytes).unwrap_or(usize::MAX));
                    return Ok(load);
                }
                let snapshot =
                    storage.snapshot(&self.key)?.ok_or_else(|| Fault::Moving(self.key.document))?;
                if !load.push(snapshot) {
                    return Ok(load);
                }
                load.base_done = true;
            }
            Base::Part(extract) => {
                for part in &extract.parts {
                    if load.is_full() || !load.push(part.clone()) {
                        break;
                    }
                    load.parts += 1;
                }
                if !extract.done || load.parts < extract.parts.len() {
                    return Ok(load);
                }
                load.base_done = true;
            }
        }
        let durable = self.durable_end();
        for row in peer.resend.iter().take_while(|row| **row < durable) {
            if load.is_full() {
                return Ok(load);
            }
            let mut pushed = true;
            self.each_row(*row..*row + 1, storage, &mut |_, bytes| {
                pushed = load.push(bytes);
                false
            })?;
            if !pushed {
                return Ok(load);
            }
            load.resent = Some(*row);
        }
        if !load.is_full() && load.cursor < durable {
            self.each_row(load.cursor..durable, storage, &mut |row, bytes| {
                if !peer.extra.contains(&row) && !load.push(bytes) {
                    return false;
                }
                load.cursor = row + 1;
                !load.is_full()
            })?;
        }
        load.complete = load.cursor == durable;
        Ok(load)
    }
}

/// What goes into one message, and what is settled by sending it.
#[derive(Default)]
struct Load {
    chunks: Vec<Bytes>,
    bytes: usize,
    /// Bytes that may go into it.
    room: usize,
    /// A chunk did not fit any more.
    full: bool,
    /// Bytes of that chunk.
    needs: usize,
    parts: usize,
    base_done: bool,
    resent: Option<u64>,
    cursor: u64,
    complete: bool,
}

impl Load {
    /// False if there is no room for it.
    fn push(&mut self, chunk: Bytes) -> bool {
        if chunk.len() > self.room - self.bytes {
            self.refuse(chunk.len());
            return false;
        }
        self.bytes += chunk.len();
        self.chunks.push(chunk);
        true
    }

    fn refuse(&mut self, bytes: usize) {
        (self.full, self.needs) = (true, bytes);
    }

    fn is_full(&self) -> bool {
        self.full || self.bytes >= MESSAGE_BYTES
    }

    /// Not even the first chunk fitted.
    fn is_refused(&self) -> bool {
        self.full && self.chunks.is_empty()
    }

    fn settle(self, peer: &mut Peer) {
        if let Base::Part(extract) = &mut peer.base {
            extract.parts.drain(..self.parts);
        }
        if self.base_done {
            peer.base = Base::Has;
        }
        if let Some(resent) = self.resent {
            peer.resend = peer.resend.split_off(&(resent + 1));
        }
        if self.cursor > peer.cursor {
            peer.cursor = self.cursor;
            peer.extra = peer.extra.split_off(&self.cursor);
        }
    }
}
