//! Gives memory back to the system when it is not needed any more.
//!
//! The allocator keeps what was freed for the next allocation. That is right while the same work goes on, and wrong after
//! it: a server that once had 40,000 documents open would have their memory for good.

use std::time::Duration;

use crate::engine::Engine;
use crate::sys::memory::{give_back, resident_bytes};

/// How often memory is looked at: what was freed is back within a minute, and an idle process wakes up for it six times a
/// minute.
const LOOK: Duration = Duration::from_secs(10);
/// Memory beyond what the engine uses is given back when it has grown by so many bytes: giving it back takes milliseconds.
const WORTH: u64 = 2 << 20;

/// Gives memory back whenever there is much of it that nothing uses. It runs until it is aborted, and ends at once where the
/// system does not say how much memory the process has.
pub async fn keep_trim(engine: Engine) {
    let mut kept = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        // What the process has besides what the engine knows to be in use.
        let surplus = || {
            let used: u64 = engine.memory().by_kind().iter().map(|(_, bytes)| bytes).sum();
            resident_bytes().map(|resident| resident.saturating_sub(used))
        };
        let Some(now) = surplus() else { return };
        // It falls when what was freed is used again.
        kept = kept.min(now);
        if now <= kept + WORTH {
            continue;
        }
        // An error means that the runtime ends; the next look measures anew in any case.
        let _ = tokio::task::spawn_blocking(give_back).await;
        kept = surplus().unwrap_or(now);
    }
}
