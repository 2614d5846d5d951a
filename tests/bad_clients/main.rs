//! Clients that break every rule. After each a newcomer syncs at once and the server's memory is back.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod frames;
mod load;
mod messages;

use common::peer::new_document;
use common::{Peer, Server, Start, WebSocket, wait_for};
use groundmist_sync::types::DocumentId;

const MIB: u64 = 1 << 20;
/// By how much resident memory may differ from before once a bad client is gone: what the allocator keeps for later.
const MARGIN: u64 = 16 * MIB;

/// A server with one document that newcomers ask for.
struct Scene {
    server: Server,
    document: DocumentId,
    before: u64,
    newcomers: u32,
}

impl Scene {
    fn new() -> Self {
        Self::with(Start::default())
    }

    fn with(start: Start) -> Self {
        let server = start.run();
        let document = new_document();
        Peer::join(&server, "author").store(document, "key", "value");
        let mut scene = Self { server, document, before: 0, newcomers: 0 };
        // What a first connection makes the process take for good is not the bad client's.
        for _ in 0..3 {
            scene.newcomer_syncs();
        }
        scene.before = scene.server.rss();
        scene
    }

    fn newcomer_syncs(&mut self) {
        self.newcomers += 1;
        let mut peer = Peer::join(&self.server, &format!("newcomer-{}", self.newcomers));
        assert_eq!(peer.find(self.document, "key"), "value");
        peer.store(new_document(), "key", "mine");
    }

    /// Memory above what it was before.
    fn growth(&self) -> u64 {
        self.server.rss().saturating_sub(self.before)
    }

    /// Upgraded, not joined.
    fn connect(&self) -> WebSocket {
        WebSocket::connect(self.server.address, &self.server.token).unwrap()
    }

    /// Joined under a name that newcomers do not use.
    fn join(&self) -> Peer {
        Peer::join(&self.server, "bad")
    }

    /// What must hold once the bad client has done its worst and is gone.
    fn unharmed(mut self) {
        self.unharmed_within(MARGIN);
    }

    fn unharmed_within(&mut self, margin: u64) {
        assert!(self.server.is_running());
        self.newcomer_syncs();
        let mut least = u64::MAX;
        wait_for(&format!("memory to be within {margin} bytes of {}", self.before), || {
            least = least.min(self.growth());
            (least <= margin).then_some(())
        });
        let log = self.server.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Waits until the client was told off: an `error` message, or a close.
fn told_off(peer: &mut Peer) {
    let deadline = std::time::Instant::now() + common::PATIENCE;
    while peer.errors.is_empty() && peer.step(deadline) {}
    assert!(!peer.errors.is_empty(), "closed or left waiting without a word");
    assert!(peer.errors[0].len() > 5);
}
