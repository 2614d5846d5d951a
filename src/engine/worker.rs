//! The opener's thread: one document at a time, aside from the hot path.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::shard::Input;
use crate::store::Store;
use crate::sync::job::Job;
use crate::sync::opener::Opener;

/// A document kept open for the next part of an extraction is let go after this time.
const KEEP_OPEN: Duration = Duration::from_secs(5);

/// Start it. Jobs come with the shard that waits for them.
/// # Errors
/// The system has no threads left.
pub fn start(store: Arc<Store>) -> io::Result<Sender<(Job, Sender<Input>)>> {
    let (sender, jobs) = channel::<(Job, Sender<Input>)>();
    std::thread::Builder::new().name("opener".into()).spawn(move || {
        let mut opener = Opener::new(|| {
            let mut salt = [0; 16];
            // Without randomness the salt is merely guessable, which costs one wasted exchange at worst.
            let _ = getrandom::fill(&mut salt);
            salt
        });
        let mut rested = true;
        loop {
            let next = if rested {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(KEEP_OPEN)
            };
            match next {
                Ok((job, shard)) => {
                    rested = false;
                    let done = opener.run(job, &*store);
                    let _ = shard.send(Input::JobDone(Box::new(done)));
                }
                Err(RecvTimeoutError::Timeout) => {
                    opener.rest();
                    rested = true;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    })?;
    Ok(sender)
}
