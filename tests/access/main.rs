//! Sync tokens and sessions on a real store: what is let in, and everything that is not.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use groundmist_sync::access::{Access, LOCAL_CLIENT, LOCAL_DID, NewSession, Refused, Session, secret};
use groundmist_sync::config::{Access as Settings, Approve, Config, Flags, Sources};
use groundmist_sync::store::{Commit, Op, RecordKind, Store, StoreOptions};
use groundmist_sync::types::{Secret, now};
use jsonwebtoken::Algorithm;
use serde_json::Value;
use tempfile::TempDir;

mod apps;
mod audit;
mod connect;
mod devices;
mod entering;
mod journal;
mod kept;
mod leases;
mod limits;
mod races;
mod root_documents;
mod rotation;
mod secrecy;
mod sessions;
mod sliding;
mod tokens;
mod trouble;

pub(crate) const SECRET: &str = "correct horse battery staple";
pub(crate) const LIFE: Duration = Duration::from_secs(3600);
/// Longest that something which must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn config(data_dir: &Path, secret: Option<&str>) -> Config {
    let sources = Sources {
        config: None,
        default_file: data_dir.join("none.toml"),
        env: secret.map(|secret| ("GROUNDMIST_SYNC_SECRET_KEY".into(), secret.into())).into_iter().collect(),
        flags: Flags { data_dir: Some(data_dir.into()), ..Flags::default() },
        dev: false,
    };
    Config::load(&sources).unwrap().config
}

pub(crate) fn secret_of(text: &str) -> Secret {
    let dir = tempfile::tempdir().unwrap();
    secret::load_or_create(
        &config(dir.path(), Some(text)),
        &groundmist_sync::directory::Directory::open(dir.path()).unwrap(),
    )
    .unwrap()
}

pub(crate) fn open(dir: &TempDir) -> Arc<Store> {
    Arc::new(
        Store::open(&dir.path().join("groundmist.redb"), &StoreOptions { cache_bytes: 1 << 20 }).unwrap(),
    )
}

pub(crate) fn access_on(store: &Arc<Store>) -> Arc<Access> {
    access_with(store, Arc::new(store.clone()), settings())
}

pub(crate) fn access_with(store: &Arc<Store>, commit: Arc<dyn Commit>, settings: Settings) -> Arc<Access> {
    Access::open(store.clone(), commit, &secret_of(SECRET), settings).unwrap()
}

pub(crate) fn settings() -> Settings {
    Settings {
        token_life: LIFE,
        session_max: LIFE,
        approve: Approve::Ask,
        allow_loopback_clients: false,
        probe: true,
    }
}

/// A session's row, written past `Access`: what it finds at the next start.
pub(crate) fn write_row(store: &Arc<Store>, id: &str, row: Option<Vec<u8>>) {
    store.commit(&[Op::Record { kind: RecordKind::Session, key: id.into(), row }]).unwrap();
}

pub(crate) struct Place {
    pub(crate) store: Arc<Store>,
    pub(crate) access: Arc<Access>,
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        Self { access: access_on(&store), store, dir }
    }

    /// As after a restart: everything that is only in memory is forgotten.
    pub(crate) fn restart(self) -> Self {
        self.restart_with(settings())
    }

    pub(crate) fn restart_with(self, settings: Settings) -> Self {
        let Self { store, access, dir } = self;
        drop((store, access));
        let store = open(&dir);
        Self { access: access_with(&store, Arc::new(store.clone()), settings), store, dir }
    }

    pub(crate) async fn token(&self, name: &str) -> (String, Session) {
        self.access.create(wanted(name)).await.unwrap()
    }

    pub(crate) fn refused(&self, token: &str) -> Refused {
        self.access.verify(token, now()).expect_err("must be refused")
    }

    pub(crate) fn refused_or_not(&self, token: &str) -> bool {
        self.access.verify(token, now()).is_err()
    }

    /// `token` with claims changed, signed with the right secret.
    pub(crate) fn resigned(&self, token: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = claims(token);
        change(&mut claims);
        tokens::sign(&claims, Algorithm::HS256, SECRET.as_bytes())
    }
}

pub(crate) fn wanted(name: &str) -> NewSession {
    NewSession {
        namespace: "xyz.example".parse().unwrap(),
        name: name.into(),
        did: LOCAL_DID.into(),
        client_id: LOCAL_CLIENT.into(),
        read_only: false,
        life: None,
    }
}

pub(crate) fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode_claims(token).unwrap()
}

/// Lets what was spawned before run: tasks of this runtime take turns, and writes go one after the other.
pub(crate) async fn settle(access: &Arc<Access>) {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(access.revoke("nobody").await.is_err());
}

pub(crate) async fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited too long");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
