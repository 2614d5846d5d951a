//! Stopping: what is left behind.

use crate::common::peer::new_document;
use crate::common::{Peer, Start};

#[test]
fn the_store_is_closed_cleanly_whoever_is_connected() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let mut server = Start::default().data_dir(dir.path()).set("LOG__LEVEL", "info").run();
        assert!(!server.log().contains("not closed cleanly"), "round {round}: {}", server.log());
        let mut peers: Vec<Peer> = (0..3).map(|peer| Peer::join(&server, &format!("peer-{peer}"))).collect();
        // Nothing is idle yet, so only closing leaves the store in order.
        peers[0].store(new_document(), "key", "value");
        assert!(server.terminate().success());
    }
}
