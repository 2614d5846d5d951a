//! A joined connection's two halves: messages in, decoded and checked; messages out.

use std::sync::Arc;

use bytes::Bytes;

use super::Core;
use super::app::{AppShare, InboxPermit};
use super::decode::{Access, DecodeError};
use super::fair::Lane;
use super::outbox::{Outbox, Outgoing};
use super::shard::Input;
use crate::sync::event::Event;
use crate::sync::message::SyncMessage;
use crate::sync::oversize::{Exceeded, MessageLimit, Oversize};
use crate::sync::price::Refused;
use crate::sync::shard::shard_of;
use crate::sync::wire::{self, Body, Envelope};
use crate::types::{ConnectionId, DocumentId, Namespace, PeerId};

/// The client broke the protocol: send `message` in an `error` message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejected {
    /// What to tell the client.
    pub message: String,
    /// The code to close the connection with, if it must be closed too.
    pub close: Option<u16>,
    /// A document that is not taken from this connection any more, because more of it came at once than a limit allows.
    too_large: Option<(DocumentId, Oversize)>,
}

fn rejected(close: Option<u16>, why: impl ToString) -> Rejected {
    Rejected { message: why.to_string(), close, too_large: None }
}

fn stopping() -> Rejected {
    rejected(Some(1001), "the server is stopping")
}

fn too_large(document: DocumentId, oversize: Oversize, why: &str) -> Rejected {
    let message = format!(
        "document {document}: {why}. It was not taken, and no more changes to this document are taken from this connection; other documents sync"
    );
    Rejected { message, close: None, too_large: Some((document, oversize)) }
}

/// Close code for a client that breaks the protocol.
const PROTOCOL_ERROR: u16 = 1002;
/// What the smallest message takes of an inbox, in bytes. The inbox bounds the number of messages that wait too, since each is
/// looked at when its turn is found.
const MIN_ROOM: usize = 16 * 1024;
/// How many times its size a message takes of an inbox: the message itself, what it says decoded, and the bytes of its changes.
const IN_MEMORY: usize = 3;

/// A connection's place among the joined; gives it up when dropped.
pub(super) struct JoinedConnection {
    pub core: Arc<Core>,
    pub id: ConnectionId,
    pub name: (Namespace, PeerId),
    /// The lane whose turns its messages take in decoding.
    pub lane: Lane,
    pub access: Access,
    /// What it shares with the other connections of its app.
    pub app: Arc<AppShare>,
}

impl Drop for JoinedConnection {
    fn drop(&mut self) {
        self.core.leave(self.id, &self.name);
    }
}

/// The receiving half of a joined connection. Dropping both halves leaves.
pub struct ReceiveHalf {
    connection: Arc<JoinedConnection>,
}

/// The sending half of a joined connection.
pub struct SendHalf {
    outbox: Arc<Outbox>,
    _connection: Arc<JoinedConnection>,
}

pub(super) fn pair(connection: JoinedConnection, outbox: Arc<Outbox>) -> (ReceiveHalf, SendHalf) {
    let connection = Arc::new(connection);
    (ReceiveHalf { connection: connection.clone() }, SendHalf { outbox, _connection: connection })
}

impl ReceiveHalf {
    /// What the connections of this one's app share.
    pub fn app(&self) -> Arc<AppShare> {
        self.connection.app.clone()
    }

    /// One binary WebSocket message after `join`: decode, check, hand to its shard. Waits while the inbox is full.
    /// # Errors
    /// What the client did wrong.
    pub async fn receive(&mut self, frame: Bytes) -> Result<(), Rejected> {
        let core = &self.connection.core;
        let envelope = wire::decode(&frame)
            .map_err(|error| rejected(error.is_fatal().then_some(PROTOCOL_ERROR), error))?;
        self.check_address(&envelope)?;
        let copies = match envelope.body {
            Body::Leave => {
                core.send_all(|| Input::Leave(self.connection.id));
                return Ok(());
            }
            // A message about no document goes to every shard, and its copies wait there: all of them take room.
            Body::RemoteSubscription { .. } => core.shards.len(),
            _ => 1,
        };
        let permit = match &envelope.body {
            Body::Unknown(kind) => {
                tracing::debug!(kind, "ignoring a message of unknown type");
                return Ok(());
            }
            _ => self.room(frame.len().saturating_mul(copies)).await?,
        };
        match self.event(envelope).await {
            Ok(Some(event)) => self.to_shards(event, permit),
            Ok(None) => {}
            Err(rejected) => {
                if let Some((document, oversize)) = rejected.too_large {
                    self.to_shards(Event::TooLarge { document, oversize }, permit);
                }
                return Err(rejected);
            }
        }
        Ok(())
    }

    /// A message of `bytes` bytes, more than [`EngineOptions::message_bytes`](super::EngineOptions::message_bytes), has streamed
    /// by; `first` and `last` are its ends. Waits while the inbox is full. Returns what to tell the client.
    pub async fn too_large(&mut self, first: &[u8], last: &[u8], bytes: u64) -> Rejected {
        let limit = self.connection.core.options.message_bytes;
        let allowed = format!("more than the {limit} bytes that one may have here (limits.message_bytes)");
        let envelope = match wire::decode_ends(first, last, bytes) {
            Ok(envelope) => envelope,
            Err(_) => {
                return rejected(
                    Some(1009),
                    format!("a message of {bytes} bytes came, {allowed}; it cannot be told what it is about"),
                );
            }
        };
        if let Err(rejected) = self.check_address(&envelope) {
            return rejected;
        }
        let (Body::Sync { document, .. } | Body::Request { document, .. }) = envelope.body else {
            return rejected(None, format!("a message of {bytes} bytes came, {allowed}; it was ignored"));
        };
        let exceeded = Exceeded { name: MessageLimit::MessageBytes, value: limit as u64 };
        let oversize = Oversize { size_bytes: bytes, exceeded };
        match self.hand_in(Event::TooLarge { document, oversize }, 0).await {
            Ok(()) => too_large(document, oversize, &format!("a message of {bytes} bytes came, {allowed}")),
            Err(stopping) => stopping,
        }
    }

    /// Checks that a message comes from this connection's peer, and is for this server.
    fn check_address(&self, envelope: &Envelope) -> Result<(), Rejected> {
        let relayed = matches!(envelope.body, Body::Ephemeral { .. });
        if !relayed && envelope.sender != self.connection.name.1.as_str() {
            return Err(rejected(
                Some(PROTOCOL_ERROR),
                "\"senderId\" is not the peer id that this connection joined with",
            ));
        }
        if envelope.target.as_deref() != Some(self.connection.core.peer.as_str()) {
            return Err(rejected(Some(PROTOCOL_ERROR), "\"targetId\" is not this server's peer id"));
        }
        Ok(())
    }

    /// Hands in a message that was checked elsewhere and takes so many bytes. Waits while the inbox is full.
    pub(super) async fn hand_in(&self, event: Event, bytes: usize) -> Result<(), Rejected> {
        let permit = self.room(bytes).await?;
        self.to_shards(event, permit);
        Ok(())
    }

    /// What a message says to a shard; `None` if nothing.
    async fn event(&self, Envelope { sender, body, .. }: Envelope) -> Result<Option<Event>, Rejected> {
        Ok(Some(match body {
            Body::Request { document, data } | Body::Sync { document, data } => {
                Event::Sync { document, message: self.decode(&document, &data).await? }
            }
            Body::Unavailable { document } => Event::Unavailable { document },
            Body::Ephemeral { document, session, count, data } => {
                Event::Presence { document, sender, session, count, data }
            }
            Body::RemoteSubscription { add, remove } => Event::Subscriptions { add, remove },
            Body::RemoteHeads { document, heads } => Event::RemoteHeads { document, heads },
            Body::Leave | Body::Unknown(_) => return Ok(None),
        }))
    }

    async fn decode(&self, document: &DocumentId, payload: &Bytes) -> Result<SyncMessage, Rejected> {
        let JoinedConnection { core, lane, access, app, .. } = &*self.connection;
        let decoded = core.decoding.decode(lane, payload, *access, app).await;
        decoded.map_err(|error| {
            let why = format!("the sync message was refused: {error}");
            let exceeded = match &error {
                DecodeError::Stopped => return stopping(),
                DecodeError::Refused(Refused::TooExpensive(excess)) => Exceeded::of(excess),
                DecodeError::Refused(_) | DecodeError::Panicked => None,
            };
            match exceeded {
                Some(exceeded) => {
                    too_large(*document, Oversize { size_bytes: payload.len() as u64, exceeded }, &why)
                }
                None => rejected(None, format!("document {document}: {why}")),
            }
        })
    }

    async fn room(&self, bytes: usize) -> Result<InboxPermit, Rejected> {
        let bytes =
            bytes.saturating_mul(IN_MEMORY).max(MIN_ROOM).min(self.connection.core.options.inbox_bytes);
        let taken = self.connection.app.room(bytes as u32).await;
        taken.ok_or_else(stopping)
    }

    /// Hands a message to the document's shard, or to all shards if it is about no document.
    fn to_shards(&self, event: Event, mut permit: InboxPermit) {
        let (id, shards) = (self.connection.id, &self.connection.core.shards);
        let first = match event.document() {
            Some(document) => shard_of(&document, shards.len()),
            None => {
                for (left, shard) in (2..=shards.len()).rev().zip(&shards[1..]) {
                    let Some(part) = permit.part(left) else { continue };
                    let _ = shard.send(Input::Message(id, Box::new(event.clone()), part));
                }
                0
            }
        };
        // A shard that has stopped takes nothing more; the socket is about to be closed.
        let _ = shards[first].send(Input::Message(id, Box::new(event), permit));
    }
}

impl SendHalf {
    /// The next thing to send; `None` when the engine has let go of this connection.
    pub async fn next(&mut self) -> Option<Outgoing> {
        self.outbox.next().await
    }

    /// The bytes last handed out are on the socket: makes room in the outbox.
    pub fn sent(&mut self, bytes: usize) {
        self.outbox.sent(bytes);
    }
}
