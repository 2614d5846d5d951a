//! A handle is asked once: whoever has it later is not the owner.

use std::sync::Arc;

use groundmist_sync::access::{OwnerUnknown, Pin};
use groundmist_sync::store::{Commit, CommitError, CommitFuture, Op, RecordKind};

use crate::account::{ALICE, Account, Fault, HANDLE, MALLORY, OTHER_HANDLE};
use crate::common::{Server, wait_for_async};

fn reason(unknown: OwnerUnknown) -> String {
    match unknown {
        OwnerUnknown::Unresolved { reason, .. } => reason,
        OwnerUnknown::NotConfigured => panic!("{unknown}"),
    }
}

#[tokio::test]
async fn a_did_counts_as_it_is_and_nobody_is_nobody() {
    let account = Account::new().await;
    assert_eq!(account.ownership(Some(ALICE)).did().unwrap().as_str(), ALICE);
    assert_eq!(account.ownership(None).did(), Err(OwnerUnknown::NotConfigured));
    assert!(account.world.lines().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn a_handle_that_moves_leaves_the_owner_where_she_is() {
    let account = Account::new().await;
    account.pin(HANDLE).await;
    account.set(|state| {
        state.handles.insert(HANDLE, MALLORY);
    });
    let asked = account.world.lines().len();
    let ownership = account.ownership(Some(HANDLE));
    assert_eq!(ownership.did().unwrap().as_str(), ALICE);
    assert_eq!(ownership.handle().unwrap().as_str(), HANDLE);
    drop(ownership);
    account.set(|state| state.fault = Fault::PlcDown);
    assert_eq!(account.ownership(Some(HANDLE)).did().unwrap().as_str(), ALICE);
    assert_eq!(account.ownership(None).did(), Err(OwnerUnknown::NotConfigured));
    assert_eq!(
        account.ownership(Some(HANDLE)).did().unwrap().as_str(),
        ALICE,
        "an empty setting changes nothing"
    );
    assert_eq!(account.world.lines().len(), asked, "nobody is asked again");
}

#[tokio::test]
async fn another_setting_asks_anew() {
    let account = Account::new().await;
    account.pin(HANDLE).await;
    account.set(|state| state.handles = [(HANDLE, MALLORY), (OTHER_HANDLE, ALICE)].into());
    let other = account.ownership(Some(OTHER_HANDLE));
    assert!(other.did().is_err(), "the pin is for another handle");
    wait_for_async("the other handle", async || other.did().ok()).await;
    assert_eq!(other.did().unwrap().as_str(), ALICE);
    drop(other);

    // By way of her DID she says that the handle is to be asked again.
    let store = account.store();
    let by_did = account.ownership_on(Some(ALICE), &store, Arc::new(Arc::clone(&store)));
    wait_for_async("the pin to go", async || Pin::read(&store).unwrap().is_none().then_some(())).await;
    drop((by_did, store));
    account.pin(HANDLE).await;
    assert_eq!(account.ownership(Some(HANDLE)).did().unwrap().as_str(), MALLORY);
}

#[tokio::test]
async fn a_handle_counts_only_if_its_document_names_it() {
    let account = Account::new().await;
    account.set(|state| {
        state.calls_itself.insert(ALICE, OTHER_HANDLE);
    });
    let ownership = account.ownership(Some(HANDLE));
    wait_for_async("a reason", async || {
        ownership.did().err().map(reason).filter(|reason| reason.contains("does not name it"))
    })
    .await;
    drop(ownership);
    assert_eq!(Pin::read(&account.store()).unwrap(), None);
}

#[tokio::test]
async fn it_is_tried_again_until_it_works() {
    let account = Account::new().await;
    account.set(|state| state.handles.clear());
    let ownership = account.ownership(Some(HANDLE));
    wait_for_async("a reason", async || {
        ownership.did().err().map(reason).filter(|reason| reason.contains("leads to no DID"))
    })
    .await;
    account.set(|state| state.handles = [(HANDLE, ALICE)].into());
    let did = wait_for_async("the handle", async || ownership.did().ok()).await;
    assert_eq!(did.as_str(), ALICE);
}

#[tokio::test]
async fn a_damaged_pin_is_not_as_good_as_none() {
    let account = Account::new().await;
    account.pin(HANDLE).await;
    let row = Some(b"alice.internal did:plc:?".to_vec());
    let damage = Op::Record { kind: RecordKind::Pin, key: b"owner".into(), row };
    account.store().commit(&[damage]).unwrap();
    let asked = account.world.lines().len();
    let ownership = account.ownership(Some(HANDLE));
    assert!(reason(ownership.did().unwrap_err()).contains("damaged"));
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(ownership.did().is_err() && account.world.lines().len() == asked, "nobody is asked");
    drop(ownership);
    assert_eq!(account.ownership(Some(ALICE)).did().unwrap().as_str(), ALICE, "her DID helps");
}

/// A disk that is full.
struct Full;

impl Commit for Full {
    fn make_durable(&self, _: Vec<Op>) -> CommitFuture {
        let full = CommitError::Full { operation: "commit", object: "the store".into() };
        Box::pin(std::future::ready(Err(full)))
    }
}

#[tokio::test]
async fn what_is_not_durable_does_not_count() {
    let account = Account::new().await;
    let ownership = account.ownership_on(Some(HANDLE), &account.store(), Arc::new(Full));
    wait_for_async("a reason", async || {
        ownership.did().err().map(reason).filter(|reason| reason.contains("disk is full"))
    })
    .await;
}

/// The whole server: it starts without an answer, and tokens made by command speak for the owner once there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_starts_before_it_knows_its_owner() {
    let account = Account::new().await;
    account.set(|state| state.handles.clear());
    let server = account.server(HANDLE, &[]);
    assert_eq!(spoken_for(&server, "early"), "did:local:owner");
    account.set(|state| state.handles = [(HANDLE, ALICE)].into());
    let named = async || (spoken_for(&server, "late") == ALICE).then_some(());
    wait_for_async("the owner", named).await;
    let log = server.log();
    assert!(
        log.contains("nobody gets in as the owner") && log.contains("is the owner's from now on"),
        "{log}"
    );
}

fn spoken_for(server: &Server, name: &str) -> String {
    let made = server.command(&["token", "create", "--name", name, "--namespace", "xyz.example", "--json"]);
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    made["session"]["did"].as_str().unwrap().to_owned()
}
