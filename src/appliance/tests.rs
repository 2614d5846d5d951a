//! The whole server within the test's process, so that its parts can be made to fail.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::config::Flags;

#[test]
fn connections_leave_room_for_other_files() {
    assert_eq!(connections_within(1000, TlsMode::Off, None), 1000);
    assert_eq!(connections_within(1000, TlsMode::Acme, Some(524_288)), 1000);
    assert_eq!(connections_within(1000, TlsMode::Off, Some(1024)), 416);
    assert_eq!(connections_within(1000, TlsMode::Files, Some(1024)), 256);
    assert_eq!(connections_within(1000, TlsMode::Off, Some(256)), 64);
}

fn configured(dir: &std::path::Path) -> (Sources, Loaded) {
    let flags = Flags { data_dir: Some(dir.into()), port: Some(0), ..Flags::default() };
    let sources = Sources { config: None, default_file: "".into(), env: vec![], flags, dev: false };
    let loaded = Config::load(&sources).unwrap();
    (sources, loaded)
}

fn directory(config: &Config) -> Arc<Directory> {
    Arc::new(Directory::open(&config.data_dir).unwrap())
}

/// One request; the whole answer, which may be none.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // A connection that ends in a reset has no answer either.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_panics_ends_alone_and_a_shard_that_dies_ends_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let (sources, loaded) = configured(dir.path());
    let config = loaded.config.clone();
    let store = Arc::new(open_store(&config, &directory(&config)).unwrap());
    let secret = secret::load_or_create(&config, &directory(&config)).unwrap();
    let secret = SigningSecret::new(secret, None);
    let engine = Engine::start(store.clone(), options::engine(&config)).unwrap();
    let mut signals = Signals::new().unwrap();
    let reload = |parts| Arc::new(Reload::new(sources, loaded, parts));
    let begin = || Life::begin(directory(&config), None, engine.interrupted());
    let (life, secret) = (&begin(), &secret);
    let start = Start { config: &config, dev: false, started: now(), engine: &engine, store, secret, life };
    let served = serve(start, Level::detached(), reload, &mut signals);
    let trouble = async {
        let admin = loop {
            match UnixStream::connect(config.admin_socket()).await {
                Ok(admin) => break admin,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let status = ask(admin, "/api/status").await;
        let address = status.split("\"address\":\"").nth(1).unwrap().split('"').next().unwrap();
        let ask = async |path| ask(TcpStream::connect(address).await.unwrap(), path).await;
        assert!(ask("/healthz").await.starts_with("HTTP/1.1 200"));
        assert_eq!(ask(crate::web::PANIC).await, "", "the connection ends");
        assert!(ask("/healthz").await.starts_with("HTTP/1.1 200"), "and no other");
        engine.break_shard();
    };
    let (served, ()) = tokio::join!(served, trouble);
    assert!(matches!(&served, Err(Error::Died(thread)) if thread == "shard-0"), "{served:?}");
    assert!(served.unwrap_err().to_string().contains("start it again"));
    let ends = begin().ends();
    assert_eq!((ends.len(), ends[0].failed.as_deref()), (1, Some("shard-0")), "the owner is told");
}

#[tokio::test]
async fn a_listener_that_dies_ends_the_server_and_one_that_ends_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (sources, loaded) = configured(dir.path());
    let store = Arc::new(open_store(&loaded.config, &directory(&loaded.config)).unwrap());
    let engine = Engine::start(store, options::engine(&loaded.config)).unwrap();
    let reload = Arc::new(Reload::new(sources, loaded, vec![]));
    let mut listening = JoinSet::new();
    listening.spawn(async {});
    tokio::task::yield_now().await;
    listening.spawn(async { panic!("a fault") });
    let died = until_the_end(&engine, listening, &reload, &mut Signals::new().unwrap()).await;
    assert_eq!(died.as_deref(), Some("listener"));
}
