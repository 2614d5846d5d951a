//! What tests of the running server share: the process, a WebSocket of bare bytes, and a peer made of the automerge crate.
#![allow(dead_code, unused_imports, missing_docs, clippy::unwrap_used)]

pub mod authority;
pub mod line;
pub mod peer;
pub mod said;
pub mod scene;
pub mod server;
pub mod websocket;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub use authority::Authority;
pub use line::Line;
pub use peer::Peer;
pub use said::Said;
pub use server::{Server, Start};
pub use websocket::{Frame, Refused, WebSocket};

/// How long a test waits for what must happen before it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command on a data directory, also where no server runs.
pub fn run(data_dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_groundmist-sync"))
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The answer in JSON of a command that ends so.
pub fn answer(data_dir: &Path, code: i32, arguments: &[&str]) -> serde_json::Value {
    let output = run(data_dir, &[arguments, &["--json"]].concat());
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    let json = if output.stdout.is_empty() { &output.stderr } else { &output.stdout };
    serde_json::from_slice(json).unwrap()
}

/// Asks until the answer is there.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// As [`wait_for`], for tests whose servers run beside them.
pub async fn wait_for_async<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
