//! Tables, keys and the schema version.
//!
//! Every document key starts with the namespace's number (u32, big endian) and the document's 16 bytes, so that a
//! range over that prefix is the document and never another's.

use redb::TableDefinition;

use super::RecordKind;
use crate::types::DocumentId;

/// The schema this program writes and the highest it reads.
pub(super) const SCHEMA: u32 = 4;

/// Namespace number and document.
pub(super) type DocPrefix = [u8; 20];
/// Document and row number (u64, big endian: rows sort by arrival).
pub(super) type RowKey = [u8; 28];
/// Document and part number (u16, big endian).
pub(super) type PartKey = [u8; 22];
/// Row key and part number (u16, big endian).
pub(super) type ChangePartKey = [u8; 30];

type Bytes = &'static [u8];

/// Facts about the store itself, by the names below.
pub(super) const META: TableDefinition<&str, Bytes> = TableDefinition::new("meta");
/// Namespace to its number.
pub(super) const NAMESPACES: TableDefinition<&str, u32> = TableDefinition::new("namespaces");
/// Document to its head row.
pub(super) const HEADS: TableDefinition<&DocPrefix, Bytes> = TableDefinition::new("heads");
/// Deleted document to its head row; its other rows stay where they are. Since schema 2.
pub(super) const BIN: TableDefinition<&DocPrefix, Bytes> = TableDefinition::new("bin");
/// Purged document to its tombstone. Since schema 2.
pub(super) const TOMBSTONES: TableDefinition<&DocPrefix, Bytes> = TableDefinition::new("tombstones");
/// Row to its change; to what is known of it, if the change is one of [`LARGE_CHANGES`].
pub(super) const CHANGES: TableDefinition<&RowKey, Bytes> = TableDefinition::new("changes");
/// Changes whose rows would be larger than [`MAX_ROW_BYTES`], in parts of [`PART_BYTES`]. Since schema 3.
///
/// redb keeps a value in the leaf of its key, however large, together with small ones that were there before, and copies a
/// leaf for each key that comes into it. With 8 MB in a row, each change of the document before it copied these 8 MB and
/// wrote them to the disk.
pub(super) const LARGE_CHANGES: TableDefinition<&ChangePartKey, Bytes> =
    TableDefinition::new("large_changes");
/// Snapshots in parts of [`PART_BYTES`].
pub(super) const SNAPSHOTS: TableDefinition<&PartKey, Bytes> = TableDefinition::new("snapshots");
/// Snapshot indexes, in parts as well.
pub(super) const INDEXES: TableDefinition<&PartKey, Bytes> = TableDefinition::new("snapshot_indexes");
/// Document and storage id (text) to shared heads.
pub(super) const SYNC_STATES: TableDefinition<Bytes, Bytes> = TableDefinition::new("sync_states");
/// Key to record.
pub(super) fn records(kind: RecordKind) -> TableDefinition<'static, Bytes, Bytes> {
    TableDefinition::new(match kind {
        RecordKind::Session => "sessions",
        RecordKind::Grant => "grants",
        RecordKind::Pending => "pending",
        RecordKind::RootDocument => "root_documents",
        RecordKind::Audit => "audit",
        RecordKind::UsedToken => "used_tokens",
        RecordKind::Pin => "pins",
        RecordKind::Certificate => "certificates",
        RecordKind::RefreshToken => "refresh_tokens",
        RecordKind::Totals => "totals",
        RecordKind::Growth => "growth",
    })
}

/// `META`: schema version the file has (u32, big endian).
pub(super) const META_SCHEMA: &str = "schema";
/// `META`: lowest schema version a program must know to open the file (u32, big endian).
pub(super) const META_NEEDS: &str = "needs_schema";
/// `META`: the storage id, text.
pub(super) const META_STORAGE_ID: &str = "storage_id";
/// `META`: bytes of all keys and values of documents and records (u64, big endian). Since schema 1.
pub(super) const META_LIVE_BYTES: &str = "live_bytes";

/// Bytes of one part: with key and redb's leaf header it fills a page of 16 KiB, and a page is what redb gives to a
/// lone large value (rounded up to a power of two), so this wastes least; smaller ones cost more in keys and leaves.
pub(super) const PART_BYTES: usize = 16_320;
/// Largest value in [`CHANGES`], in bytes: with its key and redb's header it is alone in one page of 4 KiB.
pub(super) const MAX_ROW_BYTES: usize = 4_000;
/// Largest snapshot, index or large change, in bytes: as many parts as a u16 numbers.
pub(super) const MAX_BLOB_BYTES: u64 = PART_BYTES as u64 * 65_536;

pub(super) fn doc_prefix(namespace: u32, document: DocumentId) -> DocPrefix {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&namespace.to_be_bytes());
    key[4..].copy_from_slice(&document.0);
    key
}

pub(super) fn row_key(prefix: &DocPrefix, row: u64) -> RowKey {
    let mut key = [0; 28];
    key[..20].copy_from_slice(prefix);
    key[20..].copy_from_slice(&row.to_be_bytes());
    key
}

pub(super) fn row_of(key: &RowKey) -> u64 {
    let mut row = [0; 8];
    row.copy_from_slice(&key[20..]);
    u64::from_be_bytes(row)
}

pub(super) fn part_key(prefix: &DocPrefix, part: u16) -> PartKey {
    let mut key = [0; 22];
    key[..20].copy_from_slice(prefix);
    key[20..].copy_from_slice(&part.to_be_bytes());
    key
}

pub(super) fn change_part_key(row: &RowKey, part: u16) -> ChangePartKey {
    let mut key = [0; 30];
    key[..28].copy_from_slice(row);
    key[28..].copy_from_slice(&part.to_be_bytes());
    key
}

pub(super) fn namespace_of(key: &[u8]) -> Option<u32> {
    key.first_chunk().copied().map(u32::from_be_bytes)
}

pub(super) fn document_of(key: &DocPrefix) -> DocumentId {
    let mut document = [0; 16];
    document.copy_from_slice(&key[4..]);
    DocumentId(document)
}

pub(super) fn sync_state_key(prefix: &DocPrefix, storage: &str) -> Vec<u8> {
    [&prefix[..], storage.as_bytes()].concat()
}
