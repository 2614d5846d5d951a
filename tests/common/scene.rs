//! A server that somebody harms, and newcomers who must be served all the same.

use groundmist_sync::types::DocumentId;

use super::peer::new_document;
use super::{Authority, Peer, Server, Start, WebSocket, wait_for};

pub const MIB: u64 = 1 << 20;
/// By how much resident memory may differ from before once a bad client is gone: what the allocator keeps for later.
pub const MARGIN: u64 = 16 * MIB;

/// A server with one document that newcomers ask for.
pub struct Scene {
    pub server: Server,
    pub document: DocumentId,
    pub before: u64,
    newcomers: u32,
    /// Whose files the server reads.
    authority: Option<Authority>,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(Start::default())
    }

    pub fn with(start: Start) -> Self {
        let server = start.run();
        let document = new_document();
        Peer::join(&server, "author").store(document, "key", "value");
        let mut scene = Self { server, document, before: 0, newcomers: 0, authority: None };
        // What a first connection makes the process take for good is not the bad client's.
        for _ in 0..3 {
            scene.newcomer_syncs();
        }
        scene.before = scene.server.rss();
        scene
    }

    /// Over TLS, with the authority's certificate.
    pub fn encrypted(more: impl Fn(Start) -> Start) -> Self {
        let authority = Authority::new();
        let mut scene = Self::with(more(authority.start()));
        scene.authority = Some(authority);
        scene
    }

    pub fn newcomer_syncs(&mut self) {
        self.newcomers += 1;
        let mut peer = Peer::join(&self.server, &format!("newcomer-{}", self.newcomers));
        assert_eq!(peer.find(self.document, "key"), "value");
        peer.store(new_document(), "key", "mine");
    }

    /// Memory above what it was before.
    pub fn growth(&self) -> u64 {
        self.server.rss().saturating_sub(self.before)
    }

    /// Upgraded, not joined.
    pub fn connect(&self) -> WebSocket {
        WebSocket::connect(self.server.address, &self.server.token).unwrap()
    }

    /// Joined under a name that newcomers do not use.
    pub fn join(&self) -> Peer {
        Peer::join(&self.server, "bad")
    }

    /// What must hold once the bad client has done its worst and is gone.
    pub fn unharmed(mut self) {
        assert!(self.server.is_running());
        self.newcomer_syncs();
        let mut least = u64::MAX;
        wait_for(&format!("memory to be within {MARGIN} bytes of {}", self.before), || {
            least = least.min(self.growth());
            (least <= MARGIN).then_some(())
        });
        let log = self.server.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}
