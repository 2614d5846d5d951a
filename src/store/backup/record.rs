//! Records: which rows there are, and the order they come in.

use crate::store::RecordKind;

/// Kind, length of the key, length of the value.
pub(super) const HEAD_BYTES: usize = 7;

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The key that signs sync tokens; it has no key of its own.
    Secret,
    /// A namespace and its number.
    Namespace,
    Head,
    Change,
    Snapshot,
    Index,
    SyncState,
    /// The head row of a deleted document.
    Binned,
    Tombstone,
    Record(RecordKind),
}

/// Parts of a document, in the order in which they come.
pub(super) const OF_DOCUMENT: [Kind; 7] =
    [Kind::Head, Kind::Change, Kind::Snapshot, Kind::Index, Kind::SyncState, Kind::Binned, Kind::Tombstone];

impl Kind {
    /// Its number in a backup; never given to another kind.
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Secret => 1,
            Self::Namespace => 2,
            Self::Head => 3,
            Self::Change => 4,
            Self::Snapshot => 5,
            Self::Index => 6,
            Self::SyncState => 7,
            Self::Binned => 8,
            Self::Tombstone => 9,
            Self::Record(RecordKind::Session) => 16,
            Self::Record(RecordKind::Grant) => 17,
            Self::Record(RecordKind::Pending) => 18,
            Self::Record(RecordKind::RootDocument) => 19,
            Self::Record(RecordKind::Audit) => 20,
            Self::Record(RecordKind::UsedToken) => 21,
            Self::Record(RecordKind::Pin) => 22,
            Self::Record(RecordKind::Certificate) => 23,
            Self::Record(RecordKind::RefreshToken) => 31,
            Self::Record(RecordKind::Totals) => 24,
            Self::Record(RecordKind::Growth) => 25,
        }
    }

    pub(super) fn of(byte: u8) -> Option<Self> {
        let plain = [Self::Secret, Self::Namespace].into_iter().chain(OF_DOCUMENT);
        plain.chain(RecordKind::ALL.into_iter().map(Self::Record)).find(|kind| kind.byte() == byte)
    }

    /// In words, for errors.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Secret => "signing secret",
            Self::Namespace => "namespace",
            Self::Head => "head row",
            Self::Change => "change",
            Self::Snapshot => "part of a snapshot",
            Self::Index => "part of a snapshot's index",
            Self::SyncState => "sync state",
            Self::Binned => "deleted document",
            Self::Tombstone => "tombstone",
            Self::Record(_) => "record",
        }
    }
}

/// The head of a record; `None` if a key or value is too long for it.
pub(super) fn head(kind: Kind, key: &[u8], value: &[u8]) -> Option<[u8; HEAD_BYTES]> {
    let [k0, k1] = u16::try_from(key.len()).ok()?.to_be_bytes();
    let [v0, v1, v2, v3] = u32::try_from(value.len()).ok()?.to_be_bytes();
    Some([kind.byte(), k0, k1, v0, v1, v2, v3])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backup is written in the one order and checked in the other.
    #[test]
    fn kinds_of_records_are_listed_in_the_order_of_their_numbers() {
        let numbers = RecordKind::ALL.map(|kind| Kind::Record(kind).byte());
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    }
}
