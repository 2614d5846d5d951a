//! Large documents are opened in processes of their own: what the server survives, and what becomes of the documents.
//!
//! A debug build opens documents several times slower than a release build, so the large text has 400,000 characters here
//! where a picture pasted as text has 4 million; memory is in proportion.
#![allow(clippy::unwrap_used, missing_docs)] // a test that cannot go on has failed

#[path = "../common/mod.rs"]
mod common;

mod engine;
mod limits;
mod real;
mod wrong;

use std::fs;

/// Processes that a process has started and that are alive.
pub fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| is_child(*pid, parent)).collect()
}

fn is_child(pid: u32, parent: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let Some((_, fields)) = stat.rsplit_once(") ") else { return false };
    let mut fields = fields.split(' ');
    let (state, of) = (fields.next(), fields.next());
    state != Some("Z") && of.and_then(|of| of.parse().ok()) == Some(parent)
}

/// Ends a process as the system does when memory runs out.
pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}
