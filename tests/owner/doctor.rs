//! `doctor`: each thing that can be wrong is told from the others, with what mends it.

use serde_json::{Value, json};

use crate::account::{ALICE, Account, Fault, HANDLE, MALLORY, PASSWORD, State};
use crate::common::{Start, wait_for_async};

const DOCTOR: &[&str] = &["doctor", "--host", "sync.example.com", "--json"];

/// Outcome and words of one check.
fn finding(report: &Value, check: &str) -> (String, String) {
    let found = report["checks"].as_array().unwrap().iter().find(|found| found["check"] == check);
    let found = found.unwrap_or_else(|| panic!("{check} is not in {report}"));
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    (text("outcome"), format!("{} | {}", text("found"), text("fix")))
}

fn publish(state: &mut State, host: &str) {
    let record = json!({ "$type": "xyz.groundmist.sync", "host": host });
    state.records.insert(format!("{ALICE}/xyz.groundmist.sync/{ALICE}"), record);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_well() {
    let account = Account::new().await;
    account.set(|state| publish(state, "sync.example.com"));
    let ran = account.run(ALICE, DOCTOR, "");
    let report = ran.json();
    assert_eq!((ran.code(), &report["ok"]), (0, &json!(true)), "{report}");
    for check in ["configuration", "permissions", "disk", "owner", "PDS", "clock", "record"] {
        assert_eq!(finding(&report, check).0, "ok", "{report}");
    }
    let (outcome, words) = finding(&report, "server");
    assert!(outcome == "warning" && words.contains("systemctl start"), "a hint: {words}");
    let text = account.run(ALICE, &DOCTOR[..3], "").out();
    assert!(text.contains("ok       record          apps are told sync.example.com\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_trouble_has_its_line_and_its_fix() {
    type Change = fn(&mut State);
    type Case = (Change, &'static str, &'static str, &'static str, &'static [&'static str]);
    let cases: &[Case] = &[
        (|_| {}, ALICE, "record", "warning", &["does not exist", "publish --host sync.example.com"]),
        (
            |s| publish(s, "old.example.com"),
            ALICE,
            "record",
            "failure",
            &["old.example.com", "publish --host"],
        ),
        (|s| publish(s, "localhost"), ALICE, "record", "failure", &["names no host"]),
        (|s| s.ahead_s = 120, ALICE, "clock", "failure", &["behind", "timedatectl"]),
        (|s| s.ahead_s = 40, ALICE, "clock", "ok", &[]),
        (|s| s.fault = Fault::PdsDown, ALICE, "PDS", "failure", &["502"]),
        (|s| s.fault = Fault::PdsDown, ALICE, "record", "skipped", &["502"]),
        (|s| s.fault = Fault::PlcDown, ALICE, "owner", "failure", &["plc.internal", "internet"]),
        (|s| s.fault = Fault::PlcDown, ALICE, "PDS", "skipped", &["not known"]),
        (|_| {}, "", "owner", "failure", &["no owner", "set `owner`"]),
        (|_| {}, HANDLE, "owner", "ok", &[ALICE]),
        (|s| s.handles.clear(), HANDLE, "owner", "failure", &["leads to no DID"]),
        (|_| {}, "not a handle", "configuration", "failure", &["owner", "handle such as"]),
    ];
    for (change, owner, check, outcome, parts) in cases {
        let account = Account::new().await;
        account.set(change);
        let ran = account.run(owner, DOCTOR, "");
        let report = ran.json();
        let (found, words) = finding(&report, check);
        assert_eq!(found, *outcome, "{report}");
        assert!(parts.iter().all(|part| words.contains(part)), "{parts:?}: {words}");
        let failed = report["checks"].as_array().unwrap().iter().any(|found| found["outcome"] == "failure");
        assert_eq!((ran.code(), &report["ok"]), (i32::from(failed), &json!(!failed)), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_that_moved_is_a_warning_and_the_owner_stays() {
    let account = Account::new().await;
    account.pin(HANDLE).await;
    let report = account.run(HANDLE, DOCTOR, "").json();
    assert_eq!(finding(&report, "owner's handle").0, "ok", "{report}");

    account.set(|state| {
        publish(state, "sync.example.com");
        state.handles.insert(HANDLE, MALLORY);
    });
    let ran = account.run(HANDLE, DOCTOR, "");
    let report = ran.json();
    assert!(finding(&report, "owner").1.contains(ALICE), "{report}");
    let (outcome, words) = finding(&report, "owner's handle");
    assert!(outcome == "warning" && words.contains(ALICE) && words.contains(MALLORY), "{words}");
    assert_eq!(
        (ran.code(), finding(&report, "record").0.as_str()),
        (0, "ok"),
        "it is the owner's record: {report}"
    );

    account.set(|state| state.handles.clear());
    let (outcome, words) = finding(&account.run(HANDLE, DOCTOR, "").json(), "owner's handle");
    assert!(outcome == "warning" && words.contains("leads nowhere"), "{words}");
}

/// While the server runs its store is locked: its own word counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_server_is_asked() {
    let account = Account::new().await;
    let mut start = Start::default().data_dir(account.dir.path()).set("OWNER", HANDLE);
    for (name, value) in account.settings() {
        start = start.set(name, &value);
    }
    let server = start.run();
    let report = async |owner| account.run(owner, DOCTOR, "").json();
    let known = async || {
        let report = report(HANDLE).await;
        (finding(&report, "server").0 == "ok").then_some(report)
    };
    wait_for_async("the owner", known).await;
    account.set(|state| {
        state.handles.insert(HANDLE, MALLORY);
    });
    let moved = report(HANDLE).await;
    assert_eq!(finding(&moved, "owner's handle").0, "warning", "{moved}");
    assert!(finding(&moved, "owner").1.contains(ALICE), "{moved}");
    let ran = account.run(HANDLE, &["publish", "--host", "sync.example.com", "--yes"], PASSWORD);
    assert!(ran.code() == 0 && account.record().is_some(), "{}", ran.err());

    let (outcome, words) = finding(&report(MALLORY).await, "server");
    assert!(outcome == "warning" && words.contains("restart"), "{words}");
    drop(server);
}
