//! Store and engine without sockets, for commands that work on documents while the server is stopped.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::data_dir::DataDir;
use super::{Error, life, open_store, options};
use crate::config::Config;
use crate::engine::Engine;
use crate::store::Store;
use crate::web::admin::DocumentsApi;

/// The open store, which no server can open meanwhile, and an engine on it.
pub struct Aside {
    engine: Engine,
    store: Arc<Store>,
    _directory: DataDir,
}

impl Aside {
    /// Opens the data directory; makes it if it is missing. Store and engine have the rights of the directory's owner only.
    /// To be called within a tokio runtime.
    /// # Errors
    /// Somebody has the store open, it cannot be opened, or there are no threads left.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let directory = DataDir::prepare(config)?;
        let runtime = Handle::try_current().ok();
        let (store, engine) = directory.opened().as_owner(|| {
            let _entered = runtime.as_ref().map(Handle::enter);
            let store = Arc::new(open_store(config, directory.opened())?);
            let last_end = life::last_end(directory.opened());
            let engine = Engine::start_after(last_end, store.clone(), options::engine(config));
            let engine = engine.map_err(Error::Engine)?;
            Ok::<_, Error>((store, engine))
        })?;
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
