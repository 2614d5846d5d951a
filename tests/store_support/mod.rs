//! What the store's tests share: a seeded generator, a disk in memory, made-up changes.
#![allow(dead_code)] // each test file uses a part

pub mod faulty_disk;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use groundmist_sync::store::{Op, Row, StoreOptions};
use groundmist_sync::types::{ChangeHash, DocKey, DocumentId, Millis};
use redb::StorageBackend;

pub const OPTIONS: StoreOptions = StoreOptions { cache_bytes: 4 << 20 };

/// splitmix64: small, seeded, the same everywhere.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn hash(&mut self) -> ChangeHash {
        let mut hash = [0; 32];
        for part in hash.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes());
        }
        ChangeHash(hash)
    }

    pub fn bytes(&mut self, length: u64) -> Bytes {
        let mut state = Rng(self.next());
        (0..length).map(|_| state.next() as u8).collect()
    }
}

pub fn key(namespace: &str, document: u8) -> DocKey {
    DocKey { namespace: namespace.parse().unwrap(), document: DocumentId([document; 16]) }
}

/// Changes with rows from `first` on.
pub fn rows(rng: &mut Rng, first: u64, count: u64, largest: u64) -> Vec<Row> {
    (first..first + count)
        .map(|row| Row {
            row,
            hash: rng.hash(),
            max_op: rng.below(1 << 40),
            bytes: {
                let length = 1 + rng.below(largest);
                rng.bytes(length)
            },
        })
        .collect()
}

pub fn append(key: &DocKey, rows: Vec<Row>, now: Millis) -> Op {
    let heads = rows.last().map(|row| row.hash).into_iter().collect();
    Op::Append { key: key.clone(), rows, heads, by: None, now }
}

/// A disk that outlives the stores opened on it.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Vec<u8>>>);

impl MemoryDisk {
    pub fn of(content: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(content)))
    }

    pub fn content(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For `Store::open_backend`.
    pub fn factory(&self) -> impl Fn() -> io::Result<Box<dyn StorageBackend>> + Send + Sync + 'static {
        let disk = self.clone();
        move || Ok(Box::new(disk.clone()))
    }
}

impl StorageBackend for MemoryDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.content();
        let from = content.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.content().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut content = self.content();
        let end = offset as usize + data.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset as usize..end].copy_from_slice(data);
        Ok(())
    }
}
