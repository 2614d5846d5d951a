//! automerge-repo's messages in CBOR, as its WebSocket clients send and expect them (protocol version "1").
//! `join`, `peer` and `error` belong to the handshake and live in `web`.

use bytes::Bytes;
use minicbor::Decoder;
use minicbor::data::Type;

use crate::types::{ChangeHash, DocumentId, MAX_ID_BYTES, NameError, StorageId};

mod encode;
mod ends;
mod heads;

pub use encode::{encode, encode_error};
pub use ends::{decode_ends, may_be_decoded};
pub use heads::{MAX_HEADS, MAX_STORAGES};

/// Most storage ids in `add`, and in `remove`, of one remote-subscription-change message.
pub const MAX_STORAGE_IDS: usize = 256;

/// A message that is not automerge-repo's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not CBOR, not a map, or a field of another kind.
    #[error("message is not a CBOR map with a text \"type\" and the fields of that type")]
    Malformed,
    /// A field that this type needs is not there.
    #[error("message of type {0:?} lacks its field {1:?}")]
    Missing(String, &'static str),
    /// A list is longer than its limit: the field, what it lists, and the limit.
    #[error("field {0:?} lists more than {2} {1}: split the message")]
    TooMany(&'static str, &'static str, usize),
    /// A name outside its grammar.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl WireError {
    /// Whether the connection must be closed. What follows a message that is merely over a limit, or has a name outside
    /// its grammar, can still be read.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Name(_) | Self::TooMany(..))
    }
}

impl From<minicbor::decode::Error> for WireError {
    fn from(_: minicbor::decode::Error) -> Self {
        Self::Malformed
    }
}

/// Heads of one storage, as gossiped.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteHeads {
    /// Whose heads.
    pub storage: StorageId,
    /// The heads.
    pub heads: Vec<ChangeHash>,
    /// When they were seen, milliseconds since the epoch by the observer's clock.
    pub timestamp: f64,
}

/// What a message says, without its addressing.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Body {
    Leave,
    Request {
        document: DocumentId,
        data: Bytes,
    },
    Sync {
        document: DocumentId,
        data: Bytes,
    },
    Unavailable {
        document: DocumentId,
    },
    Ephemeral {
        document: DocumentId,
        session: String,
        count: u64,
        data: Bytes,
    },
    RemoteSubscription {
        add: Vec<StorageId>,
        remove: Vec<StorageId>,
    },
    RemoteHeads {
        document: DocumentId,
        heads: Vec<RemoteHeads>,
    },
    /// A type this server does not know: to be ignored.
    Unknown(String),
}

impl Body {
    /// The document that it is about, if it is about one.
    pub fn document(&self) -> Option<DocumentId> {
        match self {
            Self::Request { document, .. }
            | Self::Sync { document, .. }
            | Self::Unavailable { document }
            | Self::Ephemeral { document, .. }
            | Self::RemoteHeads { document, .. } => Some(*document),
            Self::RemoteSubscription { .. } | Self::Leave | Self::Unknown(_) => None,
        }
    }
}

/// A message and who wrote it.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// `senderId`.
    pub sender: String,
    /// `targetId`.
    pub target: Option<String>,
    /// The rest.
    pub body: Body,
}

#[derive(Default)]
struct Fields {
    kind: Option<String>,
    sender: Option<String>,
    target: Option<String>,
    document: Option<String>,
    data: Option<Bytes>,
    session: Option<String>,
    count: Option<u64>,
    add: Vec<StorageId>,
    remove: Vec<StorageId>,
    heads: Vec<RemoteHeads>,
}

/// Decode one binary WebSocket message.
/// # Errors
/// What is wrong with it.
pub fn decode(frame: &Bytes) -> Result<Envelope, WireError> {
    let mut d = Decoder::new(frame);
    let mut f = Fields::default();
    each(&mut d, true, None, |d| {
        let key = text(d)?;
        if matches!(d.datatype()?, Type::Undefined | Type::Null) {
            d.skip()?;
            return Ok(());
        }
        match key.as_str() {
            "type" => f.kind = Some(text(d)?),
            "senderId" => f.sender = Some(text(d)?),
            "targetId" => f.target = Some(text(d)?),
            "documentId" => f.document = Some(text(d)?),
            "sessionId" => f.session = Some(text(d)?),
            "count" => f.count = Some(number(d)? as u64),
            "data" => f.data = Some(bytes(d, frame)?),
            "add" => f.add = storage_ids(d, "add")?,
            "remove" => f.remove = storage_ids(d, "remove")?,
            "newHeads" => f.heads = heads::decode(d)?,
            _ => d.skip()?,
        }
        Ok(())
    })?;
    f.into_envelope()
}

impl Fields {
    fn into_envelope(self) -> Result<Envelope, WireError> {
        let kind = self.kind.ok_or(WireError::Malformed)?;
        let missing = |field| WireError::Missing(kind.clone(), field);
        let document = || -> Result<DocumentId, WireError> {
            Ok(self.document.as_deref().ok_or(missing("documentId"))?.parse()?)
        };
        let data = || self.data.clone().ok_or(missing("data"));
        let body = match kind.as_str() {
            "leave" => Body::Leave,
            "request" => Body::Request { document: document()?, data: data()? },
            "sync" => Body::Sync { document: document()?, data: data()? },
            "doc-unavailable" => Body::Unavailable { document: document()? },
            "ephemeral" => Body::Ephemeral {
                document: document()?,
                session: self.session.clone().ok_or(missing("sessionId"))?,
                count: self.count.ok_or(missing("count"))?,
                data: data()?,
            },
            "remote-subscription-change" => Body::RemoteSubscription { add: self.add, remove: self.remove },
            "remote-heads-changed" => Body::RemoteHeads { document: document()?, heads: self.heads },
            _ => Body::Unknown(kind.chars().take(40).collect()),
        };
        let sender = self.sender.ok_or(WireError::Missing(kind, "senderId"))?;
        Ok(Envelope { sender, target: self.target, body })
    }
}

/// What a list is called in errors: its field, what it lists, and how many at most.
type Limit = Option<(&'static str, &'static str, usize)>;

/// Calls `item` for each entry of a map (`map`) or array, definite or not.
fn each<'b>(
    d: &mut Decoder<'b>,
    map: bool,
    limit: Limit,
    mut item: impl FnMut(&mut Decoder<'b>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let length = if map { d.map()? } else { d.array()? };
    let mut seen = 0;
    while length.is_none_or(|length| seen < length) {
        if length.is_none() && d.datatype()? == Type::Break {
            d.skip()?;
            break;
        }
        if let Some((field, what, most)) = limit
            && seen >= most as u64
        {
            return Err(WireError::TooMany(field, what, most));
        }
        item(d)?;
        seen += 1;
    }
    Ok(())
}

fn text(d: &mut Decoder<'_>) -> Result<String, WireError> {
    let text = d.str()?;
    if text.len() > MAX_ID_BYTES { Err(WireError::Malformed) } else { Ok(text.to_owned()) }
}

fn number(d: &mut Decoder<'_>) -> Result<f64, WireError> {
    Ok(match d.datatype()? {
        Type::F16 | Type::F32 | Type::F64 => d.f64()?,
        _ => d.u64()? as f64,
    })
}

fn bytes(d: &mut Decoder<'_>, frame: &Bytes) -> Result<Bytes, WireError> {
    if d.datatype()? == Type::Tag {
        d.tag()?; // a typed array: same bytes
    }
    Ok(frame.slice_ref(d.bytes()?))
}

fn storage_ids(d: &mut Decoder<'_>, field: &'static str) -> Result<Vec<StorageId>, WireError> {
    let mut ids = Vec::new();
    each(d, false, Some((field, "storage ids", MAX_STORAGE_IDS)), |d| {
        ids.push(text(d)?.parse()?);
        Ok(())
    })?;
    Ok(ids)
}

#[cfg(test)]
mod tests;
