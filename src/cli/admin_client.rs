//! Talks to the running server over its admin socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{CliError, runtime};
use crate::config::{ADMIN_SOCKET, Config};
use crate::directory::Directory;

/// Longest wait for an answer: a commit on a slow disk, with room.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest answer: 10,000 sessions have some 4 MB.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// Sends one request and reads its JSON answer.
pub(super) fn call<T: DeserializeOwned>(
    config: &Config,
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
) -> Result<T, CliError> {
    let body = match body {
        Some(body) => serde_json::to_vec(body).map_err(|error| CliError::failed("internal", error))?,
        None => Vec::new(),
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| CliError::failed("internal", error))?;
    let socket = config.admin_socket();
    let answer =
        runtime()?.block_on(async { tokio::time::timeout(PATIENCE, exchange(config, request)).await });
    let (ok, bytes) = answer.unwrap_or_else(|_| {
        let waited = PATIENCE.as_secs();
        Err(CliError::failed(
            "no_answer",
            format!("the server at {} did not answer within {waited} s: its log says more", socket.display()),
        ))
    })?;
    if ok { understood(&bytes) } else { Err(refusal(&bytes)) }
}

/// A good answer's JSON.
pub(super) fn understood<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(bytes).map_err(|error| {
        CliError::failed(
            "bad_answer",
            format!(
                "the server's answer is not understood ({error}): is it of another version than this command ({})? Restart it",
                env!("CARGO_PKG_VERSION")
            ),
        )
    })
}

/// Sends one GET and hands its answer out as it comes. [`CliError::NotRunning`] if there is no server; `no_answer` if it
/// breaks off.
pub(super) fn stream(
    config: &Config,
    path: &str,
    each: &mut dyn FnMut(&[u8]) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let request = Request::get(path)
        .header(HOST, "localhost")
        .body(Full::<Bytes>::default())
        .map_err(|error| CliError::failed("internal", error))?;
    let socket = config.admin_socket();
    let lost = |error: &dyn std::fmt::Display| {
        CliError::failed("no_answer", format!("the server at {} hung up: {error}", socket.display()))
    };
    let late = |_| lost(&format!("nothing came for {} s", PATIENCE.as_secs()));
    runtime()?.block_on(async {
        let stream = connect(config).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| lost(&error))?;
        let connection = tokio::spawn(connection);
        let response = timeout(PATIENCE, sender.send_request(request)).await.map_err(late)?;
        let response = response.map_err(|error| lost(&error))?;
        let ok = response.status().is_success();
        let mut body = response.into_body();
        if !ok {
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| lost(&error))?;
            return Err(refusal(&body.to_bytes()));
        }
        while let Some(frame) = timeout(PATIENCE, body.frame()).await.map_err(late)? {
            if let Ok(piece) = frame.map_err(|error| lost(&error))?.into_data() {
                each(&piece)?;
            }
        }
        connection.abort();
        Ok(())
    })
}

async fn exchange(config: &Config, request: Request<Full<Bytes>>) -> Result<(bool, Bytes), CliError> {
    let socket = config.admin_socket();
    let lost = |error: &dyn std::fmt::Display| {
        CliError::failed("no_answer", format!("the server at {} hung up: {error}", socket.display()))
    };
    let stream = connect(config).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| lost(&error))?;
    let ok = response.status().is_success();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    connection.abort();
    body.map(|body| (ok, body.to_bytes())).map_err(|error| lost(&error))
}

/// Connects to the running server. As root not by the socket's name, which a hostile server could have replaced by a link to
/// another program's socket.
pub(super) async fn connect(config: &Config) -> Result<UnixStream, CliError> {
    let socket = config.admin_socket();
    let connected = if rustix::process::geteuid().is_root() {
        match Directory::open(&config.data_dir).and_then(|directory| directory.socket(ADMIN_SOCKET)) {
            Ok(file) => UnixStream::connect(file.path()).await,
            Err(error) => Err(error),
        }
    } else {
        UnixStream::connect(&socket).await
    };
    connected.map_err(|error| unreachable(&socket, &error))
}

fn unreachable(socket: &Path, error: &io::Error) -> CliError {
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => CliError::NotRunning(format!(
            "no server is running at {socket}: start it (`systemctl start groundmist-sync`, or `groundmist-sync serve`); if it has another data directory, give that with --data-dir"
        )),
        io::ErrorKind::PermissionDenied => CliError::failed(
            "permission",
            format!(
                "{socket} may not be opened by this user: run the command as root (sudo) or as the user the server runs as"
            ),
        ),
        _ => CliError::failed("no_answer", format!("connecting to {socket} failed: {error}")),
    }
}

/// The server's own words.
pub(super) fn refusal(body: &[u8]) -> CliError {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
        message: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => CliError::Failed { code: refusal.error, message: refusal.message },
        Err(_) => CliError::failed("bad_answer", "the server refused without a reason: its log says more"),
    }
}
