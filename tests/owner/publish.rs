//! `publish`: what is written, what is shown of it, and everything that ends it before.

use std::io::Read as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::account::{ALICE, Account, Fault, HANDLE, MALLORY, PASSWORD, Ran, on_terminal, reply};
use crate::common::{Server, wait_for_async};

const PUBLISH: &[&str] = &["publish", "--host", "sync.example.com", "--yes"];
const REMOVE: &[&str] = &["publish", "--remove", "--yes"];

fn record(host: &str) -> Value {
    json!({ "$type": "xyz.groundmist.sync", "host": host })
}

fn written(account: &Account) -> usize {
    account.calls("putRecord") + account.calls("deleteRecord")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_is_written_read_back_and_removed() {
    let account = Account::new().await;
    let ran = account.run(ALICE, PUBLISH, &format!("{PASSWORD}\n"));
    assert_eq!(ran.code(), 0, "{}", ran.err());
    assert_eq!(account.record(), Some(record("sync.example.com")));
    assert_eq!((account.calls("createSession"), account.calls("deleteSession")), (1, 1), "signed out");
    let out = ran.out();
    for part in
        [ALICE, "@alice.internal", "https://pds.internal", "no record", "\"sync.example.com\"", "read back"]
    {
        assert!(out.contains(part), "{part} is not in {out}");
    }

    let again = account.run(ALICE, PUBLISH, "");
    assert_eq!(
        (again.code(), account.calls("createSession")),
        (0, 1),
        "{}: no password is needed",
        again.err()
    );
    assert!(again.out().contains("nothing to do"), "{}", again.out());

    let moved = account.run(ALICE, &["publish", "--host", "New.example.com", "--yes", "--json"], PASSWORD);
    let said = moved.json();
    assert_eq!((&said["before"], &said["record"]), (&record("sync.example.com"), &record("new.example.com")));
    assert_eq!((&said["did"], &said["changed"]), (&json!(ALICE), &json!(true)));
    assert_eq!(account.record(), Some(record("new.example.com")));

    let removed = account.run(ALICE, REMOVE, PASSWORD);
    assert_eq!((removed.code(), account.record()), (0, None), "{}", removed.err());
    let nothing = account.run(ALICE, REMOVE, "");
    assert_eq!(nothing.code(), 0, "{}", nothing.err());
}

/// The record that the server's status tells of, and whether the owner is warned of it.
fn seen(server: &Server) -> (String, bool) {
    let output = server.command(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    let warnings = status["warnings"].as_array().unwrap();
    let warned = warnings.iter().any(|warning| warning["code"].as_str().unwrap().starts_with("record_"));
    (status["record"]["state"].as_str().unwrap().to_owned(), warned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_server_knows_at_once() {
    let account = Account::new().await;
    let server = account.server(ALICE, &[("DOMAIN", "sync.example.com")]);
    let missing = async || (seen(&server) == ("missing".into(), true)).then_some(());
    wait_for_async("the first look", missing).await;
    let elsewhere = &["publish", "--host", "other.example.com", "--yes"];
    for (arguments, expected) in [
        (PUBLISH, ("published", false)),
        (REMOVE, ("missing", true)),
        (elsewhere, ("other", true)),
        (PUBLISH, ("published", false)),
    ] {
        let ran = account.run(ALICE, arguments, PASSWORD);
        assert_eq!((ran.code(), ran.err().contains("warning")), (0, false), "{}", ran.err());
        assert_eq!(seen(&server), (expected.0.into(), expected.1), "{arguments:?}");
    }
}

/// What was there is shown, whatever somebody wrote into it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_shown_before() {
    let account = Account::new().await;
    let odd = json!({ "host": "\u{202e}moc.live", "more": "x".repeat(10_000) });
    account.set(|state| {
        state.records.insert(format!("{ALICE}/xyz.groundmist.sync/{ALICE}"), odd);
    });
    let ran = account.run(ALICE, &["publish", "--host", "sync.example.com"], "");
    assert_eq!((ran.code(), written(&account)), (2, 0), "nobody said yes");
    let out = ran.out();
    assert!(out.contains("\\u{202e}moc.live") && !out.contains('\u{202e}') && out.len() < 2_000, "{out}");
}

/// Every way in which it ends with nothing written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_doubt_ends_it_with_nothing_written() {
    let long = "x".repeat(2_000);
    type Case<'a> = (Fault, &'a str, &'a [&'a str], &'a str, i32, &'a str);
    let cases: &[Case<'_>] = &[
        (Fault::None, ALICE, PUBLISH, "wrong", 1, "wrong_password"),
        (Fault::None, ALICE, PUBLISH, "", 1, "no_password"),
        (Fault::None, ALICE, PUBLISH, &long, 1, "no_password"),
        (Fault::None, ALICE, REMOVE, "wrong", 1, ""),
        (Fault::None, ALICE, &["publish", "--host", "sync.example.com"], PASSWORD, 2, "usage"),
        (Fault::None, ALICE, &["publish", "--yes"], PASSWORD, 2, "usage"),
        (Fault::None, ALICE, &["publish", "--yes", "--host", "localhost"], PASSWORD, 2, "usage"),
        (Fault::None, ALICE, &["publish", "--yes", "--host", "https://a.example"], PASSWORD, 2, "usage"),
        (Fault::None, "", PUBLISH, PASSWORD, 1, "no_owner"),
        (Fault::None, "nobody.internal", PUBLISH, PASSWORD, 1, "owner_unresolved"),
        (Fault::PlcDown, ALICE, PUBLISH, PASSWORD, 1, "owner_unresolved"),
        (Fault::PdsDown, ALICE, PUBLISH, PASSWORD, 1, "pds_failed"),
        (Fault::SecondFactor, ALICE, PUBLISH, PASSWORD, 1, "second_factor"),
        (Fault::OtherAccount, ALICE, PUBLISH, PASSWORD, 1, "other_account"),
    ];
    for (fault, owner, arguments, password, code, error) in cases {
        let account = Account::new().await;
        account.set(|state| state.fault = *fault);
        let ran = account.run(owner, &[arguments, &["--json"][..]].concat(), password);
        let shown = format!("{arguments:?} {}{}", ran.out(), ran.err());
        assert_eq!((written(&account), account.record()), (0, None), "{shown}");
        assert!(
            !shown.contains(PASSWORD) && !shown.contains("access-1") && !shown.contains("refresh-1"),
            "{shown}"
        );
        assert_eq!(account.calls("deleteSession"), usize::from(*fault == Fault::OtherAccount), "{shown}");
        if error.is_empty() {
            assert_eq!(ran.json()["changed"], false, "there was nothing to remove");
            continue;
        }
        assert_eq!(ran.code(), *code, "{shown}");
        assert_eq!(last_error(&ran)["error"], *error, "{shown}");
    }
}

fn last_error(ran: &Ran) -> Value {
    serde_json::from_str(ran.err().lines().last().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pds_that_does_not_keep_it_is_noticed() {
    let account = Account::new().await;
    account.set(|state| state.fault = Fault::Forgetful);
    let ran = account.run(ALICE, &[PUBLISH, &["--json"]].concat(), PASSWORD);
    assert_eq!((ran.code(), last_error(&ran)["error"].as_str()), (1, Some("not_as_written")));
    assert_eq!(account.calls("deleteSession"), 1);
}

/// The password goes to the PDS of the owner, not of whoever has her handle by now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_handle_counts_as_its_did() {
    let account = Account::new().await;
    let first = account.run(HANDLE, PUBLISH, PASSWORD);
    assert_eq!((first.code(), account.record()), (0, Some(record("sync.example.com"))), "{}", first.err());
    assert_eq!(account.run(HANDLE, REMOVE, PASSWORD).code(), 0);

    account.pin(HANDLE).await;
    account.set(|state| {
        state.handles.insert(HANDLE, MALLORY);
    });
    let ran = account.run(HANDLE, PUBLISH, PASSWORD);
    assert_eq!((ran.code(), account.record()), (0, Some(record("sync.example.com"))), "{}", ran.err());
    assert!(ran.out().contains(ALICE) && !ran.out().contains(MALLORY), "{}", ran.out());

    // A store that cannot be read leaves it open whose handle it is.
    std::fs::write(account.dir.path().join("groundmist.redb"), "not a store").unwrap();
    let signed_in = account.calls("createSession");
    let ran = account.run(HANDLE, &[REMOVE, &["--json"]].concat(), PASSWORD);
    assert_eq!((ran.code(), last_error(&ran)["error"].as_str()), (1, Some("owner_unclear")), "{}", ran.err());
    assert_eq!(account.calls("createSession"), signed_in);
}

/// On a terminal (of util-linux's `script`) it asks, and the password is not shown, however soon it is typed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_terminal_it_asks() {
    const CTRL_C: &str = "\x03";
    for (answer, typed, expected) in [
        ("n\n", None, None),
        ("y\n", Some(CTRL_C.to_owned()), None),
        ("y\n", Some(format!("{PASSWORD}\n")), Some(record("sync.example.com"))),
    ] {
        let account = Account::new().await;
        let command = account.command(ALICE, &["publish", "--host", "sync.example.com"]);
        let mut child = on_terminal(&command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut shown = reply(&mut child, "[y/N] ", answer);
        if let Some(typed) = typed {
            shown += &reply(&mut child, "not your own password): ", &typed);
        }
        child.stdout.as_mut().unwrap().read_to_string(&mut shown).unwrap();
        assert_eq!(child.wait().unwrap().success(), expected.is_some(), "{shown}");
        assert_eq!(account.record(), expected, "{shown}");
        assert!(shown.contains("@alice.internal") && !shown.contains(PASSWORD), "{shown}");
    }
}
