//! Backups that were altered, cut, or made to do harm.

use std::io::Read;

use groundmist_sync::store::backup::{MAX_VALUE_BYTES, Manifest, check};

use super::common::peer::new_document;
use super::common::{Peer, Server};
use super::{run_badly, run_well};

fn backup() -> (Server, Vec<u8>) {
    let server = Server::start();
    let mut peer = Peer::join(&server, "writer");
    for _ in 0..5 {
        peer.store(new_document(), "key", "value");
    }
    let backup = run_well(&server.data_dir, &["backup", "-"]);
    (server, backup)
}

fn read(backup: impl Read) -> Result<u64, String> {
    let checked = check(backup, MAX_VALUE_BYTES, &mut |_: &Manifest, _| {});
    checked.map(|(_, totals)| totals.documents).map_err(|error| error.to_string())
}

#[test]
fn no_byte_can_be_changed_or_missing() {
    let (_server, backup) = backup();
    assert_eq!(read(&backup[..]), Ok(5));
    let mut altered = backup.clone();
    for at in 0..backup.len() {
        assert!(read(&backup[..at]).is_err(), "cut at {at}");
        for flip in [1, 0x80] {
            altered[at] ^= flip;
            assert!(read(&altered[..]).is_err(), "byte {at}");
            altered[at] ^= flip;
        }
    }
    altered.push(0);
    assert!(read(&altered[..]).is_err_and(|error| error.contains("follows its end")));
}

#[test]
fn refusals_are_in_words_and_change_nothing() {
    let (_server, mut backup) = backup();
    let dir = tempfile::tempdir().unwrap();
    let (home, file) = (dir.path().join("home"), dir.path().join("b"));
    let length = backup.len();
    backup[23] = b'2';
    for (content, words) in [
        (&backup[..], "upgrade groundmist-sync"),
        (b"PK\x03\x04 this is some other file altogether", "is not a backup"),
        (b"", "cut short"),
    ] {
        std::fs::write(&file, content).unwrap();
        let said = run_badly(&home, &["restore", file.to_str().unwrap()]);
        assert!(said.contains(words) && said.contains("nothing was changed"), "{said}");
        assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
    }
    backup[23] = b'1';
    std::fs::write(&file, &backup[..length - 1]).unwrap();
    let said = run_badly(&home, &["restore", file.to_str().unwrap()]);
    assert!(said.contains("cut short"), "{said}");
    std::fs::write(&file, &backup).unwrap();
    run_well(&home, &["restore", "--check", file.to_str().unwrap()]);
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0, "--check makes nothing");
}
