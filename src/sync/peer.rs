//! What one connection is known to have of one document, and what it is owed.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::graph::Graph;
use super::message::{Have, SyncMessage, flags};
use crate::store::Head;
use crate::types::{ChangeHash, ConnectionId, Millis};

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

/// One connection's share in one document.
#[derive(Debug, Default)]
pub struct Peer {
    /// The connection.
    pub connection: ConnectionId,
    /// It may write.
    pub writer: bool,
    /// Room that its next message needs, in bytes, if there was too little the last time.
    pub needs_room: usize,
    /// It asked for or sent the document itself: it gets news of it.
    pub subscribed: bool,
    /// It has sent a sync message.
    pub heard: bool,
    /// Its heads as it last said.
    pub their_heads: Vec<ChangeHash>,
    /// Those of its heads that we know; kept only for peers that take no changes.
    pub known_heads: Vec<ChangeHash>,
    /// It takes no changes (`flags::READ_ONLY`).
    pub takes_none: bool,
    /// It understands version 2 messages.
    pub v2: bool,
    /// What it has of the snapshot.
    pub base: Base,
    /// It has, or was sent, the rows below this.
    pub cursor: u64,
    /// Rows from `cursor` on that it has.
    pub extra: BTreeSet<u64>,
    /// Rows it asked for by hash.
    pub resend: BTreeSet<u64>,
    /// What we lack of what its heads imply.
    pub need: Vec<ChangeHash>,
    /// What we last asked it for.
    pub asked_for: Vec<ChangeHash>,
    /// Our heads as it was last told.
    pub last_sent: Option<Vec<ChangeHash>>,
    /// It waits for an answer whatever we have.
    pub answer_due: bool,
    /// The document is to be offered to it.
    pub offer_due: bool,
    /// It is to be told that the document is unavailable.
    pub tell_unavailable: bool,
    /// It counts as uploading until then.
    pub uploading_until: Millis,
    /// It has been told what is known of other storages' heads.
    pub told_remote: bool,
    /// A compaction has overtaken it: it must be placed again from its heads.
    pub stale: bool,
    /// The connection whose budget pays for this peer: its own, or the one that had it asked for the document.
    pub payer: ConnectionId,
    /// Bytes that it was last counted with in the payer's budget.
    pub counted: usize,
    /// Bytes of changes that it sent and that wait for their dependencies, as long as any of the document do.
    pub parked: usize,
    /// The last time that the snapshot was to be opened for it, it was not there or had been replaced.
    pub missed: bool,
    /// An upload of it or changes for it were refused, and only a new connection brings either again.
    pub refused: bool,
    /// Whether all that it has is here.
    pub saved: Saved,
    /// What it has changed since it joined, so its sync state is worth keeping.
    pub moved: bool,
}

impl Peer {
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
    pub fn send_whole(&mut self) {
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
    pub fn uploads(&self, now: Millis) -> bool {
        self.writer && self.heard && !self.their_heads.is_empty() && now < self.uploading_until
    }
}
