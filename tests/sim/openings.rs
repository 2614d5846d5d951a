//! The opener of a simulation. Openings are refused, die, or are answered late, at random.
//!
//! As the engine's desk does it, one job of a document is under way at a time, and those of one document are done in the
//! order in which they came. A child that is killed, hangs or answers nonsense is [`Refusal::EndedBadly`] to the shard; one
//! that cannot be started or cannot limit itself is [`Refusal::NoProcess`]; a store that cannot be read gives `None`, and of
//! an intake an error.

use std::collections::VecDeque;

use groundmist_sync::sync::job::{Done, Intake, Job, Refusal};
use groundmist_sync::sync::opener::Opener;
use groundmist_sync::types::DocKey;

use super::Rng;
use super::storage::MemoryStorage;

/// How many openings of each kind came to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Failures {
    pub intakes: u64,
    pub extractions: u64,
    pub compactions: u64,
}

pub struct Openings {
    opener: Opener,
    waiting: VecDeque<Job>,
    /// Done, and not yet answered.
    late: Vec<Done>,
    /// How many of a hundred openings come to nothing.
    fault_percent: usize,
    /// How many of a hundred openings are answered later.
    late_percent: usize,
    /// Extractions come in parts.
    parts: bool,
    pub failures: Failures,
}

impl Openings {
    pub fn new(rng: &mut Rng, seed: u64) -> Self {
        let mut salt = seed;
        let opener = Opener::new(move || {
            salt += 1;
            [salt as u8; 16]
        });
        Self {
            opener,
            waiting: VecDeque::new(),
            late: Vec::new(),
            fault_percent: [0, 10, 50, 100][rng.below(4)],
            late_percent: [0, 50, 90][rng.below(3)],
            parts: rng.chance(50),
            failures: Failures::default(),
        }
    }

    /// From now on every opening succeeds.
    pub fn end_faults(&mut self) {
        self.fault_percent = 0;
    }

    /// The process dies with its openers: nothing is answered any more.
    pub fn crash(&mut self) {
        self.waiting.clear();
        self.late.clear();
        self.opener.rest();
    }

    pub fn submit(&mut self, jobs: Vec<Job>) {
        self.waiting.extend(jobs);
    }

    pub fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.late.is_empty()
    }

    /// Begins an opening, or answers one; the answer.
    pub fn go_on(&mut self, rng: &mut Rng, storage: &MemoryStorage) -> Option<Done> {
        if !self.late.is_empty() && rng.chance(50) {
            return self.answer(rng);
        }
        let job = self.next(rng)?;
        let done = if rng.chance(self.fault_percent) { self.fail(job, rng) } else { self.run(job, storage) };
        if rng.chance(self.late_percent) {
            self.late.push(done);
            return None;
        }
        Some(done)
    }

    /// Answers one of the openings that are late.
    pub fn answer(&mut self, rng: &mut Rng) -> Option<Done> {
        (!self.late.is_empty()).then(|| self.late.swap_remove(rng.below(self.late.len())))
    }

    /// Some document's first job, if no other of that document is under way.
    fn next(&mut self, rng: &mut Rng) -> Option<Job> {
        let mut seen: Vec<DocKey> = self.late.iter().map(|done| done.key().clone()).collect();
        let mut first = Vec::new();
        for (at, job) in self.waiting.iter().enumerate() {
            if !seen.contains(job.key()) {
                seen.push(job.key().clone());
                first.push(at);
            }
        }
        (!first.is_empty()).then(|| self.waiting.remove(first[rng.below(first.len())]))?
    }

    fn run(&mut self, job: Job, storage: &MemoryStorage) -> Done {
        let mut done = self.opener.run(job, storage);
        if let Done::Extract { result: Ok(Some((parts, is_last))), .. } = &mut done
            && self.parts
            && parts.len() > 1
        {
            parts.truncate(parts.len() / 2);
            *is_last = false;
            self.opener.rest();
        }
        done
    }

    fn fail(&mut self, job: Job, rng: &mut Rng) -> Done {
        match job {
            Job::Intake { .. } => self.failures.intakes += 1,
            Job::Extract { .. } => self.failures.extractions += 1,
            Job::Compact { .. } => self.failures.compactions += 1,
        }
        let refusal = match rng.below(6) {
            0 => Refusal::StaysClosed,
            1 => Refusal::TooLarge { need_bytes: 2, allowed_bytes: 1 },
            2 => Refusal::NoProcess,
            3 => Refusal::EndedBadly,
            _ => return not_read(job, rng),
        };
        Done::Refused(job, refusal)
    }
}

/// The store could not be read, or automerge could not do what was asked.
fn not_read(job: Job, rng: &mut Rng) -> Done {
    match job {
        Job::Intake { key, connection, chunks, operations, .. } => {
            let result: Result<Intake, String> = Err("reading it failed".into());
            Done::Intake { key, connection, chunks, operations, result }
        }
        Job::Extract { key, connection, .. } => Done::Extract { key, connection, result: Ok(None) },
        Job::Compact { key, below } => {
            let result =
                if rng.chance(50) { Ok(None) } else { Err("its compacted form has other heads".into()) };
            Done::Compact { key, below, result }
        }
    }
}
