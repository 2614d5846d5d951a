//! A device with many small documents on one connection: uploads them, fetches them, comes back with all of them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, ChangeHash, ROOT};
use sha2::{Digest, Sha256};
use tokio::time::timeout_at;

use crate::keys::base64url;
use crate::rows::document_id;
use crate::socket::{self, Endpoint, Session};
use crate::sync_message::{self, Received, Sent};
use crate::wire;

/// A document of one change.
pub struct Small {
    /// Its id.
    pub id: String,
    /// Its change, as a chunk.
    pub chunk: Vec<u8>,
    /// Its heads.
    pub heads: [ChangeHash; 1],
}

/// Make small documents: a title, a text of a line, a number.
pub fn make(count: u32) -> Result<Vec<Small>> {
    (0..count).map(small).collect()
}

fn small(number: u32) -> Result<Small> {
    one_change(number, format!("What I wanted to remember on day {number} of the year"))
}

/// Make a document with a text of so many bytes that compresses by no more than a quarter.
pub fn large(number: u32, bytes: usize) -> Result<Small> {
    let mut random = vec![0; bytes / 4 * 3];
    aws_lc_rs::rand::fill(&mut random)?;
    one_change(number, base64url(random))
}

fn one_change(number: u32, body: String) -> Result<Small> {
    let actor = Sha256::digest(number.to_le_bytes());
    let mut document = AutoCommit::new().with_actor(ActorId::from(&actor[..16]));
    document.put(ROOT, "title", format!("Note {number}"))?;
    document.put(ROOT, "body", body)?;
    document.put(ROOT, "done", number.is_multiple_of(3))?;
    document.commit();
    let change = document.get_last_local_change().context("a document without a change")?;
    let heads = [change.hash()];
    Ok(Small { id: document_id(number), chunk: change.raw_bytes().to_vec(), heads })
}

/// What the device does with each document.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Say its heads; send its change when the server has answered; done when the server has it.
    Upload,
    /// Ask for it; done when it is here.
    Download,
    /// Say its heads, shared as of last time; done when the server says the same.
    Compare,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Said,
    Sent,
    Done,
}

struct Device<'a> {
    task: Task,
    session: Session,
    documents: &'a [Small],
    numbers: HashMap<&'a str, usize>,
    states: Vec<State>,
    /// Documents that are done.
    done: u32,
    /// Documents that the server says it lacks.
    lacking: u32,
}

/// Run a task over all documents, `window` of them under way at a time. Returns how many were done, and the time.
/// Like an app that was closed and opened again, each run is a new peer; `device` keeps its storage id.
pub async fn run(
    endpoint: &Endpoint,
    device: &str,
    task: Task,
    documents: &[Small],
    window: usize,
    limit: Duration,
) -> Result<(u32, Duration)> {
    let begin = Instant::now();
    let peer = format!("{device}-{}", task as u8);
    let session = socket::join(endpoint, &peer, Some(device)).await?;
    let numbers =
        documents.iter().enumerate().map(|(number, document)| (document.id.as_str(), number)).collect();
    let states = vec![State::Waiting; documents.len()];
    let mut device = Device { task, session, documents, numbers, states, done: 0, lacking: 0 };
    // Running out of time is a result, not a failure: the rate says it.
    if let Ok(ended) = timeout_at((begin + limit).into(), device.all(window)).await {
        ended?;
    }
    Ok((device.done, begin.elapsed()))
}

impl Device<'_> {
    async fn all(&mut self, window: usize) -> Result<()> {
        let mut started = 0;
        loop {
            while started < self.documents.len() && started - self.over() < window {
                self.begin(started).await?;
                started += 1;
            }
            let writer = self.session.writer.clone();
            let frame = self.session.reader.next_or(async { writer.lock().await.flush().await }).await?;
            self.take(&frame).await?;
            if self.over() == self.documents.len() {
                return self.session.writer.lock().await.flush().await;
            }
        }
    }

    fn over(&self) -> usize {
        (self.done + self.lacking) as usize
    }

    async fn say(&self, kind: &str, number: usize, sent: &Sent<'_>, v2: bool) -> Result<()> {
        let prefix =
            wire::prefix(kind, &self.session.peer, &self.session.server, &self.documents[number].id)?;
        let mut data = Vec::new();
        sent.write(v2, &mut data);
        self.session.writer.lock().await.put(wire::message(&prefix, &data)?).await
    }

    async fn begin(&mut self, number: usize) -> Result<()> {
        let heads = &self.documents[number].heads;
        self.states[number] = State::Said;
        match self.task {
            Task::Upload => self.say("sync", number, &Sent { heads, ..Sent::default() }, false).await,
            Task::Download => self.say("request", number, &Sent::default(), false).await,
            Task::Compare => {
                self.say("sync", number, &Sent { heads, shared: heads, ..Sent::default() }, false).await
            }
        }
    }

    async fn take(&mut self, frame: &[u8]) -> Result<()> {
        let incoming = wire::read(frame)?;
        let Some(number) = self.numbers.get(incoming.document).copied() else {
            if incoming.kind == "error" {
                bail!("the server says: {}", incoming.message);
            }
            return Ok(());
        };
        match incoming.kind {
            "sync" | "request" => self.answer(number, sync_message::read(incoming.data)?).await,
            // A real client gives up on it then, whatever comes later.
            "doc-unavailable" if self.task != Task::Upload && self.states[number] != State::Done => {
                self.states[number] = State::Done;
                self.lacking += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn answer(&mut self, number: usize, received: Received) -> Result<()> {
        let document = &self.documents[number];
        let heads = &document.heads;
        let theirs = received.heads == *heads;
        let state = self.states[number];
        let finished = match self.task {
            Task::Upload | Task::Compare => theirs,
            Task::Download => {
                received.changes.contains(&heads[0]) || received.document_heads.contains(&heads[0])
            }
        };
        if state == State::Done {
            return Ok(());
        }
        if finished {
            self.states[number] = State::Done;
            self.done += 1;
            if self.task == Task::Download {
                self.say("sync", number, &Sent { heads, shared: heads, ..Sent::default() }, false).await?;
            }
        } else if self.task == Task::Upload && (state == State::Said || received.need.contains(&heads[0])) {
            self.states[number] = State::Sent;
            let sent = Sent { heads, need: &[], shared: &[], chunks: &document.chunk };
            self.say("sync", number, &sent, received.reads_v2).await?;
        }
        Ok(())
    }
}
