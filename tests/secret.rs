//! `secret rotate` of the real binary: while the server runs, while it is stopped, after a restore, and killed in the middle.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Peer, Server, Start, WebSocket, answer, run};
use serde_json::Value;

const APP: &str = "https://app.example/client-metadata.json";

/// Running on `home`, which is kept.
fn start(home: &Path) -> Server {
    Start::default().data_dir(home).run()
}

fn is_good(server: &Server, token: &str) -> bool {
    server.connect(token).is_ok()
}

/// The app's standing, and the names of the sessions but for the one that each start makes.
fn holds(server: &Server) -> (Value, Vec<String>) {
    let apps = answer(&server.data_dir, 0, &["apps", "list"]);
    let sessions = answer(&server.data_dir, 0, &["sessions", "list"]);
    let names =
        sessions["sessions"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned());
    (apps["apps"][0]["decision"].clone(), names.filter(|name| name != "serve --dev").collect())
}

/// What a command says that succeeds.
fn said(home: &Path, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tokens_end_sockets_close_and_approvals_stay() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let mut server = start(&home);
    said(&home, &["apps", "approve", APP, "--namespace", "xyz.example"]);
    let old = server.new_token("laptop", "xyz.example", &[]);
    let mut peer = Peer::join_with(&server, &old, "peer").unwrap();
    let backup = dir.path().join("backup");
    said(&home, &["backup", backup.to_str().unwrap()]);

    let words = said(&home, &["secret", "rotate"]);
    assert!(words.contains("0 sessions of apps and 2 tokens") && words.contains("token create"), "{words}");
    assert_eq!(peer.socket.closed().unwrap(), (1008, "sync token revoked".into()));
    assert!(!is_good(&server, &old) && !is_good(&server, &server.token));
    assert_eq!(holds(&server), ("read_write".into(), vec![]));
    let audit = server.admin_get("/api/audit").1;
    assert!(audit.contains("secret_rotated"), "{audit}");
    let new = server.new_token("laptop", "xyz.example", &[]);
    // A backup of now has the secret of now.
    let later = dir.path().join("later");
    said(&home, &["backup", later.to_str().unwrap()]);
    assert!(server.terminate().success());

    let mut server = start(&home);
    assert!(is_good(&server, &new) && !is_good(&server, &old));
    assert_eq!(holds(&server), ("read_write".into(), vec!["laptop".into()]));
    assert!(server.terminate().success());

    // Stopped, it is done on the store.
    let rotated = answer(&home, 0, &["secret", "rotate"]);
    assert_eq!(rotated["sessions"], 0);
    let mut server = start(&home);
    assert!(!is_good(&server, &new));
    assert_eq!(holds(&server), ("read_write".into(), vec![]));
    assert!(server.terminate().success());

    // A restore brings the old secret back, and says what to do; or does it.
    let restore = |file: &Path, more: &[&str]| {
        said(&home, &[&["restore", file.to_str().unwrap(), "--force"], more].concat())
    };
    assert!(restore(&backup, &[]).contains("`groundmist-sync secret rotate`"));
    let mut server = start(&home);
    assert!(is_good(&server, &old));
    assert!(server.terminate().success());
    let words = restore(&backup, &["--rotate-secret"]);
    assert!(words.contains("signs with a new secret") && words.contains("Start the server"), "{words}");
    let mut server = start(&home);
    assert!(!is_good(&server, &old));
    assert_eq!(holds(&server), ("read_write".into(), vec![]));
    assert!(server.terminate().success());
    restore(&later, &[]);
    let server = start(&home);
    assert!(is_good(&server, &new) && !is_good(&server, &old));
}

#[test]
fn what_is_not_the_servers_to_change_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = answer(&dir.path().join("nowhere"), 1, &["secret", "rotate"]);
    assert_eq!(nothing["error"], "no_store");
    let secret = "correct horse battery staple";
    let server = Start::default().variable("GROUNDMIST_SYNC_SECRET_KEY", secret).run();
    let refused = answer(&server.data_dir, 1, &["secret", "rotate"]);
    assert_eq!(refused["error"], "secret_configured");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("secret_file") && message.contains("sessions revoke --all"), "{message}");
    assert!(!message.contains(secret) && is_good(&server, &server.token));
}

/// `kill -9` at moments that vary over more than what a change takes. Whichever counts afterwards, all of it does.
#[test]
fn killed_at_any_moment_one_secret_counts_with_what_belongs_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let mut server = start(&home);
    said(&home, &["apps", "approve", APP, "--namespace", "xyz.example"]);
    for round in 0..16 {
        let token = server.new_token("laptop", "xyz.example", &[]);
        let mut rotate = Command::new(env!("CARGO_BIN_EXE_groundmist-sync"))
            .args(["secret", "rotate", "--data-dir"])
            .arg(&home)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(2 * round));
        server.kill();
        // It must not find the next server, nor the stopped store.
        let _ = rotate.kill();
        let was_told = rotate.wait().unwrap().success();
        server = start(&home);
        let (approval, sessions) = holds(&server);
        let is_good = WebSocket::connect(server.address, &token).is_ok();
        assert_eq!(approval, "read_write");
        assert_eq!(sessions.contains(&"laptop".to_owned()), is_good, "{round}: {sessions:?}");
        assert!(!(was_told && is_good), "{round}: what was told counts");
        said(&home, &["sessions", "revoke", "--all"]);
    }
}

#[test]
fn a_new_secret_that_is_not_in_its_file_is_no_plain_success() {
    for running in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let mut server = start(&home);
        let old = server.token.clone();
        if !running {
            assert!(server.terminate().success());
        }
        // Where the new file is written first.
        let beside = home.join("secret.key.new");
        std::fs::create_dir(&beside).unwrap();
        let output = run(&home, &["secret", "rotate"]);
        let words = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}");
        for part in ["signs with a new secret", "not in its file yet", "secret.key", "restart the server"] {
            assert!(words.contains(part), "{part}: {words}");
        }
        if running {
            assert!(!is_good(&server, &old));
            server.kill();
        }
        std::fs::remove_dir(&beside).unwrap();
        let server = start(&home);
        assert!(!is_good(&server, &old), "the next start puts it there");
    }
}

#[test]
fn a_restore_does_not_offer_to_change_a_configured_secret() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let mut server = start(&home);
    let backup = dir.path().join("backup");
    said(&home, &["backup", backup.to_str().unwrap()]);
    assert!(server.terminate().success());
    for (secret, offered) in [(None, true), (Some("correct horse battery staple"), false)] {
        let mut restore = Command::new(env!("CARGO_BIN_EXE_groundmist-sync"));
        restore.arg("restore").arg(&backup).args(["--force", "--data-dir"]).arg(&home).env_clear();
        restore.envs(secret.map(|secret| ("GROUNDMIST_SYNC_SECRET_KEY", secret)));
        let output = restore.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let words = String::from_utf8(output.stdout).unwrap();
        assert!(words.contains("Restored"), "{words}");
        assert_eq!(words.contains("`groundmist-sync secret rotate`"), offered, "{words}");
    }
}
