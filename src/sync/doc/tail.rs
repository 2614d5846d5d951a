//! When a document's tail is long enough to be compacted.

/// A tail of so many changes (and an eighth of the snapshot's) is compacted even within the grace period.
const LONG: u64 = 16_384;
/// A tail of so many changes (and an eighth of the snapshot's) is compacted again as soon as the last compaction has ended: each
/// change in it takes memory while the document is written to.
const LONGEST: u64 = 4 * LONG;

/// How long a document's tail is: the changes since its last snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tail {
    /// It stays as it is.
    Short,
    /// It is to be compacted when the grace period is over.
    Due,
    /// It is to be compacted, but not so often that compactions of the document take much of the time.
    Long,
    /// It is to be compacted.
    Longest,
}

impl Tail {
    /// A tail of so many `changes` after a `snapshot` of so many. It is short below `floor`.
    pub fn of(changes: u64, snapshot: u64, floor: u64) -> Self {
        let part = snapshot / 8;
        match changes {
            _ if changes >= LONGEST.max(part) => Self::Longest,
            _ if changes >= LONG.max(part) => Self::Long,
            _ if changes >= floor.max(snapshot) => Self::Due,
            _ => Self::Short,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::doc::OpenerState;
    use crate::types::Now;

    /// Writes so many changes a millisecond into a new document. How many were opened by compactions that take 10 us for each, and
    /// how long the tail was at most.
    fn flood(changes: u64, each_ms: u64) -> (u64, u64) {
        let mut opener = OpenerState::default();
        opener.compact_after(Now::at(3_600_000).steady);
        let (mut snapshot, mut tail, mut opened, mut longest) = (0, 0, 0, 0);
        let mut under_way = None;
        for ms in 0..changes / each_ms {
            let now = Now::at(ms).steady;
            tail += each_ms;
            longest = tail.max(longest);
            if let Some((taken, end)) = under_way.filter(|(_, end)| now >= *end) {
                opener.compaction_made(end);
                opener.end_compaction();
                (snapshot, tail, under_way) = (snapshot + taken, tail - taken, None);
            }
            if opener.may_compact(now, Tail::of(tail, snapshot, 1_024)) {
                opener.begin_compaction(now, 3_600_000);
                opened += snapshot + tail;
                under_way = Some((tail, now + (snapshot + tail) / 100));
            }
        }
        (opened, longest)
    }

    #[test]
    fn a_flood_is_not_compacted_again_and_again() {
        for each_ms in [1, 12, 55] {
            let changes = 200_000;
            let (opened, longest) = flood(changes, each_ms);
            let is_rare = opened / 100 <= changes / each_ms / 5;
            assert!(opened > changes / 4, "{each_ms} a ms: {opened} opened");
            assert!(opened <= 3 * changes || is_rare, "{each_ms} a ms: {opened} opened");
            assert!(longest <= 3 * LONGEST, "{each_ms} a ms: a tail of {longest}");
        }
    }

    #[test]
    fn a_tail_grows_with_the_snapshot() {
        assert_eq!(Tail::of(1_023, 0, 1_024), Tail::Short);
        assert_eq!(Tail::of(1_024, 1_024, 1_024), Tail::Due);
        assert_eq!(Tail::of(1_024, 1_025, 1_024), Tail::Short);
        assert_eq!(
            [LONG - 1, LONG, LONGEST].map(|n| Tail::of(n, 8 * LONG, 1)),
            [Tail::Short, Tail::Long, Tail::Longest]
        );
        assert_eq!(Tail::of(LONGEST, 8 * LONGEST + 8, 1), Tail::Short);
        assert_eq!(Tail::of(LONG, 0, 1 << 40), Tail::Long, "whatever the floor is");
    }
}
