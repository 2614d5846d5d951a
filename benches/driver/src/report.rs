//! Figures by row and server, and the table of their medians.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::server::Kind;

/// How a figure is written.
#[derive(Clone, Copy)]
pub enum Unit {
    /// A whole number with separators, then this text.
    Count(&'static str),
    /// Seconds, shown in the unit that fits.
    Seconds,
    /// Bytes, shown in the unit that fits.
    Bytes,
    /// A ratio.
    Times,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Count(what) => format!("{}{what}", separated(value)),
            Self::Times => format!("{value:.2}x"),
            Self::Seconds if value < 100e-6 => format!("{:.0} us", value * 1e6),
            Self::Seconds if value < 10e-3 => format!("{:.2} ms", value * 1e3),
            Self::Seconds if value < 1.0 => format!("{:.0} ms", value * 1e3),
            Self::Seconds => format!("{value:.2} s"),
            Self::Bytes if value.abs() < 10e3 => format!("{value:.0} B"),
            Self::Bytes if value.abs() < 1e6 => format!("{:.0} kB", value / 1e3),
            Self::Bytes => format!("{:.1} MB", value / 1e6),
        }
    }
}

fn separated(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A row of the table.
pub struct Row {
    /// What scenarios call it.
    pub key: &'static str,
    /// What readers call it.
    pub title: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// What we want to reach, in words.
    pub reach: &'static str,
}

const fn row(key: &'static str, title: &'static str, unit: Unit, reach: &'static str) -> Row {
    Row { key, title, unit, reach }
}

/// Every row, in order.
pub const ROWS: &[Row] = &[
    row("flood_1x1", "flood, 1 writer 1 reader", Unit::Count("/s"), "20x the best peer"),
    row("flood_8x2", "flood, 8 documents, each 1 writer 2 readers", Unit::Count("/s"), "20x the best peer"),
    row("ack_p50", "acknowledgement p50", Unit::Seconds, "2x append + fdatasync"),
    row("ack_p99", "acknowledgement p99", Unit::Seconds, ""),
    row("relay_p50", "relay at 50/s, p50", Unit::Seconds, "not above samod"),
    row("relay_p99", "relay at 50/s, p99", Unit::Seconds, "not above samod"),
    row("cpu_flood", "server CPU per 10,000 relayed changes, flood", Unit::Seconds, "under 1 s"),
    row("cpu_100", "the same at up to 1,000/s, from change 100", Unit::Seconds, "under 1 s"),
    row("cpu_200000", "the same at up to 1,000/s, from change 200,000", Unit::Seconds, "under 1 s"),
    row("cpu_ratio", "ratio of these two", Unit::Times, "within 2x"),
    row("newcomer_warm", "long document to a newcomer, warm", Unit::Seconds, "under 50 ms"),
    row("newcomer_restart", "the same after a restart", Unit::Seconds, "under 50 ms"),
    row("newcomer_warm_rss", "RSS growth of that, warm", Unit::Bytes, "under 48 MB"),
    row("newcomer_restart_rss", "RSS growth of that, after a restart", Unit::Bytes, "under 48 MB"),
    row("documents_up", "small documents, upload", Unit::Count("/s"), "3,000/s"),
    row("documents_down", "small documents, download", Unit::Count("/s"), "5,000/s"),
    row("documents_again", "reconnect of a device that has all", Unit::Seconds, "under 1 s"),
    row("documents_done", "documents that went up in time and came down again", Unit::Count(""), "all"),
    row("documents_rss", "peak RSS through all this", Unit::Bytes, "under 64 MB"),
    row("documents_left", "RSS when the devices have left", Unit::Bytes, ""),
    row("idle_rss", "idle RSS", Unit::Bytes, "12 MB"),
    row("connection_rss", "RSS per idle connection", Unit::Bytes, "20 kB"),
    row("start_many", "start with many documents on disk", Unit::Seconds, "under 200 ms"),
    row("start_many_tls", "the same, encrypted, with a certificate at hand", Unit::Seconds, "under 100 ms"),
    row("disk_long", "disk for the long document", Unit::Bytes, "under 1 MB"),
    row("disk_small", "disk for each small document", Unit::Bytes, "under 2 kB"),
    row("enter_k256", "apps let in, 32 at once, owner ES256K, app ES256", Unit::Count("/s"), "2,000/s"),
    row("enter_k256_cpu", "server CPU for each", Unit::Seconds, ""),
    row("enter_k256_p50", "at 2,000/s, p50", Unit::Seconds, ""),
    row("enter_k256_p99", "at 2,000/s, p99", Unit::Seconds, "under 5 ms"),
    row("enter_p256", "apps let in, 32 at once, both ES256", Unit::Count("/s"), "2,000/s"),
    row("enter_p256_cpu", "server CPU for each", Unit::Seconds, ""),
    row("enter_p256_p50", "at 2,000/s, p50", Unit::Seconds, ""),
    row("enter_p256_p99", "at 2,000/s, p99", Unit::Seconds, "under 5 ms"),
    row("quiet_p50", "relay at 50/s, nobody at the door, p50", Unit::Seconds, ""),
    row("quiet_p99", "relay at 50/s, nobody at the door, p99", Unit::Seconds, ""),
    row("forged_p50", "the same with 500 forged requests a second, p50", Unit::Seconds, ""),
    row("forged_p99", "the same with 500 forged requests a second, p99", Unit::Seconds, ""),
    row("forged_ratio_p50", "ratio of p50", Unit::Times, "within 1.5x"),
    row("forged_ratio_p99", "ratio of p99", Unit::Times, "within 1.5x"),
    row("forged_401", "forged requests answered 401", Unit::Count("/s"), "all,"),
    row("forged_429", "forged requests answered 429", Unit::Count("/s"), "or these"),
    row("ws_p50", "relay at 50/s, not encrypted, p50", Unit::Seconds, ""),
    row("ws_p99", "relay at 50/s, not encrypted, p99", Unit::Seconds, ""),
    row("wss_p50", "relay at 50/s, encrypted, p50", Unit::Seconds, ""),
    row("wss_p99", "relay at 50/s, encrypted, p99", Unit::Seconds, ""),
    row("wss_ratio_p50", "ratio of p50", Unit::Times, "within 1.3x"),
    row("wss_connection_rss", "RSS per idle encrypted connection", Unit::Bytes, "under 40 kB"),
    row("wss_shaken", "encrypted connections opened and joined one by one", Unit::Count("/s"), ""),
    row("wss_gone_rss", "RSS above the start when they are gone", Unit::Bytes, ""),
    row("wss_again_rss", "RSS above that peak with as many again", Unit::Bytes, "nothing"),
    row("backup_stored", "a store is backed up, keys and values", Unit::Bytes, ""),
    row("backup_rate", "of these to /dev/null, while it serves", Unit::Count(" MB/s"), "100 MB/s"),
    row("backup_file_rate", "to a file, until it is on the disk", Unit::Count(" MB/s"), ""),
    row("backup_rss", "RSS growth of the server by that", Unit::Bytes, ""),
    row("no_backup_p50", "relay at 50/s, no backup, p50", Unit::Seconds, ""),
    row("no_backup_p99", "relay at 50/s, no backup, p99", Unit::Seconds, ""),
    row("during_backup_p50", "relay at 50/s while backups are made, p50", Unit::Seconds, ""),
    row("during_backup_p99", "relay at 50/s while backups are made, p99", Unit::Seconds, ""),
    row("backup_ratio_p50", "ratio of p50", Unit::Times, ""),
    row("backup_ratio_p99", "ratio of p99", Unit::Times, "within 2x"),
];

/// What the machine can do; measured between the servers.
pub const LIMITS: &[Row] = &[
    row("echo", "WebSocket echo of 300 B, pipelined, same client, writes gathered", Unit::Count("/s"), ""),
    row("echo_each", "the same, each message written by itself", Unit::Count("/s"), ""),
    row("round_trip", "WebSocket round trip of 300 B, p50", Unit::Seconds, ""),
    row("fdatasync_p50", "append 300 B + fdatasync, p50", Unit::Seconds, ""),
    row("fdatasync_p99", "append 300 B + fdatasync, p99", Unit::Seconds, ""),
    row("automerge_load", "loading the long document in automerge", Unit::Seconds, ""),
];

/// Figures gathered so far; `None` stands for the machine.
#[derive(Default)]
pub struct Figures {
    values: BTreeMap<(Option<Kind>, &'static str), Vec<f64>>,
    /// Scenarios that succeeded at least once.
    pub succeeded: BTreeSet<(Kind, &'static str)>,
    /// Scenarios that failed: server, scenario, reason.
    pub failures: Vec<(Kind, &'static str, String)>,
}

/// What one scenario measured.
pub type Measured = Vec<(&'static str, f64)>;

/// The middle of some values.
pub fn median(values: &[f64]) -> Option<f64> {
    percentile(values, 0.5)
}

/// The value below which `share` of all lie.
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len().saturating_sub(1)) as f64 * share).round() as usize).copied()
}

impl Figures {
    /// Take in one round.
    pub fn add(&mut self, kind: Option<Kind>, measured: Measured) {
        for (key, value) in measured {
            self.values.entry((kind, key)).or_default().push(value);
        }
    }

    /// What must not pass for a result: a failure of ours, or a peer's scenario that failed in every round.
    pub fn failed(&self) -> bool {
        let mut failures = self.failures.iter();
        failures.any(|(kind, scenario, _)| {
            *kind == Kind::Groundmist || !self.succeeded.contains(&(*kind, *scenario))
        })
    }

    fn median(&self, kind: Option<Kind>, key: &'static str) -> Option<f64> {
        median(self.values.get(&(kind, key))?)
    }

    /// The tables in Markdown.
    pub fn table(&self, kinds: &[Kind]) -> String {
        let mut out = String::from("| |");
        for kind in kinds {
            let _ = write!(out, " {} |", kind.title());
        }
        out.push_str(" reach |\n|---|");
        out.push_str(&"---:|".repeat(kinds.len()));
        out.push_str("---|\n");
        for row in ROWS {
            let cells: Vec<_> = kinds.iter().map(|kind| self.median(Some(*kind), row.key)).collect();
            if cells.iter().all(Option::is_none) {
                continue;
            }
            let _ = write!(out, "| {} |", row.title);
            for cell in cells {
                let _ = write!(out, " {} |", cell.map_or("-".to_owned(), |value| row.unit.show(value)));
            }
            let _ = writeln!(out, " {} |", row.reach);
        }
        out.push_str("\n| the machine | |\n|---|---:|\n");
        for row in LIMITS {
            if let Some(value) = self.median(None, row.key) {
                let _ = writeln!(out, "| {} | {} |", row.title, row.unit.show(value));
            }
        }
        out.push_str(&self.ratios(kinds));
        for (kind, scenario, reason) in &self.failures {
            let _ = writeln!(out, "\n{} failed in {scenario}: {reason}", kind.title());
        }
        out
    }

    /// Ours against the best peer and against the machine.
    fn ratios(&self, kinds: &[Kind]) -> String {
        let mut out = String::new();
        let ours = |key| self.median(Some(Kind::Groundmist), key);
        for (key, what) in [("flood_1x1", "1 writer 1 reader"), ("flood_8x2", "8 documents")] {
            let peers = kinds.iter().filter(|kind| !kind.is_ours());
            let best = peers.filter_map(|kind| self.median(Some(*kind), key)).max_by(f64::total_cmp);
            if let (Some(ours), Some(best), Some(echo)) = (ours(key), best, self.median(None, "echo")) {
                let share = 100.0 * ours / echo;
                let _ = writeln!(
                    out,
                    "\nFlood, {what}: {:.1} times the best peer, {share:.0} % of the echo limit.",
                    ours / best
                );
            }
        }
        if let (Some(ack), Some(disk)) = (ours("ack_p50"), self.median(None, "fdatasync_p50")) {
            let _ = writeln!(out, "\nAcknowledgement: {:.2} times append + fdatasync.", ack / disk);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_in_the_unit_that_fits() {
        assert_eq!(Unit::Count("/s").show(1_234_567.0), "1,234,567/s");
        assert_eq!(Unit::Seconds.show(0.000_027), "27 us");
        assert_eq!(Unit::Seconds.show(0.0015), "1.50 ms");
        assert_eq!(Unit::Bytes.show(12_340_000.0), "12.3 MB");
    }

    #[test]
    fn only_a_peer_may_fail_and_not_always() {
        let failure = |kind| Figures { failures: vec![(kind, "flood", "why".into())], ..Figures::default() };
        assert!(failure(Kind::Groundmist).failed());
        assert!(failure(Kind::Samod).failed());
        let mut once = failure(Kind::Samod);
        once.succeeded.insert((Kind::Samod, "flood"));
        assert!(!once.failed());
    }

    #[test]
    fn the_table_shows_medians() {
        let mut figures = Figures::default();
        for value in [1.0, 900.0, 30.0] {
            figures.add(Some(Kind::Samod), vec![("flood_1x1", value)]);
        }
        let table = figures.table(&[Kind::Samod]);
        assert!(table.contains("| flood, 1 writer 1 reader | 30/s |"), "{table}");
    }
}
