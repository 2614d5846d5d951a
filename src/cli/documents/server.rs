//! Whom the commands for documents ask: the running server, or, while it is stopped, the same code in this process.

use std::io::Write;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::header::HOST;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use super::super::admin_client::{connect, refusal, understood};
use super::super::{CliError, runtime};
use crate::appliance::{Aside, STORE_FILE};
use crate::config::Config;
use crate::directory::Directory;

/// Longest wait for an answer, or for more of it: opening the largest documents takes minutes on a small machine.
const PATIENCE: Duration = Duration::from_secs(1200);
/// Largest answer in JSON: a document with 100,000 heads has some 7 MB.
const MAX_ANSWER_BYTES: usize = 32 << 20;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Answer = Response<UnsyncBoxBody<Bytes, Error>>;

/// The running server, or its store.
pub(super) struct Server {
    runtime: Runtime,
    door: Door,
}

enum Door {
    /// The admin socket of the running server with this configuration.
    Socket(Box<Config>),
    /// Gone when closed.
    Here(Option<Aside>),
}

impl Server {
    /// Opens the data directory if no server runs; makes it if there is none.
    pub(super) fn of(config: &Config) -> Result<Self, CliError> {
        let runtime = runtime()?;
        let door = match runtime.block_on(connect(config)) {
            Ok(_) => Door::Socket(Box::new(config.clone())),
            Err(CliError::NotRunning(_)) => {
                let aside = runtime.block_on(async { Aside::open(config) })?;
                Door::Here(Some(aside))
            }
            Err(error) => return Err(error),
        };
        Ok(Self { runtime, door })
    }

    /// The same, if there is anything.
    pub(super) fn of_existing(config: &Config) -> Result<Self, CliError> {
        let store = Directory::open(&config.data_dir).and_then(|directory| directory.contains(STORE_FILE));
        if !store.unwrap_or(false) {
            runtime()?.block_on(connect(config))?;
        }
        Self::of(config)
    }

    /// One request; its JSON answer.
    pub(super) fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<T, CliError> {
        self.runtime.block_on(async {
            let answer = self.ask(method, path, body.unwrap_or_default()).await?;
            let ok = answer.status().is_success();
            let bytes = self.collect(answer).await?;
            if ok { understood(&bytes) } else { Err(refusal(&bytes)) }
        })
    }

    /// Writes an answer's bytes; their number.
    pub(super) fn fetch(&self, path: &str, into: &mut dyn Write) -> Result<u64, CliError> {
        self.runtime.block_on(async {
            let mut answer = self.ask(Method::GET, path, Bytes::new()).await?;
            if !answer.status().is_success() {
                return Err(refusal(&self.collect(answer).await?));
            }
            let mut count = 0;
            while let Some(piece) = self.next(&mut answer).await? {
                count += piece.len() as u64;
                into.write_all(&piece).map_err(|error| CliError::failed("write", error))?;
            }
            Ok(count)
        })
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, CliError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .body(Full::new(body))
            .map_err(|error| CliError::failed("internal", error))?;
        match &self.door {
            Door::Here(Some(aside)) => match aside.documents().answer(request).await {
                Ok(answer) => Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync())),
                Err(_) => Err(CliError::failed("internal", "not a path for documents")),
            },
            Door::Here(None) => Err(CliError::failed("internal", "it is closed")),
            Door::Socket(config) => {
                let stream = TokioIo::new(connect(config).await?);
                let shaken = hyper::client::conn::http1::handshake(stream).await;
                let (mut sender, connection) = shaken.map_err(|error| self.lost(&error))?;
                // It ends with the answer.
                drop(tokio::spawn(connection));
                let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
                let answer = answer.map_err(|late| self.lost(&late))?.map_err(|error| self.lost(&error))?;
                Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
            }
        }
    }

    async fn next(&self, answer: &mut Answer) -> Result<Option<Bytes>, CliError> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, answer.body_mut().frame()).await;
            let Some(frame) = frame.map_err(|late| self.lost(&late))? else { return Ok(None) };
            if let Ok(data) = frame.map_err(|error| self.lost(&error))?.into_data() {
                return Ok(Some(data));
            }
        }
    }

    async fn collect(&self, mut answer: Answer) -> Result<Bytes, CliError> {
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.next(&mut answer).await? {
            if bytes.len() + piece.len() > MAX_ANSWER_BYTES {
                return Err(self.lost(&"its answer is too long"));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    fn lost(&self, error: &dyn std::fmt::Display) -> CliError {
        let whose = match &self.door {
            Door::Socket(config) => format!("the server at {}", config.admin_socket().display()),
            Door::Here(_) => "the store".into(),
        };
        CliError::failed("no_answer", format!("{whose} gave no whole answer: {error}; run the command again"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Door::Here(aside) = &mut self.door
            && let Some(aside) = aside.take()
        {
            self.runtime.block_on(aside.close());
        }
    }
}
