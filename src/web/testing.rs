//! For tests: a server's parts on a temporary store, without sockets.

use std::sync::Arc;

use tempfile::TempDir;

use crate::access::{Access, secret};
use crate::appliance::options;
use crate::config::{Config, Flags, Sources};
use crate::engine::Engine;
use crate::store::Store;

/// With default settings; the store goes with it.
pub(super) struct Parts {
    pub(super) store: Arc<Store>,
    pub(super) engine: Engine,
    pub(super) access: Arc<Access>,
    _dir: TempDir,
}

impl Parts {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let flags = Flags { data_dir: Some(dir.path().into()), ..Flags::default() };
        let sources = Sources { config: None, default_file: "".into(), env: vec![], flags, dev: false };
        let config = Config::load(&sources).unwrap().config;
        let store = Arc::new(Store::open(&dir.path().join("store"), &options::store(&config)).unwrap());
        let engine = Engine::start(store.clone(), options::engine(&config)).unwrap();
        let secret =
            secret::load_or_create(&config, &crate::directory::Directory::open(&config.data_dir).unwrap())
                .unwrap();
        let access = Access::open(store.clone(), Arc::new(engine.clone()), &secret, config.access).unwrap();
        Self { store, engine, access, _dir: dir }
    }
}
