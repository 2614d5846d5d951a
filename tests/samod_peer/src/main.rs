//! One samod client, driven by JSON lines in the language of `tests/clients/client.mjs`.

mod document;
mod peer;
mod websocket;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let peer = Arc::new(peer::Peer::default());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let request: Value = serde_json::from_str(&line)?;
        let peer = peer.clone();
        // Not awaited: a long wait must not hold up what the test does meanwhile.
        tokio::spawn(async move {
            let op = request["op"].as_str().unwrap_or_default().to_owned();
            let answer = match peer.run(&op, &request).await {
                Ok(result) => json!({ "id": request["id"], "result": result }),
                Err(error) => json!({ "id": request["id"], "error": error }),
            };
            println!("{answer}");
        });
    }
    Ok(())
}
