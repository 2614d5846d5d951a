//! The durable part of the record, and how apps share its room.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::engine::opener::trouble::Trouble;
use crate::types::{DocKey, Party};

/// Documents with bad ends that are remembered, and other troubles: so many of each. Every write carries all of them.
pub const MOST_NOTED: usize = 200;
/// Bytes of a reason that are kept: a sentence.
const MOST_REASON_BYTES: usize = 300;

/// A document whose openings ended badly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadEnd {
    /// The document's namespace.
    pub namespace: String,
    /// The document's id.
    pub document: String,
    /// `client_id` of the app that sent or wanted the document when an opening first ended badly; empty for the server's own
    /// housekeeping.
    #[serde(default)]
    pub client: String,
    /// How often in a row.
    pub ends: u32,
    /// How the last one ended, in words.
    #[serde(default)]
    pub reason: String,
    /// Bytes of memory that it was estimated to need. An opening that needs less and ends well proves nothing.
    #[serde(default)]
    pub need_bytes: u64,
}

impl BadEnd {
    /// `party`: who sent or wanted the document.
    pub(super) fn of(key: &DocKey, party: Option<&Party>, need_bytes: u64, reason: &str) -> Self {
        let (namespace, document) = (key.namespace.to_string(), key.document.to_string());
        let client = party.map_or_else(String::new, |party| party.approval.client_id.to_string());
        Self { namespace, document, client, ends: 0, reason: shortened(reason), need_bytes }
    }
}

/// A document as entries name it. An id becomes text once, however many entries it is compared with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    namespace: String,
    document: String,
}

impl Name {
    pub(super) fn of(key: &DocKey) -> Self {
        Self { namespace: key.namespace.to_string(), document: key.document.to_string() }
    }

    pub(super) fn is_of(&self, bad: &BadEnd) -> bool {
        self.document == bad.document && self.namespace == bad.namespace
    }

    pub(super) fn is_in(&self, trouble: &Trouble) -> bool {
        self.document == trouble.document && self.namespace == trouble.namespace
    }
}

/// The durable part: JSON in one row.
///
/// Invariants: at most [`MOST_NOTED`] bad ends and as many troubles. One document has at most one bad end, and of each app one
/// trouble of a kind.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Durable {
    /// Openings under way that may take the server with them.
    #[serde(default, deserialize_with = "one_or_many")]
    pub under_way: Vec<BadEnd>,
    /// Documents whose last opening ended badly, the oldest first.
    pub bad: Vec<BadEnd>,
    /// What else the owner must know, the oldest first.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
}

/// The record of a server that opened one document at a time has one or null.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BadEnd>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Many(Vec<BadEnd>),
        One(Option<BadEnd>),
    }
    Ok(match Stored::deserialize(deserializer)? {
        Stored::Many(many) => many,
        Stored::One(one) => one.into_iter().collect(),
    })
}

impl Durable {
    /// Counts a bad end. Who was the first keeps the entry: another app of the namespace cannot make it its own, and push
    /// it out with more of its own.
    pub(super) fn count(&mut self, ended: BadEnd) {
        let same = |bad: &BadEnd| (&bad.namespace, &bad.document) == (&ended.namespace, &ended.document);
        match self.bad.iter_mut().find(|bad| same(bad)) {
            Some(bad) => {
                bad.ends += 1;
                bad.need_bytes = bad.need_bytes.max(ended.need_bytes);
                bad.reason = ended.reason;
            }
            None => self.bad.push(BadEnd { ends: 1, ..ended }),
        }
        self.make_room();
    }

    /// Takes a trouble in. True if it was not known, or not with this limit.
    pub(super) fn note(&mut self, trouble: Trouble) -> bool {
        let trouble = Trouble { reason: shortened(&trouble.reason), ..trouble };
        if let Some(known) = self.troubles.iter_mut().find(|known| known.is_like(&trouble)) {
            let is_news = known.limit != trouble.limit;
            *known = trouble;
            return is_news;
        }
        self.troubles.push(trouble);
        self.make_room();
        true
    }

    /// Removes what is too many, also of what an older version stored.
    pub(super) fn make_room(&mut self) {
        share_room(&mut self.bad, |bad| (&bad.namespace, &bad.client));
        share_room(&mut self.troubles, |trouble| (&trouble.namespace, &trouble.client));
    }

    pub(super) fn cross_out(&mut self, key: &DocKey) -> bool {
        remove(&mut self.under_way, key, |name, opening| name.is_of(opening))
    }

    /// Forgets the document's bad end if it needed no more memory.
    pub(super) fn forget(&mut self, key: &DocKey, need_bytes: u64) -> bool {
        remove(&mut self.bad, key, |name, bad| name.is_of(bad) && bad.need_bytes <= need_bytes)
    }

    /// Removes the document's troubles that `is_over` says so of.
    pub(super) fn clear(&mut self, key: &DocKey, is_over: impl Fn(&Trouble) -> bool) -> bool {
        remove(&mut self.troubles, key, |name, trouble| name.is_in(trouble) && is_over(trouble))
    }
}

/// Removes entries; true if there were any.
fn remove<T>(entries: &mut Vec<T>, key: &DocKey, is_over: impl Fn(&Name, &T) -> bool) -> bool {
    // Nearly always: then nothing is to be done for each opening.
    if entries.is_empty() {
        return false;
    }
    let (name, before) = (Name::of(key), entries.len());
    entries.retain(|entry| !is_over(&name, entry));
    entries.len() < before
}

/// Of more than [`MOST_NOTED`] entries the app that has the most loses its oldest. `app` gives namespace and `client_id`; the
/// server's own housekeeping in a namespace counts as one app there.
fn share_room<T>(entries: &mut Vec<T>, app: impl Fn(&T) -> (&String, &String)) {
    while entries.len() > MOST_NOTED {
        let mut held: HashMap<(&String, &String), usize> = HashMap::new();
        for entry in &*entries {
            *held.entry(app(entry)).or_default() += 1;
        }
        let most = held.values().copied().max();
        // Invariant: some entry is of an app that has the most.
        let Some(oldest) = entries.iter().position(|entry| held.get(&app(entry)).copied() == most) else {
            return;
        };
        entries.remove(oldest);
    }
}

/// The beginning of a reason, which may quote an error of any length.
fn shortened(reason: &str) -> String {
    reason[..reason.floor_char_boundary(MOST_REASON_BYTES)].to_owned()
}
