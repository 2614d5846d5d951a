//! `GET /api/backup`: the whole store as a stream, read from one moment while the server goes on.
//!
//! `POST /api/backup/kept` with [`LastBackup`] says that a backup was put where it was to be; `status` tells of it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Either;
use hyper::body::{Body, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::answer::{Answer, Failure, json, read};
use super::{Admin, AdminBody, Disk, Pieces};
use crate::access::SigningSecret;
use crate::store::backup::Source;
use crate::store::{BackupError, LastBackup, Store};
use crate::types::now;

/// Pieces that wait for whoever reads; each is at most 256 KiB.
const WAITING_PIECES: usize = 4;
/// How long a reader may take for one of them: meanwhile the store cannot use its free pages again.
const STALL: Duration = Duration::from_secs(60);

/// Times as long as it worked on a piece it rests: clients' changes come first, and whoever reads works as well.
const REST: u32 = 2;

/// Backups of the running server, one at a time.
pub struct Backups {
    store: Arc<Store>,
    secret: Arc<SigningSecret>,
    data_dir: std::path::PathBuf,
    stopping: watch::Receiver<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: bool,
    last_error: Option<String>,
}

/// What `status` tells of backups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupNow {
    /// One is being made.
    pub running: bool,
    /// The last that was put where it was to be.
    pub last: Option<LastBackup>,
    /// Why the last one since the start came to nothing, if it did.
    pub last_error: Option<String>,
}

impl Backups {
    /// `secret` signs sync tokens; `stopping` turns true when a backup under way should end.
    pub fn new(
        store: Arc<Store>,
        secret: Arc<SigningSecret>,
        data_dir: std::path::PathBuf,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self { store, secret, data_dir, stopping, state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the store is.
    pub(super) fn data_dir(&self) -> &std::path::Path {
        &self.data_dir
    }

    /// Reads the disk.
    pub(super) fn now(&self) -> BackupNow {
        let last = self.store.last_backup().unwrap_or_default();
        let state = self.state();
        BackupNow { running: state.running, last, last_error: state.last_error.clone() }
    }

    /// Writes a backup, piece by piece, for whoever reads.
    fn run(&self, pieces: &mpsc::Sender<Piece>, runtime: &Handle) {
        let stopping = self.stopping.clone();
        let free_bytes = Disk::of(&self.data_dir).map(|disk| disk.free_bytes);
        let held = self.secret.now();
        let (secret, mut held) = (held.clone(), Some(held));
        let source = Source { store: &self.store, secret: &secret, free_bytes, now: now() };
        let mut began = Instant::now();
        let written = source.write(&mut |piece| {
            // Until the first piece, so until what is read of the store is settled, the secret is not changed.
            drop(held.take());
            let worked = began.elapsed();
            if *stopping.borrow() {
                return Err(BackupError::GivenUp("the server is stopping; try again when it runs".into()));
            }
            match runtime.block_on(async { timeout(STALL, pieces.send(Ok(piece))).await }) {
                Ok(Ok(())) => {
                    std::thread::sleep(worked * REST);
                    began = Instant::now();
                    Ok(())
                }
                Ok(Err(_)) => Err(BackupError::GivenUp("whoever asked for it has hung up".into())),
                Err(_) => Err(BackupError::GivenUp(format!(
                    "nothing of it was taken for {} s; write it to a file on this machine, and copy that",
                    STALL.as_secs()
                ))),
            }
        });
        self.end(match &written {
            Ok((_, totals)) => {
                tracing::info!(documents = totals.documents, bytes = totals.bytes, "wrote a backup");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a backup came to nothing");
                Some(error.to_string())
            }
        });
        if written.is_err() {
            // After `end`: who sees the stream break asks `status` why.
            let _ = pieces.try_send(Err(Broken)).or_else(|_| {
                runtime.block_on(async {
                    timeout(STALL, pieces.send(Err(Broken))).await.map(drop).map_err(drop)
                })
            });
        }
    }

    fn end(&self, error: Option<String>) {
        let mut state = self.state();
        (state.running, state.last_error) = (false, error);
    }
}

/// The stream breaks off: it is of no use.
#[derive(Debug, thiserror::Error)]
#[error("the backup came to nothing: status says why")]
pub struct Broken;

type Piece = Result<Bytes, Broken>;

/// A backup on its way out.
pub struct BackupBody(mpsc::Receiver<Piece>);

impl Body for BackupBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

pub(super) fn stream(admin: &Admin) -> Response<AdminBody> {
    let failure = |status, code, message: &str| {
        Failure::new(status, code, message)
            .into_response()
            .map(|full| Either::<Pieces, BackupBody>::Left(full.into()))
    };
    let backups = Arc::clone(&admin.backups);
    if std::mem::replace(&mut backups.state().running, true) {
        let message = "another backup is being made; try again when it is done";
        return failure(StatusCode::CONFLICT, "backup_running", message);
    }
    let (sender, receiver) = mpsc::channel(WAITING_PIECES);
    let (runtime, own) = (Handle::current(), Arc::clone(&backups));
    // A thread of its own: it works for as long as there is to read.
    let started = std::thread::Builder::new().name("backup".into()).spawn(move || own.run(&sender, &runtime));
    if let Err(error) = started {
        backups.end(Some(error.to_string()));
        return failure(StatusCode::SERVICE_UNAVAILABLE, "no_thread", &error.to_string());
    }
    let mut response = Response::new(Either::Right(BackupBody(receiver)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(super) async fn kept<B>(admin: &Admin, body: B) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let kept: LastBackup = read(body).await?;
    let op = kept.op().map_err(Failure::store)?;
    admin.engine.commit(vec![op]).await.map_err(Failure::store)?;
    Ok(json(StatusCode::OK, &kept))
}
