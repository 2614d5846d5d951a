//! A server (shard, storage, opener) and automerge's own peers on a simulated network. Virtual time, one seed.

mod openings;
pub mod storage;

use std::collections::VecDeque;

use automerge::sync::{Message, MessageVersion, State, SyncDoc};
use automerge::{ActorId, AutoCommit, ROOT, transaction::Transactable};
use bytes::Bytes;
use groundmist_sync::store::{CommitError, Disposal, Head, Op};
use groundmist_sync::sync::connection::{ConnectionInfo, Out};
use groundmist_sync::sync::event::Event;
use groundmist_sync::sync::job::{Done, Job};
use groundmist_sync::sync::message::SyncMessage;
use groundmist_sync::sync::price::Limits;
use groundmist_sync::sync::shard::{Shard, ShardOptions};
use groundmist_sync::sync::storage::Storage;
use groundmist_sync::sync::wire::Body;
use groundmist_sync::types::{ConnectionId, DocKey, DocumentId, Now};

use openings::Openings;
use storage::MemoryStorage;

/// splitmix64: enough for choosing what happens next.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

pub struct Peer {
    pub docs: Vec<AutoCommit>,
    states: Vec<State>,
    connection: Option<ConnectionId>,
    to_server: VecDeque<(usize, Bytes)>,
    from_server: VecDeque<(usize, Bytes)>,
    v1: bool,
    storage: bool,
    pub unavailable: Vec<bool>,
}

pub struct World {
    pub rng: Rng,
    pub storage: MemoryStorage,
    shard: Shard,
    openings: Openings,
    /// Uploads that came to nothing, of devices that are to be told so.
    refused_uploads: u64,
    committing: Option<Vec<Op>>,
    pub peers: Vec<Peer>,
    documents: Vec<DocumentId>,
    next_connection: u64,
    now: Now,
    options: ShardOptions,
    pub messages: u64,
    /// No message lacks room now.
    plenty: bool,
}

pub fn key(document: DocumentId) -> DocKey {
    DocKey { namespace: "xyz.sim".parse().unwrap(), document }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let options = ShardOptions {
            storage: "server".parse().unwrap(),
            shard: 0,
            shards: 1,
            // Often so small that every message evicts.
            memory_budget: [0, 3000, 1 << 20][rng.below(3)],
            held_budget: 1 << 20,
            max_documents: 100,
            max_requests: 100,
            request_timeout_ms: 50,
            announce: rng.chance(30),
            compact_grace_ms: [0, 100][rng.below(2)],
            compact_floor: [2, 5, 40, 1 << 40][rng.below(4)],
        };
        let count = 2 + rng.below(3);
        let documents: Vec<_> = (0..1 + rng.below(2)).map(|n| DocumentId([n as u8 + 1; 16])).collect();
        let peers =
            (0..count).map(|n| Peer::new(n, documents.len(), rng.chance(40), rng.chance(50))).collect();
        Self {
            shard: Shard::new(options.clone()),
            openings: Openings::new(&mut rng, seed),
            refused_uploads: 0,
            committing: None,
            storage: MemoryStorage::default(),
            rng,
            peers,
            documents,
            next_connection: 0,
            now: Now::at(1_000_000),
            options,
            messages: 0,
            plenty: false,
        }
    }

    /// One thing that happens.
    pub fn step(&mut self) {
        let who = self.rng.below(self.peers.len());
        match self.rng.below(100) {
            0..=19 => self.edit(who),
            20..=54 => self.deliver_to_server(who),
            55..=79 => self.deliver_to_peer(who),
            80..=84 => self.commit(),
            85..=87 => self.open(),
            88..=90 => self.connect(who),
            91..=92 => self.disconnect(who),
            93 => self.meet(who),
            94 if self.rng.chance(30) => self.crash(),
            95 if self.rng.chance(30) => self.fail_commit(),
            96 if self.rng.chance(40) => self.dispose(),
            97 if self.rng.chance(30) => {
                let which = self.rng.below(self.documents.len());
                self.shard.retry(&key(self.documents[which]));
            }
            _ => {
                // Mostly little; now and then enough for a question to others, or for one not to be answered.
                let most = if self.rng.chance(10) { 1000 } else { 30 };
                self.now += self.rng.below(most) as u64;
                self.shard.tick(self.now);
            }
        }
        self.pump();
    }

    fn edit(&mut self, who: usize) {
        let which = self.rng.below(self.documents.len());
        let many = if self.rng.chance(1) { 300 } else { 1 + self.rng.below(3) };
        for _ in 0..many {
            let (name, value) = (format!("k{}", self.rng.below(8)), self.rng.next());
            let doc = &mut self.peers[who].docs[which];
            if self.rng.chance(10) {
                doc.put(ROOT, name, "long ".repeat(self.rng.below(400))).unwrap();
            } else {
                doc.put(ROOT, name, value as i64).unwrap();
            }
            doc.commit();
        }
        self.peers[who].send(which);
    }

    /// Two peers synchronise by a way that the server does not see.
    fn meet(&mut self, who: usize) {
        let other = self.rng.below(self.peers.len());
        let which = self.rng.below(self.documents.len());
        let mut theirs = self.peers[other].docs[which].clone();
        self.peers[who].docs[which].merge(&mut theirs).unwrap();
        self.peers[who].send(which);
    }

    pub fn connect(&mut self, who: usize) {
        if self.peers[who].connection.is_some() {
            return;
        }
        self.next_connection += 1;
        let id = ConnectionId(self.next_connection);
        let keep = self.rng.chance(50);
        let peer = &mut self.peers[who];
        peer.connection = Some(id);
        let storage = peer.storage.then(|| format!("storage-{who}").parse().unwrap());
        for state in &mut peer.states {
            // What a client with storage keeps between connections, or nothing.
            *state = if keep { State::decode(&state.encode()).unwrap() } else { State::new() };
        }
        let peer_id = format!("peer-{who}").parse().unwrap();
        let (namespace, client) = (key(self.documents[0]).namespace, "https://app.example/".into());
        let info = ConnectionInfo {
            namespace,
            read_only: false,
            client,
            peer: peer_id,
            session: None,
            storage,
            token: 0,
            counts: Default::default(),
        };
        self.shard.join(id, info, self.now);
        for which in 0..self.documents.len() {
            self.peers[who].send(which);
        }
    }

    fn disconnect(&mut self, who: usize) {
        let peer = &mut self.peers[who];
        if let Some(id) = peer.connection.take() {
            peer.to_server.clear();
            peer.from_server.clear();
            self.shard.leave(id, self.now);
        }
    }

    /// The process dies: what was not committed is gone, connections break.
    fn crash(&mut self) {
        for peer in &mut self.peers {
            peer.connection = None;
            peer.to_server.clear();
            peer.from_server.clear();
        }
        self.openings.crash();
        self.refused_uploads = 0;
        self.committing = None;
        assert_eq!(self.shard.counters().quarantines, 0);
        self.shard = Shard::new(self.options.clone());
    }

    fn deliver_to_server(&mut self, who: usize) {
        let peer = &mut self.peers[who];
        let (Some(id), Some((which, data))) = (peer.connection, peer.to_server.pop_front()) else { return };
        let document = self.documents[which];
        let message =
            SyncMessage::decode(&data, &Limits::default()).expect("automerge's messages are well-formed");
        self.shard.receive(id, Event::Sync { document, message }, &self.storage, self.now);
        self.messages += 1;
    }

    fn deliver_to_peer(&mut self, who: usize) {
        let Some((which, data)) = self.peers[who].from_server.pop_front() else { return };
        let mut message = Message::decode(&data).expect("our messages are well-formed");
        let peer = &mut self.peers[who];
        if peer.v1 {
            assert_eq!(message.version, MessageVersion::V1, "an old peer gets old messages");
            message.flags = None;
        }
        peer.docs[which].sync().receive_sync_message(&mut peer.states[which], message).unwrap();
        peer.send(which);
    }

    fn commit(&mut self) {
        match self.committing.take() {
            Some(ops) => {
                self.storage.commit(&ops);
                // Between the store's commit and the shard hearing of it, messages may be made.
                if self.rng.chance(30) {
                    self.pump();
                }
                self.shard.committed(&self.storage, self.now);
            }
            None => {
                let ops = self.shard.take_ops(self.now);
                self.committing = (!ops.is_empty()).then_some(ops);
            }
        }
    }

    /// The owner deletes a document, brings it back, or has it gone for good.
    fn dispose(&mut self) {
        let which = self.rng.below(self.documents.len());
        let what = match self.rng.below(10) {
            0..=5 => Disposal::Delete,
            6..=8 => Disposal::Restore,
            _ => Disposal::Purge { deleted_by: self.now.wall },
        };
        self.shard.dispose(&key(self.documents[which]), what, &self.storage).unwrap();
    }

    fn head(&self, document: DocumentId) -> Option<Head> {
        self.storage.head(&key(document)).unwrap()
    }

    fn fail_commit(&mut self) {
        if self.committing.take().is_some() {
            self.shard.commit_failed(&CommitError::Stopped, &self.storage, self.now);
        }
    }

    fn open(&mut self) {
        self.openings.submit(self.shard.take_jobs());
        if let Some(done) = self.openings.go_on(&mut self.rng, &self.storage) {
            self.job_done(done);
        }
    }

    fn job_done(&mut self, done: Done) {
        if let Done::Refused(Job::Intake { connection, .. }, _)
        | Done::Intake { connection, result: Err(_), .. } = &done
            && self.peers.iter().any(|peer| peer.connection == Some(*connection))
        {
            self.refused_uploads += 1;
        }
        self.shard.job_done(done, &self.storage, self.now);
    }

    /// From now on openings succeed, and the owner has allowed another try at what they failed at.
    fn end_faults(&mut self) {
        self.openings.end_faults();
        while let Some(done) = self.openings.answer(&mut self.rng) {
            self.job_done(done);
        }
        for document in self.documents.clone() {
            self.shard.retry(&key(document));
        }
    }

    /// Let connections with room take what the shard has for them.
    fn pump(&mut self) {
        let mut full = Vec::new();
        let mut sent = 0;
        while let Some(id) = self.shard.next_ready() {
            let mut room = if !self.plenty && self.rng.chance(20) { 0 } else { 1 + self.rng.below(4) };
            loop {
                if room == 0 {
                    full.push(id);
                    break;
                }
                room -= 1;
                // Outboxes share their room, so there may be too little of it for what comes next.
                let bytes =
                    if !self.plenty && self.rng.chance(20) { self.rng.below(4000) } else { usize::MAX };
                let Some(out) = self.shard.next(id, &self.storage, self.now, bytes) else { break };
                if out == Out::NoRoom {
                    full.push(id);
                    break;
                }
                sent += 1;
                assert!(sent < 5000, "endless messages, the last: {out:?}");
                self.put(id, out);
            }
        }
        full.into_iter().for_each(|id| self.shard.has_room(id));
    }

    fn put(&mut self, id: ConnectionId, out: Out) {
        let Some(who) = self.peers.iter().position(|peer| peer.connection == Some(id)) else { return };
        match out {
            Out::Message {
                body: Body::Sync { document, data } | Body::Request { document, data }, ..
            } => {
                let message = Message::decode(&data).unwrap();
                let all_durable = message.heads.iter().all(|head| self.storage.is_durable(head));
                assert!(all_durable, "advertised before durable");
                let which = self.documents.iter().position(|other| *other == document).unwrap();
                self.peers[who].from_server.push_back((which, data));
            }
            Out::Message { body: Body::Unavailable { document }, .. } => {
                let which = self.documents.iter().position(|other| *other == document).unwrap();
                self.peers[who].unavailable[which] = true;
            }
            Out::Message { .. } | Out::NoRoom => {}
            Out::Error(message) => {
                let is_refusal = self.refused_uploads > 0 && message.ends_with("it was not taken");
                assert!(is_refusal, "an honest peer got an error: {message}");
                self.refused_uploads -= 1;
            }
            Out::Close(..) => self.disconnect(who),
        }
    }

    /// Let everything be delivered. Panics when it does not come to rest.
    pub fn settle(&mut self) {
        self.check_nothing_lost();
        self.end_faults();
        for document in self.documents.clone() {
            self.shard.dispose(&key(document), Disposal::Restore, &self.storage).unwrap();
        }
        for who in 0..self.peers.len() {
            self.connect(who);
        }
        for _ in 0..2000 {
            self.pump();
            let mut busy = false;
            for who in 0..self.peers.len() {
                self.connect(who); // a failed commit may have closed it
                busy |= !self.peers[who].to_server.is_empty() || !self.peers[who].from_server.is_empty();
                self.deliver_to_server(who);
                self.pump();
                self.deliver_to_peer(who);
            }
            busy |= !self.openings.is_quiet();
            self.open();
            busy |= self.committing.is_some();
            self.commit();
            busy |= self.committing.is_some();
            self.now += 10;
            self.shard.tick(self.now);
            if !busy && !self.pending() {
                return;
            }
        }
        panic!("the network does not come to rest");
    }

    fn pending(&mut self) -> bool {
        // What waits for room alone is not at rest.
        self.plenty = true;
        self.pump();
        self.plenty = false;
        self.openings.submit(self.shard.take_jobs());
        let queued = self.peers.iter().any(|peer| !peer.to_server.is_empty() || !peer.from_server.is_empty());
        let ops = self.shard.take_ops(self.now);
        if !ops.is_empty() {
            self.committing = Some(ops);
        }
        // One that was sent away comes back.
        let away = self.peers.iter().any(|peer| peer.connection.is_none());
        queued || away || self.committing.is_some() || !self.openings.is_quiet()
    }

    /// Whatever was acknowledged is stored, and every document is still synced.
    fn check_nothing_lost(&self) {
        assert_eq!(self.shard.counters().quarantines, 0, "a document is not synced any more");
        for document in &self.documents {
            let key = key(*document);
            let mut doc = stored(&self.storage, *document).unwrap_or_default();
            for hash in self.storage.acknowledged(&key) {
                assert!(doc.get_change_by_hash(hash).is_some(), "change {hash} was acknowledged and is lost");
            }
        }
    }

    /// All peers and the storage have the same.
    pub fn check_converged(&mut self) {
        self.check_nothing_lost();
        for (which, document) in self.documents.clone().into_iter().enumerate() {
            if self.head(document).is_some_and(|head| head.purged) {
                let (_, snapshot, rows) = self.storage.whole(&key(document)).unwrap().unwrap();
                assert!(snapshot.is_none() && rows.is_empty(), "document {which} is gone for good");
                continue;
            }
            let heads = self.peers[0].docs[which].get_heads();
            for (who, peer) in self.peers.iter_mut().enumerate() {
                assert_eq!(peer.docs[which].get_heads(), heads, "peer {who} differs in document {which}");
            }
            let mut sorted = heads.clone();
            sorted.sort_unstable();
            let stored_heads = self.storage.head(&key(document)).unwrap().map_or(vec![], |head| head.heads);
            assert_eq!(stored_heads, sorted, "the head row differs in document {which}");
            if let Some(mut doc) = stored(&self.storage, document) {
                assert_eq!(doc.get_heads(), heads, "what is stored differs in document {which}");
            }
        }
    }
}

/// What the storage holds of a document, opened by automerge.
pub fn stored(storage: &MemoryStorage, document: DocumentId) -> Option<AutoCommit> {
    let (_, snapshot, rows) = storage.whole(&key(document)).unwrap()?;
    let mut doc = snapshot.map_or_else(AutoCommit::new, |snapshot| AutoCommit::load(&snapshot).unwrap());
    for row in rows {
        doc.load_incremental(&row.bytes).unwrap();
    }
    Some(doc)
}

impl Peer {
    fn new(who: usize, documents: usize, v1: bool, storage: bool) -> Self {
        let doc = |which: usize| {
            AutoCommit::new().with_actor(ActorId::from([who as u8 + 1, which as u8].as_slice()))
        };
        Self {
            docs: (0..documents).map(doc).collect(),
            states: (0..documents).map(|_| State::new()).collect(),
            connection: None,
            to_server: VecDeque::new(),
            from_server: VecDeque::new(),
            v1,
            storage,
            unavailable: vec![false; documents],
        }
    }

    /// Send what automerge wants sent, if connected.
    fn send(&mut self, which: usize) {
        if self.connection.is_none() {
            return;
        }
        // Once for each event, as automerge-repo does.
        if let Some(mut message) = self.docs[which].sync().generate_sync_message(&mut self.states[which]) {
            if self.v1 {
                message.flags = None;
            }
            self.to_server.push_back((which, message.encode().into()));
        }
    }
}
