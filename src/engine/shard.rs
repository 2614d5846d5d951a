//! A shard's thread: feeds its [`Shard`] and carries out what it wants.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::app::InboxPermit;
use super::fair::{FairQueue, Lane, cost};
use super::heart::Heart;
use super::journal::{Journal, Reply};
use super::lock;
use super::mailbox::{Empty, Receiver, Sender, mailbox};
use super::opener::{OpenerPool, Task};
use super::outbox::Outbox;
use super::vital::Vital;
use crate::store::{CommitError, Disposal, Store};
use crate::sync::connection::{ConnectionInfo, Out};
use crate::sync::event::Event;
use crate::sync::job::Done;
use crate::sync::shard::{Shard, ShardOptions};
use crate::sync::wire;
use crate::telemetry::histogram::Histogram;
use crate::types::{ConnectionId, DocKey, Now, Party, PeerId};

/// How long a shard works at messages, and how long it makes messages, before it looks at all else: commits that have
/// become durable, newcomers, the opener. Nobody waits for another app much longer than this.
const QUANTUM: Duration = Duration::from_millis(2);
/// What a message is taken to cost before it is worked at, in nanoseconds; the difference is charged afterwards.
const MESSAGE_COST_NS: u64 = 5_000;
/// How often waiting requests are looked at; idle shards do not wake up.
const TICK: Duration = Duration::from_millis(100);

/// While connections hold less than this together, nobody is named for it. Bytes.
const NAMED_BYTES: usize = 1 << 20;
/// How often those who hold the most are named anew.
const NAME_EVERY: Duration = Duration::from_secs(1);

/// Who waits for a disposal.
type Waiter = oneshot::Sender<Result<(), CommitError>>;

/// What a shard is told.
pub enum Input {
    /// A connection joined.
    Join(ConnectionId, Box<ConnectionInfo>, Arc<Outbox>),
    /// A connection is gone.
    Leave(ConnectionId),
    /// A message came, with its room in the app's inbox.
    Message(ConnectionId, Box<Event>, InboxPermit),
    /// A connection has room again.
    Room(ConnectionId),
    /// The steps handed to the journal are durable, or why not.
    Committed(Result<(), CommitError>),
    /// The opener is done.
    JobDone(Box<Done>),
    /// Delete a document, restore or purge it; the sender hears when that is durable, or why it is not.
    Dispose(DocKey, Disposal, Waiter),
    /// A document that stayed closed may be opened again.
    Retry(DocKey),
    /// Show a sign of life.
    Ping,
    /// Make all durable that has come, tell peers, end.
    Stop(oneshot::Sender<()>),
    /// Die of it.
    #[cfg(test)]
    Panic,
    /// Hang until the sender is gone.
    #[cfg(test)]
    Hang(std::sync::mpsc::Receiver<()>),
}

/// Counters of one shard.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct ShardStats {
    pub documents_loaded: AtomicU64,
    pub graph_bytes: AtomicU64,
    pub held_bytes: AtomicU64,
    pub changes_in: AtomicU64,
    pub changes_out: AtomicU64,
    pub evictions: AtomicU64,
    pub gave_way: AtomicU64,
    pub quarantines: AtomicU64,
    /// The devices that held the most of `held_bytes` about a second ago. The list is empty while that is less than
    /// [`NAMED_BYTES`].
    pub largest_holders: Mutex<Vec<(Party, usize)>>,
    /// From a message's arrival to its changes being in the outboxes of others.
    pub relay: Histogram,
}

/// Handle to a started shard.
pub struct ShardHandle {
    /// Where it is told things.
    pub input: Sender<Input>,
    /// Its counters.
    pub stats: Arc<ShardStats>,
    /// Its proof of life.
    pub heart: Arc<Heart>,
}

/// What a connection sent and the shard has not worked at. Its end waits behind its messages: what a client sent
/// before it hung up counts.
enum Queued {
    Message(Box<Event>, InboxPermit),
    Leave,
}

/// A connection as the thread knows it.
struct Connected {
    peer: PeerId,
    outbox: Arc<Outbox>,
    /// Whose turns its messages take, inwards and outwards.
    lane: Lane,
    /// It stands in `sending`.
    sends: bool,
}

struct ShardThread {
    shard: Shard,
    /// The shard has this number.
    index: usize,
    store: Arc<Store>,
    journal: Journal,
    opener: OpenerPool,
    input: Sender<Input>,
    /// Our own peer id.
    us: PeerId,
    connections: HashMap<ConnectionId, Connected>,
    /// What came and waits for its turn.
    queue: FairQueue<(ConnectionId, Queued)>,
    /// Connections that have something to send and room for it.
    sending: FairQueue<ConnectionId>,
    committing: bool,
    /// Who waits for the next commit, and for the one under way.
    waiting: Vec<Waiter>,
    told: Vec<Waiter>,
    relay: RelayClock,
    stopping: Option<oneshot::Sender<()>>,
    /// When those who hold the most were named, if some are.
    named: Option<Instant>,
    stats: Arc<ShardStats>,
    heart: Arc<Heart>,
}

/// Times the way of changes through the shard: one look at the clock for a batch of inputs and for a commit, so that a
/// commit is one measurement, of the message in it that waited longest.
#[derive(Default)]
struct RelayClock {
    /// When the first message came that is in no commit yet.
    waiting: Option<Instant>,
    /// When the first message came whose changes are in the commit under way.
    committing: Option<Instant>,
    /// When the first message came whose changes have just become durable, and how many changes were sent before.
    sending: Option<(Instant, u64)>,
}

impl ShardHandle {
    /// Start the thread.
    /// # Errors
    /// The system has no threads left.
    pub fn start(
        options: ShardOptions,
        us: PeerId,
        store: Arc<Store>,
        journal: Journal,
        opener: OpenerPool,
        vital: &Vital,
    ) -> io::Result<Self> {
        let (input, inputs) = mailbox();
        let name = format!("shard-{}", options.shard);
        let mut thread = ShardThread::new(options, us, store, journal, opener, input.clone());
        let (stats, heart) = (thread.stats.clone(), thread.heart.clone());
        vital.spawn(name, move || thread.run(&inputs))?;
        Ok(Self { input, stats, heart })
    }
}

impl ShardThread {
    fn new(
        options: ShardOptions,
        us: PeerId,
        store: Arc<Store>,
        journal: Journal,
        opener: OpenerPool,
        input: Sender<Input>,
    ) -> Self {
        Self {
            us,
            index: options.shard,
            shard: Shard::new(options),
            store,
            journal,
            opener,
            input,
            connections: HashMap::new(),
            queue: FairQueue::default(),
            sending: FairQueue::default(),
            committing: false,
            waiting: Vec::new(),
            told: Vec::new(),
            relay: RelayClock::default(),
            stopping: None,
            named: None,
            stats: Arc::default(),
            heart: Arc::default(),
        }
    }

    fn run(&mut self, inputs: &Receiver<Input>) {
        let mut batch = VecDeque::new();
        let mut ticked = Instant::now();
        let mut due = false;
        loop {
            let is_ready = self.queue.is_ready(|approval| self.shard.may_go_on(approval));
            let busy = due || is_ready || self.shard.has_backlog() || !self.sending.is_empty();
            let wait = match busy {
                true => Some(Duration::ZERO),
                false => self.shard.needs_ticks().then_some(TICK),
            };
            match inputs.take(&mut batch, usize::MAX, wait) {
                Ok(()) | Err(Empty::Timeout) => {}
                Err(Empty::Closed) => return,
            }
            if self.relay.waiting.is_none() && batch.iter().any(|input| matches!(input, Input::Message(..))) {
                self.relay.waiting = Some(Instant::now());
            }
            batch.drain(..).for_each(|input| self.take(input));
            self.work();
            if due || ticked.elapsed() >= TICK {
                due = self.shard.tick(Now::read());
                ticked = Instant::now();
            }
            self.work_off();
            self.commit();
            for job in self.shard.take_jobs() {
                let connected = job.connection().and_then(|id| self.connections.get(&id));
                let party = connected.map(|connected| connected.lane.party.clone());
                self.opener.submit(Task::new(job, party, self.input.clone()));
            }
            for key in self.shard.take_came_singly() {
                self.opener.came_singly(&key);
            }
            for oversized in self.shard.take_oversized() {
                self.opener.oversized(&oversized);
            }
            for (party, key) in self.shard.take_saved() {
                self.opener.saved(&party, &key);
            }
            self.fill_outboxes();
            self.measure_relay();
            self.publish();
            let is_done = self.queue.is_empty() && self.sending.is_empty() && !self.shard.has_departures();
            if self.stopping.is_some() && !self.committing && is_done {
                self.end();
                return;
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Join(id, info, outbox) => {
                let (peer, lane) = (info.peer.clone(), Lane { party: info.party(), connection: id });
                self.connections.insert(id, Connected { peer, outbox, lane, sends: false });
                self.shard.join(id, *info, Now::read());
            }
            Input::Leave(id) => self.enqueue(id, Queued::Leave),
            Input::Message(id, event, permit) => self.enqueue(id, Queued::Message(event, permit)),
            Input::Room(id) => self.shard.has_room(id),
            Input::Committed(result) => {
                self.committing = false;
                let began = self.relay.committing.take();
                self.told.drain(..).for_each(|waiter| drop(waiter.send(result.clone())));
                match result {
                    Ok(()) => {
                        self.relay.sending = began.map(|began| (began, self.shard.counters().changes_out));
                        self.shard.committed(&*self.store, Now::read());
                    }
                    Err(error) => self.shard.commit_failed(&error, &*self.store, Now::read()),
                }
            }
            Input::Dispose(key, what, waiter) => match self.shard.dispose(&key, what, &*self.store) {
                Ok(()) => self.waiting.push(waiter),
                Err(error) => drop(waiter.send(Err(error.into()))),
            },
            Input::JobDone(done) => self.shard.job_done(*done, &*self.store, Now::read()),
            Input::Retry(key) => self.shard.retry(&key),
            Input::Ping => self.heart.beat(),
            Input::Stop(reply) => self.stopping = Some(reply),
            #[cfg(test)]
            Input::Panic => panic!("asked to"),
            #[cfg(test)]
            Input::Hang(until) => drop(until.recv()),
        }
    }

    fn commit(&mut self) {
        if self.committing {
            return;
        }
        let ops = self.shard.take_ops(Now::read());
        let began = self.relay.waiting.take();
        let waiting = std::mem::take(&mut self.waiting);
        if ops.is_empty() {
            waiting.into_iter().for_each(|waiter| drop(waiter.send(Ok(()))));
        } else {
            self.told = waiting;
            self.committing = true;
            self.relay.committing = began;
            self.journal.commit(ops, Reply::shard(self.input.clone()));
        }
    }

    fn enqueue(&mut self, id: ConnectionId, queued: Queued) {
        // What a connection sent that has left already has nobody to answer to.
        if let Some(connected) = self.connections.get(&id) {
            self.queue.push(&connected.lane, MESSAGE_COST_NS, (id, queued));
        }
    }

    /// Works at what came, in fair turns, for a [`QUANTUM`].
    fn work(&mut self) {
        let began = Instant::now();
        let mut before = began;
        while let Some((lane, (id, queued))) = self.queue.pop(|approval| self.shard.may_go_on(approval)) {
            match queued {
                Queued::Message(event, _permit) => self.shard.receive(id, *event, &*self.store, Now::read()),
                Queued::Leave => {
                    self.connections.remove(&id);
                    self.shard.leave(id, Now::read());
                    self.opener.leave(id);
                }
            }
            let after = Instant::now();
            self.queue.charge(&lane, cost(after - before) - MESSAGE_COST_NS as i64);
            before = after;
            if after - began >= QUANTUM {
                break;
            }
        }
        self.queue.settle();
    }

    /// Does what is done in turns, then works at departures for a [`QUANTUM`]. Others may take memory for as long in each
    /// turn, so what is to be given back does not pile up. The party that comes or leaves pays: its next messages come later if others wait.
    fn work_off(&mut self) {
        let began = Instant::now();
        let newcomer = self.shard.work_off(Now::read());
        let mut before = Instant::now();
        if let Some((connection, party)) = newcomer {
            self.queue.charge(&Lane { party, connection }, cost(before - began));
        }
        let began = before;
        while let Some((connection, party)) = self.shard.continue_departures(Now::read()) {
            let after = Instant::now();
            self.queue.charge(&Lane { party, connection }, cost(after - before));
            before = after;
            if after - began >= QUANTUM {
                break;
            }
        }
    }

    /// Makes messages for connections that have room, in fair turns, for a [`QUANTUM`].
    fn fill_outboxes(&mut self) {
        while let Some(id) = self.shard.next_ready() {
            if let Some(connected) = self.connections.get_mut(&id)
                && !std::mem::replace(&mut connected.sends, true)
            {
                self.sending.push(&connected.lane, MESSAGE_COST_NS, id);
            }
        }
        let began = Instant::now();
        let mut before = began;
        while let Some((lane, id)) = self.sending.pop(|_| true) {
            let sent = self.send_next(id);
            let after = Instant::now();
            self.sending.charge(&lane, cost(after - before) - MESSAGE_COST_NS as i64);
            before = after;
            if sent {
                self.sending.push(&lane, MESSAGE_COST_NS, id);
            } else if let Some(connected) = self.connections.get_mut(&id) {
                connected.sends = false;
            }
            if after - began >= QUANTUM {
                break;
            }
        }
        self.sending.settle();
    }

    /// Makes one message for a connection; false when it has no room or there is nothing to send.
    fn send_next(&mut self, id: ConnectionId) -> bool {
        let Some(Connected { peer, outbox, .. }) = self.connections.get(&id) else { return false };
        let Some(room) = outbox.room() else { return false };
        let Some(out) = self.shard.next(id, &*self.store, Now::read(), room.bytes) else { return false };
        match out {
            Out::NoRoom => {
                outbox.wait(room, self.index, &self.input);
                return false;
            }
            Out::Message { sender, body } => {
                let sender = sender.as_deref().unwrap_or(self.us.as_str());
                outbox.push(wire::encode(sender, peer.as_str(), &body));
            }
            Out::Error(message) => outbox.push(wire::encode_error(self.us.as_str(), peer.as_str(), &message)),
            Out::Close(code, reason) => outbox.close(code, reason),
        }
        true
    }

    fn measure_relay(&mut self) {
        if let Some((began, sent)) = self.relay.sending.take()
            && self.shard.counters().changes_out > sent
        {
            self.stats.relay.observe(began.elapsed());
        }
    }

    fn publish(&mut self) {
        let is_worth_a_name = self.shard.held() >= NAMED_BYTES;
        if is_worth_a_name != self.named.is_some() || self.named.is_some_and(|at| at.elapsed() >= NAME_EVERY)
        {
            let largest = if is_worth_a_name { self.shard.largest_holders() } else { Vec::new() };
            *lock(&self.stats.largest_holders) = largest;
            self.named = is_worth_a_name.then(Instant::now);
        }
        let (memory, loaded) = self.shard.memory();
        let counters = self.shard.counters();
        self.stats.graph_bytes.store(memory as u64, Ordering::Relaxed);
        self.stats.held_bytes.store(self.shard.held() as u64, Ordering::Relaxed);
        self.stats.documents_loaded.store(loaded as u64, Ordering::Relaxed);
        self.stats.changes_in.store(counters.changes_in, Ordering::Relaxed);
        self.stats.changes_out.store(counters.changes_out, Ordering::Relaxed);
        self.stats.evictions.store(counters.evictions, Ordering::Relaxed);
        self.stats.gave_way.store(counters.gave_way, Ordering::Relaxed);
        self.stats.quarantines.store(counters.quarantines, Ordering::Relaxed);
    }

    fn end(&mut self) {
        if let Some(reply) = self.stopping.take() {
            let _ = reply.send(());
        }
    }
}

#[cfg(test)]
#[path = "shard_tests.rs"]
mod tests;
