//! Threads without which the engine cannot go on: that one of them has ended in a panic is told at once.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::watch;

/// Starts such threads, and knows whether one died.
#[derive(Clone)]
pub struct Vital {
    /// The first that died.
    died: watch::Sender<Option<String>>,
}

impl Vital {
    pub fn new() -> Self {
        Self { died: watch::Sender::new(None) }
    }

    /// Starts one.
    /// # Errors
    /// The system has no threads left.
    pub fn spawn(&self, name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let died = self.died.clone();
        std::thread::Builder::new().name(name.clone()).spawn(move || {
            // What the thread was working on goes with it, so nothing half done is used again.
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                died.send_if_modified(|first| {
                    let is_first = first.is_none();
                    first.get_or_insert(name);
                    is_first
                });
            }
        })?;
        Ok(())
    }

    /// Waits until one died: its name.
    pub async fn died(&self) -> String {
        let mut died = self.died.subscribe();
        match died.wait_for(Option::is_some).await.map(|name| name.clone()) {
            Ok(Some(name)) => name,
            // Invariant: we hold a sender, and waited for a name.
            _ => std::future::pending().await,
        }
    }
}
