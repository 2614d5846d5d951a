//! While peers write: what was acknowledged before is in it, and heads are equal afterwards.

use std::sync::atomic::{AtomicBool, Ordering};

use groundmist_sync::store::{Store, StoreOptions};

use super::common::peer::new_document;
use super::common::{Peer, Server, Start};
use super::{run_badly, run_well};

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
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut peer, document) = (Peer::join(&server, "busy"), new_document());
            for n in 0.. {
                peer.store(document, &n.to_string(), "value");
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        run_well(&server.data_dir, &["backup", file]);
        done.store(true, Ordering::Relaxed);
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
}

#[test]
fn a_restored_store_has_the_same_heads_and_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new, file) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("b"));
    let mut server = Start::default()
        .data_dir(&old)
        .set("STORAGE__COMPACT_FLOOR", "16")
        .set("STORAGE__COMPACT_GRACE", "0s")
        .run();
    let document = new_document();
    let mut peer = Peer::join(&server, "writer");
    for n in 0..80 {
        peer.store(document, &n.to_string(), "value");
    }
    drop(peer);
    assert!(server.terminate().success());
    run_well(&old, &["backup", file.to_str().unwrap()]);
    run_well(&new, &["restore", file.to_str().unwrap()]);
    let open = |home: &std::path::Path| {
        Store::open(&home.join("groundmist.redb"), &StoreOptions { cache_bytes: 4 << 20 }).unwrap()
    };
    let (before, after) = (open(&old), open(&new));
    assert_eq!(before.storage_id(), after.storage_id());
    for namespace in before.namespaces().unwrap() {
        let all = before.documents(&namespace, None, usize::MAX).unwrap();
        assert!(!all.is_empty());
        assert_eq!(all, after.documents(&namespace, None, usize::MAX).unwrap());
        for (document, _) in all {
            // Whether the tail was compacted by then is the server's business; both must be the same.
            let key = groundmist_sync::types::DocKey { namespace: namespace.clone(), document };
            assert_eq!(before.whole(&key).unwrap(), after.whole(&key).unwrap());
            assert_eq!(before.snapshot_index(&key).unwrap(), after.snapshot_index(&key).unwrap());
        }
    }
    let secret = |home: &std::path::Path| std::fs::read(home.join("secret.key")).unwrap();
    assert_eq!(secret(&old), secret(&new));
}
