//! Stands in for the servers that are asked who the owner and the app are: the PLC directory, the owner's PDS, the
//! app's site. Every access token is unknown to this PDS.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::http;
use crate::keys::Key;

/// The owner.
pub const OWNER: &str = "did:plc:benchbenchbenchbenchbenc";
/// The owner's PDS.
pub const PDS: &str = "did:web:pds.bench.internal";
/// The host of the app.
const APP_HOST: &str = "app.bench.internal";
/// The app.
pub const APP: &str = "https://app.bench.internal/client-metadata.json";

/// The servers, while it lives.
pub struct StandIn {
    /// The origin of directory and PDS.
    pub origin: String,
    /// What the server under test is told about them.
    pub settings: Vec<(&'static str, String)>,
    _tasks: JoinSet<()>,
}

impl StandIn {
    /// They know these keys. The authority's certificate is written into `directory`.
    pub async fn start(owner: &Key, app: &Key, directory: &Path) -> Result<Self> {
        let plain = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let encrypted = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let origin = format!("http://{}", plain.local_addr()?);
        let ca_file = directory.join("authority.pem");
        let acceptor = TlsAcceptor::from(Arc::new(certificate(&ca_file)?));
        let settings = vec![
            ("ATPROTO_DID", OWNER.to_owned()),
            ("GROUNDMIST_SYNC_IDENTITY__PLC_DIRECTORY", origin.clone()),
            ("GROUNDMIST_SYNC_IDENTITY__CA_FILE", ca_file.display().to_string()),
            ("GROUNDMIST_SYNC_IDENTITY__HOSTS", format!("{APP_HOST}={}", encrypted.local_addr()?)),
        ];
        let documents = Arc::new(Documents {
            account: account(owner, &origin)?,
            metadata: metadata(app),
            origin: origin.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(plain, None, Arc::clone(&documents)));
        tasks.spawn(accept(encrypted, Some(acceptor), documents));
        Ok(Self { origin, settings, _tasks: tasks })
    }
}

struct Documents {
    account: Value,
    metadata: Value,
    origin: String,
}

fn account(key: &Key, pds: &str) -> Result<Value> {
    Ok(json!({
        "id": OWNER,
        "alsoKnownAs": ["at://owner.bench.internal"],
        "verificationMethod": [{
            "id": format!("{OWNER}#atproto"), "type": "Multikey", "controller": OWNER,
            "publicKeyMultibase": key.multikey()?,
        }],
        "service": [{ "id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": pds }],
    }))
}

fn metadata(key: &Key) -> Value {
    json!({
        "client_id": APP,
        "dpop_bound_access_tokens": true,
        "redirect_uris": [format!("https://{APP_HOST}/callback")],
        "jwks": { "keys": [key.jwk()] },
    })
}

impl Documents {
    fn answer(&self, path: &str) -> (u16, Value) {
        let document = match path {
            "/client-metadata.json" => self.metadata.clone(),
            "/.well-known/oauth-protected-resource" => {
                json!({ "resource": self.origin, "authorization_servers": [self.origin] })
            }
            "/.well-known/oauth-authorization-server" => json!({ "issuer": self.origin }),
            "/xrpc/com.atproto.server.describeServer" => json!({ "did": PDS }),
            "/xrpc/com.atproto.server.getSession" => {
                return (401, json!({ "error": "invalid_token", "message": "Bad token signature" }));
            }
            _ if path.strip_prefix('/') == Some(OWNER) => self.account.clone(),
            _ => return (404, json!({})),
        };
        (200, document)
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, documents: Arc<Documents>) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, documents) = (tls.clone(), Arc::clone(&documents));
        // The server that is measured may hang up at any time.
        open.spawn(async move {
            let _ = match tls {
                None => serve(stream, &documents).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => serve(stream, &documents).await,
                    Err(reason) => Err(reason.into()),
                },
            };
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, documents: &Documents) -> Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(head) = http::head(&mut stream).await? {
        let path = head.split(' ').nth(1).context("no path")?;
        let (status, body) = documents.answer(path);
        let body = body.to_string();
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}

/// For the app's host, by an authority of its own that is written to `ca_file`.
fn certificate(ca_file: &Path) -> Result<ServerConfig> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    std::fs::write(ca_file, authority.pem())?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![APP_HOST.to_owned()])?.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
    Ok(config.with_single_cert(vec![leaf.der().clone()], key)?)
}
