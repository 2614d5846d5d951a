//! What the owner reads of a server that ended without having been stopped.

use serde::{Deserialize, Serialize};

use crate::types::{DAY_MS, Millis, minute};

/// How long the owner is told of an end.
pub const ENDS_LIFE_MS: Millis = 7 * DAY_MS;
/// Ends that are kept, the newest: a server that is killed over and over must not fill memory and disk with them.
pub const MOST_ENDS: usize = 100;
/// A restart within this time after the last sign of life gives the time of the end well enough.
const CLOSE_MS: Millis = 10 * 60_000;

/// An end of the server that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UncleanEnd {
    /// When it last saved something, or else when it had started.
    pub alive: Millis,
    /// When it was started again, and found how it had ended.
    pub found: Millis,
    /// The part that failed, if it ended for that; otherwise it was killed, or crashed.
    pub failed: Option<String>,
    /// What speaks for an end by lack of memory; none if nothing does.
    pub memory: Option<Evidence>,
    /// Large documents that were being opened at that time.
    pub opened: Vec<NamedDocument>,
}

/// Processes that the system ended, while the server ran, because memory ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// How many, without those that the server outlived.
    pub processes: u64,
    /// True if they were in the server's own control group: the server itself. Otherwise they were in one that it is in.
    pub own: bool,
}

/// A document that the owner is told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedDocument {
    /// The document's namespace.
    pub namespace: String,
    /// The document's id.
    pub document: String,
}

/// Those that the owner is still told of.
pub(super) fn recent(ends: &[UncleanEnd], now: Millis) -> Vec<UncleanEnd> {
    ends.iter().filter(|end| now.saturating_sub(end.found) < ENDS_LIFE_MS).cloned().collect()
}

/// Of the last end: message and fix; none if there is no end. `opener_bytes` is what `memory.opener` allows.
pub(super) fn killed(ends: &[UncleanEnd], opener_bytes: u64) -> Option<(String, String)> {
    let last = ends.last()?;
    let when = match last.found.saturating_sub(last.alive) {
        0..=CLOSE_MS => format!("at about {}", minute(last.found)),
        _ => format!("between {} and {}", minute(last.alive), minute(last.found)),
    };
    let often = match ends.len() {
        1 => String::new(),
        MOST_ENDS.. => format!(", for at least the {} time in seven days", ordinal(MOST_ENDS)),
        some => format!(", for the {} time in seven days", ordinal(some)),
    };
    let why = match (&last.failed, last.memory) {
        (Some(part), _) => format!("because a part of it, {part}, had failed"),
        (None, Some(Evidence { own: true, .. })) => "because memory ran out, and the system killed it".into(),
        (None, Some(Evidence { processes, .. })) => {
            let killed = match processes {
                1 => "one process".to_owned(),
                some => format!("{some} of the processes"),
            };
            format!(
                "most likely because memory ran out: the system killed {killed} in the control groups that the server belongs to"
            )
        }
        (None, None) => "it was killed, or it crashed".into(),
    };
    let opened = match &last.opened[..] {
        [] => String::new(),
        opened => {
            let names = opened
                .iter()
                .map(|NamedDocument { namespace, document }| format!("{document} in {namespace}"));
            format!(
                ". It was opening document {} at that time",
                names.collect::<Vec<_>>().join(" and document ")
            )
        }
    };
    let comma = if last.failed.is_none() && last.memory.is_none() { ": " } else { ", " };
    let message = format!(
        "the server ended unexpectedly {when}{often}{comma}{why}{opened}. Everything that it had acknowledged is safe"
    );
    Some((message, fix(last, opener_bytes)))
}

fn fix(last: &UncleanEnd, opener_bytes: u64) -> String {
    const LOG: &str = "the log of that time says more (`sudo journalctl -u groundmist-sync`)";
    const OVER: &str = "This note disappears a week after the last such event";
    let megabytes = opener_bytes.div_ceil(1_000_000);
    let more = format!(
        "give the machine, or the container or service that the server runs in, more memory, or set memory.opener below {megabytes} MB, its present value"
    );
    match (&last.failed, last.memory) {
        (Some(_), _) => format!("{LOG}. {OVER}"),
        (None, Some(Evidence { own: true, .. })) => format!("{more}. {OVER}"),
        // What else is in the groups above may have run out of memory by itself, long before.
        (None, Some(Evidence { own: false, .. }) | None) => {
            format!("{LOG}. Memory may have run out. If there is little, {more}. {OVER}")
        }
    }
}

/// `2nd`, `3rd`, `11th`.
fn ordinal(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Millis = 100 * DAY_MS + DAY_MS / 2;

    fn end() -> UncleanEnd {
        UncleanEnd { alive: NOON, found: NOON + 60_000, failed: None, memory: None, opened: Vec::new() }
    }

    fn said(ends: &[UncleanEnd]) -> (String, String) {
        killed(ends, 512_000_000).unwrap()
    }

    #[test]
    fn the_owner_reads_when_how_often_why_and_what_to_do() {
        assert_eq!(killed(&[], 0), None);
        let (message, fix) = said(&[end()]);
        assert!(
            message.contains("at about 11 Apr 1970, 12:01 UTC: it was killed, or it crashed"),
            "{message}"
        );
        assert!(!message.contains("memory") && fix.contains("Memory may have run out"), "{fix}");
        assert!(fix.contains("512 MB") && fix.contains("a week"), "{fix}");
        let idle = UncleanEnd { found: NOON + 2 * CLOSE_MS, ..end() };
        let (message, _) = said(&[end(), idle]);
        let when =
            "between 11 Apr 1970, 12:00 UTC and 11 Apr 1970, 12:20 UTC, for the 2nd time in seven days";
        assert!(message.contains(when), "{message}");
        let failed = UncleanEnd { failed: Some("shard-0".into()), ..end() };
        let (message, fix) = said(&[failed]);
        assert!(
            message.contains("shard-0") && !message.contains("killed") && !fix.contains("memory"),
            "{message}"
        );
    }

    #[test]
    fn memory_is_named_as_the_cause_only_with_evidence() {
        let opened = ["abc", "def"]
            .map(|document| NamedDocument { namespace: "xyz.example".into(), document: document.into() });
        let memory = |own| UncleanEnd {
            memory: Some(Evidence { processes: 3, own }),
            opened: opened.to_vec(),
            ..end()
        };
        let (message, fix) = said(&[memory(true)]);
        let both = "document abc in xyz.example and document def in xyz.example at that time";
        assert!(message.contains(", because memory ran out") && message.contains(both), "{message}");
        assert!(fix.starts_with("give the machine") && !fix.contains("may have run out"), "{fix}");
        let (message, fix) = said(&[memory(false)]);
        assert!(
            message.contains(", most likely because memory ran out: the system killed 3 of"),
            "{message}"
        );
        assert!(fix.starts_with("the log of that time") && fix.contains("give the machine"), "{fix}");
    }

    #[test]
    fn an_end_is_told_for_a_week() {
        let ends = [end(), UncleanEnd { found: NOON + 3 * DAY_MS, ..end() }];
        for (days, told) in [(0, 2), (7, 2), (8, 1), (11, 0)] {
            assert_eq!(recent(&ends, NOON + days * DAY_MS).len(), told, "{days}");
        }
    }

    #[test]
    fn numbers_have_their_endings() {
        let all = [1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 100].map(ordinal);
        assert_eq!(all.join(" "), "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 23rd 100th");
    }
}
