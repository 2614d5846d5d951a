//! A good client: automerge's own sync on the wire protocol of automerge-repo.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use automerge::sync::{Message, State, SyncDoc as _};
use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, ObjType, ROOT, ReadDoc as _};
use bytes::Bytes;
use groundmist_sync::sync::wire::{self, Body};
use groundmist_sync::types::DocumentId;
use minicbor::{Decoder, Encoder};

use super::websocket::{BINARY, Refused, WebSocket};
use super::{PATIENCE, Server};

/// A joined client and its documents.
pub struct Peer {
    pub socket: WebSocket,
    pub id: String,
    /// The server's peer id.
    pub server: String,
    documents: BTreeMap<DocumentId, (AutoCommit, State)>,
    pub unavailable: BTreeSet<DocumentId>,
    /// Texts of the `error` messages received.
    pub errors: Vec<String>,
    /// The last messages, for a failed test's message.
    transcript: Vec<String>,
}

impl Peer {
    /// Connects with the server's own token and joins.
    pub fn join(server: &Server, id: &str) -> Self {
        Self::join_with(server, &server.token, id).unwrap()
    }

    /// Connects with any token and joins.
    pub fn join_with(server: &Server, token: &str, id: &str) -> Result<Self, Refused> {
        let (socket, server) = join(server.connect(token)?, id);
        let (documents, unavailable, errors, transcript) = Default::default();
        Ok(Self { socket, id: id.to_owned(), server, documents, unavailable, errors, transcript })
    }

    /// Connects again and says what it has; changes made meanwhile are among it.
    pub fn rejoin(&mut self, server: &Server) -> Result<(), Refused> {
        (self.socket, self.server) = join(server.connect(&server.token)?, &self.id);
        for (_, state) in self.documents.values_mut() {
            *state = State::new();
        }
        let documents: Vec<DocumentId> = self.documents.keys().copied().collect();
        documents.into_iter().for_each(|document| self.flush(document));
        Ok(())
    }

    /// Sets a key of a document while there is no connection.
    pub fn put_offline(&mut self, document: DocumentId, key: &str, value: &str) {
        let (doc, _) = self.documents.entry(document).or_default();
        doc.put(ROOT, key, value).unwrap();
        doc.commit();
    }

    /// Sends one message as this peer.
    pub fn send(&mut self, body: &Body) {
        self.note(format!("sent {body:?}"));
        let message = wire::encode(&self.id, &self.server, body);
        self.socket.send(&message);
    }

    fn note(&mut self, what: String) {
        if self.transcript.len() == 20 {
            self.transcript.remove(0);
        }
        self.transcript.push(what.chars().take(300).collect());
    }

    /// Sets a key of a document, making the document if need be, and sends what sync wants sent.
    pub fn put(&mut self, document: DocumentId, key: &str, value: &str) {
        let (doc, _) = self.documents.entry(document).or_default();
        doc.put(ROOT, key, value).unwrap();
        doc.commit();
        self.flush(document);
    }

    /// A key of a document.
    pub fn get(&self, document: DocumentId, key: &str) -> Option<String> {
        let (value, _) = self.documents.get(&document)?.0.get(ROOT, key).unwrap()?;
        value.into_string().ok()
    }

    /// A document's heads, as text.
    pub fn heads(&mut self, document: DocumentId) -> Vec<String> {
        let (doc, _) = self.documents.entry(document).or_default();
        doc.get_heads().iter().map(ToString::to_string).collect()
    }

    /// Asks for a document.
    pub fn request(&mut self, document: DocumentId) {
        let (doc, state) = self.documents.entry(document).or_default();
        let message = doc.sync().generate_sync_message(state).unwrap();
        self.send(&Body::Request { document, data: message.encode().into() });
    }

    fn flush(&mut self, document: DocumentId) {
        loop {
            let (doc, state) = self.documents.entry(document).or_default();
            let Some(message) = doc.sync().generate_sync_message(state) else { return };
            self.send(&Body::Sync { document, data: message.encode().into() });
        }
    }

    /// The server has said that it has all of ours.
    pub fn is_acknowledged(&mut self, document: DocumentId) -> bool {
        let (doc, state) = self.documents.entry(document).or_default();
        let heads = doc.get_heads();
        state.their_heads.as_ref() == Some(&heads)
    }

    /// Takes in one message; false when none came before `deadline`.
    pub fn step(&mut self, deadline: Instant) -> bool {
        let Some(frame) = self.socket.receive_until(deadline) else {
            self.note("nothing more in time, or the end of the connection".into());
            return false;
        };
        if frame.first != BINARY {
            self.note(format!("received {frame:?}"));
            return false;
        }
        let envelope = wire::decode(&Bytes::from(frame.payload.clone())).unwrap();
        self.note(format!("received {:?}", envelope.body));
        assert_eq!(envelope.target.as_deref(), Some(self.id.as_str()), "addressed to somebody else");
        match envelope.body {
            Body::Sync { document, data } | Body::Request { document, data } => {
                let message = Message::decode(&data).unwrap();
                let (doc, state) = self.documents.entry(document).or_default();
                doc.sync().receive_sync_message(state, message).unwrap();
                self.flush(document);
            }
            Body::Unavailable { document } => {
                self.unavailable.insert(document);
            }
            Body::Unknown(kind) if kind == "error" => {
                self.errors.push(field(&frame.payload, "message").unwrap_or_default());
            }
            _ => {}
        }
        true
    }

    /// Takes in messages until `done`.
    pub fn until(&mut self, what: &str, done: impl Fn(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            let came = self.step(deadline);
            assert!(
                came,
                "{}: no more messages while waiting for {what}; it went: {:#?}",
                self.id, self.transcript
            );
        }
    }

    /// Stores one key durably.
    pub fn store(&mut self, document: DocumentId, key: &str, value: &str) {
        self.put(document, key, value);
        self.until("the acknowledgement", |peer| peer.is_acknowledged(document));
    }

    /// Stores a text object durably: a character is an operation, unlike in the values that [`Self::put`] writes.
    pub fn store_text(&mut self, document: DocumentId, key: &str, text: &str) {
        self.put_text(document, key, text);
        self.until("the acknowledgement", |peer| peer.is_acknowledged(document));
    }

    /// Writes a text object, and sends what sync wants sent.
    pub fn put_text(&mut self, document: DocumentId, key: &str, text: &str) {
        let (doc, _) = self.documents.entry(document).or_default();
        let object = doc.put_object(ROOT, key, ObjType::Text).unwrap();
        doc.splice_text(&object, 0, 0, text).unwrap();
        doc.commit();
        self.flush(document);
    }

    /// Asks for a document and waits for a key of it.
    pub fn find(&mut self, document: DocumentId, key: &str) -> String {
        self.request(document);
        self.until("the document", |peer| peer.get(document, key).is_some());
        self.get(document, key).unwrap()
    }
}

/// Joins; the server's peer id.
fn join(mut socket: WebSocket, id: &str) -> (WebSocket, String) {
    socket.send(&join_message(id, "1"));
    let frame = socket.receive().unwrap();
    assert_eq!(field(&frame.payload, "type").as_deref(), Some("peer"), "{frame:?}");
    assert_eq!(field(&frame.payload, "targetId").as_deref(), Some(id));
    let server = field(&frame.payload, "senderId").unwrap();
    (socket, server)
}

/// A `join` as 2.x writes it, without storage.
pub fn join_message(id: &str, version: &str) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new());
    e.map(4).unwrap().str("type").unwrap().str("join").unwrap().str("senderId").unwrap().str(id).unwrap();
    e.str("peerMetadata").unwrap().map(1).unwrap().str("isEphemeral").unwrap().bool(true).unwrap();
    e.str("supportedProtocolVersions").unwrap().array(1).unwrap().str(version).unwrap();
    e.into_writer()
}

/// A text field of a message.
pub fn field(message: &[u8], name: &str) -> Option<String> {
    let mut d = Decoder::new(message);
    for _ in 0..d.map().ok()?? {
        if d.str().ok()? == name {
            return d.str().ok().map(str::to_owned);
        }
        d.skip().ok()?;
    }
    None
}

/// A document id that no other call gives.
pub fn new_document() -> DocumentId {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    DocumentId(bytes)
}
