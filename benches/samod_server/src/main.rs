//! `samod-server DATA_DIR PORT`: samod with file storage behind a WebSocket on loopback, nothing else.
//!
//! Announcing is off, as in the public JavaScript server: a device asks for what it wants.

use std::error::Error;

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::get;
use samod::storage::TokioFilesystemStorage;
use samod::{Repo, ShareConfig, Transport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(data), Some(port)) = (arguments.next(), arguments.next()) else {
        return Err("usage: samod-server DATA_DIR PORT".into());
    };
    let repo = Repo::build_tokio()
        .with_storage(TokioFilesystemStorage::new(data))
        .with_share_policy(ShareConfig::read_write().with_announce(false))
        .load()
        .await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    let url = format!("ws://{}/", listener.local_addr()?);
    let acceptor = repo.make_acceptor(url.parse()?)?;
    let app = Router::new().route(
        "/",
        get(move |upgrade: WebSocketUpgrade| {
            let acceptor = acceptor.clone();
            async move {
                upgrade.on_upgrade(move |socket| async move {
                    if acceptor.accept(Transport::from_axum(socket)).is_err() {
                        eprintln!("samod-server: stopped, connection refused");
                    }
                })
            }
        }),
    );
    println!("listening on {url}");
    axum::serve(listener, app).await?;
    Ok(())
}
