//! What the opener has to do with one document, and what it may be given.

use super::Tail;
use crate::types::{Millis, Steady};

/// After a compaction a long tail waits for so many times as long as that took: compactions of a document that is written to all the
/// time take a fifth of the time at most. Each opens all of the document, and competes with those who write.
const REST: Millis = 4;

/// A document's dealings with the opener.
///
/// Invariants: `discarded` counts a part of `queued`; the opener works in the order in which it was asked, so the discarded
/// ones come back first.
#[derive(Debug, Default)]
pub struct OpenerState {
    /// Document chunks from peers that are neither durable nor refused.
    intakes: u32,
    /// Intakes that the opener has not reported on.
    queued: u32,
    /// Intakes queued before the document last started over. Their results are discarded.
    discarded: u32,
    /// Bytes of a new document that waits to be durable.
    waiting_bytes: usize,
    /// The opener compacts the document, or its new snapshot waits for a commit or is in one.
    compacting: bool,
    /// The opener refuses the document, because opening it has ended the process before.
    closed: bool,
    /// The opener has refused what peers sent of the document in one piece: they are to send its changes one by one.
    singly: bool,
    /// No compaction before this time, unless the tail is very long.
    compact_after: Steady,
    /// When the last compaction began.
    compact_began: Steady,
    /// No compaction before this time, unless the tail is of the longest.
    compact_rest: Steady,
    /// No compaction before this time, however long the tail, because the last one failed.
    compact_retry: Option<Steady>,
}

impl OpenerState {
    /// The state after the document starts over: nothing of what is queued counts. The times before which it is not
    /// compacted stay.
    pub fn restarted(&self) -> Self {
        Self {
            queued: self.queued,
            discarded: self.queued,
            singly: self.singly,
            compact_after: self.compact_after,
            compact_rest: self.compact_rest,
            compact_retry: self.compact_retry,
            ..Self::default()
        }
    }

    /// The opener gets a document chunk.
    pub fn begin_intake(&mut self) {
        self.intakes += 1;
        self.queued += 1;
    }

    /// The opener gets a chunk again that it has reported on.
    pub fn repeat_intake(&mut self) {
        self.queued += 1;
    }

    /// The opener reports on a chunk. False if its result is to be discarded.
    #[must_use]
    pub fn intake_returned(&mut self) -> bool {
        self.queued = self.queued.saturating_sub(1);
        let counts = self.discarded == 0;
        self.discarded = self.discarded.saturating_sub(1);
        counts
    }

    /// A chunk was a new document, which has so many bytes and waits to be durable.
    pub fn snapshot_waits(&mut self, bytes: usize) {
        self.waiting_bytes = bytes;
    }

    /// Bytes of a new document that waits to be durable.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// What a chunk brought is durable, or the chunk was refused.
    pub fn end_intake(&mut self) {
        self.intakes = self.intakes.saturating_sub(1);
        if self.intakes == 0 {
            self.waiting_bytes = 0;
        }
    }

    /// Chunks are on their way into the document.
    pub fn has_intakes(&self) -> bool {
        self.intakes > 0
    }

    /// The opener has or will have something to report on the document.
    pub fn is_busy(&self) -> bool {
        self.compacting || self.intakes > 0 || self.queued > 0
    }

    /// The document may be compacted at `now`. A tail of the longest waits only for the retry after a failure.
    pub fn may_compact(&self, now: Steady, tail: Tail) -> bool {
        let in_time = match tail {
            Tail::Short => false,
            Tail::Due => now >= self.compact_after.max(self.compact_rest),
            Tail::Long => now >= self.compact_rest,
            Tail::Longest => true,
        };
        in_time && !self.compacting && !self.closed && self.compact_retry.is_none_or(|retry| now >= retry)
    }

    /// A compaction begins; the next one comes after `grace_ms`, unless the tail is long before.
    pub fn begin_compaction(&mut self, now: Steady, grace_ms: Millis) {
        self.compacting = true;
        self.compact_began = now;
        self.compact_after = now + grace_ms;
        self.compact_retry = None;
    }

    /// The opener has made what the compaction is to store.
    pub fn compaction_made(&mut self, now: Steady) {
        self.compact_rest = now + REST * now.since(self.compact_began);
    }

    /// The compaction is over, or its result is not taken.
    pub fn end_compaction(&mut self) {
        self.compacting = false;
    }

    /// The compaction failed, and the next attempt comes no earlier than `retry`.
    pub fn compaction_failed(&mut self, retry: Steady) {
        self.compacting = false;
        self.compact_retry = Some(retry);
    }

    /// When the compaction that failed may be tried again, if the last one failed.
    pub fn compaction_retry(&self) -> Option<Steady> {
        self.compact_retry
    }

    /// A compaction failed when the document was in use before, and the next attempt comes no earlier than `retry`.
    pub fn retry_compaction_after(&mut self, retry: Steady) {
        self.compact_retry = Some(retry);
    }

    /// A compaction is under way.
    pub fn is_compacting(&self) -> bool {
        self.compacting
    }

    /// Sets the time before which the document is not compacted.
    pub fn compact_after(&mut self, time: Steady) {
        self.compact_after = time;
    }

    /// The opener refuses the document.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Peers are to send the document's changes one by one.
    pub fn wants_singly(&mut self) {
        self.singly = true;
    }

    /// Whether peers are to send the document's changes one by one.
    pub fn is_singly(&self) -> bool {
        self.singly
    }

    /// The owner allows the document to be opened again.
    pub fn reopen(&mut self) {
        (self.closed, self.singly, self.compact_retry) = (false, false, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Now;

    fn at(ms: Millis) -> Steady {
        Now::at(ms).steady
    }

    #[test]
    fn what_was_queued_before_the_document_started_over_is_discarded_and_no_more() {
        let mut opener = OpenerState::default();
        (0..3).for_each(|_| opener.begin_intake());
        assert!(opener.intake_returned());
        opener.end_intake();
        let mut opener = opener.restarted();
        assert!(!opener.has_intakes() && opener.is_busy(), "the opener still has two");
        opener.begin_intake();
        assert!(!opener.intake_returned() && !opener.intake_returned());
        assert!(opener.intake_returned(), "it came after");
        opener.repeat_intake();
        assert!(opener.is_busy() && opener.intake_returned());
        assert!(opener.is_busy(), "it is not durable");
        opener.end_intake();
        assert!(!opener.is_busy());
    }

    #[test]
    fn a_long_tail_is_compacted_early_and_a_closed_document_never() {
        let mut opener = OpenerState::default();
        opener.compact_after(at(10));
        assert!(!opener.may_compact(at(9), Tail::Due) && !opener.may_compact(at(10), Tail::Short));
        assert!(opener.may_compact(at(10), Tail::Due) && opener.may_compact(at(9), Tail::Long));
        opener.begin_compaction(at(10), 100);
        assert!(!opener.may_compact(at(30), Tail::Longest), "one at a time");
        opener.compaction_made(at(20));
        opener.end_compaction();
        let mut opener = opener.restarted();
        assert!(!opener.may_compact(at(59), Tail::Long) && opener.may_compact(at(60), Tail::Long));
        assert!(opener.may_compact(at(21), Tail::Longest));
        assert!(!opener.may_compact(at(109), Tail::Due) && opener.may_compact(at(110), Tail::Due));
        opener.close();
        assert!(!opener.may_compact(at(110), Tail::Longest));
        opener.reopen();
        assert!(opener.may_compact(at(110), Tail::Due));
    }

    #[test]
    fn a_failed_compaction_is_tried_again_later_or_when_the_owner_allows_it() {
        let mut opener = OpenerState::default();
        opener.begin_compaction(at(0), 0);
        opener.compaction_failed(at(10));
        assert!(
            !opener.is_compacting() && !opener.may_compact(at(9), Tail::Longest),
            "however long the tail"
        );
        assert!(opener.may_compact(at(10), Tail::Due));
        assert!(
            !opener.restarted().may_compact(at(9), Tail::Longest),
            "not forgotten when the document starts over"
        );
        opener.reopen();
        assert!(opener.may_compact(at(0), Tail::Due));
    }
}
