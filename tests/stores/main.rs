//! A small store of every schema that ever landed, each made by a version that wrote it: it opens, syncs, is backed up and
//! restored. README.md beside this file says what is in them and how a new one is made.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::server::random_text;
use common::{Peer, Server, Start, answer};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use groundmist_sync::types::DocumentId;
use serde_json::{Value, json};

/// Every schema up to the one that this version writes.
const SCHEMAS: &[u32] = &[1, 2, 3, 4];
/// Every schema of which there is a store with sessions of devices.
const DEVICES: &[u32] = &[3, 4];
/// Where each of them is kept.
const STORE: &str = "groundmist.redb";
/// The secret that signed the token in the store.
const SECRET: &str = "secret.key";
/// An app of its own, with a token that must go on to open its namespace.
const NAMESPACE: &str = "kept.example";

fn place(schema: u32, ending: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/stores/schema-{schema}.{ending}"))
}

/// Makes a store with the program at `STORE_OF`; README.md says how.
#[test]
fn a_new_store_is_made_when_asked_for() {
    let Ok(binary) = std::env::var("STORE_OF") else { return };
    let schema: u32 = std::env::var("SCHEMA").unwrap().parse().unwrap();
    let data = tempfile::tempdir().unwrap();
    let start = || {
        // At once, so that a snapshot is among it.
        let start = Start::default().binary(Path::new(&binary)).data_dir(data.path());
        start.set("STORAGE__COMPACT_GRACE", "0s").set("STORAGE__COMPACT_FLOOR", "500").run()
    };
    let mut server = start();
    let token = server.new_token("kept", NAMESPACE, &["--expires", "3650d"]);
    let mut peer = Peer::join_with(&server, &token, "writer").unwrap();
    let ids: Vec<DocumentId> = (0..3).map(|_| common::peer::new_document()).collect();
    let [small, large, long] = ids[..] else { panic!() };
    (0..3).for_each(|n| peer.store(small, &format!("key {n}"), "value"));
    // A row of many pages, between small ones.
    peer.store(large, "before", "value");
    peer.store(large, "large", &random_text(120_000));
    peer.store(large, "after", "value");
    (0..700).for_each(|n| peer.put(long, &format!("key {}", n % 50), &n.to_string()));
    peer.until("all that was typed", |peer| peer.is_acknowledged(long));
    peer.store(long, "after", "value");
    let documents: Vec<Value> =
        ids.iter().map(|id| json!({ "id": id.to_string(), "heads": peer.heads(*id) })).collect();
    drop(peer);
    assert!(server.terminate().success());
    drop(start());
    let bytes = fs::read(data.path().join(STORE)).unwrap();
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&bytes).unwrap();
    fs::write(place(schema, "redb.gz"), packed.finish().unwrap()).unwrap();
    let secret = fs::read(data.path().join(SECRET)).unwrap();
    let known = json!({ "secret": secret, "token": token, "documents": documents });
    fs::write(place(schema, "json"), known.to_string() + "\n").unwrap();
}

#[test]
fn a_store_of_every_schema_opens_syncs_and_is_restored() {
    for schema in SCHEMAS {
        let data = tempfile::tempdir().unwrap();
        let known = unpack(&format!("schema-{schema}"), data.path());
        let secret: Vec<u8> = serde_json::from_value(known["secret"].clone()).unwrap();
        fs::write(data.path().join(SECRET), secret).unwrap();

        let mut server = Start::default().data_dir(data.path()).run();
        holds(&server, &known);
        let mut peer = Peer::join_with(&server, &token(&server, &known), "a device of today").unwrap();
        for document in documents(&known) {
            peer.request(document);
            peer.until("the document", |peer| !peer.heads(document).is_empty());
            peer.store(document, "today", "value");
        }
        let newer: Vec<Value> = documents(&known)
            .map(|document| json!({ "id": document.to_string(), "heads": peer.heads(document) }))
            .collect();
        drop(peer);
        assert!(server.terminate().success());
        let known = json!({ "token": known["token"], "documents": newer });
        holds(&Start::default().data_dir(data.path()).run(), &known);

        let (backup, restored) = (data.path().join("backup"), tempfile::tempdir().unwrap());
        answer(data.path(), 0, &["backup", backup.to_str().unwrap()]);
        answer(restored.path(), 0, &["restore", backup.to_str().unwrap()]);
        holds(&Start::default().data_dir(restored.path()).run(), &known);
    }
}

/// Every token that a version gave out to devices; in schema 3 each authentication began a session of its own.
#[test]
fn tokens_of_devices_go_on_working_after_the_migration_and_a_restore() {
    for schema in DEVICES {
        let (data, restored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let known = unpack(&format!("devices-{schema}"), data.path());
        fs::write(data.path().join(SECRET), known["secret"].as_str().unwrap()).unwrap();
        let owner = known["owner"].as_str().unwrap();
        let start = |data: &Path| Start::default().set("OWNER", owner).data_dir(data).run();
        let mut server = start(data.path());
        all_work(&server, &known);
        assert!(server.terminate().success());
        all_work(&start(data.path()), &known);
        let backup = data.path().join("backup");
        answer(data.path(), 0, &["backup", backup.to_str().unwrap()]);
        answer(restored.path(), 0, &["restore", backup.to_str().unwrap()]);
        all_work(&start(restored.path()), &known);
    }
}

/// Every token opens a connection, those that only read read, and a device has one session.
fn all_work(server: &Server, known: &Value) {
    let tokens = known["tokens"].as_array().unwrap();
    let mut all: Vec<Peer> = tokens
        .iter()
        .enumerate()
        .map(|(n, token)| {
            Peer::join_with(server, token["token"].as_str().unwrap(), &format!("peer {n}")).unwrap()
        })
        .collect();
    for (peer, token) in all.iter_mut().zip(tokens) {
        let document = common::peer::new_document();
        peer.put(document, "key", "value");
        if token["read_only"] == false {
            peer.until("the change to be stored", |peer| peer.is_acknowledged(document));
        }
    }
    let (_, body) = server.admin_get("/api/sessions");
    let sessions: Value = serde_json::from_str(&body).unwrap();
    let of = |name: &str| -> Vec<u64> {
        let all = sessions["sessions"].as_array().unwrap().iter();
        all.filter(|session| session["name"] == name)
            .map(|session| session["connections"].as_u64().unwrap())
            .collect()
    };
    for name in ["laptop", "phone"] {
        let given = tokens.iter().filter(|token| token["of"] == name).count() as u64;
        assert_eq!(of(name), [given], "{name}");
    }
    assert!(!body.contains("tokens"), "no session's key is told: {body}");
}

/// Puts a store into a directory: what is known of it.
fn unpack(name: &str, data: &Path) -> Value {
    let file = |ending: &str| {
        let kept = format!("tests/stores/{name}.{ending}");
        fs::File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(kept)).unwrap()
    };
    let mut store = Vec::new();
    GzDecoder::new(file("redb.gz")).read_to_end(&mut store).unwrap();
    fs::write(data.join(STORE), store).unwrap();
    serde_json::from_reader(file("json")).unwrap()
}

fn documents(known: &Value) -> impl Iterator<Item = DocumentId> {
    known["documents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|document| document["id"].as_str().unwrap().parse().unwrap())
}

/// The token that was kept with a store, or another one if its time is over: those of the first schemas had 30 days. Of the tokens in
/// `devices-3` and `devices-4`, which have ten years, every one must go on working.
fn token(server: &Server, known: &Value) -> String {
    let kept = known["token"].as_str().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(kept.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    if claims["exp"].as_u64().unwrap() > now.as_secs() + 60 {
        return kept.to_owned();
    }
    server.new_token("instead", NAMESPACE, &[])
}

/// A fresh device gets every document, whole.
fn holds(server: &Server, known: &Value) {
    let mut peer = Peer::join_with(server, &token(server, known), "a fresh device").unwrap();
    for (document, expected) in documents(known).zip(known["documents"].as_array().unwrap()) {
        peer.request(document);
        peer.until("the whole document", |peer| expected["heads"] == json!(peer.heads(document)));
    }
}
