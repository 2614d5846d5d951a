//! A joined connection's two halves: messages in, decoded and checked; messages out.

use std::sync::Arc;

use bytes::Bytes;

use super::Core;
use super::app::{AppShare, InboxPermit};
use super::decode::{Access, DecodeError};
use super::fair::Lane;
use super::outbox::{Outbox, Outgoing};
use super::shard::Input;
use crate::sync::message::SyncMessage;
use crate::sync::shard::{Incoming, shard_of};
use crate::sync::wire::{self, Body};
use crate::types::{ConnectionId, DocumentId, Namespace, PeerId};

/// The client broke the protocol: send `message` in an `error` message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejected {
    /// What to tell the client.
    pub message: String,
    /// Whether the connection must be closed too.
    pub fatal: bool,
}

fn rejected(fatal: bool, why: impl ToString) -> Rejected {
    Rejected { message: why.to_string(), fatal }
}

/// What the smallest message takes of an inbox, in bytes. The inbox bounds the number of messages that wait too, since each is
/// looked at when its turn is found.
const MIN_ROOM: usize = 16 * 1024;

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
    _membership: Arc<JoinedConnection>,
}

pub(super) fn pair(connection: JoinedConnection, outbox: Arc<Outbox>) -> (ReceiveHalf, SendHalf) {
    let connection = Arc::new(connection);
    (ReceiveHalf { connection: connection.clone() }, SendHalf { outbox, _membership: connection })
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
        let envelope = wire::decode(&frame).map_err(|error| rejected(error.is_fatal(), error))?;
        let relayed = matches!(envelope.body, Body::Ephemeral { .. });
        if !relayed && envelope.sender != self.connection.name.1.as_str() {
            return Err(rejected(true, "\"senderId\" is not the peer id that this connection joined with"));
        }
        if envelope.target.as_deref() != Some(core.peer.as_str()) {
            return Err(rejected(true, "\"targetId\" is not this server's peer id"));
        }
        match &envelope.body {
            Body::Leave => {
                core.send_all(|| Input::Leave(self.connection.id));
                return Ok(());
            }
            Body::Unknown(kind) => {
                tracing::debug!(kind, "ignoring a message of unknown type");
                return Ok(());
            }
            _ => {}
        }
        let document = envelope.body.document();
        // A message about no document goes to every shard, and its copies wait there: all of them take room.
        let copies = if document.is_some() { 1 } else { core.shards.len() };
        let mut permit = self.room(frame.len().saturating_mul(copies)).await?;
        let sync = match &envelope.body {
            Body::Request { data, .. } | Body::Sync { data, .. } => {
                Some(self.decode(&envelope.body, data).await?)
            }
            _ => None,
        };
        let incoming = Incoming { sender: envelope.sender, body: envelope.body, sync };
        match document {
            Some(document) => self.to_shard(&document, incoming, permit),
            None => {
                // A subscription concerns documents of all shards.
                let Body::RemoteSubscription { add, remove } = &incoming.body else { return Ok(()) };
                let mut left = copies;
                for shard in core.shards.iter().skip(1) {
                    let body = Body::RemoteSubscription { add: add.clone(), remove: remove.clone() };
                    let copy = Incoming { sender: incoming.sender.clone(), body, sync: None };
                    let Some(part) = permit.part(left) else { continue };
                    left -= 1;
                    let _ = shard.send(Input::Message(self.connection.id, Box::new(copy), part));
                }
                let _ = core.shards[0].send(Input::Message(self.connection.id, Box::new(incoming), permit));
            }
        }
        Ok(())
    }

    /// Hands in a message that was checked elsewhere and takes so many bytes. Waits while the inbox is full.
    pub(super) async fn hand_in(
        &self,
        body: Body,
        sync: Option<SyncMessage>,
        bytes: usize,
    ) -> Result<(), Rejected> {
        let Some(document) = body.document() else { return Ok(()) };
        let permit = self.room(bytes).await?;
        let sender = self.connection.name.1.to_string();
        self.to_shard(&document, Incoming { sender, body, sync }, permit);
        Ok(())
    }

    async fn decode(&self, body: &Body, payload: &Bytes) -> Result<SyncMessage, Rejected> {
        let JoinedConnection { core, lane, access, app, .. } = &*self.connection;
        let decoded = core.decoding.decode(lane, payload, *access, &app.at_once).await;
        decoded.map_err(|error| match (error, body.document()) {
            (DecodeError::Stopped, _) => rejected(true, error),
            (_, None) => rejected(false, error),
            (_, Some(document)) => {
                rejected(false, format!("document {document}: the sync message was refused: {error}"))
            }
        })
    }

    async fn room(&self, bytes: usize) -> Result<InboxPermit, Rejected> {
        let bytes = bytes.max(MIN_ROOM).min(self.connection.core.options.inbox_bytes);
        let taken = self.connection.app.room(bytes as u32).await;
        taken.ok_or_else(|| rejected(true, "the server is stopping"))
    }

    fn to_shard(&self, document: &DocumentId, incoming: Incoming, permit: InboxPermit) {
        let shards = &self.connection.core.shards;
        let shard = &shards[shard_of(document, shards.len())];
        // A shard that has stopped takes nothing more; the socket is about to be closed.
        let _ = shard.send(Input::Message(self.connection.id, Box::new(incoming), permit));
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
