//! What the commands do to files: never over something, whole or not at all.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::common::peer::new_document;
use super::common::{Peer, Server, Start, wait_for};
use super::{run_badly, run_well};

/// A data directory with one document, and nobody running there.
fn stopped(home: &Path) -> groundmist_sync::types::DocumentId {
    let mut server = Start::default().data_dir(home).run();
    let document = new_document();
    Peer::join(&server, "writer").store(document, "key", "value");
    assert!(server.terminate().success());
    document
}

#[test]
fn old_backups_go_when_a_new_one_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (home, to) = (dir.path().join("home"), dir.path().join("backups"));
    fs::create_dir(&to).unwrap();
    fs::write(to.join("precious"), "").unwrap();
    stopped(&home);
    for _ in 0..4 {
        run_well(&home, &["backup", "--to", to.to_str().unwrap(), "--keep", "2"]);
    }
    let mut names: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.len() == 3 && names.iter().any(|name| name == "precious"), "{names:?}");
}

#[test]
fn what_is_there_is_replaced_only_by_force_and_then_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (home, file) = (dir.path().join("home"), dir.path().join("b"));
    let file = file.to_str().unwrap();
    let document = stopped(&home);
    run_well(&home, &["backup", file]);
    assert!(run_badly(&home, &["backup", file]).contains("--force"));
    let refusal = run_badly(&home, &["restore", file]);
    assert!(
        refusal.contains("holds 1 document, last changed on") && refusal.contains("--force"),
        "{refusal}"
    );
    let said = String::from_utf8(run_well(&home, &["restore", file, "--force"])).unwrap();
    assert!(said.contains("before-restore-"), "{said}");
    let kept = said.lines().find_map(|line| line.strip_prefix("What was there is kept as ")).unwrap();
    assert!(Path::new(kept.trim_end_matches('.')).exists());
    // A store that cannot be opened is what restoring is for.
    fs::write(home.join("groundmist.redb"), "damaged").unwrap();
    assert!(run_badly(&home, &["restore", file]).contains("cannot be read"));
    run_well(&home, &["restore", file, "--force"]);
    let server = Start::default().data_dir(&home).run();
    assert_eq!(Peer::join(&server, "reader").find(document, "key"), "value");
}

#[test]
fn killed_at_any_point_a_restore_leaves_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let (home, file) = (dir.path().join("home"), dir.path().join("b"));
    let document = stopped(&home);
    run_well(&home, &["backup", file.to_str().unwrap()]);
    let backup = fs::read(&file).unwrap();
    // The command waits for the rest of its input, and is killed there; the next one finds what it left.
    for part in [0, 30, backup.len() / 2, backup.len() - 1] {
        let mut restore = Command::new(env!("CARGO_BIN_EXE_groundmist-sync"))
            .args(["restore", "-", "--force", "--data-dir"])
            .arg(&home)
            .env_clear()
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = restore.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, &backup[..part]).unwrap();
        if part > backup.len() / 4 {
            wait_for("the new store", || home.join("groundmist.redb.restoring").exists().then_some(()));
        }
        restore.kill().unwrap();
        restore.wait().unwrap();
        let server = Start::default().data_dir(&home).run();
        assert_eq!(Peer::join(&server, "reader").find(document, "key"), "value", "{part}");
    }
    run_well(&home, &["restore", file.to_str().unwrap(), "--force"]);
    assert!(!home.join("groundmist.redb.restoring").exists());
}

#[test]
fn killed_between_its_last_two_steps_a_restore_leaves_no_second_name_of_the_store_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (home, file) = (dir.path().join("home"), dir.path().join("b"));
    let document = stopped(&home);
    run_well(&home, &["backup", file.to_str().unwrap()]);
    // No signal arrives there reliably: this is what is on the disk then. An older restore's store is another file.
    let [store, second, older, new] = ["", ".before-restore-2", ".before-restore-1", ".restoring"]
        .map(|suffix| home.join(format!("groundmist.redb{suffix}")));
    fs::copy(&store, &older).unwrap();
    fs::copy(&store, &new).unwrap();
    fs::hard_link(&store, &second).unwrap();
    // Refused, it has cleared away; and it goes on with the store that was there.
    run_badly(&home, &["restore", file.to_str().unwrap()]);
    assert_eq!([&store, &second, &older, &new].map(|path| path.exists()), [true, false, true, false]);
    fs::hard_link(&store, &second).unwrap();
    let mut server = Start::default().data_dir(&home).run();
    assert_eq!(Peer::join(&server, "reader").find(document, "key"), "value");
    assert!(server.terminate().success());
    let said = String::from_utf8(run_well(&home, &["restore", file.to_str().unwrap(), "--force"])).unwrap();
    assert!(said.contains("before-restore-"), "{said}");
    let kept = fs::read_dir(&home).unwrap().filter(|entry| {
        entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with("groundmist.redb.before-restore-")
    });
    assert_eq!((kept.count(), second.exists(), older.exists()), (2, false, true));
}

#[test]
fn a_backup_that_nobody_reads_to_its_end_is_told_of_and_the_next_one_works() {
    let server = Server::start();
    Peer::join(&server, "writer").store(new_document(), "key", &super::common::server::random_text(8 << 20));
    let mut child = Command::new(env!("CARGO_BIN_EXE_groundmist-sync"))
        .args(["backup", "-", "--data-dir"])
        .arg(&server.data_dir)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0; 64]).unwrap();
    let while_it_runs = run_badly(&server.data_dir, &["backup", "-", "--json"]);
    assert!(while_it_runs.contains("backup_running"), "{while_it_runs}");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the end of the backup", || {
        let status = run_well(&server.data_dir, &["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
        let why = status["backup"]["last_error"].as_str()?.to_owned();
        why.contains("hung up").then_some(())
    });
    assert!(!run_well(&server.data_dir, &["backup", "-"]).is_empty());
}

#[test]
fn a_full_disk_is_said_and_nothing_is_taken_for_a_backup() {
    let server = Server::start();
    let full = Command::new(env!("CARGO_BIN_EXE_groundmist-sync"))
        .args(["backup", "-", "--data-dir"])
        .arg(&server.data_dir)
        .env_clear()
        .stdout(fs::File::options().write(true).open("/dev/full").unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8(full.stderr).unwrap();
    assert!(full.status.code() == Some(1) && said.contains("No space left"), "{said}");
    let status = run_well(&server.data_dir, &["status"]);
    assert!(String::from_utf8(status).unwrap().contains("Last backup none"));
}
