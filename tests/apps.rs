//! Apps and sessions as the owner sees them: the commands, against a real server whose store has seen apps ask.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod common;

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use common::peer::new_document;
use common::{Peer, Server, Start};
use groundmist_sync::access::{Access, App, Decision, Entered, Entering, Pending, Proof, secret};
use groundmist_sync::appliance::{STORE_FILE, options};
use groundmist_sync::config::{Access as Settings, Approve, Config, Flags, Sources};
use groundmist_sync::store::{Op, RecordKind, Store};
use groundmist_sync::types::{DocumentId, now};
use serde_json::Value;

const CLIENT: &str = "https://app.example/with/a/rather/long/path/to/its/client-metadata.json?v=1";
const OWNER: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
const OTHER: &str = "https://other.example/client-metadata.json";

fn asks(client_id: &str, namespace: &str) -> Entering {
    Entering {
        did: OWNER.into(),
        client_id: client_id.into(),
        namespace: namespace.parse().unwrap(),
        read_only_wanted: false,
        jkt: None,
        name: None,
        root_doc_url: None,
        address: Some("203.0.113.7".parse().unwrap()),
        user_agent: Some("Mozilla/5.0".into()),
        used: Vec::new(),
        how: Proof::Relay,
    }
}

/// A data directory in which `fill` has happened before the server starts.
fn filled<T>(fill: impl AsyncFnOnce(&Arc<Access>, &Arc<Store>) -> T) -> (tempfile::TempDir, Server, T) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let made = runtime.block_on(async {
        let config = config(&data);
        let store = Arc::new(Store::open(&data.join(STORE_FILE), &options::store(&config)).unwrap());
        let secret = secret::load_or_create(
            &config,
            &groundmist_sync::directory::Directory::open(&config.data_dir).unwrap(),
        )
        .unwrap();
        let access =
            Access::open(store.clone(), Arc::new(store.clone()), &secret, config.access.clone()).unwrap();
        let made = fill(&access, &store).await;
        access.flush().await.unwrap();
        made
    });
    drop(runtime);
    let server = Start::default().data_dir(&data).set("OWNER", OWNER).run();
    (dir, server, made)
}

fn config(data_dir: &Path) -> Config {
    let flags = Flags { data_dir: Some(data_dir.into()), ..Flags::default() };
    let default_file = data_dir.join("none.toml");
    let sources = Sources { config: None, default_file, env: Vec::new(), flags, dev: false };
    Config::load(&sources).unwrap().config
}

async fn approve(access: &Arc<Access>, client_id: &str, namespace: &str) {
    let app = App { client_id: client_id.into(), namespace: namespace.parse().unwrap() };
    access.decide(&app, Decision::ReadWrite).await.unwrap();
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn done(server: &Server, arguments: &[&str]) -> String {
    let output = server.command(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", err(&output));
    out(&output)
}

fn answer(server: &Server, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(server, &[arguments, &["--json"]].concat())).unwrap()
}

/// The error code of a command that must fail.
fn fails(server: &Server, arguments: &[&str]) -> String {
    let output = server.command(&[arguments, &["--json"]].concat());
    assert_eq!((output.status.code(), out(&output)), (Some(1), String::new()), "{arguments:?}");
    let error: Value = serde_json::from_str(&err(&output)).unwrap();
    error["error"].as_str().unwrap().to_owned()
}

#[test]
fn a_waiting_app_is_shown_in_full_and_approved_by_number() {
    let (_dir, server, ()) = filled(async |access, _| {
        for _ in 0..2 {
            access.enter(asks(CLIENT, "xyz.example")).await.err().unwrap();
        }
        access.enter(asks(OTHER, "xyz.other")).await.err().unwrap();
    });
    let pending = done(&server, &["apps", "pending"]);
    for part in
        [CLIENT, "#1  ", "#2  ", "read and write xyz.example", "asked 2 times", "203.0.113.7", "Mozilla"]
    {
        assert!(pending.contains(part), "{part} is not in {pending}");
    }
    let approved = done(&server, &["apps", "approve", "2", "--read-only"]);
    assert!(approved.contains("to read only") && approved.contains(OTHER), "{approved}");
    let denied = done(&server, &["apps", "deny", CLIENT]);
    assert!(denied.contains("Denied in xyz.example") && denied.contains(CLIENT), "{denied}");
    let list = done(&server, &["apps", "list"]);
    assert!(list.contains(&format!("{OTHER}\n    xyz.other: approved, reads only")), "{list}");
    assert!(list.contains(&format!("{CLIENT}\n    xyz.example: denied")), "{list}");
    assert!(done(&server, &["apps", "pending"]).contains("No app waits"));
    let log = done(&server, &["apps", "log"]);
    for part in ["turned away: not approved, 2 times", "approved, to read only", "denied"] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    let listed = answer(&server, &["apps", "list"]);
    assert_eq!(
        (&listed["apps"][1]["decision"], &listed["apps"][1]["sessions"]),
        (&"read_only".into(), &0.into())
    );
}

#[test]
fn the_wrong_app_is_not_decided_about() {
    let (_dir, server, ()) = filled(async |access, _| {
        for namespace in ["xyz.one", "xyz.two"] {
            access.enter(asks(CLIENT, namespace)).await.err().unwrap();
        }
    });
    assert_eq!(fails(&server, &["apps", "approve", "7"]), "not_found");
    assert_eq!(fails(&server, &["apps", "approve", OTHER]), "not_found");
    assert_eq!(fails(&server, &["apps", "approve", CLIENT]), "ambiguous_app");
    assert_eq!(fails(&server, &["apps", "approve", "nonsense", "--namespace", "xyz.one"]), "bad_client_id");
    assert_eq!(fails(&server, &["apps", "approve", CLIENT, "--namespace", "one"]), "bad_namespace");
    assert_eq!(fails(&server, &["apps", "revoke", OTHER, "--namespace", "xyz.one"]), "not_found");
    let other_namespace = server.command(&["apps", "approve", "1", "--namespace", "xyz.two"]);
    assert_eq!(other_namespace.status.code(), Some(2), "number 1 asked for another namespace");
    assert_eq!(answer(&server, &["apps", "list"])["apps"], serde_json::json!([]));
    done(&server, &["apps", "approve", CLIENT, "--namespace", "xyz.two"]);
    done(&server, &["apps", "approve", OTHER, "--namespace", "xyz.ahead"]);
    let listed = answer(&server, &["apps", "list"]);
    assert_eq!(
        (listed["apps"].as_array().unwrap().len(), listed["pending"].as_array().unwrap().len()),
        (2, 1)
    );
    let revoked = done(&server, &["apps", "revoke", OTHER]);
    assert!(revoked.contains("Revoked in xyz.ahead"), "{revoked}");
}

fn url(n: u8) -> String {
    format!("automerge:{}", DocumentId([n; 16]))
}

async fn offer(access: &Arc<Access>, n: u8) -> Entered {
    access.enter(Entering { root_doc_url: Some(url(n)), ..asks(CLIENT, "xyz.example") }).await.unwrap()
}

#[test]
fn the_owner_has_a_root_document_forgotten_by_command() {
    let (_dir, server, token) = filled(async |access, _| {
        approve(access, CLIENT, "xyz.example").await;
        approve(access, CLIENT, "xyz.none").await;
        for n in 1..3 {
            assert_eq!(offer(access, n).await.root_doc_url, Some(url(1)));
        }
        offer(access, 3).await.token
    });
    let list = done(&server, &["apps", "list"]);
    assert!(list.contains(&format!("starts from: {}, not arrived yet", url(1))), "{list}");
    // The third device brings its document.
    Peer::join_with(&server, &token, "app").unwrap().store(DocumentId([3; 16]), "key", "value");
    assert_eq!(fails(&server, &["apps", "forget-root", OTHER]), "not_found");
    assert_eq!(fails(&server, &["apps", "forget-root", CLIENT, "--namespace", "xyz.none"]), "not_found");
    assert_eq!(fails(&server, &["apps", "forget-root", CLIENT, "--namespace", "none"]), "bad_namespace");
    let forgotten = answer(&server, &["apps", "forget-root", CLIENT]);
    assert_eq!((&forgotten["forgotten"], &forgotten["next"]), (&url(1).into(), &url(3).into()));
    let list = done(&server, &["apps", "list"]);
    assert!(list.contains(&format!("starts from: {}, stored", url(3))), "{list}");
    done(&server, &["docs", "delete", "xyz.example", &DocumentId([3; 16]).to_string(), "--yes"]);
    let list = done(&server, &["apps", "list"]);
    assert!(list.contains("deleted: the next document that a device offers"), "{list}");
    let said = done(&server, &["apps", "forget-root", CLIENT]);
    assert!(said.contains("the next document that one of them offers"), "{said}");
    assert_eq!(fails(&server, &["apps", "forget-root", CLIENT]), "not_found");
    let log = done(&server, &["apps", "log"]);
    assert!(log.contains("root document forgotten, xyz.example"), "{log}");
}

/// Namespaces with a decision about an app, and the decision.
fn decisions(server: &Server) -> Vec<(String, String)> {
    let text = |app: &Value, name: &str| app[name].as_str().unwrap().to_owned();
    let listed = answer(server, &["apps", "list"]);
    let apps = listed["apps"].as_array().unwrap().iter();
    apps.map(|app| (text(app, "namespace"), text(app, "decision"))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(namespace, decision)| ((*namespace).into(), (*decision).into())).collect()
}

#[test]
fn asking_elsewhere_keeps_no_approval() {
    let (_dir, server, token) = filled(async |access, _| {
        approve(access, CLIENT, "xyz.example").await;
        let token = access.enter(asks(CLIENT, "xyz.example")).await.unwrap().token;
        for namespace in ["xyz.one", "xyz.two"] {
            access.enter(asks(CLIENT, namespace)).await.err().unwrap();
        }
        access.enter(asks(OTHER, "xyz.one")).await.err().unwrap();
        token
    });
    let mut peer = Peer::join_with(&server, &token, "app").unwrap();
    assert_eq!(answer(&server, &["apps", "revoke", CLIENT])["namespace"], "xyz.example");
    assert_eq!(peer.socket.closed().unwrap(), (1008, "sync token revoked".into()));
    assert!(Peer::join_with(&server, &token, "again").is_err());
    assert_eq!(fails(&server, &["apps", "revoke", CLIENT]), "not_found", "nothing is left to take back");
    assert_eq!(fails(&server, &["apps", "revoke", OTHER]), "not_found", "an app that only waits");
}

#[test]
fn an_app_that_let_itself_in_elsewhere_is_revoked_everywhere() {
    let (_dir, server, tokens) = filled(async |access, _| {
        let settings = config(Path::new("/none")).access;
        access.reconfigure(Settings { approve: Approve::FirstUse, ..settings });
        let mut tokens = Vec::new();
        for namespace in ["xyz.one", "xyz.two"] {
            tokens.push(access.enter(asks(CLIENT, namespace)).await.unwrap().token);
        }
        access.enter(asks(OTHER, "xyz.one")).await.unwrap();
        tokens
    });
    let said = done(&server, &["apps", "revoke", CLIENT]);
    assert!(said.contains("Revoked in xyz.one") && said.contains("Revoked in xyz.two"), "{said}");
    for token in tokens {
        assert!(Peer::join_with(&server, &token, "app").is_err());
    }
    let others = decisions(&server).into_iter().filter(|(_, decision)| decision == "read_write").count();
    assert_eq!(others, 1, "the other app stays");
}

#[test]
fn what_waits_is_denied_and_approved_first() {
    let (_dir, server, ()) = filled(async |access, _| {
        approve(access, CLIENT, "xyz.example").await;
        for namespace in ["xyz.one", "xyz.two"] {
            access.enter(asks(CLIENT, namespace)).await.err().unwrap();
        }
    });
    assert_eq!(fails(&server, &["apps", "approve", CLIENT]), "ambiguous_app", "it lets nobody in on a doubt");
    let said = done(&server, &["apps", "deny", CLIENT]);
    assert!(said.contains("Denied in xyz.one") && said.contains("Denied in xyz.two"), "{said}");
    assert!(said.contains("stays approved in xyz.example"), "{said}");
    let denied = pairs(&[("xyz.example", "read_write"), ("xyz.one", "denied"), ("xyz.two", "denied")]);
    assert_eq!(decisions(&server), denied);
    done(&server, &["apps", "deny", CLIENT]);
    let denied = pairs(&[("xyz.example", "denied"), ("xyz.one", "denied"), ("xyz.two", "denied")]);
    assert_eq!(decisions(&server), denied, "where it was approved, for it waits nowhere");
}

#[test]
fn one_request_that_waits_is_approved_whatever_was_decided_elsewhere() {
    let (_dir, server, ()) = filled(async |access, _| {
        approve(access, CLIENT, "xyz.example").await;
        access.enter(asks(CLIENT, "xyz.one")).await.err().unwrap();
    });
    let said = done(&server, &["apps", "approve", CLIENT, "--read-only"]);
    assert!(said.contains("to read only in xyz.one") && said.contains("xyz.example"), "{said}");
    assert_eq!(decisions(&server), pairs(&[("xyz.example", "read_write"), ("xyz.one", "read_only")]));
}

#[test]
fn strangers_cannot_write_on_the_owners_terminal() {
    let (_dir, server, ()) = filled(async |_, store| {
        let pending = Pending {
            number: 1,
            client_id: "https://evil.example/\u{1b}[2J\u{202e}moc.doog".into(),
            namespace: "xyz.example".parse().unwrap(),
            did: OWNER.into(),
            read_only: false,
            how: Proof::Probe,
            first_asked: 1,
            last_asked: 1,
            count: 1,
            address: None,
            user_agent: Some("\u{7}\r\n#2  https://good.example/".into()),
        };
        let key = format!("{}\n{}", pending.namespace, pending.client_id).into_bytes();
        let row = Some(serde_json::to_vec(&pending).unwrap());
        store.commit(&[Op::Record { kind: RecordKind::Pending, key, row }]).unwrap();
    });
    let shown = done(&server, &["apps", "pending"]);
    assert!(shown.contains("https://evil.example/\\u{1b}[2J\\u{202e}moc.doog"), "{shown}");
    assert!(!shown.contains(['\u{1b}', '\u{202e}', '\u{7}', '\r']), "{shown:?}");
    assert!(!shown.contains("\n#2"), "{shown}");
}

#[test]
fn revoking_an_app_closes_its_sockets_within_a_second() {
    let (_dir, server, token) = filled(async |access, _| {
        approve(access, CLIENT, "xyz.example").await;
        access.enter(asks(CLIENT, "xyz.example")).await.unwrap().token
    });
    let mut peer = Peer::join_with(&server, &token, "app").unwrap();
    peer.store(new_document(), "key", "value");
    let mut stays = Peer::join(&server, "stays");
    let sessions = done(&server, &["sessions", "list"]);
    // What the app says of itself has lines of its own.
    let own = format!("  {CLIENT}\n    calls itself: app.example\n");
    for part in
        [own.as_str(), "1 connected", "from 203.0.113.7\n    with Mozilla/5.0\n", "token made by command"]
    {
        assert!(sessions.contains(part), "{part} is not in {sessions}");
    }
    let tokens = done(&server, &["token", "list"]);
    assert!(!tokens.contains("app.example"), "tokens are those made by command: {tokens}");
    assert_eq!(fails(&server, &["token", "revoke", "app.example"]), "not_found");
    let revoked = done(&server, &["apps", "revoke", CLIENT]);
    assert!(revoked.contains("Its session is ended"), "{revoked}");
    assert_eq!(peer.socket.closed().unwrap(), (1008, "sync token revoked".into()));
    // The invariant itself.
    let out = now();
    let log = answer(&server, &["apps", "log"]);
    let events = log["events"].as_array().unwrap();
    let at = events.iter().find(|event| event["what"] == "revoked").unwrap()["at"].as_u64().unwrap();
    assert!(out < at + 1000, "revoked at {at}, out at {out}");
    assert!(Peer::join_with(&server, &token, "again").is_err());
    stays.store(new_document(), "key", "value");
}

#[test]
fn an_app_made_read_only_comes_back_with_its_token() {
    let (_dir, server, token) = filled(async |access, _| {
        approve(access, CLIENT, "xyz.example").await;
        access.enter(asks(CLIENT, "xyz.example")).await.unwrap().token
    });
    let document = new_document();
    let mut peer = Peer::join_with(&server, &token, "app").unwrap();
    peer.store(document, "key", "value");
    done(&server, &["apps", "approve", CLIENT, "--read-only"]);
    assert_eq!(peer.socket.closed().unwrap(), (1008, "access changed, connect again".into()));
    let mut reader = Peer::join_with(&server, &token, "app").unwrap();
    assert_eq!(reader.find(document, "key"), "value");
    reader.put(document, "key", "changed by a reader");
    let writer_token = server.new_token("writer", "xyz.example", &[]);
    let mut writer = Peer::join_with(&server, &writer_token, "writer").unwrap();
    assert_eq!(writer.find(document, "key"), "value");
    let listed = answer(&server, &["sessions", "list"]);
    let session = listed["sessions"].as_array().unwrap().iter().find(|s| s["client_id"] == CLIENT).unwrap();
    assert_eq!(session["read_only"], true);
}

#[test]
fn all_sessions_are_revoked_and_approved_apps_stay_approved() {
    let (_dir, server, token) = filled(async |access, _| {
        approve(access, CLIENT, "xyz.example").await;
        access.enter(asks(CLIENT, "xyz.example")).await.unwrap().token
    });
    let mut app = Peer::join_with(&server, &token, "app").unwrap();
    let mut device = Peer::join(&server, "device");
    let nothing = server.command(&["sessions", "revoke"]);
    assert_eq!(nothing.status.code(), Some(2), "neither an id nor --all");
    assert_eq!(answer(&server, &["sessions", "revoke", "--all"])["revoked"], 2);
    assert_eq!((app.socket.closed().unwrap().0, device.socket.closed().unwrap().0), (1008, 1008));
    assert!(done(&server, &["sessions", "list"]).contains("Nobody has a session"));
    assert_eq!(answer(&server, &["apps", "list"])["apps"][0]["decision"], "read_write");
    assert_eq!(fails(&server, &["sessions", "revoke", "nobody"]), "not_found");
}

#[test]
fn what_came_in_for_another_owner_is_out() {
    let (_dir, mut server, token) = filled(async |access, _| {
        approve(access, CLIENT, "xyz.example").await;
        access.enter(asks(CLIENT, "xyz.example")).await.unwrap().token
    });
    drop(Peer::join_with(&server, &token, "app").unwrap());
    let data = server.data_dir.clone();
    server.terminate();
    for owner in [Some("did:web:somebody.example"), None] {
        let start = owner.map_or_else(Start::default, |owner| Start::default().set("OWNER", owner));
        let server = start.data_dir(&data).run();
        let refused = Peer::join_with(&server, &token, "app").err().unwrap();
        assert_eq!(refused.status, 401, "{}", refused.answer);
        assert!(refused.answer.contains("token_revoked"), "{}", refused.answer);
        let device = server.new_token("device", "xyz.example", &[]);
        drop(Peer::join_with(&server, &device, "device").unwrap());
    }
}
