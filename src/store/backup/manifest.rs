//! What a backup says of itself, as JSON.

use serde::{Deserialize, Serialize};

use super::BackupError;
use crate::store::schema::SCHEMA;
use crate::types::{Millis, StorageId};

/// Whose backup this is, and of when. The first block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the program that wrote it.
    pub server_version: String,
    /// The store's schema.
    pub schema: u32,
    /// Lowest schema that a program must know to use the store.
    pub needs_schema: u32,
    /// The store's id, by which devices know it; a restored store has the same.
    pub storage_id: String,
    /// The moment that it shows.
    pub created: Millis,
    /// Bytes of keys and values that come, about: for progress and for the room that is needed.
    pub expected_bytes: u64,
}

/// What a backup holds. The last block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Namespaces.
    pub namespaces: u64,
    /// Documents in all of them.
    pub documents: u64,
    /// Changes of all documents, those in snapshots too.
    pub changes: u64,
    /// Records of all kinds.
    pub records: u64,
    /// Bytes of all their keys and values.
    pub bytes: u64,
}

impl Manifest {
    /// Read, and of a store that this program can use.
    pub(super) fn parse(json: &[u8]) -> Result<Self, BackupError> {
        let manifest: Self = serde_json::from_slice(json)
            .map_err(|error| BackupError::Unfit(format!("its manifest is not understood ({error})")))?;
        if manifest.schema > SCHEMA && manifest.needs_schema > SCHEMA {
            return Err(BackupError::NewerSchema {
                version: manifest.server_version.chars().filter(char::is_ascii_graphic).take(40).collect(),
                needs: manifest.needs_schema,
                knows: SCHEMA,
            });
        }
        manifest.storage_id.parse::<StorageId>().map_err(|error| BackupError::Unfit(error.to_string()))?;
        Ok(manifest)
    }
}
