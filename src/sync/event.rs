//! A client's message as a shard takes it in: checked, with its payload decoded.

use bytes::Bytes;

use super::message::SyncMessage;
use super::oversize::Oversize;
use super::wire::RemoteHeads;
use crate::types::{DocumentId, StorageId};

/// A client's message.
#[derive(Debug, Clone)]
pub enum Event {
    /// A sync message about a document. A request is one too: it differs only in that the client has nothing of the document.
    Sync {
        /// The document.
        document: DocumentId,
        /// The decoded payload.
        message: SyncMessage,
    },
    /// The client sent more of a document at once than a limit allows. It was not taken.
    TooLarge {
        /// The document.
        document: DocumentId,
        /// How much it was, and which limit that exceeded.
        oversize: Oversize,
    },
    /// The client does not have a document that it was asked for.
    Unavailable {
        /// The document.
        document: DocumentId,
    },
    /// An ephemeral message for everyone else who has the document open.
    Presence {
        /// The document.
        document: DocumentId,
        /// The author: the client itself, or somebody for whom it relays.
        sender: String,
        /// The author's session, as the author counts them.
        session: String,
        /// Number of the message within its session.
        count: u64,
        /// The payload, which this server does not read.
        data: Bytes,
    },
    /// The client begins and ends subscriptions to the heads that storages have.
    Subscriptions {
        /// Storages that it subscribes to.
        add: Vec<StorageId>,
        /// Storages that it does not subscribe to any more.
        remove: Vec<StorageId>,
    },
    /// Heads that other storages have of a document.
    RemoteHeads {
        /// The document.
        document: DocumentId,
        /// The heads of each storage.
        heads: Vec<RemoteHeads>,
    },
}

impl Event {
    /// The document that the message is about; `None` if it concerns all documents, and so all shards.
    pub fn document(&self) -> Option<DocumentId> {
        match self {
            Self::Sync { document, .. }
            | Self::TooLarge { document, .. }
            | Self::Unavailable { document }
            | Self::Presence { document, .. }
            | Self::RemoteHeads { document, .. } => Some(*document),
            Self::Subscriptions { .. } => None,
        }
    }
}
