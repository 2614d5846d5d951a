//! `join` and `peer`: how an automerge-repo connection begins.

use std::convert::Infallible;

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

use crate::types::{PeerId, StorageId};

/// The one protocol version there is.
pub const PROTOCOL_VERSION: &str = "1";
/// Most protocol versions a client may list.
const MAX_VERSIONS: u64 = 64;
/// Most fields of a `join` and of its metadata.
const MAX_FIELDS: u64 = 64;

/// A client's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Who is speaking.
    pub peer: PeerId,
    /// What it keeps its documents in; absent when ephemeral.
    pub storage: Option<StorageId>,
}

/// Reads a client's first message.
/// # Errors
/// What is wrong with it, in words for the client; and the `senderId` to address, as far as one was given.
pub fn decode_join(message: &[u8]) -> Result<Join, (String, Option<PeerId>)> {
    let mut fields = Fields::default();
    let whole = fields.read(&mut Decoder::new(message));
    let sender = fields.sender.as_deref().and_then(|id| id.parse::<PeerId>().ok());
    let refused = |why: String| (why, sender.clone());
    if whole.is_err() {
        return Err(refused("the first message is not a CBOR map with the fields of \"join\"".into()));
    }
    match fields.kind.as_deref() {
        Some("join") => {}
        Some(other) => {
            let other: String = other.chars().take(40).collect();
            return Err(refused(format!("the first message must be \"join\", not {other:?}")));
        }
        None => return Err(refused("the first message has no text \"type\": send \"join\"".into())),
    }
    if !fields.speaks_ours.unwrap_or(true) {
        return Err(refused(format!(
            "none of the client's protocol versions is spoken here: this server speaks {PROTOCOL_VERSION:?}"
        )));
    }
    let Some(peer) = sender.clone() else {
        return Err(refused("\"join\" needs a \"senderId\": text of 1 to 256 bytes".into()));
    };
    let storage = match fields.storage.filter(|_| !fields.ephemeral) {
        None => None,
        Some(id) => Some(id.parse().map_err(|error: crate::types::NameError| refused(error.to_string()))?),
    };
    Ok(Join { peer, storage })
}

#[derive(Default)]
struct Fields {
    kind: Option<String>,
    sender: Option<String>,
    storage: Option<String>,
    ephemeral: bool,
    speaks_ours: Option<bool>,
}

type Decoded = Result<(), minicbor::decode::Error>;

impl Fields {
    fn read(&mut self, d: &mut Decoder<'_>) -> Decoded {
        each_field(d, |d, key| {
            match key {
                "type" => self.kind = Some(d.str()?.to_owned()),
                "senderId" => self.sender = Some(d.str()?.to_owned()),
                // The written specification says `metadata`, the clients say `peerMetadata`.
                "peerMetadata" | "metadata" => self.metadata(d)?,
                "supportedProtocolVersions" => self.speaks_ours = Some(versions(d)?),
                _ => d.skip()?,
            }
            Ok(())
        })
    }

    fn metadata(&mut self, d: &mut Decoder<'_>) -> Decoded {
        each_field(d, |d, key| {
            match key {
                "storageId" => self.storage = Some(d.str()?.to_owned()),
                "isEphemeral" => self.ephemeral = d.bool()?,
                _ => d.skip()?,
            }
            Ok(())
        })
    }
}

/// Calls `field` for each entry of a map whose value is neither null nor undefined.
fn each_field<'b>(
    d: &mut Decoder<'b>,
    mut field: impl FnMut(&mut Decoder<'b>, &'b str) -> Decoded,
) -> Decoded {
    let length = d.map()?;
    let mut seen = 0;
    while length.is_none_or(|length| seen < length) {
        if length.is_none() && d.datatype()? == Type::Break {
            return d.skip();
        }
        if seen >= MAX_FIELDS {
            return Err(minicbor::decode::Error::message("too many fields"));
        }
        let key = d.str()?;
        match d.datatype()? {
            Type::Undefined | Type::Null => d.skip()?,
            _ => field(d, key)?,
        }
        seen += 1;
    }
    Ok(())
}

/// Whether the list has our version.
fn versions(d: &mut Decoder<'_>) -> Result<bool, minicbor::decode::Error> {
    let mut ours = false;
    for (seen, version) in (0u64..).zip(d.array_iter::<&str>()?) {
        if seen >= MAX_VERSIONS {
            return Err(minicbor::decode::Error::message("too many protocol versions"));
        }
        ours |= version? == PROTOCOL_VERSION;
    }
    Ok(ours)
}

/// Our answer to a `join`.
pub fn encode_peer(us: &PeerId, storage: &StorageId, them: &PeerId) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    // Invariant: writing CBOR to a Vec cannot fail.
    let _ = write_peer(&mut encoder, us, storage, them);
    encoder.into_writer()
}

fn write_peer(
    e: &mut Encoder<Vec<u8>>,
    us: &PeerId,
    storage: &StorageId,
    them: &PeerId,
) -> Result<(), minicbor::encode::Error<Infallible>> {
    e.map(5)?.str("type")?.str("peer")?.str("senderId")?.str(us.as_str())?;
    e.str("targetId")?.str(them.as_str())?;
    e.str("peerMetadata")?.map(2)?.str("storageId")?.str(storage.as_str())?;
    e.str("isEphemeral")?.bool(false)?;
    e.str("selectedProtocolVersion")?.str(PROTOCOL_VERSION)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(write: impl FnOnce(&mut Encoder<Vec<u8>>)) -> Result<Join, (String, Option<PeerId>)> {
        let mut e = Encoder::new(Vec::new());
        write(&mut e);
        decode_join(&e.into_writer())
    }

    fn peer(id: &str) -> PeerId {
        id.parse().unwrap()
    }

    #[test]
    fn clients_of_both_lines_join() {
        // As 1.x and 2.x write it: a 16-bit map head, `undefined` for no storage.
        let mut bytes = vec![0xb9, 0, 4];
        let mut e = Encoder::new(&mut bytes);
        e.str("type").unwrap().str("join").unwrap().str("senderId").unwrap().str("p").unwrap();
        e.str("peerMetadata").unwrap().map(2).unwrap().str("storageId").unwrap().undefined().unwrap();
        e.str("isEphemeral").unwrap().bool(true).unwrap();
        e.str("supportedProtocolVersions").unwrap().array(1).unwrap().str("1").unwrap();
        assert_eq!(decode_join(&bytes), Ok(Join { peer: peer("p"), storage: None }));
        let stored = join(|e| {
            e.begin_map().unwrap().str("type").unwrap().str("join").unwrap().str("senderId").unwrap();
            e.str("p").unwrap().str("future").unwrap().array(1).unwrap().u8(1).unwrap();
            e.str("peerMetadata").unwrap().map(1).unwrap().str("storageId").unwrap().str("s").unwrap();
            e.str("supportedProtocolVersions").unwrap().begin_array().unwrap().str("2").unwrap();
            e.str("1").unwrap().end().unwrap().end().unwrap();
        });
        assert_eq!(stored, Ok(Join { peer: peer("p"), storage: Some("s".parse().unwrap()) }));
    }

    #[test]
    fn an_ephemeral_peer_has_no_storage() {
        let joined = join(|e| {
            e.map(3)
                .unwrap()
                .str("type")
                .unwrap()
                .str("join")
                .unwrap()
                .str("senderId")
                .unwrap()
                .str("p")
                .unwrap();
            e.str("peerMetadata").unwrap().map(2).unwrap().str("storageId").unwrap().str("s").unwrap();
            e.str("isEphemeral").unwrap().bool(true).unwrap();
        });
        assert_eq!(joined.unwrap().storage, None);
    }

    #[test]
    fn others_are_told_why() {
        let wrong_version = join(|e| {
            e.map(3)
                .unwrap()
                .str("senderId")
                .unwrap()
                .str("p")
                .unwrap()
                .str("type")
                .unwrap()
                .str("join")
                .unwrap();
            e.str("supportedProtocolVersions").unwrap().array(1).unwrap().str("2").unwrap();
        });
        let (why, sender) = wrong_version.unwrap_err();
        assert!(why.contains("\"1\"") && sender == Some(peer("p")), "{why}");
        let sync = join(|e| {
            e.map(2)
                .unwrap()
                .str("type")
                .unwrap()
                .str("sync")
                .unwrap()
                .str("senderId")
                .unwrap()
                .str("p")
                .unwrap();
        });
        let (why, sender) = sync.unwrap_err();
        assert!(why.contains("\"sync\"") && sender == Some(peer("p")), "{why}");
        let nobody = join(|e| {
            e.map(2)
                .unwrap()
                .str("type")
                .unwrap()
                .str("join")
                .unwrap()
                .str("senderId")
                .unwrap()
                .str("")
                .unwrap();
        });
        assert!(nobody.unwrap_err().0.contains("senderId"));
        let huge = [0xbb, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        let versions =
            [&[0xa1, 0x78, 25][..], b"supportedProtocolVersions", &[0x9b, 0, 0, 0, 1, 0, 0, 0, 0]].concat();
        for bad in [&[][..], &[0xf6], &[0xa0], &[0x80], b"garbage", &huge, &versions, &[0x81; 10_000]] {
            assert!(decode_join(bad).is_err(), "{bad:?}");
        }
    }

    /// A message's fields as text, in order.
    fn fields(d: &mut Decoder<'_>) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..d.map().unwrap().unwrap() {
            all.push(d.str().unwrap().to_owned());
            match d.datatype().unwrap() {
                Type::Map => all.extend(fields(d)),
                Type::Bool => all.push(d.bool().unwrap().to_string()),
                _ => all.push(d.str().unwrap().to_owned()),
            }
        }
        all
    }

    #[test]
    fn answers_have_the_fields_clients_read() {
        let bytes = encode_peer(&peer("us"), &"store".parse().unwrap(), &peer("them"));
        assert_eq!(
            fields(&mut Decoder::new(&bytes)).join(" "),
            "type peer senderId us targetId them peerMetadata storageId store isEphemeral false selectedProtocolVersion 1"
        );
    }
}
