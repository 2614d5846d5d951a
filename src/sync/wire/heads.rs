//! Heads of other storages on the wire: `newHeads` of a `remote-heads-changed` message, and the text form of a head.

use std::collections::BTreeSet;

use minicbor::{Decoder, Encoder};

use super::encode::Written;
use super::{RemoteHeads, WireError, each, number, text};
use crate::types::{ChangeHash, StorageId};

/// Most storages that one message may speak of. Clients send one at a time.
pub const MAX_STORAGES: usize = 16;
/// Most heads of one storage. An entry with more is ignored.
pub const MAX_HEADS: usize = 64;
/// Most heads in one message, all storages together. Each costs about 2 us to decode.
pub const MAX_MESSAGE_HEADS: usize = 256;

const HASH_BYTES: usize = 32;
/// Longest base58check text of 32 bytes and their checksum.
const MAX_BASE58_CHARS: usize = 50;

/// A head as automerge-repo 2.x writes it in URLs and messages: base58check of the hash.
pub(super) fn head_text(head: &ChangeHash) -> String {
    bs58::encode(head.0).with_check().into_string()
}

/// A head in either text form: base58check as 2.x writes it, hexadecimal as 1.x does.
fn head(text: &str) -> Option<ChangeHash> {
    if text.len() == 2 * HASH_BYTES {
        let mut hash = [0; HASH_BYTES];
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digit = |letter: u8| char::from(letter).to_digit(16);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        return Some(ChangeHash(hash));
    }
    if text.len() > MAX_BASE58_CHARS {
        return None;
    }
    let bytes = bs58::decode(text).with_check(None).into_vec().ok()?;
    Some(ChangeHash(bytes.try_into().ok()?))
}

/// Decode `newHeads`. Entries whose heads are too many or not the text of a hash are left out.
pub(super) fn decode(d: &mut Decoder<'_>) -> Result<Vec<RemoteHeads>, WireError> {
    let (mut all, mut storages, mut total) = (Vec::new(), BTreeSet::new(), 0);
    each(d, true, None, |d| {
        let storage: StorageId = text(d)?.parse()?;
        if storages.len() == MAX_STORAGES {
            return Err(WireError::TooMany("newHeads", "storages", MAX_STORAGES));
        }
        let (mut heads, mut timestamp) = (Some(Vec::new()), 0.0);
        each(d, true, Some(("newHeads", "fields", 16)), |d| {
            match text(d)?.as_str() {
                "heads" => each(d, false, None, |d| {
                    total += 1;
                    if total > MAX_MESSAGE_HEADS {
                        return Err(WireError::TooMany("newHeads", "heads", MAX_MESSAGE_HEADS));
                    }
                    let head = head(d.str()?);
                    let list = heads.take().filter(|list: &Vec<_>| list.len() < MAX_HEADS);
                    heads = list.zip(head).map(|(mut list, head)| {
                        list.push(head);
                        list
                    });
                    Ok(())
                })?,
                "timestamp" => timestamp = number(d)?,
                _ => d.skip()?,
            }
            Ok(())
        })?;
        if !storages.insert(storage.clone()) {
            return Err(WireError::Malformed); // a map with the same key twice
        }
        all.extend(heads.map(|heads| RemoteHeads { storage, heads, timestamp }));
        Ok(())
    })?;
    Ok(all)
}

/// Encode `newHeads`.
pub(super) fn encode(e: &mut Encoder<Vec<u8>>, heads: &[RemoteHeads]) -> Written {
    e.map(heads.len() as u64)?;
    for of in heads {
        e.str(of.storage.as_str())?.map(2)?.str("heads")?.array(of.heads.len() as u64)?;
        for head in &of.heads {
            e.str(&head_text(head))?;
        }
        e.str("timestamp")?.f64(of.timestamp)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `newHeads` with these heads for each storage.
    fn encoded(storages: &[(&str, Vec<String>)]) -> Vec<u8> {
        let mut e = Encoder::new(Vec::new());
        e.map(storages.len() as u64).unwrap();
        for (storage, heads) in storages {
            e.str(storage).unwrap().map(2).unwrap().str("timestamp").unwrap().u64(7).unwrap();
            e.str("heads").unwrap().array(heads.len() as u64).unwrap();
            for head in heads {
                e.str(head).unwrap();
            }
        }
        e.into_writer()
    }

    fn decoded(storages: &[(&str, Vec<String>)]) -> Result<Vec<RemoteHeads>, WireError> {
        decode(&mut Decoder::new(&encoded(storages)))
    }

    #[test]
    fn both_text_forms_of_a_head_are_the_same_head() {
        let hash = ChangeHash([0xa7; 32]);
        assert_eq!(head(&head_text(&hash)), Some(hash));
        assert_eq!(head(&"a7".repeat(32)), Some(hash));
        let short = bs58::encode([1; 31]).with_check().into_string();
        for bad in ["", "x", &"g".repeat(64), &"é".repeat(32), &short, &head_text(&hash)[1..]] {
            assert_eq!(head(bad), None, "{bad}");
        }
        assert!((0..=255).all(|byte| head_text(&ChangeHash([byte; 32])).len() <= MAX_BASE58_CHARS));
    }

    #[test]
    fn an_entry_with_bad_or_too_many_heads_is_left_out() {
        let good = head_text(&ChangeHash([1; 32]));
        let heads = decoded(&[
            ("short", vec![good.clone(), "h".into()]),
            ("many", vec![good.clone(); MAX_HEADS + 1]),
            ("good", vec![good.clone(); MAX_HEADS]),
        ])
        .unwrap();
        let [only] = &heads[..] else { panic!("{heads:?}") };
        assert_eq!((only.storage.as_str(), only.heads.len(), only.timestamp), ("good", MAX_HEADS, 7.0));
    }

    #[test]
    fn a_message_has_limits() {
        let names: Vec<String> = (0..=MAX_STORAGES).map(|n| n.to_string()).collect();
        let storages: Vec<_> = names.iter().map(|name| (name.as_str(), vec![])).collect();
        assert_eq!(decoded(&storages[1..]).unwrap().len(), MAX_STORAGES);
        let too_many = |what, limit| Err(WireError::TooMany("newHeads", what, limit));
        assert_eq!(decoded(&storages), too_many("storages", MAX_STORAGES));
        let heads = vec!["h".to_owned(); MAX_MESSAGE_HEADS];
        assert_eq!(decoded(&[("a", heads.clone())]).unwrap(), []);
        assert_eq!(decoded(&[("a", heads), ("b", vec!["h".into()])]), too_many("heads", MAX_MESSAGE_HEADS));
        assert_eq!(decoded(&[("a", vec![]), ("a", vec![])]), Err(WireError::Malformed));
    }
}
