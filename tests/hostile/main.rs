//! Approved apps that are hostile: whatever they send, nobody else notices, and the server keeps within its memory.
//!
//! Each row of the table ([`attacks`]) runs against a server of its own with default settings, once with one session and once
//! spread over many sessions and sockets. Meanwhile another app relays changes, another device of the hostile app does too, and
//! newcomers arrive ([`victims`]). `HOSTILE=name,name` selects rows by parts of their names, `HOSTILE=all` every row but the loads; a line is printed
//! for each.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod client;
mod foes;
mod forge;
mod loads;
mod row;
mod side;
mod stage;
mod victims;
mod watch;

use stage::Stage;

/// Rows that run without `HOSTILE`, some of each family.
const HELD: &[&str] = &[
    "inflation",
    "document-operations",
    "compaction",
    "claimed-heads-writing",
    "parked-chain",
    "many-heads",
    "many-dependencies",
    "deaf-readers",
    "presence-of-another",
    "fragments",
    "sockets",
];

#[test]
fn nobody_else_notices() {
    let wanted = std::env::var("HOSTILE").unwrap_or_else(|_| HELD.join(","));
    let is_wanted = |name: &str| wanted == "all" || wanted.split(',').any(|part| name.contains(part));
    // A build that has just ended leaves the disk busy for a while, and every commit of the server waits for it.
    let _ = std::process::Command::new("sync").status();
    let stage = Stage::new();
    let directory = tempfile::tempdir().unwrap();
    let control = stage.server(directory.path());
    let mut faults = Vec::new();
    for attack in attacks::all().filter(|attack| is_wanted(attack.name)) {
        for spread in [false, true] {
            if attack.sockets[usize::from(spread)] > 0 {
                faults.extend(attack.run(&stage, &control, spread));
            }
        }
    }
    if wanted.split(',').any(|part| part == "loads") {
        loads::run();
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
