//! Brings in changes that came by file, as one more peer would: the same checks, the same commit, and everyone who has the
//! document open gets them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use minicbor::Decoder;
use tokio::time::{Instant, timeout};

use super::{ConnectionInfo, Engine, Outgoing, ReceiveHalf, Rejected, SendHalf};
use crate::store::{Store, StoreError};
use crate::sync::chunk::Change;
use crate::sync::event::Event;
use crate::sync::message::{SyncMessage, flags};
use crate::sync::parcel::Parcel;
use crate::sync::price::Limits;
use crate::sync::snapshot::Index;
use crate::sync::wire::{self, Body};
use crate::types::{ChangeHash, DocKey};

/// Bytes of changes that are made durable at a time, about.
const BATCH_BYTES: usize = 8 << 20;
/// Longest that one document chunk, or one such batch, may take: a large document is opened in seconds.
const PATIENCE: Duration = Duration::from_secs(600);
/// The store is looked at at least this often, should no message tell that it has moved.
const LOOK: Duration = Duration::from_secs(1);

/// What stands for a `client_id` in what came by file.
pub const IMPORT_CLIENT: &str = "local:import";

/// What has become of a parcel. What is there is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brought {
    /// The document's heads before.
    pub before: Vec<ChangeHash>,
    /// Its heads now; with those of the parcel, unless something was left out or refused.
    pub heads: Vec<ChangeHash>,
    /// Changes left out, for what they rest on is neither in the parcel nor in the store.
    pub left_out: usize,
    /// Why a part was refused.
    pub refused: Vec<String>,
}

/// Why a parcel, or the rest of it, is not in.
#[derive(Debug, thiserror::Error)]
pub enum BringError {
    /// No more goes into a document that is kept aside.
    #[error(
        "the server keeps this document aside (quarantined) and takes nothing into it; `docs show` says why"
    )]
    Quarantined,
    /// It is in the bin: taking something in would not bring it back.
    #[error("this document is deleted: `docs restore` brings it back, and then it takes changes again")]
    Deleted,
    /// It was deleted for good.
    #[error("this document was deleted for good, and its id is never taken again")]
    Purged,
    /// The engine let go of us.
    #[error("the server did not take it in: {0}")]
    Closed(String),
    /// It took longer than any document should.
    #[error("the server did not take it in within {} s; its log may say why", PATIENCE.as_secs())]
    TooSlow,
    /// What is there could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Rejected> for BringError {
    fn from(rejected: Rejected) -> Self {
        Self::Closed(rejected.message)
    }
}

/// Why one message brought nothing: the parcel's own fault, or no way to go on.
enum Failed {
    Refused(String),
    Gone(BringError),
}

impl From<BringError> for Failed {
    fn from(error: BringError) -> Self {
        Self::Gone(error)
    }
}

impl From<Rejected> for Failed {
    fn from(rejected: Rejected) -> Self {
        Self::Gone(rejected.into())
    }
}

impl Engine {
    /// Merges a parcel into a document, which may be new; returns when all of it is durable. `store` is the engine's own.
    /// # Errors
    /// As [`BringError`]; some of it may be in by then, and bringing it again does no harm.
    pub async fn bring(
        &self,
        store: &Arc<Store>,
        key: &DocKey,
        mut parcel: Parcel,
    ) -> Result<Brought, BringError> {
        parcel.put_in_order();
        let before = is_there(store, key).await?;
        let mut brought = Brought { before, ..Brought::default() };
        let mut guest = None;
        for whole in parcel.documents {
            if whole.heads.is_empty() || missing(store, key, &whole.heads).await?.is_empty() {
                continue;
            }
            let guest = guest.get_or_insert_with(|| Guest::join(self, store, key));
            let wanted = whole.heads.clone();
            let message =
                SyncMessage { heads: whole.heads, documents: vec![whole.chunk], ..SyncMessage::default() };
            note(store, key, guest.give(message, wanted).await, &mut brought).await?;
        }
        let mut changes = in_reach(store, key, parcel.changes, &mut brought).await?.into_iter().peekable();
        while changes.peek().is_some() {
            let mut bytes = 0;
            let mut batch = Vec::new();
            while bytes < BATCH_BYTES
                && let Some(change) = changes.next()
            {
                bytes += change.bytes.len();
                batch.push(change);
            }
            let wanted: Vec<ChangeHash> = batch.iter().map(|change| change.hash).collect();
            let inner: HashSet<ChangeHash> =
                batch.iter().flat_map(|change| change.deps.iter().copied()).collect();
            let heads = wanted.iter().filter(|hash| !inner.contains(hash)).copied().collect();
            let message = SyncMessage { heads, changes: batch, ..SyncMessage::default() };
            let guest = guest.get_or_insert_with(|| Guest::join(self, store, key));
            note(store, key, guest.give(message, wanted).await, &mut brought).await?;
        }
        brought.heads = heads(store, key).await?;
        Ok(brought)
    }

    /// What one chunk of a file may cost.
    pub fn file_limits(&self) -> Limits {
        self.core.options.price.for_files()
    }
}

async fn note(
    store: &Arc<Store>,
    key: &DocKey,
    given: Result<(), Failed>,
    brought: &mut Brought,
) -> Result<(), BringError> {
    match given {
        Ok(()) => Ok(()),
        Err(Failed::Refused(why)) => {
            brought.refused.push(why);
            Ok(())
        }
        // Perhaps it was deleted meanwhile.
        Err(Failed::Gone(error)) => is_there(store, key).await.and(Err(error)),
    }
}

/// The changes that are new and can be taken in: what they rest on is among them or in the store. Others would wait in
/// memory for what never comes.
async fn in_reach(
    store: &Arc<Store>,
    key: &DocKey,
    changes: Vec<Change>,
    brought: &mut Brought,
) -> Result<Vec<Change>, BringError> {
    let hashes: Vec<ChangeHash> =
        changes.iter().flat_map(|change| change.deps.iter().chain([&change.hash])).copied().collect();
    let mut lacking = missing(store, key, &hashes).await?;
    let mut taken = Vec::new();
    for change in changes {
        if !lacking.contains(&change.hash) {
            continue;
        }
        if change.deps.iter().any(|dep| lacking.contains(dep)) {
            brought.left_out += 1;
        } else {
            lacking.remove(&change.hash);
            taken.push(change);
        }
    }
    Ok(taken)
}

/// Our own peer, for one parcel.
struct Guest {
    inbound: ReceiveHalf,
    outbound: SendHalf,
    store: Arc<Store>,
    key: DocKey,
}

impl Guest {
    fn join(engine: &Engine, store: &Arc<Store>, key: &DocKey) -> Self {
        let mut random = [0; 16];
        // Without randomness the name is merely not its own: a second one would end this one, which is told.
        let _ = getrandom::fill(&mut random);
        let Ok(peer) = format!("import-{}", bs58::encode(random).into_string()).parse() else {
            unreachable!("base58 has no control characters")
        };
        let (namespace, client) = (key.namespace.clone(), IMPORT_CLIENT.into());
        let info = ConnectionInfo {
            namespace,
            read_only: false,
            client,
            peer,
            session: None,
            storage: None,
            token: 0,
            counts: Default::default(),
        };
        let (inbound, outbound) = engine.join(info);
        Self { inbound, outbound, store: store.clone(), key: key.clone() }
    }

    /// Gives a message, and waits until `wanted` is durable.
    async fn give(&mut self, mut message: SyncMessage, wanted: Vec<ChangeHash>) -> Result<(), Failed> {
        // What the document has besides is not sent to us.
        message.flags = Some(flags::READ_ONLY | flags::SUPPORTS_SYNC_RESET);
        let (bytes, document) = (message.bytes(), self.key.document);
        self.inbound.hand_in(Event::Sync { document, message }, bytes).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout(LOOK, self.outbound.next()).await {
                Ok(Some(Outgoing::Message(frame))) => {
                    self.outbound.sent(frame.len());
                    if !self.hear(&frame).await? {
                        continue;
                    }
                }
                Ok(Some(Outgoing::Close(_, reason))) => return Err(BringError::Closed(reason.into()).into()),
                Ok(None) => return Err(BringError::Closed("it is stopping".into()).into()),
                Err(_) => {}
            }
            if missing(&self.store, &self.key, &wanted).await?.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(BringError::TooSlow.into());
            }
        }
    }

    /// True if the document may have moved.
    async fn hear(&self, frame: &Bytes) -> Result<bool, Failed> {
        // The server's own message: it decodes.
        let Ok(envelope) = wire::decode(frame) else { return Ok(false) };
        match envelope.body {
            Body::Sync { document, .. } => Ok(document == self.key.document),
            Body::Unavailable { document } if document == self.key.document => {
                Err(BringError::Quarantined.into())
            }
            // Others look for it: we have nothing but what we bring.
            Body::Request { document, .. } if document != self.key.document => {
                self.inbound.hand_in(Event::Unavailable { document }, 1).await?;
                Ok(false)
            }
            Body::Unknown(kind) if kind == "error" => Err(Failed::Refused(error_text(frame))),
            _ => Ok(false),
        }
    }
}

fn error_text(frame: &[u8]) -> String {
    let mut decoder = Decoder::new(frame);
    let mut read = || {
        for _ in 0..decoder.map().ok()?? {
            if decoder.str().ok()? == "message" {
                return decoder.str().ok().map(str::to_owned);
            }
            decoder.skip().ok()?;
        }
        None
    };
    read().unwrap_or_else(|| "the server gave no reason".into())
}

/// A document's heads, unless it is deleted.
async fn is_there(store: &Arc<Store>, key: &DocKey) -> Result<Vec<ChangeHash>, BringError> {
    let wanted = key.clone();
    match reading(store, move |store| store.head(&wanted)).await? {
        Some(head) if head.purged => Err(BringError::Purged),
        Some(head) if head.deleted.is_some() => Err(BringError::Deleted),
        head => Ok(head.map_or_else(Vec::new, |head| head.heads)),
    }
}

async fn heads(store: &Arc<Store>, key: &DocKey) -> Result<Vec<ChangeHash>, BringError> {
    let key = key.clone();
    reading(store, move |store| Ok(store.head(&key)?.map_or_else(Vec::new, |head| head.heads))).await
}

/// Those of `hashes` that are not durable in the document.
async fn missing(
    store: &Arc<Store>,
    key: &DocKey,
    hashes: &[ChangeHash],
) -> Result<HashSet<ChangeHash>, BringError> {
    let (key, mut missing) = (key.clone(), hashes.iter().copied().collect::<HashSet<_>>());
    reading(store, move |store| {
        let Some(head) = store.head(&key)? else { return Ok(missing) };
        for hash in &head.heads {
            missing.remove(hash);
        }
        if !missing.is_empty() {
            let tail = head.next_row - head.tail_changes..head.next_row;
            store.tail(&key, tail, &mut |row| {
                missing.remove(&row.hash);
                !missing.is_empty()
            })?;
        }
        // After the rows: what a compaction takes from there is here.
        if !missing.is_empty()
            && let Some(index) = store.snapshot_index(&key)?
            && let Ok(index) = Index::decode(&index)
        {
            missing.retain(|hash| !index.knows(hash));
        }
        Ok(missing)
    })
    .await
}

async fn reading<T: Send + 'static>(
    store: &Arc<Store>,
    read: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, BringError> {
    let store = store.clone();
    let read = tokio::task::spawn_blocking(move || read(&store)).await;
    Ok(read.map_err(|_| BringError::Closed("it is stopping".into()))??)
}
