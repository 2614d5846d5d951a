//! Store and engine without sockets, for commands that work on documents while the server is stopped.

use std::sync::Arc;

use super::data_dir::DataDir;
use super::{Error, STORE_FILE, open_store};
use crate::config::Config;
use crate::engine::Engine;
use crate::store::{Store, own_like_directory};
use crate::web::admin::DocumentsApi;

/// The open store, which no server can open meanwhile, and an engine on it.
pub struct Aside {
    engine: Engine,
    store: Arc<Store>,
    _directory: DataDir,
}

impl Aside {
    /// Opens the data directory; makes it if it is missing.
    /// # Errors
    /// Somebody has the store open, it cannot be opened, or there are no threads left.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let directory = DataDir::prepare(config)?;
        let store = Arc::new(open_store(config)?);
        let path = config.data_dir.join(STORE_FILE);
        own_like_directory(&path).map_err(|source| Error::DataDir {
            operation: "giving the store to the owner of",
            path,
            source,
        })?;
        let engine = Engine::start(store.clone(), config.engine_options()).map_err(Error::Engine)?;
        Ok(Self { engine, store, _directory: directory })
    }

    /// What the admin socket of a server on this store would offer.
    pub fn documents(&self) -> DocumentsApi {
        DocumentsApi::new(self.engine.clone(), self.store.clone())
    }

    /// Makes durable what waits, and ends.
    pub async fn close(self) {
        self.engine.shutdown().await;
    }
}
