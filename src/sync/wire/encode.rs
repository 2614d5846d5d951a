//! Messages for clients, as bytes.

use bytes::Bytes;
use minicbor::Encoder;

use super::{Body, heads};

/// Encode a message for a client.
pub fn encode(sender: &str, target: &str, body: &Body) -> Bytes {
    let room = match body {
        Body::Request { data, .. } | Body::Sync { data, .. } | Body::Ephemeral { data, .. } => data.len(),
        _ => 0,
    };
    let mut e = Encoder::new(Vec::with_capacity(room + 192));
    // Invariant: writing CBOR to a Vec cannot fail.
    let _ = write(&mut e, sender, target, body);
    e.into_writer().into()
}

/// Encode an `error` message.
pub fn encode_error(sender: &str, target: &str, message: &str) -> Bytes {
    let mut e = Encoder::new(Vec::with_capacity(message.len() + 160));
    let mut put = || -> Written {
        e.map(4)?.str("type")?.str("error")?.str("senderId")?.str(sender)?;
        e.str("targetId")?.str(target)?.str("message")?.str(message)?;
        Ok(())
    };
    // Invariant: writing CBOR to a Vec cannot fail.
    let _ = put();
    e.into_writer().into()
}

/// What came of writing some CBOR.
pub(super) type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

fn write(e: &mut Encoder<Vec<u8>>, sender: &str, target: &str, body: &Body) -> Written {
    let mut head = |kind: &str, more: u64| -> Written {
        e.map(3 + more)?
            .str("type")?
            .str(kind)?
            .str("senderId")?
            .str(sender)?
            .str("targetId")?
            .str(target)?;
        Ok(())
    };
    match body {
        Body::Leave => head("leave", 0)?,
        Body::Request { document, data } => {
            head("request", 2)?;
            e.str("documentId")?.str(&document.to_string())?.str("data")?.bytes(data)?;
        }
        Body::Sync { document, data } => {
            head("sync", 2)?;
            e.str("documentId")?.str(&document.to_string())?.str("data")?.bytes(data)?;
        }
        Body::Unavailable { document } => {
            head("doc-unavailable", 1)?;
            e.str("documentId")?.str(&document.to_string())?;
        }
        Body::Ephemeral { document, session, count, data } => {
            head("ephemeral", 4)?;
            e.str("documentId")?.str(&document.to_string())?.str("sessionId")?.str(session)?;
            e.str("count")?.u64(*count)?.str("data")?.bytes(data)?;
        }
        Body::RemoteSubscription { add, remove } => {
            head("remote-subscription-change", 2)?;
            for (name, ids) in [("add", add), ("remove", remove)] {
                e.str(name)?.array(ids.len() as u64)?;
                for id in ids {
                    e.str(id.as_str())?;
                }
            }
        }
        Body::RemoteHeads { document, heads } => {
            head("remote-heads-changed", 2)?;
            e.str("documentId")?.str(&document.to_string())?.str("newHeads")?;
            heads::encode(e, heads)?;
        }
        Body::Unknown(kind) => head(kind, 0)?,
    }
    Ok(())
}
