//! Which document an app's devices start from: the first URL that a device stored, for good.
//!
//! It stays when the app is revoked: the owner may approve the app again, and must then find her documents again.

use std::collections::HashMap;

use super::App;
use crate::store::{Op, Record, RecordKind};
use crate::types::DocumentId;

/// Most root documents that are kept; beyond it an app that brings a new one is refused.
pub const MAX_ROOT_DOCUMENTS: usize = 2_000;

/// Whose, and of which app.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RootKey {
    pub(super) did: String,
    pub(super) app: App,
}

impl RootKey {
    fn key(&self) -> Vec<u8> {
        // A DID has no line break.
        [self.did.as_bytes(), b"\n", &self.app.key()].concat()
    }
}

#[derive(Debug)]
struct Root {
    url: String,
    durable: bool,
    /// Commits on their way that store it.
    writers: usize,
}

/// All root documents, by the key of their row.
#[derive(Debug, Default)]
pub(super) struct RootDocuments(HashMap<Vec<u8>, Root>);

impl RootDocuments {
    pub(super) fn load(rows: Vec<Record>) -> Self {
        let read = |row: Vec<u8>| String::from_utf8(row).ok().filter(|url| is_document_url(url));
        Self(
            rows.into_iter()
                .filter_map(|(key, row)| Some((key, Root { url: read(row)?, durable: true, writers: 0 })))
                .collect(),
        )
    }

    /// There is room for a new one, or there is one.
    pub(super) fn has_room_for(&self, key: &RootKey) -> bool {
        self.0.len() < MAX_ROOT_DOCUMENTS || self.0.contains_key(&key.key())
    }

    /// The URL to answer, and the operation without which that may not be said: the row is written again while it
    /// is not certain that it is durable.
    pub(super) fn enter(&mut self, key: &RootKey, given: Option<&str>) -> (Option<String>, Option<Op>) {
        let place = key.key();
        if !self.0.contains_key(&place) {
            let Some(url) = given else { return (None, None) };
            self.0.insert(place.clone(), Root { url: url.into(), durable: false, writers: 0 });
        }
        let Some(root) = self.0.get_mut(&place) else { return (None, None) };
        if root.durable {
            return (Some(root.url.clone()), None);
        }
        root.writers += 1;
        let row = Some(root.url.clone().into_bytes());
        (Some(root.url.clone()), Some(Op::Record { kind: RecordKind::RootDocument, key: place, row }))
    }

    /// A commit with the operation that [`Self::enter`] gave has come to its end.
    pub(super) fn written(&mut self, key: &RootKey, durable: bool) {
        let place = key.key();
        let Some(root) = self.0.get_mut(&place) else { return };
        root.writers = root.writers.saturating_sub(1);
        root.durable |= durable;
        if !root.durable && root.writers == 0 {
            self.0.remove(&place);
        }
    }
}

/// `automerge:` and a document id. automerge-repo 2.x also reads `#` and heads after it; 1.x does not, and a view of
/// one moment is nothing to start from.
pub(super) fn is_document_url(url: &str) -> bool {
    url.strip_prefix("automerge:").is_some_and(|id| id.parse::<DocumentId>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(n: u8) -> String {
        format!("automerge:{}", DocumentId([n; 16]))
    }

    fn key(did: &str) -> RootKey {
        let app = App { client_id: "https://a.example/".into(), namespace: "xyz.example".parse().unwrap() };
        RootKey { did: did.into(), app }
    }

    #[test]
    fn document_urls() {
        assert!(is_document_url(&url(7)));
        let cut = &url(7)[..20];
        let heads = format!("{}#{}", url(7), DocumentId([1; 16]));
        for bad in ["", "automerge:", "https://a.example", cut, &heads, &url(7)[10..], &"a".repeat(1 << 20)] {
            assert!(!is_document_url(bad), "{bad:.40}");
        }
    }

    #[test]
    fn the_first_one_stays_and_is_only_told_with_a_commit_that_stores_it() {
        let mut roots = RootDocuments::default();
        let key = key("did:plc:a");
        assert!(matches!(roots.enter(&key, None), (None, None)));
        let (told, op) = roots.enter(&key, Some(&url(1)));
        assert!(told == Some(url(1)) && op.is_some());
        let (told, op) = roots.enter(&key, Some(&url(2)));
        assert!(told == Some(url(1)) && op.is_some(), "not durable yet: the second commit stores it too");
        roots.written(&key, false);
        let (told, op) = roots.enter(&key, Some(&url(3)));
        assert!(told == Some(url(1)) && op.is_some(), "one failed, the other may have been told");
        roots.written(&key, true);
        roots.written(&key, false);
        let (told, op) = roots.enter(&key, None);
        assert!(told == Some(url(1)) && op.is_none());
    }

    #[test]
    fn one_that_was_never_stored_is_forgotten() {
        let mut roots = RootDocuments::default();
        let key = key("did:plc:a");
        roots.enter(&key, Some(&url(1)));
        roots.written(&key, false);
        assert_eq!(roots.enter(&key, Some(&url(2))).0, Some(url(2)));
    }
}
