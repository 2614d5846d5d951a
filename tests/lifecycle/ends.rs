//! Ends that nobody asked for: the owner is told of a server that was killed, and not of one that was stopped or of a reboot.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::common::peer::new_document;
use crate::common::server::random_text;
use crate::common::{Peer, Server, Start, answer, run};

const BINARY: &str = env!("CARGO_BIN_EXE_groundmist-sync");

fn start(data_dir: &Path, boot: &str) -> Server {
    Start::default().data_dir(data_dir).variable("GROUNDMIST_BOOT_ID", boot).run()
}

/// The warning of such an end, if there is one.
fn told(data_dir: &Path) -> Option<(String, String)> {
    let status = answer(data_dir, 0, &["status"]);
    let warnings = status["warnings"].as_array().unwrap();
    let warning = warnings.iter().find(|warning| warning["code"] == "was_killed");
    assert_eq!(warning.is_some(), !status["unclean_ends"].as_array().unwrap().is_empty());
    let warning = warning?;
    assert_eq!(warning["grave"], false);
    let text = |name: &str| warning[name].as_str().unwrap().to_owned();
    Some((text("message"), text("fix")))
}

fn says(data_dir: &Path) -> String {
    String::from_utf8(run(data_dir, &["status"]).stdout).unwrap()
}

#[test]
fn a_server_that_was_killed_says_so_when_it_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let life = || start(&data, "one-boot");
    assert!(life().terminate().success());
    let mut server = life();
    assert_eq!(told(&data), None, "it was stopped");
    assert!(says(&data).contains("All is well."));
    server.kill();
    let mut server = life();
    let (message, fix) = told(&data).unwrap();
    assert!(message.contains("at about") && message.contains("UTC: it was killed"), "{message}");
    assert!(!message.contains("memory") && fix.contains("Memory may have run out"), "{fix}");
    let text = says(&data);
    assert!(!text.contains("All is well") && text.contains("Note: the server ended unexpectedly"), "{text}");
    // A stop neither counts nor ends the warning.
    assert!(server.terminate().success());
    life().kill();
    let _server = life();
    let (message, _) = told(&data).unwrap();
    assert!(message.contains("for the 2nd time in seven days"), "{message}");
}

#[test]
fn a_power_cut_is_not_taken_for_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    start(&data, "before-the-power-cut").kill();
    let mut server = start(&data, "after-the-power-cut");
    assert_eq!(told(&data), None);
    assert!(says(&data).contains("All is well."));
    server.kill();
    let _server = start(&data, "after-the-power-cut");
    assert!(told(&data).is_some());
}

/// A control group (version 1) with a limit on memory; removed when dropped.
struct Group(PathBuf);

impl Group {
    /// None where this machine has no such groups, or this user may not make one.
    fn new() -> Option<Self> {
        let path = Path::new("/sys/fs/cgroup/memory").join(format!("groundmist-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let group = Self(path);
        let counts = fs::read_to_string(group.0.join("memory.oom_control")).ok()?.contains("oom_kill ");
        counts.then_some(group)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap().trim().to_owned()
    }

    /// A program that runs the server in the group.
    fn program(&self, dir: &Path) -> PathBuf {
        let path = dir.join("in-the-group");
        let procs = self.0.join("cgroup.procs");
        let script = format!("#!/bin/sh\necho $$ >{} || exit 1\nexec {BINARY} \"$@\"\n", procs.display());
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Sets the limit in bytes.
    fn limit(&self, bytes: &str) {
        fs::write(self.0.join("memory.limit_in_bytes"), bytes).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_server_that_the_system_ends_for_memory_says_so() {
    let Some(group) = Group::new() else {
        return println!("SKIPPED: needs a control group of version 1 that this user may make");
    };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let program = group.program(dir.path());
    let life = || Start::default().data_dir(&data).binary(&program).run();
    let mut server = life();
    // As on a machine where everything else has taken the rest.
    fs::write(group.0.join("memory.swappiness"), "0").unwrap();
    group.limit(&group.read("memory.usage_in_bytes"));
    let writing = AssertUnwindSafe(|| {
        let mut peer = Peer::join(&server, "writer");
        (0..100).for_each(|_| peer.store_text(new_document(), "text", &random_text(1 << 20)));
    });
    // The connection breaks when the server ends.
    let _ = catch_unwind(writing);
    assert!(!server.is_running(), "{}", group.read("memory.oom_control"));
    group.limit("-1");
    let mut server = life();
    let (message, fix) = told(&data).unwrap();
    assert!(message.contains(", because memory ran out"), "{message}");
    assert!(fix.starts_with("give the machine") && !fix.contains("may have run out"), "{fix}");
    // The next end has nothing to do with memory, and is not said to have.
    server.kill();
    let mut server = life();
    let (message, _) = told(&data).unwrap();
    assert!(message.contains("2nd time") && message.contains("it was killed") && !message.contains("memory"));
    assert!(server.terminate().success());
}
