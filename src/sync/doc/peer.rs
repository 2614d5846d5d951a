//! What one connection is known to have of one document, and what it is owed.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::store::Head;
use crate::sync::graph::Graph;
use crate::sync::job::NotExtracted;
use crate::sync::message::{Have, SyncMessage, flags};
use crate::types::{ChangeHash, ConnectionId, Steady};

/// A snapshot of at most this many bytes is sent whole even to a peer that has a part of it.
const WHOLE_SNAPSHOT_BYTES: u64 = 1 << 20;
/// Most rows beyond the cursor that are remembered as known to the peer; others are sent again.
const MAX_EXTRA: usize = 4096;

/// Most entries of a message's `have` that are looked at; automerge sends one. Others cost the sender some changes that it
/// has already, which are sent again.
const MAX_HAVES: usize = 4;

/// What the peer has of the snapshot.
#[derive(Debug, Default)]
pub enum Base {
    /// All of it, or there is none, or it was sent.
    #[default]
    Has,
    /// To be sent as it is.
    Whole,
    /// To be opened for the changes that it lacks.
    Part(Extract),
    /// The peer lacks changes of the snapshot and cannot get them on this connection. Nothing else is sent either, because
    /// it might depend on them.
    Lacking,
}

/// Changes inside the snapshot on their way to one peer.
#[derive(Debug, Default)]
pub struct Extract {
    /// Hashes in the snapshot that the peer has.
    pub have: Vec<ChangeHash>,
    /// Changes taken out of the snapshot so far.
    pub taken: u64,
    /// Taken out and not yet sent.
    pub parts: VecDeque<Bytes>,
    /// None are left inside.
    pub done: bool,
    /// The opener is at it.
    pub running: bool,
}

/// Whether all that a peer has of the document is known to be durable here.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Saved {
    /// That is not known yet.
    #[default]
    Unknown,
    /// A message was not taken that came after the peer had these heads, all of which are here.
    NotBy(Vec<ChangeHash>),
    /// Once all that it claimed was.
    Yes,
}

/// One connection's share in one document. Its [`super::Doc`] keeps it in step with the document, so only the files of that folder change
/// what is known of the connection; others say what happened.
///
/// Invariants: the connection has, or was sent, all rows below `cursor`, and those in `extra`, which are not below it. What is believed
/// of it rests on `their_heads`, unless `stale` says that it must be found anew. The budget of `payer` has `counted` bytes for it.
#[derive(Debug, Default)]
pub struct Peer {
    /// The connection.
    pub(super) connection: ConnectionId,
    /// It may write.
    pub(super) writer: bool,
    /// Room that its next message needs, in bytes, if there was too little the last time.
    pub(super) needs_room: usize,
    /// It asked for or sent the document itself: it gets news of it.
    pub(super) subscribed: bool,
    /// It has sent a sync message.
    pub(super) heard: bool,
    /// Its heads as it last said.
    pub(super) their_heads: Vec<ChangeHash>,
    /// Those of its heads that we know; kept only for peers that take no changes.
    pub(super) known_heads: Vec<ChangeHash>,
    /// It takes no changes (`flags::READ_ONLY`).
    pub(super) takes_none: bool,
    /// It understands version 2 messages.
    pub(super) v2: bool,
    /// What it has of the snapshot.
    pub(super) base: Base,
    /// It has, or was sent, the rows below this.
    pub(super) cursor: u64,
    /// Rows from `cursor` on that it has.
    pub(super) extra: BTreeSet<u64>,
    /// Rows it asked for by hash.
    pub(super) resend: BTreeSet<u64>,
    /// What we lack of what its heads imply.
    pub(super) need: Vec<ChangeHash>,
    /// What we last asked it for.
    pub(super) asked_for: Vec<ChangeHash>,
    /// Our heads as it was last told.
    pub(super) last_sent: Option<Vec<ChangeHash>>,
    /// It waits for an answer whatever we have.
    pub(super) answer_due: bool,
    /// The document is to be offered to it.
    pub(super) offer_due: bool,
    /// It is to be told that the document is unavailable.
    pub(super) tell_unavailable: bool,
    /// It counts as uploading until then; `None`: it does not.
    pub(super) uploading_until: Option<Steady>,
    /// It has been told what is known of other storages' heads.
    pub(super) told_remote: bool,
    /// A compaction has overtaken it: it must be placed again from its heads.
    pub(super) stale: bool,
    /// The connection whose budget pays for this peer: its own, or the one that had it asked for the document.
    pub(super) payer: ConnectionId,
    /// Bytes that it was last counted with in the payer's budget.
    pub(super) counted: usize,
    /// The last time that the snapshot was to be opened for it, it was not there or had been replaced.
    pub(super) missed: bool,
    /// From its first message on it was asked for single changes instead of the whole document.
    pub(super) asked_singly: bool,
    /// An upload of it or changes for it were refused, and only a new connection brings either again.
    pub(super) refused: bool,
    /// Whether all that it has is here.
    pub(super) saved: Saved,
    /// What it has changed since it joined, so its sync state is worth keeping.
    pub(super) moved: bool,
}

impl Peer {
    /// The share of a connection, at the cost of `payer`: its own, or one that has it asked for the document.
    pub fn new(connection: ConnectionId, payer: ConnectionId, bytes: usize, writer: bool) -> Self {
        Self { connection, payer, counted: bytes, writer, ..Self::default() }
    }

    /// The connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// The connection whose budget pays for it, and how many bytes.
    pub fn cost(&self) -> (ConnectionId, usize) {
        (self.payer, self.counted)
    }

    /// Another connection pays for it, or it costs other bytes.
    pub fn set_cost(&mut self, payer: ConnectionId, bytes: usize) {
        (self.payer, self.counted) = (payer, bytes);
    }

    /// It may write.
    pub fn is_writer(&self) -> bool {
        self.writer
    }

    /// It asked for or sent the document itself: it gets news of it.
    pub fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    /// It has sent a sync message.
    pub fn is_heard(&self) -> bool {
        self.heard
    }

    /// Its heads as it last said.
    pub fn their_heads(&self) -> &[ChangeHash] {
        &self.their_heads
    }

    /// Its heads, if what it has changed since it joined and nothing that they imply is lacking here: worth to be kept when it
    /// leaves.
    pub fn into_shared_heads(self) -> Option<Vec<ChangeHash>> {
        (self.moved && self.need.is_empty()).then_some(self.their_heads)
    }

    /// It is to be told that the document is unavailable.
    pub fn tell_unavailable(&mut self) {
        self.tell_unavailable = true;
    }

    /// The document is to be offered to it.
    pub fn offer(&mut self) {
        self.offer_due = true;
    }

    /// It does not upload the document, whatever it said before.
    pub fn end_upload(&mut self) {
        self.uploading_until = None;
    }

    /// An upload of it or changes for it were refused: only a new connection brings either again.
    pub fn refuse(&mut self) {
        self.refused = true;
    }

    /// Something was refused, and only a new connection brings it again.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// It would send the document's changes one by one if it were asked to.
    pub fn may_send_singly(&self) -> bool {
        self.v2 && !self.takes_none
    }

    /// It has been asked so since its first message.
    pub fn was_asked_singly(&self) -> bool {
        self.asked_singly
    }

    /// True once, after its first sync message: what is known of other storages' heads is to be told.
    pub fn is_newly_heard(&mut self) -> bool {
        self.heard && !std::mem::replace(&mut self.told_remote, true)
    }

    /// The snapshot is to be opened for it, and the opener is not at it.
    pub fn waits_for_opener(&self) -> bool {
        matches!(&self.base, Base::Part(extract) if !extract.running)
    }

    /// The opener refuses to open the snapshot for it. It may have got on by another way meanwhile.
    pub fn extraction_refused(&mut self) {
        if matches!(&self.base, Base::Part(extract) if extract.running) {
            self.send_whole();
        }
    }

    /// The opener has opened the snapshot for it.
    pub fn extracted(&mut self, result: Result<Option<(Vec<Bytes>, bool)>, NotExtracted>) {
        let Base::Part(extract) = &mut self.base else { return };
        if !std::mem::take(&mut extract.running) {
            return;
        }
        match result {
            Ok(Some((parts, done))) => {
                extract.taken += parts.len() as u64;
                extract.parts.extend(parts);
                extract.done = done;
                self.missed = false;
            }
            // A compaction has replaced the snapshot, so the peer is placed again. Twice in a row means that the store
            // cannot read it: asking again at once would go on for ever.
            Ok(None) if self.missed => self.send_whole(),
            Ok(None) => (self.missed, self.stale) = (true, true),
            Err(NotExtracted::Failed(_)) => self.send_whole(),
            Err(NotExtracted::Damaged(_)) => {}
        }
    }

    /// Bytes of memory that the peer's lists take, about: what it claims, and what is remembered of it.
    pub fn lists_bytes(&self) -> usize {
        let hashes = self.their_heads.len()
            + self.known_heads.len()
            + self.need.len()
            + self.asked_for.len()
            + self.last_sent.as_ref().map_or(0, Vec::len)
            + if let Saved::NotBy(heads) = &self.saved { heads.len() } else { 0 };
        let base = match &self.base {
            Base::Part(extract) => {
                extract.have.len() * 32 + extract.parts.iter().map(|part| part.len() + 32).sum::<usize>()
            }
            Base::Has | Base::Whole | Base::Lacking => 0,
        };
        hashes * 32 + (self.extra.len() + self.resend.len()) * 16 + base
    }

    /// Rows of the tail and beyond that it has.
    pub fn has_row(&mut self, row: u64) {
        if row == self.cursor {
            self.cursor += 1;
            self.advance();
        } else if row > self.cursor && self.extra.len() < MAX_EXTRA {
            self.extra.insert(row);
        }
    }

    /// Move the cursor over rows known to be there.
    pub fn advance(&mut self) {
        while self.extra.remove(&self.cursor) {
            self.cursor += 1;
        }
    }

    /// It has everything below `end`.
    pub fn has_all(&mut self, end: u64) {
        self.base = Base::Has;
        self.cursor = end;
        self.extra = BTreeSet::new();
        self.resend = BTreeSet::new();
    }

    /// The peer has nothing.
    pub fn has_nothing(&mut self, head: Option<&Head>) {
        let Some(head) = head else { return self.has_all(0) };
        self.has_all(head.next_row - head.tail_changes);
        if let Some(snapshot) = &head.snapshot {
            self.base = self.lagging(snapshot.bytes, Vec::new());
        }
    }

    fn lagging(&self, snapshot_bytes: u64, have: Vec<ChangeHash>) -> Base {
        if self.v2 && (have.is_empty() || snapshot_bytes <= WHOLE_SNAPSHOT_BYTES) {
            Base::Whole
        } else {
            Base::Part(Extract { have, ..Extract::default() })
        }
    }

    /// The snapshot cannot be opened for what the peer lacks: it gets all of it. A peer that cannot read whole snapshots
    /// is told that the document is unavailable.
    fn send_whole(&mut self) {
        if self.v2 {
            self.base = Base::Whole;
        } else {
            self.base = Base::Lacking;
            self.tell_unavailable = true;
            self.refused = true;
        }
    }

    /// Whether all that it has is here cannot be known before its heads, as it last said them, are.
    pub fn awaits_saving(&self) -> bool {
        let is_open = match &self.saved {
            Saved::Unknown => true,
            Saved::NotBy(heads) => *heads != self.their_heads,
            Saved::Yes => false,
        };
        is_open && !self.their_heads.is_empty()
    }

    /// Its changes are not taken any more, nor asked for.
    pub fn end_writing(&mut self) {
        // A newer client that hears so stops sending what is not taken, so an answer that is due already stays due. An older one
        // would take any answer for a loss, and send all of it again.
        self.answer_due = self.v2 && (self.answer_due || self.writer);
        self.refused |= self.writer;
        self.writer = false;
        self.need = Vec::new();
    }

    /// Note what a message says of the peer itself. True when what was believed of the peer must be found anew.
    pub fn hear(&mut self, message: &SyncMessage) -> bool {
        let lost_all = message.heads.is_empty() && !self.their_heads.is_empty();
        let anew = !self.heard || message.is_reset() || lost_all;
        self.moved |= self.heard && self.their_heads != message.heads;
        self.heard = true;
        self.subscribed = true;
        self.their_heads.clone_from(&message.heads);
        self.v2 = message.flags.is_some();
        let bits = message.flags.unwrap_or(0);
        self.takes_none = bits & flags::READ_ONLY != 0;
        anew || bits & flags::SYNC_RESET != 0
    }

    /// Find out what the peer has: exactly if we know all its heads, else from what it says (`last_sync`, Bloom filters)
    /// and what it was last known to have.
    pub fn place(
        &mut self,
        graph: &Graph,
        snapshot_bytes: u64,
        have: &[Have],
        remembered: impl FnOnce() -> Vec<ChangeHash>,
    ) {
        // Each filter is asked about each change of the tail.
        let have = &have[..have.len().min(MAX_HAVES)];
        let known = |hashes: &[ChangeHash]| {
            hashes.iter().filter(|hash| graph.knows(hash)).copied().collect::<Vec<_>>()
        };
        let mut seeds = known(&self.their_heads);
        let all_known = seeds.len() == self.their_heads.len();
        for have in have {
            seeds.extend(known(&have.last_sync));
        }
        let (mut has, mut below) = graph.ancestors(&seeds);
        let mut covered = graph.covers_snapshot(&below);
        if !all_known {
            if !covered {
                seeds.extend(known(&remembered()));
                (has, below) = graph.ancestors(&seeds);
                covered = graph.covers_snapshot(&below);
            }
            let in_filter = |hash: &ChangeHash| have.iter().any(|have| have.bloom.contains(hash));
            for (at, has) in has.iter_mut().enumerate() {
                *has = *has || graph.hash(graph.base() + at as u64).is_some_and(|hash| in_filter(&hash));
            }
            graph.without_dependents(&mut has);
            covered = covered || graph.snapshot_heads().iter().all(in_filter);
        }
        let lead = has.iter().take_while(|has| **has).count();
        self.has_all(graph.base() + lead as u64);
        let rest = has.iter().enumerate().skip(lead).filter(|(_, has)| **has);
        self.extra = rest.map(|(at, _)| graph.base() + at as u64).take(MAX_EXTRA).collect();
        if !covered {
            self.base = self.lagging(snapshot_bytes, below);
        }
    }

    /// True while it seems to be uploading the document.
    pub fn uploads(&self, now: Steady) -> bool {
        let in_time = self.uploading_until.is_some_and(|until| now < until);
        self.writer && self.heard && !self.their_heads.is_empty() && in_time
    }
}
