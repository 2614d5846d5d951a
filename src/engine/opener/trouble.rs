//! What the owner must know of documents that could not be opened, or of which a device sent too much at once.

use serde::{Deserialize, Serialize};

use super::estimate::Need;
use crate::sync::oversize::{Exceeded, Oversize};
use crate::types::{DocKey, Party};

/// What went wrong with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// Compacting the document would take more memory than `memory.opener` allows: it stays as single changes.
    TooLargeToCompact,
    /// Taking an upload in whole would take more memory than that: it was refused, until its changes have come one by one.
    TooLargeToTakeIn,
    /// A device sent more of the document at once than a limit allows (`limits.message_bytes`, `limits.inflated_bytes` and
    /// others). Nothing of that was opened.
    MessageTooLarge,
    /// Compacting the document came to nothing, or opening it ended badly.
    Failed,
    /// Taking changes out of the document's snapshot came to nothing, so a device got all of it or none.
    NotExtracted,
    /// The document is too large for the server's own process, and no other could be started.
    NoProcess,
}

/// A document that could not be opened, until an opening of the same kind succeeds or the owner asks for another try; or of
/// which a device sent too much at once, until all that the device has of it is here, the limit is raised, or the owner asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What went wrong.
    pub kind: TroubleKind,
    /// The document's namespace.
    pub namespace: String,
    /// The document's id.
    pub document: String,
    /// `client_id` of the app that sent or wanted it; empty for the server's own housekeeping.
    pub client: String,
    /// Id of the session, which is the device; empty if there is none.
    pub session: String,
    /// Bytes of what was to be opened, as stored or received, or of the message that was too large, as it came (compressed).
    pub size_bytes: u64,
    /// Estimated bytes of memory that it takes.
    pub need_bytes: u64,
    /// What happened, in words; empty where the kind says it all.
    pub reason: String,
    /// The limit that a message exceeded. Records of older versions do not name it.
    #[serde(default)]
    pub limit: Option<Exceeded>,
}

impl Trouble {
    pub(in crate::engine) fn new(kind: TroubleKind, key: &DocKey, party: Option<&Party>) -> Self {
        Self {
            kind,
            namespace: key.namespace.to_string(),
            document: key.document.to_string(),
            client: party.map_or_else(String::new, |party| party.approval.client_id.to_string()),
            session: party.map_or_else(String::new, |party| party.session.to_string()),
            size_bytes: 0,
            need_bytes: 0,
            reason: String::new(),
            limit: None,
        }
    }

    /// A device sent more of a document at once than a limit allows.
    pub(in crate::engine) fn oversize(key: &DocKey, party: &Party, oversize: Oversize) -> Self {
        let Oversize { size_bytes, exceeded } = oversize;
        let trouble = Self::new(TroubleKind::MessageTooLarge, key, Some(party));
        Self { size_bytes, reason: exceeded.to_string(), limit: Some(exceeded), ..trouble }
    }

    pub(super) fn of(self, need: &Need) -> Self {
        Self { size_bytes: need.size_bytes, need_bytes: need.memory_bytes, ..self }
    }

    /// The same trouble with the same document, caused by the same app: what one app sends does not change what the owner reads
    /// of another.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind
            && (&self.document, &self.namespace, &self.client)
                == (&other.document, &other.namespace, &other.client)
    }
}
