//! The opener's thread: one document at a time, aside from the hot path.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::mailbox::{Empty, Sender, mailbox};
use super::openings::Openings;
use super::shard::Input;
use super::vital::Vital;
use crate::store::Store;
use crate::sync::job::{Done, Job};
use crate::sync::opener::Opener;

/// A document kept open for the next part of an extraction is let go after this time.
const KEEP_OPEN: Duration = Duration::from_secs(5);

/// Start it. Jobs come with the shard that waits for them.
/// # Errors
/// The system has no threads left.
pub fn start(
    store: Arc<Store>,
    openings: Arc<Openings>,
    vital: &Vital,
) -> io::Result<Sender<(Job, Sender<Input>)>> {
    let (sender, jobs) = mailbox::<(Job, Sender<Input>)>();
    vital.spawn("opener".into(), move || {
        let mut opener = Opener::new(|| {
            let mut salt = [0; 16];
            // Without randomness the salt is merely guessable, which costs one wasted exchange at worst.
            let _ = getrandom::fill(&mut salt);
            salt
        });
        let mut rested = true;
        let mut next = VecDeque::new();
        loop {
            match jobs.take(&mut next, 1, (!rested).then_some(KEEP_OPEN)) {
                Ok(()) => rested = false,
                Err(Empty::Timeout) => {
                    opener.rest();
                    rested = true;
                }
                Err(Empty::Closed) => return,
            }
            for (job, shard) in next.drain(..) {
                let done = run(&mut opener, job, &openings, &store);
                let _ = shard.send(Input::JobDone(Box::new(done)));
            }
        }
    })?;
    Ok(sender)
}

fn run(opener: &mut Opener, job: Job, openings: &Openings, store: &Store) -> Done {
    if !openings.begin(&job) {
        tracing::debug!(document = %job.key().document, "document stays closed");
        return Done::Refused(job);
    }
    tracing::debug!(document = %job.key().document, kind = job.kind(), "opening a document");
    let done = opener.run(job, store);
    openings.end(done.key());
    done
}
