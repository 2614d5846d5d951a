//! automerge-repo's messages in CBOR, as far as a load client needs them.

use anyhow::{Context, Result};
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};

/// A server's message.
#[derive(Debug, Default)]
pub struct Incoming<'a> {
    /// `type`.
    pub kind: &'a str,
    /// `senderId`.
    pub sender: &'a str,
    /// `documentId`, if it has one.
    pub document: &'a str,
    /// `data`, if it has one.
    pub data: &'a [u8],
    /// `message`, of errors.
    pub message: &'a str,
}

/// Read a server's message.
pub fn read(frame: &[u8]) -> Result<Incoming<'_>> {
    let mut d = Decoder::new(frame);
    let mut incoming = Incoming::default();
    let mut left = d.map().context("message is not a CBOR map")?;
    loop {
        match left.as_mut() {
            Some(0) => break,
            Some(count) => *count -= 1,
            None if d.datatype()? == Type::Break => break,
            None => {}
        }
        let key = d.str()?;
        let value = d.datatype()?;
        match (key, value) {
            ("type", Type::String) => incoming.kind = d.str()?,
            ("senderId", Type::String) => incoming.sender = d.str()?,
            ("documentId", Type::String) => incoming.document = d.str()?,
            ("message", Type::String) => incoming.message = d.str()?,
            ("data", Type::Bytes) => incoming.data = d.bytes()?,
            ("data", Type::Tag) => {
                d.tag()?;
                incoming.data = d.bytes()?;
            }
            _ => d.skip()?,
        }
    }
    Ok(incoming)
}

/// The `join` message.
pub fn join(peer: &str, storage: Option<&str>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut e = Encoder::new(&mut out);
    e.map(4)?.str("type")?.str("join")?.str("senderId")?.str(peer)?;
    e.str("supportedProtocolVersions")?.array(1)?.str("1")?.str("peerMetadata")?;
    match storage {
        Some(id) => e.map(2)?.str("storageId")?.str(id)?.str("isEphemeral")?.bool(false)?,
        None => e.map(1)?.str("isEphemeral")?.bool(true)?,
    };
    Ok(out)
}

/// Everything of a `sync` or `request` message that comes before its data.
pub fn prefix(kind: &str, peer: &str, server: &str, document: &str) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut e = Encoder::new(&mut out);
    e.map(5)?.str("type")?.str(kind)?.str("senderId")?.str(peer)?;
    e.str("targetId")?.str(server)?.str("documentId")?.str(document)?.str("data")?;
    Ok(out)
}

/// A whole message: `prefix` and `data`.
pub fn message(prefix: &[u8], data: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(prefix.len() + data.len() + 9);
    out.extend_from_slice(prefix);
    Encoder::new(&mut out).bytes(data)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_as_written() {
        let prefix = prefix("sync", "me", "server", "document").unwrap();
        let bytes = message(&prefix, b"data").unwrap();
        let incoming = read(&bytes).unwrap();
        assert_eq!((incoming.kind, incoming.sender, incoming.document), ("sync", "me", "document"));
        assert_eq!(incoming.data, b"data");
    }

    #[test]
    fn join_names_the_storage_only_if_there_is_one() {
        assert_eq!(read(&join("me", None).unwrap()).unwrap().kind, "join");
        let with = join("me", Some("disk")).unwrap();
        assert!(with.windows(4).any(|w| w == b"disk"));
    }
}
