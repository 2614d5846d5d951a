//! An honest device: one document, automerge's own sync, and what it notices of the harm done around it.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use automerge::sync::{Message, State, SyncDoc as _};
use automerge::transaction::Transactable as _;
use automerge::{AutoCommit, ChangeHash, ROOT, ReadDoc as _};
use groundmist_sync::sync::wire::{self, Body};
use groundmist_sync::types::DocumentId;
use tokio::time::{sleep, timeout};

use crate::client::{Client, Joining};
use crate::common::peer::field;

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(10);

/// Who it is.
#[derive(Clone)]
pub struct Device {
    pub address: SocketAddr,
    pub token: String,
    pub peer: String,
    /// How long it takes to send its request.
    pub slow: Duration,
}

impl Device {
    pub async fn join(&self) -> io::Result<Client> {
        let joining = Joining { slow: self.slow, ..Joining::new(self.address, &self.token, &self.peer) };
        timeout(CONNECT, Client::join(&joining)).await.map_err(io::Error::other)?
    }
}

/// What it noticed.
#[derive(Debug, Default)]
pub struct Noticed {
    /// Why its connection ended, each time.
    pub disconnects: Vec<String>,
    /// Texts of `error` messages.
    pub errors: Vec<String>,
    /// Ephemeral messages in the name of a device that sent none.
    pub forged: usize,
}

/// The device with its connection.
pub struct Side {
    pub device: Device,
    pub client: Client,
    pub id: DocumentId,
    pub document: AutoCommit,
    state: State,
    pub noticed: Noticed,
}

impl Side {
    pub async fn join(device: Device, id: DocumentId) -> io::Result<Self> {
        let client = device.join().await?;
        let (document, state, noticed) = Default::default();
        Ok(Self { device, client, id, document, state, noticed })
    }

    /// Sets a key and sends what sync wants sent.
    pub async fn put(&mut self, key: &str, value: impl Into<automerge::ScalarValue>) -> io::Result<()> {
        self.document.put(ROOT, key, value).unwrap();
        self.document.commit();
        self.flush().await
    }

    /// Asks for the document.
    pub async fn request(&mut self) -> io::Result<()> {
        let message = self.document.sync().generate_sync_message(&mut self.state).unwrap();
        self.send(Body::Request { document: self.id, data: message.encode().into() }).await
    }

    async fn send(&mut self, body: Body) -> io::Result<()> {
        let message = wire::encode(&self.device.peer, &self.client.server, &body);
        self.client.send(&message).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        loop {
            let Some(message) = self.document.sync().generate_sync_message(&mut self.state) else {
                return Ok(());
            };
            self.send(Body::Sync { document: self.id, data: message.encode().into() }).await?;
        }
    }

    /// A number in the document; 0 when it is not there.
    pub fn number(&self, key: &str) -> usize {
        let value = self.document.get(ROOT, key).unwrap();
        value.and_then(|(value, _)| value.as_i64()).map_or(0, |number| number as usize)
    }

    pub fn heads(&mut self) -> Vec<ChangeHash> {
        self.document.get_heads()
    }

    /// The server has said that it has all of it.
    pub fn is_acknowledged(&mut self) -> bool {
        self.state.their_heads.as_ref() == Some(&self.document.get_heads())
    }

    /// Takes in one message that was received, and answers it.
    pub async fn take(&mut self, message: bytes::Bytes) -> io::Result<()> {
        let envelope = wire::decode(&message).map_err(io::Error::other)?;
        match envelope.body {
            Body::Sync { document, data } | Body::Request { document, data } if document == self.id => {
                let message = Message::decode(&data).map_err(io::Error::other)?;
                self.document
                    .sync()
                    .receive_sync_message(&mut self.state, message)
                    .map_err(io::Error::other)?;
                self.flush().await
            }
            // A document of the foe's, which every device of the app is asked for.
            Body::Request { document, .. } => self.send(Body::Unavailable { document }).await,
            Body::Ephemeral { .. } => {
                self.noticed.forged += 1;
                Ok(())
            }
            Body::Unknown(kind) if kind == "error" => {
                self.noticed.errors.push(field(&message, "message").unwrap_or_default());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Connects again after `why`, until it succeeds or `until` has passed; false then.
    pub async fn reconnect(&mut self, why: &io::Error, until: impl Fn() -> bool) -> bool {
        self.noticed.disconnects.push(why.to_string());
        while !until() {
            sleep(Duration::from_millis(100)).await;
            if let Ok(client) = self.device.join().await {
                self.client = client;
                self.state = State::new();
                if self.request().await.is_ok() {
                    return true;
                }
            }
        }
        false
    }

    /// Receives until `done`; the error says what did not come.
    pub async fn until(
        &mut self,
        patience: Duration,
        done: impl Fn(&mut Self) -> bool,
    ) -> io::Result<Duration> {
        let began = Instant::now();
        let work = async {
            while !done(self) {
                let message = self.client.receive().await?;
                self.take(message).await?;
            }
            Ok(began.elapsed())
        };
        timeout(patience, work).await.unwrap_or_else(|_| Err(io::Error::other("nothing more in time")))
    }
}
