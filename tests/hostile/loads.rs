//! Two loads without hostility: what memory they take, and what is left of it when everybody has gone.

use std::io::Write as _;
use std::time::Duration;

use automerge::ChangeHash;
use automerge::sync::Message;
use groundmist_sync::sync::wire::{self, Body};
use groundmist_sync::types::DocumentId;

use crate::client::{Client, Joining};
use crate::common::peer::new_document;
use crate::common::{Server, Start};
use crate::forge::{self, Forged, Sync};
use crate::watch::{Watch, rss};

/// Documents on one connection.
const DOCUMENTS: usize = 40_000;
/// Writers, and the changes of each.
const WRITERS: usize = 8;
const CHANGES: u64 = 20_000;

/// How long the server rests before its memory is read again.
const REST: Duration = Duration::from_secs(60);

/// Runs both and prints a line for each. They take minutes, so they run by name only.
pub fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    measure("documents", REST, |server| runtime.block_on(documents(server, DOCUMENTS)));
    measure("writers", REST, |server| {
        runtime.block_on(async {
            let writers: Vec<_> = (0..WRITERS as u8)
                .map(|n| tokio::spawn(write(server.address, server.token.clone(), n, CHANGES)))
                .collect();
            for writer in writers {
                writer.await.unwrap();
            }
        });
    });
}

fn measure(name: &str, rest: Duration, load: impl FnOnce(&Server)) {
    let server = Start::default().usual_allocator().run();
    let before = rss(server.pid());
    let watch = Watch::start(server.pid(), &server.data_dir);
    let began = std::time::Instant::now();
    load(&server);
    let took = began.elapsed();
    let busy = rss(server.pid());
    std::thread::sleep(rest);
    let after = rss(server.pid());
    let seen = watch.stop();
    let mib = |bytes: u64| bytes >> 20;
    let _ = writeln!(
        std::io::stderr(),
        "load: {name:<12} {:>6} ms  rss {} MB before, {} MB at most, {} MB at the end, {} MB after {} s",
        took.as_millis(),
        mib(before),
        mib(seen.peak_rss),
        mib(busy),
        mib(after),
        rest.as_secs(),
    );
}

/// New documents of one change each, all open on one connection.
async fn documents(server: &Server, count: usize) {
    let client = Client::join(&Joining::new(server.address, &server.token, "loader")).await.unwrap();
    let (bytes, hash) = Forged::first(&[1; 16]).plain();
    let data = bytes::Bytes::from(Sync { heads: &[hash], chunks: &[bytes], ..Sync::default() }.encode());
    let us = client.server.clone();
    let messages = (0..count)
        .map(|_| wire::encode("loader", &us, &Body::Sync { document: new_document(), data: data.clone() }));
    let mut left = count;
    exchange(client, messages, |_, heads| {
        left -= usize::from(heads == [hash]);
        left == 0
    })
    .await;
}

/// Changes of one document, a message each.
async fn write(address: std::net::SocketAddr, token: String, n: u8, count: u64) {
    let peer = format!("writer-{n}");
    let client = Client::join(&Joining::new(address, &token, &peer)).await.unwrap();
    let document = new_document();
    let changes = forge::chain(&[n; 16], None, count);
    let last = changes.last().unwrap().1;
    let us = client.server.clone();
    let messages = changes.into_iter().map(|(bytes, hash)| {
        let data = Sync { heads: &[hash], chunks: &[bytes], ..Sync::default() }.encode().into();
        wire::encode(&peer, &us, &Body::Sync { document, data })
    });
    exchange(client, messages, |_, heads| heads == [last]).await;
}

/// Sends all messages, and reads until `done` with what the server says of documents' heads.
async fn exchange(
    mut client: Client,
    messages: impl Iterator<Item = bytes::Bytes>,
    mut done: impl FnMut(DocumentId, &[ChangeHash]) -> bool,
) {
    let mut messages =
        messages.map(|message| crate::client::frame(crate::common::websocket::BINARY, &message));
    let mut out: Vec<u8> = Vec::new();
    loop {
        if out.is_empty() {
            out.extend(messages.by_ref().take(64).flatten());
        }
        match client.write_or_receive(&out).await.unwrap() {
            Ok(written) => drop(out.drain(..written)),
            Err(message) => {
                let Body::Sync { document, data } = wire::decode(&message).unwrap().body else { continue };
                if done(document, &Message::decode(&data).unwrap().heads) {
                    return;
                }
            }
        }
    }
}
