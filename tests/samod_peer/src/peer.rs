//! The operations of one client.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use automerge::Automerge;
use futures::StreamExt;
use samod::storage::TokioFilesystemStorage;
use samod::{BackoffConfig, DialerHandle, DocHandle, DocumentId, PeerId, Repo, SearchState};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::document;
use crate::websocket::WebSocketDialer;

const RETRY: Duration = Duration::from_millis(400);
const POLL: Duration = Duration::from_millis(10);

/// Where the search for a document stands.
#[derive(Clone)]
enum Search {
    Requesting,
    Unavailable,
    Ready(DocHandle),
}

struct Connection {
    repo: Repo,
    dialer: DialerHandle<Infallible>,
    url: url::Url,
}

/// A client; unconnected until `open`.
#[derive(Default)]
pub struct Peer {
    connection: Mutex<Option<Connection>>,
    documents: Mutex<HashMap<String, watch::Receiver<Search>>>,
    ephemeral: Arc<Mutex<Vec<Value>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn text<'a>(request: &'a Value, name: &str) -> Result<&'a str, String> {
    request[name].as_str().ok_or_else(|| format!("{name} is missing"))
}

fn keys<'a>(request: &'a Value, name: &str) -> Result<&'a Map<String, Value>, String> {
    request[name].as_object().ok_or_else(|| format!("{name} is missing"))
}

/// Wait until `condition` gives a value, for as long as the request allows.
async fn until<T>(
    request: &Value,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T, String> {
    let timeout = request["timeoutMs"].as_u64().unwrap_or(20_000);
    let end = Instant::now() + Duration::from_millis(timeout);
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() > end {
            return Err(format!("not within {timeout} ms: {what}"));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn dial(repo: &Repo, url: &url::Url) -> Result<DialerHandle<Infallible>, String> {
    let backoff = BackoffConfig { initial_delay: RETRY, max_delay: RETRY, max_retries: None };
    repo.dial(backoff, Arc::new(WebSocketDialer(url.clone()))).map_err(|error| error.to_string())
}

impl Peer {
    /// Run one operation.
    ///
    /// # Errors
    /// What went wrong, in words for the test's output.
    pub async fn run(&self, op: &str, request: &Value) -> Result<Value, String> {
        match op {
            "open" => self.open(request).await,
            "connected" => self.connected(request).await,
            "disconnect" => self.disconnect(request).await,
            "connect" => self.with_connection(|connection| {
                connection.dialer = dial(&connection.repo, &connection.url)?;
                Ok(json!(true))
            }),
            "create" => self.create(keys(request, "value")?).await.map(Value::from),
            "createMany" => self.create_many(request).await,
            "find" => self.find(text(request, "documentId")?, request).await.map(Value::from),
            "findMany" => self.find_many(request).await,
            "state" => self.state(request).await,
            "value" => self.read(request, document::value),
            "heads" => self.read(request, |doc| json!(document::heads(doc))),
            "change" => self.change(request),
            "waitFor" => self.wait_for(request).await,
            "waitForHeads" => self.wait_for_heads(request).await,
            "waitForKeys" => self.wait_for_keys(request).await,
            "broadcast" => self.broadcast(request),
            "ephemeral" => Ok(json!(*lock(&self.ephemeral))),
            "waitForEphemeral" => self.wait_for_ephemeral(request).await,
            _ => Err(format!("no operation {op}")),
        }
    }

    async fn open(&self, request: &Value) -> Result<Value, String> {
        let url = url::Url::parse(text(request, "url")?).map_err(|_| "the URL cannot be read".to_owned())?;
        let builder = Repo::build_tokio().with_peer_id(PeerId::from(text(request, "peerId")?));
        let repo = match request["storage"].as_str() {
            Some(directory) => builder.with_storage(TokioFilesystemStorage::new(directory)).load().await,
            None => builder.load().await,
        };
        let dialer = dial(&repo, &url)?;
        *lock(&self.connection) = Some(Connection { repo, dialer, url });
        Ok(json!({}))
    }

    fn with_connection<T>(
        &self,
        run: impl FnOnce(&mut Connection) -> Result<T, String>,
    ) -> Result<T, String> {
        run(lock(&self.connection).as_mut().ok_or("open first")?)
    }

    fn repo(&self) -> Result<Repo, String> {
        self.with_connection(|connection| Ok(connection.repo.clone()))
    }

    async fn connected(&self, request: &Value) -> Result<Value, String> {
        let info = until(request, "a connection", || {
            self.with_connection(|connection| Ok(connection.dialer.peer_info())).ok().flatten()
        });
        let info = info.await?;
        Ok(
            json!({ "peerId": info.peer_id.to_string(), "storageId": info.storage_id.map(|id| id.to_string()) }),
        )
    }

    async fn disconnect(&self, request: &Value) -> Result<Value, String> {
        let repo = self.with_connection(|connection| {
            connection.dialer.close();
            Ok(connection.repo.clone())
        })?;
        until(request, "the connection to close", || {
            repo.connected_peers().0.is_empty().then_some(json!(true))
        })
        .await
    }

    async fn create(&self, value: &Map<String, Value>) -> Result<String, String> {
        let mut content = Automerge::new();
        document::set(&mut content, value)?;
        let handle = self.repo()?.create(content).await.map_err(|error| error.to_string())?;
        let id = handle.document_id().to_string();
        self.listen(&id, &handle);
        let (_, state) = watch::channel(Search::Ready(handle));
        lock(&self.documents).insert(id.clone(), state);
        Ok(id)
    }

    async fn create_many(&self, request: &Value) -> Result<Value, String> {
        let prefix = text(request, "prefix")?;
        let mut ids = Vec::new();
        for n in 0..request["count"].as_u64().ok_or("count is missing")? {
            let Value::Object(value) = json!({ "title": format!("{prefix}{n}"), "n": n }) else { continue };
            ids.push(self.create(&value).await?);
        }
        Ok(json!(ids))
    }

    /// Keep what others say about a document.
    fn listen(&self, id: &str, handle: &DocHandle) {
        let (ephemeral, id) = (self.ephemeral.clone(), id.to_owned());
        let mut messages = Box::pin(handle.ephemera());
        tokio::spawn(async move {
            while let Some(bytes) = messages.next().await {
                let message: Value = ciborium::from_reader(bytes.as_slice()).unwrap_or(Value::Null);
                lock(&ephemeral).push(json!({ "documentId": id, "message": message }));
            }
        });
    }

    /// Look for a document and go on looking; a search under way is not started twice.
    fn search(&self, id: &str) -> Result<watch::Receiver<Search>, String> {
        if let Some(state) = lock(&self.documents).get(id) {
            return Ok(state.clone());
        }
        let document: DocumentId = id.parse().map_err(|_| format!("{id} is not a document id"))?;
        let (first, updates) = self.repo()?.search(document).map_err(|error| error.to_string())?;
        let (report, state) = watch::channel(Search::Requesting);
        lock(&self.documents).insert(id.to_owned(), state.clone());
        let mut updates = Box::pin(futures::stream::once(async { first }).chain(updates));
        let (ephemeral, id) = (self.ephemeral.clone(), id.to_owned());
        let listener = Self { ephemeral, ..Self::default() };
        tokio::spawn(async move {
            while let Some(update) = updates.next().await {
                let _ = report.send(match update {
                    SearchState::Found(handle) => {
                        if !matches!(*report.borrow(), Search::Ready(_)) {
                            listener.listen(&id, &handle);
                        }
                        Search::Ready(handle)
                    }
                    SearchState::Requesting(request) if request.is_currently_unavailable() => {
                        Search::Unavailable
                    }
                    SearchState::Requesting(_) | SearchState::Loading => Search::Requesting,
                });
            }
        });
        Ok(state)
    }

    async fn find(&self, id: &str, request: &Value) -> Result<&'static str, String> {
        let state = self.search(id)?;
        let settled = until(request, "an answer", || match *state.borrow() {
            Search::Requesting => None,
            Search::Unavailable => Some("unavailable"),
            Search::Ready(_) => Some("ready"),
        });
        Ok(settled.await.unwrap_or("requesting"))
    }

    async fn find_many(&self, request: &Value) -> Result<Value, String> {
        let ids: Vec<_> =
            request["documentIds"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut states: HashMap<&str, u64> = HashMap::new();
        for state in futures::future::try_join_all(ids.iter().map(|id| self.find(id, request))).await? {
            *states.entry(state).or_default() += 1;
        }
        Ok(json!(states))
    }

    async fn state(&self, request: &Value) -> Result<Value, String> {
        let (id, wanted) = (text(request, "documentId")?, text(request, "state")?);
        let state = self.search(id)?;
        until(request, wanted, || {
            let now = match *state.borrow() {
                Search::Requesting => "requesting",
                Search::Unavailable => "unavailable",
                Search::Ready(_) => "ready",
            };
            (now == wanted).then(|| json!(now))
        })
        .await
    }

    fn handle(&self, request: &Value) -> Result<DocHandle, String> {
        let id = text(request, "documentId")?;
        match lock(&self.documents).get(id).map(|state| state.borrow().clone()) {
            Some(Search::Ready(handle)) => Ok(handle),
            _ => Err(format!("{id} is not ready")),
        }
    }

    fn read(&self, request: &Value, read: impl FnOnce(&Automerge) -> Value) -> Result<Value, String> {
        Ok(self.handle(request)?.with_document(|document| read(document)))
    }

    fn change(&self, request: &Value) -> Result<Value, String> {
        let (handle, set) = (self.handle(request)?, keys(request, "set")?);
        let repeat = request["repeat"].as_u64();
        for n in 0..repeat.unwrap_or(1) {
            let numbered = |key: &String| if repeat.is_some() { format!("{key}{n}") } else { key.clone() };
            let set = set.iter().map(|(key, value)| (numbered(key), value.clone())).collect();
            handle.with_document(|document| document::set(document, &set))?;
        }
        Ok(handle.with_document(|document| json!(document::heads(document))))
    }

    async fn wait_for(&self, request: &Value) -> Result<Value, String> {
        let wanted = keys(request, "has")?;
        until(request, &request["has"].to_string(), || {
            let value = self.read(request, document::value).ok()?;
            wanted.iter().all(|(key, wanted)| document::same(&value[key], wanted)).then_some(())
        })
        .await?;
        self.read(request, |document| json!(document::heads(document)))
    }

    async fn wait_for_heads(&self, request: &Value) -> Result<Value, String> {
        let mut wanted: Vec<_> =
            request["heads"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        wanted.sort_unstable();
        until(request, "those heads", || {
            let heads = self.handle(request).ok()?.with_document(|document| document::heads(document));
            (heads == wanted).then_some(json!(true))
        })
        .await
    }

    async fn wait_for_keys(&self, request: &Value) -> Result<Value, String> {
        let count = request["count"].as_u64().ok_or("count is missing")?;
        until(request, &format!("{count} keys"), || {
            let value = self.read(request, document::value).ok()?;
            (value.as_object()?.len() as u64 == count).then_some(())
        })
        .await?;
        self.read(request, |document| json!(document::heads(document)))
    }

    fn broadcast(&self, request: &Value) -> Result<Value, String> {
        let mut message = Vec::new();
        ciborium::into_writer(&request["message"], &mut message).map_err(|error| error.to_string())?;
        self.handle(request)?.broadcast(message);
        Ok(json!(true))
    }

    async fn wait_for_ephemeral(&self, request: &Value) -> Result<Value, String> {
        let count = request["count"].as_u64().ok_or("count is missing")?;
        until(request, &format!("{count} messages"), || {
            let ephemeral = lock(&self.ephemeral);
            (ephemeral.len() as u64 >= count).then(|| json!(*ephemeral))
        })
        .await
    }
}
