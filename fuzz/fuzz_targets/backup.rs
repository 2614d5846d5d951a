//! Backups: as they are, and, behind correct checksums, the records inside.
#![no_main]

use groundmist_sync::store::backup::{Manifest, check};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

const MAX_VALUE_BYTES: usize = 1 << 20;
const MANIFEST: &[u8] =
    br#"{"server_version":"1","schema":1,"needs_schema":1,"storage_id":"s","created":1,"expected_bytes":1}"#;
const TOTALS: &[u8] = br#"{"namespaces":1,"documents":1,"changes":1,"records":1,"bytes":1}"#;

fuzz_target!(|data: &[u8]| {
    let _ = check(data, MAX_VALUE_BYTES, &mut |_: &Manifest, _| {});
    let mut backup = b"groundmist-sync backup 1\n".to_vec();
    put(&mut backup, b'M', MANIFEST.len(), MANIFEST);
    // The first two bytes say how long it claims to be.
    if let Some((&[a, b], records)) = data.split_first_chunk() {
        let claimed = usize::from(u16::from_be_bytes([a, b]));
        put(&mut backup, b'D', if claimed == 0 { records.len() } else { claimed }, records);
    }
    put(&mut backup, b'E', TOTALS.len(), TOTALS);
    let _ = check(&backup[..], MAX_VALUE_BYTES, &mut |_: &Manifest, _| {});
});

fn put(backup: &mut Vec<u8>, kind: u8, plain: usize, stored: &[u8]) {
    backup.push(kind);
    backup.extend((plain as u32).to_be_bytes());
    backup.extend((stored.len() as u32).to_be_bytes());
    backup.extend(stored);
    let digest = Sha256::digest(&backup);
    backup.extend(digest);
}
