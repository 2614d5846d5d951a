//! While peers write: what was acknowledged before is in it, and heads are equal afterwards.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use groundmist_sync::store::{Store, StoreOptions};
use groundmist_sync::types::DocKey;

use super::common::peer::new_document;
use super::common::server::random_text;
use super::common::{Peer, Server, Start, wait_for};
use super::{run_badly, run_well};

/// A backup that goes on only while it is read: a store of more than pipes and buffers hold.
struct Slow {
    child: std::process::Child,
    read: Vec<u8>,
}

impl Slow {
    fn begin(server: &Server) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_groundmist-sync"))
            .args(["backup", "-", "--data-dir"])
            .arg(&server.data_dir)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut read = vec![0; 64];
        child.stdout.as_mut().unwrap().read_exact(&mut read).unwrap();
        Self { child, read }
    }

    /// To its end: whether it succeeded, the backup, and what was said.
    fn end(mut self) -> (bool, Vec<u8>, String) {
        let mut said = String::new();
        self.child.stdout.take().unwrap().read_to_end(&mut self.read).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().success(), self.read, said)
    }
}

#[test]
fn what_was_acknowledged_before_is_in_a_backup_made_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b");
    let file = file.to_str().unwrap();
    let server = Server::start();
    let documents: Vec<_> = (0..30).map(|_| new_document()).collect();
    let mut writer = Peer::join(&server, "writer");
    for document in &documents {
        writer.store(*document, "before", "yes");
    }
    writer.store(documents[0], "large", &random_text(8 << 20));
    let later = new_document();
    let (done, stored) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut peer, document) = (Peer::join(&server, "busy"), new_document());
            while !done.load(Ordering::Relaxed) {
                let n = stored.load(Ordering::Relaxed);
                peer.store(document, &n.to_string(), "value");
                stored.store(n + 1, Ordering::Relaxed);
            }
        });
        wait_for("the first writes", || (stored.load(Ordering::Relaxed) > 5).then_some(()));
        let backup = Slow::begin(&server);
        let begun = stored.load(Ordering::Relaxed);
        wait_for("writes meanwhile", || (stored.load(Ordering::Relaxed) > begun + 20).then_some(()));
        writer.store(later, "while", "it was made");
        let (made, backup, said) = backup.end();
        done.store(true, Ordering::Relaxed);
        assert!(made, "{said}");
        std::fs::write(file, backup).unwrap();
    });
    let status = run_well(&server.data_dir, &["status"]);
    let status = String::from_utf8(status).unwrap();
    assert!(status.contains("Last backup") && status.contains("documents in"), "{status}");
    assert!(run_badly(&server.data_dir, &["restore", file]).contains("stop it first"));

    let home = dir.path().join("new");
    run_well(&home, &["restore", file]);
    let token = server.token.clone();
    let restored = Start::default().data_dir(&home).run();
    // The signing secret and the sessions moved too: the old server's token lets in.
    let mut reader = Peer::join_with(&restored, &token, "reader").unwrap();
    for document in &documents {
        assert_eq!(reader.find(*document, "before"), "yes");
    }
    // One moment: what came after its beginning is not in it.
    reader.request(later);
    reader.until("no such document", |peer| peer.unavailable.contains(&later));
}

#[test]
fn a_server_that_stops_gives_up_its_backup() {
    let mut server = Server::start();
    Peer::join(&server, "writer").store(new_document(), "key", &random_text(8 << 20));
    let backup = Slow::begin(&server);
    server.signal("TERM");
    wait_for("the end of its listening", || server.line().is_err().then_some(()));
    let (made, _, said) = backup.end();
    assert!(!made && said.contains("try again when it runs"), "{said}");
    assert!(server.wait().success());
    assert!(server.log().contains("the server is stopping"));
}

#[test]
fn a_restored_store_has_the_same_heads_and_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new, file) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("b"));
    let open = |home: &std::path::Path| {
        Store::open(&home.join("groundmist.redb"), &StoreOptions { cache_bytes: 4 << 20 }).unwrap()
    };
    let start = || {
        let start = Start::default().data_dir(&old).set("STORAGE__COMPACT_FLOOR", "16");
        start.set("STORAGE__COMPACT_GRACE", "0s").run()
    };
    let mut server = start();
    let document = new_document();
    let mut peer = Peer::join(&server, "writer");
    for n in 0..80 {
        peer.store(document, &n.to_string(), "value");
    }
    drop(peer);
    assert!(server.terminate().success());
    let key = DocKey { namespace: "dev.local".parse().unwrap(), document };
    // A document is compacted behind the back of who opens it.
    wait_for("a snapshot", || {
        let mut server = start();
        assert_eq!(Peer::join(&server, "reader").find(document, "79"), "value");
        assert!(server.terminate().success());
        open(&old).snapshot_index(&key).unwrap().map(drop)
    });
    run_well(&old, &["backup", file.to_str().unwrap()]);
    run_well(&new, &["restore", file.to_str().unwrap()]);
    let (before, after) = (open(&old), open(&new));
    assert_eq!(before.storage_id(), after.storage_id());
    for namespace in before.namespaces().unwrap() {
        let all = before.documents(&namespace, None, usize::MAX).unwrap();
        assert!(!all.is_empty());
        assert_eq!(all, after.documents(&namespace, None, usize::MAX).unwrap());
        for (document, _) in all {
            let key = DocKey { namespace: namespace.clone(), document };
            assert_eq!(before.whole(&key).unwrap(), after.whole(&key).unwrap());
            assert_eq!(before.snapshot_index(&key).unwrap(), after.snapshot_index(&key).unwrap());
        }
    }
    let secret = |home: &std::path::Path| std::fs::read(home.join("secret.key")).unwrap();
    assert_eq!(secret(&old), secret(&new));
}
