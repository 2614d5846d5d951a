//! What every row starts from: a data directory with sessions and documents, made once and copied.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, ChangeHash, ROOT, sync::Message};
use groundmist_sync::sync::wire::{self, Body};
use groundmist_sync::types::DocumentId;
use tempfile::TempDir;

use crate::client::{Client, Joining};
use crate::common::peer::new_document;
use crate::common::{Server, Start};
use crate::forge::{self, Forged, Sync};

/// The namespace of the app that is hostile, on one of its devices at least.
pub const APP: &str = "hostile.example";
/// The namespace of another app.
pub const OTHER: &str = "victim.example";
/// Most sessions one app may have.
pub const SESSIONS: usize = 500;
/// Changes of the document with a long tail: just too few for a compaction before its time.
pub const LONG_TAIL: u64 = 16_000;
/// Bytes of the only change of the large document.
pub const LARGE: usize = 8 << 20;

/// A document id that no other call gives. By today's spread of documents over shards (first and last byte) all of them share one,
/// so that what one does to the server is not hidden from another by chance.
pub fn neighbour() -> DocumentId {
    let mut id = new_document();
    (id.0[0], id.0[15]) = (0, 0);
    id
}

/// Tokens and documents that stand in every copy.
pub struct Stage {
    directory: TempDir,
    /// The app's sessions that may only read, and those that may write.
    pub readers: Vec<String>,
    pub writers: Vec<String>,
    /// The other app's.
    pub others: Vec<String>,
    pub documents: Documents,
}

/// Documents of the hostile app's namespace.
pub struct Documents {
    /// [`LONG_TAIL`] small changes, one after the other, and their hashes.
    pub long_tail: DocumentId,
    pub hashes: Vec<ChangeHash>,
    /// One change of [`LARGE`] bytes.
    pub large: DocumentId,
    /// A snapshot of a few thousand changes.
    pub snapshot: DocumentId,
    /// Not there: for what foes write together. In the store it comes right before the large one.
    pub shared: DocumentId,
}

impl Stage {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Start::default().data_dir(directory.path()).run();
        let socket = directory.path().join("admin.sock");
        let tokens = |name: &str, namespace: &str, read_only: bool, count: usize| -> Vec<String> {
            let make = |n| new_token(&socket, &format!("{name} {n}"), namespace, read_only);
            std::thread::scope(|scope| {
                // Together, so that they share commits.
                let threads: Vec<_> = (0..8)
                    .map(|at| scope.spawn(move || (at..count).step_by(8).map(make).collect::<Vec<_>>()))
                    .collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            })
        };
        let readers = tokens("reader", APP, true, SESSIONS);
        let writers = tokens("writer", APP, false, SESSIONS);
        let others = tokens("other", OTHER, false, 4);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let documents = runtime.block_on(documents(&server, &writers[0]));
        assert!(server.terminate().success());
        Self { directory, readers, writers, others, documents }
    }

    /// A server of its own with all that, and default settings.
    pub fn server(&self, directory: &Path) -> Server {
        for entry in std::fs::read_dir(self.directory.path()).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                let copy = directory.join(entry.file_name());
                std::fs::copy(entry.path(), &copy).unwrap();
                // Or the server's first commit would have to write it all.
                File::open(copy).unwrap().sync_all().unwrap();
            }
        }
        Start::default().data_dir(directory).run()
    }
}

fn new_token(socket: &Path, name: &str, namespace: &str, read_only: bool) -> String {
    let body =
        serde_json::json!({ "name": name, "namespace": namespace, "read_only": read_only }).to_string();
    let mut stream = UnixStream::connect(socket).unwrap();
    let head =
        "POST /api/tokens HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json";
    stream.write_all(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let json: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    json["token"].as_str().unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
}

async fn documents(server: &Server, token: &str) -> Documents {
    let joining = Joining::new(server.address, token, "author");
    let mut client = Client::join(&joining).await.unwrap();
    let mut long_tail = neighbour();
    long_tail.0[1] = 0x10;
    let (chunks, hashes): (Vec<_>, Vec<_>) = forge::chain(&[1; 16], None, LONG_TAIL).into_iter().unzip();
    for at in (0..chunks.len()).step_by(1000) {
        store(&mut client, long_tail, &chunks[at..at + 1000], hashes[at + 999]).await;
    }
    let [shared, large] = [0x20, 0x30].map(|place| {
        let mut id = neighbour();
        id.0[1] = place;
        id
    });
    let mut value = vec![0; LARGE];
    getrandom::fill(&mut value).unwrap();
    let (chunk, hash) = Forged { value: &value, ..Forged::first(&[2; 16]) }.plain();
    store(&mut client, large, &[chunk], hash).await;
    let snapshot = neighbour();
    let mut document = AutoCommit::new();
    for n in 0..3000 {
        document.put(ROOT, format!("{}", n % 100), n).unwrap();
        document.commit();
    }
    let head = document.get_heads()[0];
    store(&mut client, snapshot, &[document.save()], head).await;
    Documents { long_tail, hashes, large, snapshot, shared }
}

/// Sends chunks and waits until they are durable.
async fn store(client: &mut Client, document: DocumentId, chunks: &[Vec<u8>], head: ChangeHash) {
    let data = Sync { heads: &[head], chunks, ..Sync::default() }.encode().into();
    let message = wire::encode("author", &client.server, &Body::Sync { document, data });
    client.send(&message).await.unwrap();
    loop {
        let answer = wire::decode(&client.receive().await.unwrap()).unwrap();
        let Body::Sync { document: about, data } = answer.body else { panic!("{answer:?}") };
        if about == document && Message::decode(&data).unwrap().heads == [head] {
            return;
        }
    }
}
