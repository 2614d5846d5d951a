//! How often documents are opened, where, for how long, and how often that is refused.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sync::job::{Job, Refusal};

/// Kinds of jobs, in the order of the counters.
const KINDS: [&str; 3] = ["intake", "extraction", "compaction"];
/// Where jobs are done.
const PLACES: [&str; 2] = ["thread", "child"];
/// Why jobs are refused.
const REASONS: [&str; 4] = ["stays_closed", "too_large", "no_process", "ended_badly"];

/// Where a job is done.
#[derive(Debug, Clone, Copy)]
pub enum Where {
    /// In the opener thread.
    Thread,
    /// In a process of its own.
    Child,
}

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Figures {
    done: [[AtomicU64; PLACES.len()]; KINDS.len()],
    took_us: [[AtomicU64; PLACES.len()]; KINDS.len()],
    refused: [AtomicU64; REASONS.len()],
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpeningFigures {
    /// Jobs done of a kind at a place, and the microseconds that they took.
    pub done: Vec<(&'static str, &'static str, u64, u64)>,
    /// Jobs refused, by reason.
    pub refused: Vec<(&'static str, u64)>,
}

impl Figures {
    /// A job was done, of the kind that [`Figures::kind`] says.
    pub fn done(&self, job: usize, place: Where, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.done[job][place as usize].fetch_add(1, Ordering::Relaxed);
        self.took_us[job][place as usize].fetch_add(us, Ordering::Relaxed);
    }

    /// The counters' number for a job.
    pub fn kind(job: &Job) -> usize {
        match job {
            Job::Intake { .. } => 0,
            Job::Extract { .. } => 1,
            Job::Compact { .. } => 2,
        }
    }

    /// A job was refused.
    pub fn refused(&self, why: &Refusal) {
        let reason = match why {
            Refusal::StaysClosed => 0,
            Refusal::TooLarge { .. } | Refusal::TooMuch => 1,
            Refusal::NoProcess => 2,
            Refusal::EndedBadly => 3,
        };
        self.refused[reason].fetch_add(1, Ordering::Relaxed);
    }

    /// As they are now.
    pub fn read(&self) -> OpeningFigures {
        let at = |counters: &[[AtomicU64; 2]; 3], kind: usize, place: usize| {
            counters[kind][place].load(Ordering::Relaxed)
        };
        let pairs = (0..KINDS.len()).flat_map(|kind| (0..PLACES.len()).map(move |place| (kind, place)));
        let done = pairs.map(|(kind, place)| {
            let (count, us) = (at(&self.done, kind, place), at(&self.took_us, kind, place));
            (KINDS[kind], PLACES[place], count, us)
        });
        let refused = REASONS.iter().zip(&self.refused);
        OpeningFigures {
            done: done.collect(),
            refused: refused.map(|(reason, count)| (*reason, count.load(Ordering::Relaxed))).collect(),
        }
    }
}
