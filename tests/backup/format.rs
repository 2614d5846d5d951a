//! Backups that were altered, cut, or made to do harm.

use std::io::Read;

use groundmist_sync::store::backup::{MAX_VALUE_BYTES, Manifest, check};
use sha2::{Digest as _, Sha256};

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

const MANIFEST: &str = r#"{"server_version":"1","schema":1,"needs_schema":1,"storage_id":"00000000-0000-4000-8000-000000000000","created":1,"expected_bytes":1}"#;
const TOTALS: &str = r#"{"namespaces":1,"documents":0,"changes":0,"records":1,"bytes":2}"#;
/// Kinds of records.
const SECRET: u8 = 1;
const NAMESPACE: u8 = 2;
const HEAD: u8 = 3;
const SESSION: u8 = 16;

/// What somebody writes who can make checksums.
struct Forged(Vec<u8>);

impl Forged {
    fn begin() -> Self {
        Self::of(MANIFEST)
    }

    fn of(manifest: &str) -> Self {
        Self(b"groundmist-sync backup 1\n".to_vec()).block(b'M', manifest.len(), manifest.as_bytes())
    }

    fn block(mut self, kind: u8, plain: usize, stored: &[u8]) -> Self {
        self.0.push(kind);
        self.0.extend((plain as u32).to_be_bytes());
        self.0.extend((stored.len() as u32).to_be_bytes());
        self.0.extend(stored);
        let digest = Sha256::digest(&self.0);
        self.0.extend(digest);
        self
    }

    fn data(self, records: &[u8]) -> Self {
        self.block(b'D', records.len(), records)
    }

    fn end(self) -> Vec<u8> {
        self.block(b'E', TOTALS.len(), TOTALS.as_bytes()).0
    }
}

/// One whole backup of these records.
fn forged(records: &[Vec<u8>]) -> Vec<u8> {
    Forged::begin().data(&records.concat()).end()
}

fn record(kind: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    claiming(kind, key, value, value.len())
}

fn claiming(kind: u8, key: &[u8], value: &[u8], length: usize) -> Vec<u8> {
    let head = [&[kind], &(key.len() as u16).to_be_bytes()[..], &(length as u32).to_be_bytes()].concat();
    [&head, key, value].concat()
}

#[test]
fn right_checksums_do_not_make_a_backup() {
    let [secret, namespace, session] = [
        record(SECRET, b"", &[1; 32]),
        record(NAMESPACE, b"xyz.app", &1u32.to_be_bytes()),
        record(SESSION, b"a", b"1"),
    ];
    let good = [secret.clone(), namespace.clone(), session.clone()];
    assert_eq!(read(&forged(&good)[..]), Ok(0));
    // 256 KiB of zeros in a few bytes are as much as a block may be.
    let zeros = lz4_flex::block::compress(&[0; 256 << 10]);
    let with = |more: Vec<u8>| forged(&[&good[..], &[more]].concat());
    let mut stray = vec![0, 0, 0, 9];
    stray.extend([7; 16]);
    for (what, backup, words) in [
        ("an unknown kind", with(record(99, b"a", b"")), "unknown kind 99"),
        ("a record twice", with(session.clone()), "comes twice"),
        ("a second secret", forged(&[secret.clone(), secret.clone()]), "comes twice"),
        ("a secret at the end", forged(&[namespace.clone(), secret.clone()]), "not in its place"),
        ("a namespace after records", with(namespace.clone()), "not in its place"),
        (
            "a number twice",
            forged(&[secret.clone(), namespace.clone(), record(NAMESPACE, b"xyz.b", &1u32.to_be_bytes())]),
            "one number",
        ),
        ("no secret", forged(&good[1..]), "no signing secret"),
        ("other totals", forged(&good[..2]), "other numbers"),
        (
            "a document of nowhere",
            forged(&[secret.clone(), namespace.clone(), record(HEAD, &stray, b"")]),
            "in no namespace",
        ),
        ("a huge row", with(claiming(SESSION, b"b", b"", u32::MAX as usize)), "4294967295 bytes, more than"),
        ("a row that is not there", with(claiming(SESSION, b"b", b"", MAX_VALUE_BYTES)), "inside a record"),
        ("a bomb", Forged::begin().block(b'D', u32::MAX as usize, &zeros).end(), "no block begins like this"),
        ("more than it says", Forged::begin().block(b'D', 4096, &zeros).end(), "cannot be decompressed"),
        (
            "less than it says",
            Forged::begin().block(b'D', (256 << 10) - 1, &lz4_flex::block::compress(&[0; 4096])).end(),
            "cannot be decompressed",
        ),
        (
            "a second manifest",
            Forged::begin().block(b'M', MANIFEST.len(), MANIFEST.as_bytes()).end(),
            "second manifest",
        ),
    ] {
        let said = read(&backup[..]).expect_err(what);
        assert!(said.contains(words), "{what}: {said}");
    }
}

#[test]
fn a_backup_of_an_older_schema_leaves_a_newer_store_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (home, file) = (dir.path().join("home"), dir.path().join("b"));
    let older = MANIFEST.replace("schema\":1", "schema\":0");
    let records = [
        record(SECRET, b"", &[1; 32]),
        record(NAMESPACE, b"xyz.app", &1u32.to_be_bytes()),
        record(SESSION, b"a", b"1"),
    ];
    std::fs::write(&file, Forged::of(&older).data(&records.concat()).end()).unwrap();
    run_well(&home, &["restore", file.to_str().unwrap()]);
    let mut names = std::fs::read_dir(&home)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect::<Vec<_>>();
    names.sort();
    assert_eq!(names, ["groundmist.redb", "secret.key"]);
}

#[test]
fn a_bomb_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (home, file) = (dir.path().join("home"), dir.path().join("b"));
    let good = [record(SECRET, b"", &[1; 32]), record(NAMESPACE, b"xyz.app", &1u32.to_be_bytes())].concat();
    // One row of zeros without end, as many blocks as make it larger than any row may be.
    let zeros = lz4_flex::block::compress(&[0; 256 << 10]);
    let mut backup = Forged::begin().data(&good).data(&claiming(SESSION, b"a", b"", MAX_VALUE_BYTES + 1));
    for _ in 0..8 {
        backup = backup.block(b'D', 256 << 10, &zeros);
    }
    std::fs::write(&file, backup.end()).unwrap();
    let said = run_badly(&home, &["restore", file.to_str().unwrap()]);
    assert!(said.contains("more than 67108864") && said.contains("nothing was changed"), "{said}");
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
}

#[test]
fn a_row_as_large_as_a_server_of_larger_messages_has_is_taken_where_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (home, file) = (dir.path().join("home"), dir.path().join("b"));
    let good = [record(SECRET, b"", &[1; 32]), record(NAMESPACE, b"xyz.app", &1u32.to_be_bytes())].concat();
    let row = MAX_VALUE_BYTES + (256 << 10);
    let zeros = lz4_flex::block::compress(&[0; 256 << 10]);
    let mut backup = Forged::begin().data(&good).data(&claiming(SESSION, b"a", b"", row));
    for _ in 0..row / (256 << 10) {
        backup = backup.block(b'D', 256 << 10, &zeros);
    }
    let totals = TOTALS.replace("\"bytes\":2", &format!("\"bytes\":{}", row + 1));
    std::fs::write(&file, backup.block(b'E', totals.len(), totals.as_bytes()).0).unwrap();
    let arguments = ["restore", file.to_str().unwrap()];
    let said = run_badly(&home, &arguments);
    assert!(said.contains("a larger limits.message_bytes, set that here too"), "{said}");
    let config = dir.path().join("config.toml");
    std::fs::write(&config, "[limits]\nmessage_bytes = \"65 MiB\"\ninbox_bytes = \"130 MiB\"\n").unwrap();
    run_well(&home, &[&arguments[..], &["--config", config.to_str().unwrap()]].concat());
    assert!(home.join("groundmist.redb").exists());
}
