//! A device: automerge's own documents, kept in step through the server, and what the server told it.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use automerge::sync::{self, SyncDoc};
use automerge::transaction::Transactable;
use automerge::{Automerge, ChangeHash, ROOT};

use crate::random::Random;
use crate::socket::{Message, Socket};

/// How long a device waits for an answer before it writes on.
const PACE: Duration = Duration::from_millis(20);
/// Most changes a device makes before it looks at what has arrived.
const BURST: u64 = 8;

/// Heads that the server spoke of, by document.
pub type Told = BTreeMap<String, HashSet<ChangeHash>>;

struct Replica {
    document: Automerge,
    state: sync::State,
}

/// One device with its documents.
pub struct Device {
    name: String,
    replicas: BTreeMap<String, Replica>,
    /// All heads that the server ever told this device: what it must never lose again.
    pub told: Told,
    /// Documents that it writes to now.
    pub writes: Vec<String>,
}

impl Device {
    /// A device without documents.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), replicas: BTreeMap::new(), told: Told::new(), writes: Vec::new() }
    }

    /// Give the device a document; an empty one is asked for when it connects.
    pub fn add(&mut self, id: &str, document: Automerge) {
        self.replicas.insert(id.to_owned(), Replica { document, state: sync::State::new() });
    }

    /// Make a document's first change if it has none: what has no change does not exist for the server.
    pub fn start(&mut self, id: &str) -> Result<(), String> {
        let replica = self.replicas.get_mut(id).ok_or("no such document")?;
        if replica.document.get_heads().is_empty() {
            put(&mut replica.document, "first", "true")
        } else {
            Ok(())
        }
    }

    /// Its copy of a document.
    pub fn document(&self, id: &str) -> Option<&Automerge> {
        self.replicas.get(id).map(|replica| &replica.document)
    }

    /// Connect and offer or ask for every document.
    pub async fn connect(&mut self, port: u16, token: &str) -> Result<Socket, String> {
        let mut socket = Socket::join(port, token, &self.name).await?;
        for (id, replica) in &mut self.replicas {
            replica.state = sync::State::new();
            let kind = if replica.document.get_heads().is_empty() { "request" } else { "sync" };
            if let Some(message) = replica.document.generate_sync_message(&mut replica.state) {
                socket.send(kind, id, &message.encode()).await?;
            }
        }
        Ok(socket)
    }

    /// Write and sync until the connection ends; why it ended.
    pub async fn work(&mut self, socket: &mut Socket, random: &mut Random) -> String {
        loop {
            if let Err(why) = self.step(socket, random).await {
                return why;
            }
        }
    }

    async fn step(&mut self, socket: &mut Socket, random: &mut Random) -> Result<(), String> {
        if !self.writes.is_empty() {
            let id = self.writes[random.below(self.writes.len() as u64) as usize].clone();
            for _ in 0..=random.below(BURST) {
                self.write(&id, random)?;
            }
            self.send(&id, socket).await?;
        }
        // A reader only ever waits; a writer waits a little and writes on.
        match tokio::time::timeout(PACE, socket.receive()).await {
            Ok(message) => self.take(message?, socket).await?,
            Err(_) => return Ok(()),
        }
        while socket.is_behind() {
            let message = socket.receive().await?;
            self.take(message, socket).await?;
        }
        Ok(())
    }

    fn write(&mut self, id: &str, random: &mut Random) -> Result<(), String> {
        let replica = self.replicas.get_mut(id).ok_or("no such document")?;
        let (key, value) = (format!("k{}", random.below(50)), format!("{:x}", random.below(u64::MAX)));
        put(&mut replica.document, &key, &value)
    }

    async fn send(&mut self, id: &str, socket: &mut Socket) -> Result<(), String> {
        let replica = self.replicas.get_mut(id).ok_or("no such document")?;
        match replica.document.generate_sync_message(&mut replica.state) {
            Some(message) => socket.send("sync", id, &message.encode()).await,
            None => Ok(()),
        }
    }

    /// Take in one message, remember what the server spoke of, and answer.
    pub async fn take(&mut self, message: Message, socket: &mut Socket) -> Result<(), String> {
        if message.kind == "error" {
            return Err("the server answered with an error message".to_owned());
        }
        let Some(replica) = self.replicas.get_mut(&message.document) else { return Ok(()) };
        if message.kind != "sync" {
            return Ok(());
        }
        let sync = sync::Message::decode(&message.data).map_err(|error| format!("sync message: {error}"))?;
        self.told.entry(message.document.clone()).or_default().extend(&sync.heads);
        replica
            .document
            .receive_sync_message(&mut replica.state, sync)
            .map_err(|error| format!("sync message: {error}"))?;
        self.send(&message.document, socket).await
    }
}

/// One change: set a key of the root.
pub fn put(document: &mut Automerge, key: &str, value: &str) -> Result<(), String> {
    document
        .transact::<_, _, automerge::AutomergeError>(|transaction| transaction.put(ROOT, key, value))
        .map(drop)
        .map_err(|failure| format!("write: {}", failure.error))
}
