//! A little internet on loopback: one authority, one HTTPS server for all names, an optional DNS server.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use groundmist_sync::net::{Http, HttpOptions};
use groundmist_sync::types::Hosts;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// What the server was asked.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Method, host and path with query: `GET pds.internal /xrpc/x?y`.
    pub line: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Asked {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What it does.
pub enum Reply {
    /// A whole answer: status, headers, body.
    Whole(u16, Vec<(&'static str, String)>, String),
    /// A body that never ends.
    Endless,
    /// A byte from time to time.
    Drip,
    /// Nothing.
    Silence,
}

pub fn ok(body: impl ToString) -> Reply {
    Reply::Whole(200, vec![], body.to_string())
}

pub fn status(status: u16, body: impl ToString) -> Reply {
    Reply::Whole(status, vec![], body.to_string())
}

type Behaviour = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

pub struct World {
    pub options: HttpOptions,
    /// The HTTPS server.
    pub server: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    pub open: Arc<AtomicUsize>,
    _dir: tempfile::TempDir,
}

/// The names of the world; the certificate is good for these and `*.wild.internal`.
pub const NAMES: &[&str] = &[
    "pds.internal",
    "auth.internal",
    "plc.internal",
    "app.internal",
    "alice.internal",
    "did.internal",
    "alice.broken.internal",
];

impl World {
    pub async fn new(behaviour: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (config, ca_file) = certificates(&dir);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::new(AtomicUsize::new(0));
        let (log, count) = (Arc::clone(&asked), Arc::clone(&open));
        let behaviour: Behaviour = Arc::new(behaviour);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, log, count) = (acceptor.clone(), Arc::clone(&log), Arc::clone(&count));
                let behaviour = Arc::clone(&behaviour);
                tokio::spawn(async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = serve(BufReader::new(stream), &log, &behaviour).await;
                    }
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let mut hosts = Hosts::default();
        for name in NAMES {
            hosts.insert(&format!("{name}={server}")).unwrap();
        }
        let options = HttpOptions { ca_file: Some(ca_file), hosts, ..HttpOptions::default() };
        Self { options, server, asked, open, _dir: dir }
    }

    pub fn http(&self) -> Http {
        Http::new(&self.options).unwrap()
    }

    /// The requests so far, as lines.
    pub fn lines(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|asked| asked.line.clone()).collect()
    }

    pub fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().cloned().unwrap()
    }
}

fn certificates(dir: &tempfile::TempDir) -> (ServerConfig, PathBuf) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut names: Vec<String> = NAMES.iter().map(|name| (*name).into()).collect();
    names.push("*.wild.internal".into());
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (config, ca_file)
}

async fn serve<S>(mut stream: BufReader<S>, log: &Mutex<Vec<Asked>>, behaviour: &Behaviour) -> io::Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        let mut asked = Asked::default();
        let mut first = String::new();
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            asked.headers.insert(name.to_ascii_lowercase(), value.into());
        }
        let length = asked.headers.get("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        asked.body = String::from_utf8(body).unwrap();
        let (method, path) = first.trim_end().split_once(' ').unwrap();
        let path = path.trim_end_matches(" HTTP/1.1");
        asked.line = format!("{method} {} {path}", asked.headers["host"]);
        log.lock().unwrap().push(asked.clone());
        match behaviour(&asked) {
            Reply::Whole(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} Status\r\n");
                if !headers.iter().any(|(name, _)| *name == "content-length") {
                    head += &format!("content-length: {}\r\n", body.len());
                }
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                stream.write_all(format!("{head}\r\n{body}").as_bytes()).await?;
                stream.flush().await?;
            }
            Reply::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                loop {
                    stream.write_all(&[b'x'; 4096]).await?;
                }
            }
            Reply::Drip => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                loop {
                    stream.write_all(b"x").await?;
                    stream.flush().await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            Reply::Silence => std::future::pending::<()>().await,
        }
    }
}
