//! Whether the disk has room for what comes.

use std::path::Path;

use rustix::fs::statvfs;

use super::{Context, Finding};
use crate::appliance::STORE_FILE;
use crate::cli::text::bytes;
use crate::directory::Directory;
use crate::web::admin::LITTLE_FREE;

const CHECK: &str = "disk";
/// Below this, in bytes, the store soon cannot grow.
const LEAST_FREE: u64 = 64 << 20;

pub(super) fn check(context: &Context<'_>) -> Finding {
    let data_dir = &context.config.data_dir;
    // Before the first start the directory is missing: what counts is where it will be made.
    let there = data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let store = Directory::open(data_dir).and_then(|directory| directory.stat(STORE_FILE));
    let store = store.map_or(0, |file| file.st_size as u64);
    match statvfs(there) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let no_files = disk.f_files > 0 && disk.f_favail == 0;
            judge(&there.display().to_string(), free, no_files, store)
        }
        Err(error) => {
            let found = format!("the disk that holds {} cannot be looked at: {error}", there.display());
            Finding::warning(CHECK, found, "run doctor as root: sudo groundmist-sync doctor")
        }
    }
}

/// `free` is what the server's user may still write; `store` is the store's size. Bytes.
fn judge(place: &str, free: u64, no_files: bool, store: u64) -> Finding {
    let has = format!("{} are free where {place} is; the store has {}", bytes(free), bytes(store));
    let fix = "make room, or move the data directory to a larger disk";
    if no_files {
        return Finding::failure(CHECK, format!("no more files can be made where {place} is"), fix);
    }
    if free < LEAST_FREE {
        let found = format!("{has}: soon no change can be saved, and then none is acknowledged");
        return Finding::failure(CHECK, found, fix);
    }
    // A migration keeps a copy of the store.
    if free < LITTLE_FREE.max(store) {
        let found = format!("{has}: too little for a second copy of it, which an upgrade may need");
        return Finding::warning(CHECK, found, fix);
    }
    Finding::ok(CHECK, has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Outcome;

    #[test]
    fn room_for_a_copy_is_enough() {
        const GIB: u64 = 1 << 30;
        for (free, no_files, store, outcome) in [
            (GIB, false, 0, Outcome::Ok),
            (GIB, false, GIB, Outcome::Ok),
            (GIB - 1, false, GIB, Outcome::Warning),
            (LITTLE_FREE - 1, false, 0, Outcome::Warning),
            (LEAST_FREE - 1, false, 0, Outcome::Failure),
            (GIB, true, 0, Outcome::Failure),
        ] {
            let finding = judge("/data", free, no_files, store);
            assert_eq!(finding.outcome, outcome, "{free} {store}: {finding:?}");
            assert!(finding.found.contains("/data"), "{finding:?}");
        }
    }
}
