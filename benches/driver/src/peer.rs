//! Light clients: they know the line of changes and where they stand in it, and never open a document.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use automerge::ChangeHash;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use crate::history::History;
use crate::socket::{self, Endpoint, Session, SharedWriter};
use crate::sync_message::{self, Received, Sent};
use crate::wire;

/// Messages gathered before one write.
const BATCH: u32 = 64;

/// How far a task has come, and when it got there.
pub struct Track {
    position: watch::Receiver<u32>,
    arrivals: Arc<Mutex<Vec<(u32, Instant)>>>,
    task: JoinHandle<Result<()>>,
}

impl Track {
    /// Now.
    pub fn position(&self) -> u32 {
        *self.position.borrow()
    }

    /// Wait for a position; false when it was not reached within `limit`.
    pub async fn reach(&mut self, position: u32, limit: Duration) -> Result<bool> {
        match timeout(limit, self.position.wait_for(|now| *now >= position)).await {
            Err(_) => return Ok(false),
            Ok(Ok(_)) => return Ok(true),
            Ok(Err(_)) => {}
        }
        match (&mut self.task).await? {
            Err(reason) => Err(reason),
            Ok(()) => bail!("a client stopped at change {}", *self.position.borrow()),
        }
    }

    /// Like `reach`, where not reaching it is a failure of the server.
    pub async fn must_reach(&mut self, position: u32, limit: Duration) -> Result<()> {
        if self.reach(position, limit).await? {
            return Ok(());
        }
        bail!("at change {} after {limit:?}, where {position} was expected", self.position())
    }

    /// When `position` was first reached or passed.
    pub fn arrival(&self, position: u32) -> Option<Instant> {
        let arrivals = self.arrivals.lock().ok()?;
        let index = arrivals.partition_point(|(reached, _)| *reached < position);
        arrivals.get(index).map(|(_, at)| *at)
    }
}

impl Drop for Track {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Marker {
    position: watch::Sender<u32>,
    arrivals: Arc<Mutex<Vec<(u32, Instant)>>>,
}

impl Marker {
    fn advance(&self, to: u32) {
        if to > *self.position.borrow() {
            if let Ok(mut arrivals) = self.arrivals.lock() {
                arrivals.push((to, Instant::now()));
            }
            self.position.send_replace(to);
        }
    }
}

fn track<F: Future<Output = Result<()>> + Send + 'static>(run: impl FnOnce(Marker) -> F) -> Track {
    let (sender, position) = watch::channel(0);
    let arrivals = Arc::default();
    let task = tokio::spawn(run(Marker { position: sender, arrivals: Arc::clone(&arrivals) }));
    Track { position, arrivals, task }
}

fn sync_data<'a>(frame: &'a [u8], document: &str) -> Result<Option<&'a [u8]>> {
    let incoming = wire::read(frame)?;
    match incoming.kind {
        "sync" | "request" if incoming.document == document => Ok(Some(incoming.data)),
        "error" => bail!("the server says: {}", incoming.message),
        _ => Ok(None),
    }
}

/// Writes a document. A change counts as acknowledged when the server's heads are at it or past it.
pub struct Author {
    writer: SharedWriter,
    prefix: Vec<u8>,
    history: Arc<History>,
    reads_v2: bool,
    /// Acknowledged up to here.
    pub acked: Track,
}

impl Author {
    /// Join, and write the first `position` changes: as one document if there are many, as new documents come.
    pub async fn start(
        endpoint: &Endpoint,
        name: &str,
        document: &str,
        history: &Arc<History>,
        position: u32,
    ) -> Result<Self> {
        let session = socket::join(endpoint, name, None).await?;
        let prefix = wire::prefix("sync", name, &session.server, document)?;
        let writer = Arc::clone(&session.writer);
        let v2 = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let acked = track(|marker| {
            acknowledgements(
                session,
                document.to_owned(),
                prefix.clone(),
                Arc::clone(history),
                marker,
                Arc::clone(&v2),
            )
        });
        let mut author = Self { writer, prefix, history: Arc::clone(history), reads_v2: false, acked };
        author
            .say(&Sent {
                heads: history.heads(1),
                chunks: history.change(1),
                shared: history.heads(1),
                need: &[],
            })
            .await?;
        author.acked.must_reach(1, Duration::from_secs(30)).await.context("first change")?;
        author.reads_v2 = v2.load(std::sync::atomic::Ordering::Relaxed);
        if position > 1 {
            let chunk = history.document(position)?;
            let heads = history.heads(position);
            author.say(&Sent { heads, chunks: &chunk, shared: heads, need: &[] }).await?;
            author.acked.must_reach(position, Duration::from_secs(120)).await.context("first upload")?;
        }
        Ok(author)
    }

    async fn say(&self, sent: &Sent<'_>) -> Result<()> {
        let mut data = Vec::new();
        sent.write(self.reads_v2, &mut data);
        self.writer.lock().await.send(wire::message(&self.prefix, &data)?).await
    }

    fn message(&self, position: u32) -> Result<Vec<u8>> {
        change_message(&self.prefix, &self.history, position, self.reads_v2)
    }

    /// Send the change that leads to `position`, now.
    pub async fn send(&self, position: u32) -> Result<()> {
        let message = self.message(position)?;
        self.writer.lock().await.send(message).await
    }

    /// Send changes until `to` as fast as they are acknowledged, `window` ahead at most. Returns what was sent by `end`.
    pub async fn flood(&mut self, from: u32, to: u32, window: u32, end: Instant) -> Result<u32> {
        let mut sent = from;
        while sent < to && Instant::now() < end {
            let allowed = to.min(self.acked.position().max(from) + window).min(sent + BATCH);
            if allowed == sent {
                self.acked
                    .reach((sent + 1).saturating_sub(window), end.saturating_duration_since(Instant::now()))
                    .await?;
                continue;
            }
            let mut writer = self.writer.lock().await;
            while sent < allowed {
                sent += 1;
                writer.put(self.message(sent)?).await?;
            }
            writer.flush().await?;
        }
        Ok(sent)
    }

    /// Send changes until `to` at `rate` a second, `window` ahead of the acknowledgements at most, until `end`. Returns when each was sent.
    pub async fn pace(
        &mut self,
        from: u32,
        to: u32,
        rate: u32,
        window: u32,
        end: Instant,
    ) -> Result<Vec<Instant>> {
        let mut times = Vec::new();
        let begin = Instant::now();
        for position in from + 1..=to {
            let due = begin + Duration::from_secs(1) * (position - from - 1) / rate;
            if due > end {
                break;
            }
            sleep_until(due.into()).await;
            let left = end.saturating_duration_since(Instant::now());
            if !self.acked.reach(position.saturating_sub(window).max(from), left).await? {
                break;
            }
            times.push(Instant::now());
            self.send(position).await?;
        }
        Ok(times)
    }
}

fn change_message(prefix: &[u8], history: &History, position: u32, v2: bool) -> Result<Vec<u8>> {
    let heads = history.heads(position);
    let mut data = Vec::with_capacity(256);
    Sent { heads, need: &[], shared: heads, chunks: history.change(position) }.write(v2, &mut data);
    wire::message(prefix, &data)
}

async fn acknowledgements(
    mut session: Session,
    document: String,
    prefix: Vec<u8>,
    history: Arc<History>,
    marker: Marker,
    v2: Arc<std::sync::atomic::AtomicBool>,
) -> Result<()> {
    loop {
        let frame = session.reader.next().await?;
        let Some(data) = sync_data(&frame, &document)? else { continue };
        let received = sync_message::read(data)?;
        v2.fetch_or(received.reads_v2, std::sync::atomic::Ordering::Relaxed);
        let again: Vec<u32> = received.need.iter().filter_map(|hash| history.position(hash)).collect();
        for position in again {
            session
                .writer
                .lock()
                .await
                .send(change_message(&prefix, &history, position, received.reads_v2)?)
                .await?;
        }
        marker.advance(history.furthest(&received.heads));
    }
}

/// Where a reader stands, and what it must say next.
struct Follower {
    history: Arc<History>,
    position: u32,
    parked: BTreeSet<u32>,
    theirs: u32,
    answer: bool,
}

impl Follower {
    fn take(&mut self, received: &Received) -> Result<()> {
        let before = self.position;
        self.position = self.position.max(self.history.furthest(&received.document_heads));
        for hash in &received.changes {
            let position =
                self.history.position(hash).context("the server sent a change that nobody wrote")?;
            if position > self.position {
                self.parked.insert(position);
            }
        }
        while let Some(first) = self.parked.first().copied().filter(|first| *first <= self.position + 1) {
            self.parked.remove(&first);
            self.position = self.position.max(first);
        }
        self.theirs = self.history.furthest(&received.heads);
        self.answer |= self.position != before || self.theirs != self.position;
        Ok(())
    }

    fn need(&self) -> &[ChangeHash] {
        let mut missing = self.theirs;
        while missing > self.position && self.parked.contains(&missing) {
            missing -= 1;
        }
        if missing > self.position { self.history.heads(missing) } else { &[] }
    }

    /// The answer that is due, if any.
    fn answer(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.answer) {
            return None;
        }
        let heads = self.history.heads(self.position);
        let mut data = Vec::with_capacity(128);
        Sent { heads, need: self.need(), shared: heads, chunks: &[] }.write(true, &mut data);
        Some(data)
    }
}

/// Ask for a document as a client that has nothing of it, and follow it. Returns when the request is on its way, and its time.
pub async fn follow(
    endpoint: &Endpoint,
    name: &str,
    document: &str,
    history: &Arc<History>,
) -> Result<(Track, Instant)> {
    let session = socket::join(endpoint, name, None).await?;
    let mut data = Vec::new();
    Sent::default().write(true, &mut data);
    let prefix = wire::prefix("request", name, &session.server, document)?;
    let asked = Instant::now();
    session.writer.lock().await.send(wire::message(&prefix, &data)?).await?;
    let follower = Follower {
        history: Arc::clone(history),
        position: 0,
        parked: BTreeSet::new(),
        theirs: 0,
        answer: false,
    };
    Ok((track(|marker| following(session, document.to_owned(), follower, marker)), asked))
}

async fn following(
    mut session: Session,
    document: String,
    mut follower: Follower,
    marker: Marker,
) -> Result<()> {
    let prefix = wire::prefix("sync", &session.peer, &session.server, &document)?;
    let writer = Arc::clone(&session.writer);
    loop {
        let idle = async {
            if let Some(data) = follower.answer() {
                writer.lock().await.send(wire::message(&prefix, &data)?).await?;
            }
            Ok(())
        };
        let frame = session.reader.next_or(idle).await?;
        if let Some(data) = sync_data(&frame, &document)? {
            follower.take(&sync_message::read(data)?)?;
            marker.advance(follower.position);
        }
    }
}
