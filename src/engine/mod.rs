//! Runs the sync core on threads: connections, decoders, shards, journal, the document opener.
//!
//! ```text
//! ReceiveHalf -> (decoder) -> shard -> journal -> fsync -> shard -> outbox -> SendHalf
//!                              \-> opener -/
//! ```

mod app;
mod bring;
mod commit;
mod connection;
mod decode;
mod dispose;
mod fair;
mod heart;
mod journal;
mod mailbox;
mod opener;
mod outbox;
mod outboxes;
mod registry;
mod shard;
#[cfg(test)]
mod tests;
mod vital;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

pub use crate::sync::connection::ConnectionInfo;
pub use crate::sync::oversize::{Exceeded, MessageLimit};
pub use app::{AppShare, AppShares};
pub use bring::{BringError, Brought, IMPORT_CLIENT};
pub use connection::{ReceiveHalf, Rejected, SendHalf};
pub use dispose::PURGE_PAGE;
pub use opener::{
    BadEnd, COMMAND as OPENER_COMMAND, LastEnd, OpenerOptions, OpeningFigures, Trouble, TroubleKind,
    open_document,
};
pub use outbox::Outgoing;

use crate::store::{CommitError, Op, Store};
use crate::sync::price::Limits;
use crate::sync::shard::{LARGEST_HOLDERS, ShardOptions, shard_of};
use crate::telemetry::histogram::Buckets;
use crate::types::{ConnectionId, DocKey, Namespace, Party, PeerId, Shares, Steady, StorageId};
use decode::{Access, DecodePool};
use fair::Lane;
use heart::Heart;
use journal::{Journal, Reply};
use mailbox::Sender;
use opener::{Allowed, Known, OpenerPool, Record};
use outbox::Outbox;
use outboxes::Outboxes;
use registry::{Member, Registry};
use shard::{Input, ShardHandle, ShardStats};
use vital::Vital;

/// Between a stop's last message and the close: automerge-repo 2.5.6 answers a message while it applies it, and if the
/// socket closes before that its document takes no more changes until the app is loaded again.
const QUIET_BEFORE_CLOSE: Duration = Duration::from_millis(250);

/// Part of the memory budget that connections may hold, in eighths; the rest is for graphs.
const HELD_EIGHTHS: usize = 7;

/// How the engine runs. Every limit has a unit and a default (see `config`).
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Shard threads; documents are spread over them.
    pub shards: usize,
    /// Bytes that graphs and what connections hold may take together; see `sync/shard/budget.rs`.
    pub memory_budget: usize,
    /// Bytes queued for one connection before its documents are only marked as behind.
    pub outbox_bytes: usize,
    /// Bytes queued for all connections together, besides 16 KiB for each.
    pub outboxes_bytes: usize,
    /// Bytes received from all connections of one approval and not yet worked off before their reading pauses.
    pub inbox_bytes: usize,
    /// Bytes of one message; of a larger one only the ends are handed in ([`ReceiveHalf::too_large`]).
    pub message_bytes: usize,
    /// Documents one connection may have open.
    pub max_documents: usize,
    /// Requests for unknown documents one connection may have pending.
    pub max_requests: usize,
    /// What decoding one sync message may cost.
    pub price: Limits,
    /// Milliseconds after which a peer asked for a document counts as "no".
    pub request_timeout_ms: u64,
    /// Offer every document of the namespace to a new peer.
    pub announce: bool,
    /// Milliseconds a document's tail stays as rows before it may be compacted.
    pub compact_grace_ms: u64,
    /// Changes a tail needs before it is compacted.
    pub compact_floor: u64,
    /// How documents are opened.
    pub opener: OpenerOptions,
}

/// Where memory went that documents and clients make the engine hold, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EngineMemory {
    /// Change graphs.
    pub graphs: u64,
    /// What connections have open, claim and are waiting for.
    pub connections: u64,
    /// Messages that came and were not worked at; each counts as 16 KiB at least.
    pub incoming: u64,
    /// Messages that are being decoded, as their prices estimate it.
    pub decoding: u64,
    /// Messages that wait to be sent, besides 16 KiB for each connection.
    pub outgoing: u64,
}

impl EngineMemory {
    /// By name.
    pub fn by_kind(&self) -> [(&'static str, u64); 5] {
        let Self { graphs, connections, incoming, decoding, outgoing } = *self;
        [
            ("graphs", graphs),
            ("connections", connections),
            ("incoming", incoming),
            ("decoding", decoding),
            ("outgoing", outgoing),
        ]
    }
}

/// A device, and what its connections make the server hold.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holder {
    /// The namespace that its app is approved for.
    pub namespace: String,
    /// The app's `client_id`.
    pub client: String,
    /// The session's id, which names the device.
    pub session: String,
    /// Bytes of the memory budget, about.
    pub bytes: u64,
}

/// The largest holders, put together from what each shard says of its own.
fn largest(of_shards: impl Iterator<Item = (Party, usize)>) -> Vec<Holder> {
    let mut shares = Shares::default();
    of_shards.for_each(|(party, bytes)| shares.add(&party, bytes));
    let holder = |(party, bytes): (Party, usize)| Holder {
        namespace: party.approval.namespace.to_string(),
        client: party.approval.client_id.to_string(),
        session: party.session.to_string(),
        bytes: bytes as u64,
    };
    shares.largest(LARGEST_HOLDERS).into_iter().map(holder).collect()
}

/// Counters for `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EngineStatus {
    /// Joined connections.
    pub connections: u64,
    /// Documents whose graph is in memory.
    pub documents_loaded: u64,
    /// Bytes of the memory budget in use, by graphs and by what connections hold.
    pub memory_bytes: u64,
    /// The devices that hold the most of what connections hold, the largest first, as they were a
    /// second ago; none while it is less than a MiB in a shard.
    pub largest_holders: Vec<Holder>,
    /// Where memory went, in the budget and beside it.
    pub memory: EngineMemory,
    /// Changes made durable since start.
    pub changes_in: u64,
    /// Changes sent to peers since start.
    pub changes_out: u64,
    /// Commits (fsyncs) since start.
    pub commits: u64,
    /// The last journal error in words, until a commit succeeds again.
    pub journal_error: Option<String>,
    /// Documents that are not opened any more, because opening them ended badly twice in a row.
    pub closed_documents: Vec<BadEnd>,
    /// Documents that could not be opened, and why.
    pub opening_troubles: Vec<Trouble>,
    /// `memory.opener` in bytes.
    pub opener_memory_bytes: u64,
}

/// Figures for monitoring.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineFigures {
    /// As for `status`.
    pub status: EngineStatus,
    /// Graphs let go of since start, to stay within the memory budget.
    pub evictions: u64,
    /// Connections closed since start, because they held more than their share of the memory budget.
    pub gave_way: u64,
    /// Documents that stopped being synced since start, because of what is in them.
    pub quarantines: u64,
    /// Sync messages refused since start, because decoding them would have cost more than a limit allows.
    pub refusals: u64,
    /// What waits in each thread's inbox, by the thread's name: `shard`, all of them together, `journal`, `opener`,
    /// `decode`, both of them together.
    pub waiting: [(&'static str, usize); 4],
    /// Documents opened, and openings refused, since start.
    pub openings: OpeningFigures,
    /// From the hand-over to the journal to the disk.
    pub commit: Buckets,
    /// From a message's arrival at its shard to its changes being in the outboxes of others; a commit counts once, and
    /// what the opener had to look at first does not.
    pub relay: Buckets,
}

/// Handle to the running engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
}

struct Core {
    peer: PeerId,
    storage: StorageId,
    options: EngineOptions,
    shards: Vec<Sender<Input>>,
    stats: Vec<Arc<ShardStats>>,
    journal: Journal,
    /// The journal's, then the shards'.
    hearts: Vec<Arc<Heart>>,
    opener: OpenerPool,
    record: Arc<Record>,
    decoding: DecodePool,
    vital: Vital,
    registry: Mutex<Registry>,
    apps: AppShares,
    outboxes: Arc<Outboxes>,
    next_connection: AtomicU64,
}

/// A poisoned lock guards data that every holder leaves whole: go on with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server's own peer id. It contains `storage-server` because many apps share documents only with peers whose id
/// does (`sharePolicy: async id => id.includes("storage-server")`). It depends on the storage id alone, so clients
/// recognise the server after a restart.
fn server_peer_id(storage: &StorageId) -> Result<PeerId, crate::types::NameError> {
    format!("storage-server-groundmist-{storage}").parse()
}

impl Engine {
    /// Start shards, journal, opener and decoders.
    /// # Errors
    /// The system has no threads left.
    pub fn start(store: Arc<Store>, options: EngineOptions) -> io::Result<Self> {
        Self::start_after(LastEnd::Unknown, store, options)
    }

    /// As [`Engine::start`], with what is known of how the last process ended.
    /// # Errors
    /// The system has no threads left.
    pub fn start_after(last_end: LastEnd, store: Arc<Store>, options: EngineOptions) -> io::Result<Self> {
        let storage = store.storage_id().clone();
        let peer = server_peer_id(&storage).map_err(io::Error::other)?;
        let vital = Vital::new();
        let journal = Journal::start(store.clone(), &vital)?;
        let allowed = Allowed {
            memory_bytes: options.opener.memory_bytes,
            message_bytes: options.message_bytes as u64,
            price: options.price,
        };
        let record = Record::load(&store, journal.clone(), &allowed, last_end);
        let opener = OpenerPool::start(store.clone(), record.clone(), options.opener.clone(), &vital)?;
        let decoding = DecodePool::start(options.price, &vital)?;
        let count = options.shards.max(1);
        let (mut shards, mut stats, mut hearts) = (Vec::new(), Vec::new(), vec![journal.heart()]);
        for shard in 0..count {
            let shard_options = ShardOptions {
                storage: storage.clone(),
                shard,
                shards: count,
                memory_budget: options.memory_budget / count,
                held_budget: options.memory_budget / count / 8 * HELD_EIGHTHS,
                max_documents: options.max_documents,
                max_requests: options.max_requests,
                request_timeout_ms: options.request_timeout_ms,
                announce: options.announce,
                compact_grace_ms: options.compact_grace_ms,
                compact_floor: options.compact_floor,
            };
            let shard = ShardHandle::start(
                shard_options,
                peer.clone(),
                store.clone(),
                journal.clone(),
                opener.clone(),
                &vital,
            )?;
            shards.push(shard.input);
            stats.push(shard.stats);
            hearts.push(shard.heart);
        }
        let outboxes = Arc::new(Outboxes::new(options.outboxes_bytes));
        let core = Core {
            peer,
            storage,
            options,
            shards,
            stats,
            journal,
            hearts,
            opener,
            record,
            decoding,
            vital,
            registry: Mutex::default(),
            apps: AppShares::default(),
            outboxes,
            next_connection: AtomicU64::new(1),
        };
        Ok(Self { core: Arc::new(core) })
    }

    /// Our peer id, sent as `senderId`: stable for a store.
    pub fn peer_id(&self) -> &PeerId {
        &self.core.peer
    }

    /// Our storage id, sent in `peerMetadata`.
    pub fn storage_id(&self) -> &StorageId {
        &self.core.storage
    }

    /// Join. An older connection of the same device with the same peer id is closed. The client has had no answer yet: the
    /// caller sends the `peer` message first.
    pub fn join(&self, info: ConnectionInfo) -> (ReceiveHalf, SendHalf) {
        let core = &self.core;
        let id = ConnectionId(core.next_connection.fetch_add(1, Ordering::Relaxed));
        let lane = Lane { party: info.party(), connection: id };
        let outbox =
            Outbox::new(lane.clone(), core.options.outbox_bytes, core.outboxes.clone(), core.shards.clone());
        let outbox = Arc::new(outbox);
        let name = (info.namespace.clone(), info.peer.clone());
        let member = Member { id, device: info.device(), outbox: outbox.clone() };
        let replaced = lock(&core.registry).join(name.clone(), member);
        for old in replaced {
            core.send_all(|| Input::Leave(old.id));
            old.outbox.close(1000, "replaced by a newer connection with this peer id");
        }
        core.send_all(|| Input::Join(id, Box::new(info.clone()), outbox.clone()));
        let app = core.apps.of(&lane.party.approval, core.options.inbox_bytes);
        let access = if info.read_only { Access::ReadOnly } else { Access::ReadWrite };
        connection::pair(
            connection::JoinedConnection { core: core.clone(), id, name, lane, access, app },
            outbox,
        )
    }

    /// Write to the store through the journal: handed over when this is called, in the order of calls; durable when
    /// the future is done, which need not be polled for it.
    /// # Errors
    /// Why it is not durable.
    pub fn commit(&self, ops: Vec<Op>) -> impl Future<Output = Result<(), CommitError>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        self.core.journal.commit(ops, Reply::waiter(sender));
        async { receiver.await.unwrap_or(Err(CommitError::Stopped)) }
    }

    /// True while shards and journal answer in time: each call asks them again.
    pub fn is_alive(&self) -> bool {
        self.is_alive_at(Steady::now())
    }

    fn is_alive_at(&self, now: Steady) -> bool {
        let core = &self.core;
        let alive = core.hearts.iter().all(|heart| heart.is_alive(now));
        core.ping(now);
        alive
    }

    /// Forgets what went wrong with a document, and has it tried again: it is opened when it needs to be, and devices whose
    /// upload was refused are disconnected, so that they send it again. False if nothing was recorded of it.
    /// # Errors
    /// The change is not durable.
    pub async fn retry(&self, key: &DocKey) -> Result<bool, CommitError> {
        let known = self.core.record.retry(key).await?;
        // Limits stay what they are until a restart: a device that came back would send what is too large once more.
        if known != Known::Oversize {
            let shards = &self.core.shards;
            // A shard that has stopped has no document open.
            let _ = shards[shard_of(&key.document, shards.len())].send(Input::Retry(key.clone()));
        }
        Ok(known != Known::Nothing)
    }

    /// Writes down what the owner must know of documents, some seconds after it has changed, as long as this is polled. What
    /// was not written is written when the engine stops.
    pub fn keep_troubles(&self) -> impl Future<Output = ()> + Send + use<> {
        self.core.record.clone().keep_written()
    }

    /// The documents that were being opened when the last process ended without having been stopped, as far as that was
    /// written down beforehand.
    pub fn interrupted(&self) -> &[BadEnd] {
        self.core.record.interrupted()
    }

    /// Tells each time that opening a document in a process of its own has ended badly.
    pub fn ended_badly(&self) -> watch::Receiver<u64> {
        self.core.record.ended_badly()
    }

    /// Has the first shard die.
    #[cfg(test)]
    pub fn break_shard(&self) {
        let _ = self.core.shards[0].send(Input::Panic);
    }

    /// Waits until a thread has died without which the engine cannot go on: its name. End the process then, after
    /// [`Engine::shutdown`] has saved what can be; nothing that was acknowledged is lost.
    pub async fn died(&self) -> String {
        self.core.vital.died().await
    }

    /// Counters.
    pub fn status(&self) -> EngineStatus {
        let (core, memory) = (&self.core, self.memory());
        EngineStatus {
            connections: lock(&core.registry).len() as u64,
            documents_loaded: core.sum(|stats| &stats.documents_loaded),
            memory_bytes: memory.graphs + memory.connections,
            memory,
            largest_holders: largest(
                core.stats.iter().flat_map(|stats| lock(&stats.largest_holders).clone()),
            ),
            changes_in: core.sum(|stats| &stats.changes_in),
            changes_out: core.sum(|stats| &stats.changes_out),
            commits: core.journal.commits(),
            journal_error: core.journal.error(),
            closed_documents: core.record.closed(),
            opening_troubles: core.record.troubles(),
            opener_memory_bytes: core.options.opener.memory_bytes,
        }
    }

    /// Where memory went.
    pub fn memory(&self) -> EngineMemory {
        let core = &self.core;
        EngineMemory {
            graphs: core.sum(|stats| &stats.graph_bytes),
            connections: core.sum(|stats| &stats.held_bytes),
            incoming: core.apps.incoming(core.options.inbox_bytes) as u64,
            decoding: core.decoding.memory(),
            outgoing: core.outboxes.held() as u64,
        }
    }

    /// Figures for monitoring.
    pub fn figures(&self) -> EngineFigures {
        let core = &self.core;
        EngineFigures {
            status: self.status(),
            evictions: core.sum(|stats| &stats.evictions),
            gave_way: core.sum(|stats| &stats.gave_way),
            quarantines: core.sum(|stats| &stats.quarantines),
            refusals: core.decoding.refusals(),
            waiting: [
                ("shard", core.shards.iter().map(Sender::len).sum()),
                ("journal", core.journal.waiting()),
                ("opener", core.opener.waiting()),
                ("decode", core.decoding.waiting()),
            ],
            openings: core.opener.figures(),
            commit: core.journal.took(),
            relay: core.stats.iter().map(|stats| stats.relay.read()).sum(),
        }
    }

    /// Ends the openings of documents, which a stop does not wait for.
    pub fn end_openings(&self) {
        // First the record: what is interrupted now is no fault of the documents.
        self.core.record.stop();
        self.core.opener.stop();
    }

    /// Commit what waits, close all connections with 1001, stop the threads.
    pub async fn shutdown(&self) {
        self.end_openings();
        let mut stopped = Vec::new();
        for shard in &self.core.shards {
            let (sender, receiver) = oneshot::channel();
            if shard.send(Input::Stop(sender)).is_ok() {
                stopped.push(receiver);
            }
        }
        for receiver in stopped {
            let _ = receiver.await;
        }
        let settled = self.core.journal.stop();
        if !lock(&self.core.registry).is_empty() {
            tokio::time::sleep(QUIET_BEFORE_CLOSE).await;
        }
        for member in lock(&self.core.registry).members() {
            member.outbox.close(1001, "the server is stopping");
        }
        let _ = settled.await;
    }
}

impl Core {
    /// Asks the journal and each shard for a sign of life, unless they were asked and have not answered.
    fn ping(&self, now: Steady) {
        // Asked first, then pinged: an answer that overtook the question would leave it open.
        let [journal, shards @ ..] = &self.hearts[..] else { return };
        if journal.ask(now) {
            self.journal.ping();
        }
        for (heart, shard) in shards.iter().zip(&self.shards) {
            if heart.ask(now) {
                let _ = shard.send(Input::Ping);
            }
        }
    }

    fn send_all(&self, mut input: impl FnMut() -> Input) {
        for shard in &self.shards {
            // A shard that has stopped needs no news.
            let _ = shard.send(input());
        }
    }

    fn sum(&self, of: fn(&ShardStats) -> &AtomicU64) -> u64 {
        self.stats.iter().map(|stats| of(stats).load(Ordering::Relaxed)).sum()
    }

    fn leave(&self, id: ConnectionId, name: &(Namespace, PeerId)) {
        lock(&self.registry).leave(id, name);
        self.send_all(|| Input::Leave(id));
    }
}
