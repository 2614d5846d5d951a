//! A message of which only the two ends are at hand, because it is larger than a message may be.
//!
//! Clients write the fields in any order: automerge-repo's put `data`, which makes a message large, before the document's id.

use bytes::Bytes;
use minicbor::Decoder;
use minicbor::data::Type;

use super::{Envelope, WireError, decode, text};

/// An empty byte string in CBOR.
const EMPTY: u8 = 0x40;

/// Decodes a message of `size` bytes that begins with `first` and ends with `last`; its `data`, in which all other bytes stand,
/// comes out empty.
/// # Errors
/// Something else than `data` is missing, or the message is none of automerge-repo's.
pub fn decode_ends(first: &[u8], last: &[u8], size: u64) -> Result<Envelope, WireError> {
    let (header, payload) = find_data(first)?;
    let after = (header.end as u64).checked_add(payload).ok_or(WireError::Malformed)?;
    let missing = size.saturating_sub(last.len() as u64);
    let rest = after.checked_sub(missing).and_then(|from| last.get(usize::try_from(from).ok()?..));
    let rest = rest.ok_or(WireError::Malformed)?;
    let message = [&first[..header.start], &[EMPTY], rest].concat();
    decode(&Bytes::from(message))
}

/// Whether [`decode_ends`] may find out what a message is about that begins so.
pub fn may_be_decoded(first: &[u8]) -> bool {
    find_data(first).is_ok()
}

/// Where the byte string called `data` has its header, and how many bytes it holds.
fn find_data(first: &[u8]) -> Result<(std::ops::Range<usize>, u64), WireError> {
    let mut d = Decoder::new(first);
    let fields = d.map()?;
    let mut seen = 0;
    while fields.is_none_or(|fields| seen < fields) && d.datatype()? != Type::Break {
        let is_data = text(&mut d)? == "data";
        if is_data {
            if d.datatype()? == Type::Tag {
                d.tag()?; // a typed array: same bytes
            }
            return byte_string(first, d.position());
        }
        d.skip()?;
        seen += 1;
    }
    Err(WireError::Malformed)
}

/// The header of the byte string that begins there, and the length that it gives (RFC 8949, 3).
fn byte_string(bytes: &[u8], start: usize) -> Result<(std::ops::Range<usize>, u64), WireError> {
    let initial = *bytes.get(start).ok_or(WireError::Malformed)?;
    let wide = match initial {
        0x40..=0x57 => 0,
        0x58 => 1,
        0x59 => 2,
        0x5a => 4,
        0x5b => 8,
        _ => return Err(WireError::Malformed),
    };
    let end = start + 1 + wide;
    let length = bytes.get(start + 1..end).ok_or(WireError::Malformed)?;
    let length = match wide {
        0 => u64::from(initial & 0x1f),
        _ => length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    };
    Ok((start..end, length))
}

#[cfg(test)]
mod tests {
    use super::super::{Body, encode};
    use super::*;
    use crate::types::DocumentId;

    /// What is kept of each end.
    const END: usize = 300;

    fn ends(message: &[u8]) -> Result<Envelope, WireError> {
        let (first, last) =
            (&message[..END.min(message.len())], &message[message.len().saturating_sub(END)..]);
        decode_ends(first, last, message.len() as u64)
    }

    /// As automerge-repo's clients write it, with these fields in this order.
    fn written(fields: &[&str], bytes: usize) -> Vec<u8> {
        let mut e = minicbor::Encoder::new(vec![0xb9, 0, fields.len() as u8]);
        for field in fields {
            e.str(field).unwrap();
            match *field {
                "data" => e.bytes(&vec![7; bytes]).unwrap(),
                "type" => e.str("sync").unwrap(),
                "documentId" => e.str(&DocumentId([9; 16]).to_string()).unwrap(),
                other => e.str(other).unwrap(),
            };
        }
        e.into_writer()
    }

    #[test]
    fn the_document_is_found_on_either_side_of_the_payload() {
        let sync = Body::Sync { document: DocumentId([9; 16]), data: Bytes::new() };
        for bytes in [0, 10, 200, 1_000, 100_000] {
            for fields in [
                ["type", "targetId", "data", "documentId", "senderId"],
                ["type", "targetId", "documentId", "data", "senderId"],
                ["data", "type", "targetId", "documentId", "senderId"],
                ["type", "targetId", "documentId", "senderId", "data"],
            ] {
                let envelope = ends(&written(&fields, bytes)).unwrap();
                assert_eq!((&envelope.body, &envelope.sender[..]), (&sync, "senderId"), "{fields:?} {bytes}");
            }
        }
        let large = Body::Sync { document: DocumentId([9; 16]), data: vec![1; 70_000].into() };
        assert_eq!(ends(&encode("us", "them", &large)).unwrap().body, sync);
    }

    #[test]
    fn what_hides_behind_the_payload_is_no_reason_to_guess() {
        let whole = written(&["type", "targetId", "data", "documentId", "senderId"], 100_000);
        let at = whole.windows(4).position(|four| four == b"data").unwrap() + 5;
        for claims in [0u32, 99_000, 100_001, u32::MAX] {
            let mut lie = whole.clone();
            lie[at..at + 4].copy_from_slice(&claims.to_be_bytes());
            assert!(ends(&lie).is_err(), "{claims}");
        }
        for bad in [&[0xff; 1_000][..], &[0x5b; 1_000], &[0xbf, 0xff], b"", &[0xa1]] {
            assert_eq!(ends(bad), Err(WireError::Malformed), "{bad:?}");
        }
        let endless = [&whole[..at - 1], &[0x5f], &whole[at..]].concat();
        assert_eq!(ends(&endless), Err(WireError::Malformed), "a byte string in pieces");
        let long_name = written(&["type", "x", "data", "documentId", "senderId"], 100_000);
        let long_name = [&long_name[..3], &[0x79, 1, 44], &[b'x'; 300], &long_name[3..]].concat();
        assert_eq!(ends(&long_name), Err(WireError::Malformed), "the payload begins too late");
    }
}
