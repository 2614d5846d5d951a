//! Clients that break every rule. After each a newcomer syncs at once and the server's memory is back.
#![allow(clippy::unwrap_used)]

#[path = "../common/chunks.rs"]
mod chunks;
#[path = "../common/mod.rs"]
mod common;

mod frames;
mod load;
mod messages;
mod price;
mod shares;

use common::scene::{MARGIN, MIB, Scene};
use common::{Peer, Start, WebSocket};

/// Waits until the client was told off: an `error` message, or a close.
fn told_off(peer: &mut Peer) {
    let deadline = std::time::Instant::now() + common::PATIENCE;
    while peer.errors.is_empty() && peer.step(deadline) {}
    assert!(!peer.errors.is_empty(), "closed or left waiting without a word");
    assert!(peer.errors[0].len() > 5);
}
