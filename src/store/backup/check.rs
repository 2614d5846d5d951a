//! Holds records to the order they come in, and each document to what its head row says.
//!
//! Both sides do it: a backup that was written to its end can be restored.

use std::collections::BTreeSet;

use super::Totals;
use super::record::Kind;
use crate::store::schema::{DocPrefix, PART_BYTES, document_of};
use crate::store::{Head, codec};
use crate::types::{MIN_SECRET_BYTES, Namespace};

/// Longest signing secret, in bytes.
const MAX_SECRET_BYTES: usize = 4096;
/// Most namespaces; their numbers are kept in memory.
const MAX_NAMESPACES: usize = 1 << 20;
/// What a blob's first part begins with: the length of the whole.
const LENGTH_BYTES: usize = 8;

#[derive(Default)]
pub(super) struct Check {
    /// By what the last record was sorted, and this one.
    last: Vec<u8>,
    this: Vec<u8>,
    namespaces: BTreeSet<u32>,
    document: Option<Document>,
    has_secret: bool,
    totals: Totals,
}

struct Document {
    prefix: DocPrefix,
    head: Option<Head>,
    changes: u64,
    change_bytes: u64,
    next_row: Option<u64>,
    snapshot: Blob,
    index: Blob,
}

#[derive(Default)]
struct Blob {
    parts: u64,
    claimed: u64,
    bytes: u64,
}

type Checked = Result<(), String>;

impl Check {
    /// The next record. The error says what is wrong with it.
    pub(super) fn record(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Checked {
        self.in_order(kind, key)?;
        match kind {
            Kind::Secret => {
                if !key.is_empty() || !(MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&value.len()) {
                    return Err("its signing secret has a wrong length".into());
                }
                self.has_secret = true;
                return Ok(());
            }
            Kind::Namespace => return self.namespace(key, value),
            Kind::Record(_) => {
                self.end_document()?;
                self.totals.records += 1;
            }
            _ => self.of_document(kind, key, value)?,
        }
        self.totals.bytes += (key.len() + value.len()) as u64;
        Ok(())
    }

    /// What there was, after the last record.
    pub(super) fn finish(mut self) -> Result<Totals, String> {
        self.end_document()?;
        if !self.has_secret {
            return Err("it holds no signing secret".into());
        }
        Ok(self.totals)
    }

    /// Secret, namespaces, documents, records; a document's rows are together, and no row comes twice.
    fn in_order(&mut self, kind: Kind, key: &[u8]) -> Checked {
        self.this.clear();
        match kind {
            Kind::Secret => self.this.push(0),
            Kind::Namespace => {
                self.this.push(1);
                self.this.extend_from_slice(key);
            }
            Kind::Record(_) => {
                self.this.extend([3, kind.byte()]);
                self.this.extend_from_slice(key);
            }
            _ => {
                let Some((prefix, rest)) = key.split_first_chunk::<20>() else {
                    return Err(format!("a {} has a key of {} bytes", kind.name(), key.len()));
                };
                self.this.push(2);
                self.this.extend_from_slice(prefix);
                self.this.push(kind.byte());
                self.this.extend_from_slice(rest);
            }
        }
        if !self.last.is_empty() && self.this <= self.last {
            return Err(format!("a {} comes twice, or not in its place", kind.name()));
        }
        std::mem::swap(&mut self.this, &mut self.last);
        Ok(())
    }

    fn namespace(&mut self, key: &[u8], value: &[u8]) -> Checked {
        let name =
            std::str::from_utf8(key).ok().and_then(|text| Some((text, text.parse::<Namespace>().ok()?)));
        if name.is_none_or(|(text, namespace)| namespace.as_str() != text) {
            return Err("a namespace has a wrong name".into());
        }
        let number = value.try_into().map(u32::from_be_bytes).map_err(|_| "a namespace has no number")?;
        if !self.namespaces.insert(number) || self.namespaces.len() > MAX_NAMESPACES {
            return Err("two namespaces have one number, or there are too many".into());
        }
        self.totals.namespaces += 1;
        Ok(())
    }

    fn of_document(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Checked {
        let Some((prefix, rest)) = key.split_first_chunk::<20>() else {
            return Err("a key is cut short".into());
        };
        if self.document.as_ref().is_none_or(|document| document.prefix != *prefix) {
            self.end_document()?;
            let [n0, n1, n2, n3, ..] = *prefix;
            if !self.namespaces.contains(&u32::from_be_bytes([n0, n1, n2, n3])) {
                return Err(format!("document {} is in no namespace", document_of(prefix)));
            }
            self.document = Some(Document::new(*prefix));
        }
        let Some(document) = &mut self.document else { return Ok(()) };
        document.row(kind, rest, value).map_err(|wrong| format!("document {}: {wrong}", document_of(prefix)))
    }

    fn end_document(&mut self) -> Checked {
        let Some(document) = self.document.take() else { return Ok(()) };
        document.end().map_err(|wrong| format!("document {}: {wrong}", document_of(&document.prefix)))?;
        if let Some(head) = document.head {
            self.totals.documents += u64::from(head.deleted.is_none());
            let folded = head.snapshot.map_or(0, |snapshot| snapshot.changes);
            self.totals.changes =
                self.totals.changes.saturating_add(folded).saturating_add(head.tail_changes);
        }
        Ok(())
    }
}

impl Document {
    fn new(prefix: DocPrefix) -> Self {
        let (snapshot, index) = Default::default();
        Self { prefix, head: None, changes: 0, change_bytes: 0, next_row: None, snapshot, index }
    }

    fn row(&mut self, kind: Kind, rest: &[u8], value: &[u8]) -> Result<(), &'static str> {
        const KEY: &str = "a row's key has a wrong length";
        let unreadable = |error: codec::Malformed| error.0;
        match kind {
            Kind::Head | Kind::Binned | Kind::Tombstone if rest.is_empty() => {
                let head = match kind {
                    Kind::Tombstone => codec::decode_tombstone(value),
                    _ => codec::decode_head(value),
                };
                let head = head.map_err(unreadable)?;
                if head.deleted.is_none() != (kind == Kind::Head) || self.head.is_some() {
                    return Err("its head row is not where it belongs, or there are two");
                }
                self.head = Some(head);
            }
            Kind::Change => {
                let row = rest.try_into().map(u64::from_be_bytes).map_err(|_| KEY)?;
                if self.next_row.is_some_and(|expected| expected != row) {
                    return Err("a change is missing");
                }
                self.next_row = Some(row.checked_add(1).ok_or("row numbers have run out")?);
                match codec::split_change(value).map_err(unreadable)? {
                    (_, []) => return Err("a change row holds no change"),
                    (_, change) => self.change_bytes += change.len() as u64,
                }
                self.changes += 1;
            }
            Kind::Snapshot => self.snapshot.part(rest, value)?,
            Kind::Index => self.index.part(rest, value)?,
            Kind::SyncState if !rest.is_empty() => {
                codec::decode_hashes(value).map_err(unreadable)?;
            }
            _ => return Err(KEY),
        }
        Ok(())
    }

    fn end(&self) -> Result<(), &'static str> {
        let Some(head) = &self.head else {
            // What a peer shared may be known of a document that is not stored.
            let only_sync_states = self.changes + self.snapshot.parts + self.index.parts == 0;
            return if only_sync_states { Ok(()) } else { Err("it has rows but no head row") };
        };
        if (head.tail_changes, head.tail_bytes) != (self.changes, self.change_bytes) {
            return Err("its head row counts other changes than there are");
        }
        if self.next_row.is_some_and(|next| next != head.next_row) {
            return Err("its last change is missing");
        }
        let has = |blob: &Blob| blob.parts > 0;
        if [has(&self.snapshot), has(&self.index)] != [head.snapshot.is_some(); 2] {
            return Err("its head row and its snapshot disagree on whether there is one");
        }
        if self.snapshot.bytes != self.snapshot.claimed || self.index.bytes != self.index.claimed {
            return Err("its snapshot is not whole");
        }
        if head.snapshot.as_ref().is_some_and(|info| info.bytes != self.snapshot.bytes) {
            return Err("its snapshot has another size than its head row says");
        }
        Ok(())
    }
}

impl Blob {
    fn part(&mut self, number: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number =
            number.try_into().map(u16::from_be_bytes).map_err(|_| "a part's key has a wrong length")?;
        if u64::from(number) != self.parts || value.len() > PART_BYTES {
            return Err("a part of its snapshot is missing or too large");
        }
        let content = if number == 0 {
            let (length, content) =
                value.split_first_chunk::<LENGTH_BYTES>().ok_or("its snapshot's first part has no length")?;
            self.claimed = u64::from_be_bytes(*length);
            content
        } else {
            value
        };
        self.parts += 1;
        self.bytes += content.len() as u64;
        Ok(())
    }
}
