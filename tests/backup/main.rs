//! Backups, made while peers write and while nobody runs, and what comes of them when they are restored.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "../common/mod.rs"]
mod common;

mod command;
mod format;
mod under_load;

use std::path::Path;

use common::run;

/// The same, and it must do what it is told; its standard output.
fn run_well(data_dir: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = run(data_dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The same, and it must refuse; its words.
fn run_badly(data_dir: &Path, arguments: &[&str]) -> String {
    let output = run(data_dir, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}
