//! What a test of the API needs besides the server: `openapi_data DATA_DIR FILE` makes a data directory in which apps wait,
//! were let in, denied and taken back, and one has offered root documents, and a file with an automerge document.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, ROOT};
use groundmist_sync::access::{Access, App, Decision, Entering, MAX_OFFERS, Proof, secret};
use groundmist_sync::appliance::{STORE_FILE, options};
use groundmist_sync::config::{Config, Flags, Sources};
use groundmist_sync::store::Store;
use groundmist_sync::types::DocumentId;

/// The example of the description.
const OFFERING: &str = "https://app.example/client-metadata.json";

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let (data, file) = (arguments.next().unwrap(), arguments.next().unwrap());
    let mut document = AutoCommit::new();
    document.put(ROOT, "key", "value").unwrap();
    std::fs::write(file, document.save()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fill(Path::new(&data)));
}

async fn fill(data: &Path) {
    std::fs::create_dir(data).unwrap();
    let flags = Flags { data_dir: Some(data.into()), ..Flags::default() };
    let sources =
        Sources { config: None, default_file: data.join("none.toml"), env: Vec::new(), flags, dev: false };
    let config = Config::load(&sources).unwrap().config;
    let store = Arc::new(Store::open(&data.join(STORE_FILE), &options::store(&config)).unwrap());
    let secret = secret::load_or_create(
        &config,
        &groundmist_sync::directory::Directory::open(&config.data_dir).unwrap(),
    )
    .unwrap();
    let access =
        Access::open(store.clone(), Arc::new(store.clone()), &secret, config.access.clone()).unwrap();
    for (app, decision) in [
        ("https://notes.example/client.json", Some(Decision::ReadWrite)),
        ("https://reader.example/client.json", Some(Decision::ReadOnly)),
        ("https://denied.example/client.json", Some(Decision::Denied)),
        (OFFERING, None),
        ("http://localhost?redirect_uri=http%3A%2F%2F127.0.0.1%2F", None),
    ] {
        for namespace in ["dev.local", "xyz.example"] {
            if let Some(decision) = decision {
                let app = App { client_id: app.into(), namespace: namespace.parse().unwrap() };
                access.decide(&app, decision).await.unwrap();
            }
            if app == OFFERING {
                offer_roots(&access, app, namespace).await;
            }
            // Most are refused: that is how they come to wait.
            let _ = access.enter(asks(app, namespace)).await;
        }
    }
    access.flush().await.unwrap();
}

/// The app was let in, its devices offered documents that are stored later, and then its approval was taken back: so there is
/// something to forget several times.
async fn offer_roots(access: &Arc<Access>, app: &str, namespace: &str) {
    let key = App { client_id: app.into(), namespace: namespace.parse().unwrap() };
    access.decide(&key, Decision::ReadWrite).await.unwrap();
    // The even ones are not deleted by hand.
    for seed in (1..=MAX_OFFERS as u8).map(|n| 2 * n) {
        let root_doc_url = Some(format!("automerge:{}", DocumentId([seed; 16])));
        access.enter(Entering { root_doc_url, ..asks(app, namespace) }).await.unwrap();
    }
    access.decide(&key, Decision::Revoked).await.unwrap();
}

fn asks(client_id: &str, namespace: &str) -> Entering {
    Entering {
        did: "did:web:owner.example".into(),
        client_id: client_id.into(),
        namespace: namespace.parse().unwrap(),
        read_only_wanted: false,
        jkt: Some("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I".into()),
        name: None,
        root_doc_url: None,
        address: Some("203.0.113.7".parse().unwrap()),
        user_agent: Some("Mozilla/5.0".into()),
        used: Vec::new(),
        how: Proof::Relay,
    }
}
