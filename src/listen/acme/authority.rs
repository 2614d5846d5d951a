//! The authority's directory: whether it answers, where to send what, and what it calls itself in CAA records.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig};
use rustls_acme::acme;
use serde::Deserialize;
use url::Url;

use crate::net::{http, is_public};
use crate::types::{authorities_in, now, rfc3339};

/// Time for the directory to answer, from the first DNS question to the last byte.
pub const DIRECTORY_TIME: Duration = Duration::from_secs(10);
/// Most bytes of a directory; Let's Encrypt's has 1,000.
pub const MAX_DIRECTORY_BYTES: usize = 64 * 1024;
/// Most names in `caaIdentities` that are looked at.
const MAX_IDENTITIES: usize = 32;

/// It cannot be asked for a certificate now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The file of roots.
    #[error(
        "the certificates in {path} (acme.ca_file) cannot be used: {reason}. Put the authority's root certificate (PEM) there, or leave acme.ca_file out"
    )]
    CaFile {
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
    /// TLS or HTTP could not be set up here.
    #[error("asking the certificate authority could not be set up: {0}")]
    Setup(String),
    /// No connection.
    #[error(
        "the certificate authority at {host} cannot be reached: {reason}. Check this machine's connection to the internet and its name servers; if both are well, the authority is out of order and this passes by itself"
    )]
    Unreachable {
        /// Which.
        host: String,
        /// Why.
        reason: String,
    },
    /// A connection, and nobody we trust at its end.
    #[error(
        "what answers as the certificate authority at {host} is not trusted: {reason}. Check this machine's clock (it says {today}); if the authority is your own, name its root certificate in acme.ca_file"
    )]
    Untrusted {
        /// Which.
        host: String,
        /// Why.
        reason: String,
        /// The date here. No time, so that the same trouble is the same text.
        today: String,
    },
    /// It accepts and says nothing, or too slowly.
    #[error(
        "the certificate authority at {host} did not answer within {} s. Check this machine's connection to the internet; if it is well, the authority is out of order and this passes by itself",
        DIRECTORY_TIME.as_secs()
    )]
    TimedOut {
        /// Which.
        host: String,
    },
    /// Something answers, but no directory.
    #[error("{url} is not the directory of a certificate authority: {reason}. Check acme.directory")]
    NoDirectory {
        /// Which.
        url: String,
        /// Why.
        reason: String,
    },
}

/// A directory that has answered (RFC 8555, section 7.1.1).
#[derive(Debug, Clone)]
pub struct Authority {
    /// How to trust it.
    pub tls: Arc<ClientConfig>,
    /// Where to send what.
    pub directory: acme::Directory,
    /// Its names in CAA records; none if it does not say.
    pub caa_identities: Vec<String>,
    /// It answers at an address of the public internet, and so can reach nothing but such addresses.
    pub is_public: bool,
}

#[derive(Deserialize)]
struct Document {
    #[serde(flatten)]
    directory: acme::Directory,
    #[serde(default)]
    meta: Meta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[serde(default)]
    caa_identities: Vec<String>,
}

impl Authority {
    /// Asks for the directory at `url`, trusted by `ca_file` alone if there is one, else by the built-in authorities.
    ///
    /// # Errors
    /// It does not answer in [`DIRECTORY_TIME`], is not trusted, or is no directory.
    pub async fn ask(
        url: &Url,
        ca_file: Option<&Path>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, AuthorityError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let tls = Arc::new(trust(ca_file, provider)?);
        match tokio::time::timeout(DIRECTORY_TIME, get(url, &tls)).await {
            Ok(Ok((body, is_public))) => {
                let (directory, caa_identities) = parse(&body)
                    .map_err(|reason| AuthorityError::NoDirectory { url: url.to_string(), reason })?;
                Ok(Self { tls, directory, caa_identities, is_public })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(AuthorityError::TimedOut { host }),
        }
    }
}

/// The body, and whether it came from the public internet.
async fn get(url: &Url, tls: &ClientConfig) -> Result<(Vec<u8>, bool), AuthorityError> {
    let host = url.host_str().unwrap_or_default();
    // As the order will ask: the system's resolver, no proxy.
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only()
        .user_agent(concat!("groundmist-sync/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| AuthorityError::Setup(error.to_string()))?;
    let unreachable = |error: reqwest::Error| explain(host, &error);
    let mut response = client.get(url.clone()).send().await.map_err(unreachable)?;
    let none = |reason: String| AuthorityError::NoDirectory { url: url.to_string(), reason };
    if response.status() != reqwest::StatusCode::OK {
        let status = response.status().as_u16();
        if status >= 500 || status == 429 {
            let reason = format!("it answers with HTTP status {status}");
            return Err(AuthorityError::Unreachable { host: host.into(), reason });
        }
        return Err(none(format!("it answers with HTTP status {status} instead of 200")));
    }
    let is_public = response.remote_addr().is_some_and(|address| is_public(address.ip()));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if chunk.len() > MAX_DIRECTORY_BYTES - body.len() {
            return Err(none(format!("it is larger than {MAX_DIRECTORY_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, is_public))
}

fn parse(body: &[u8]) -> Result<(acme::Directory, Vec<String>), String> {
    let document: Document = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let directory = document.directory;
    for url in [&directory.new_nonce, &directory.new_account, &directory.new_order] {
        if !url.starts_with("https://") {
            return Err("it names a URL that is not https:".into());
        }
    }
    let mut identities = document.meta.caa_identities;
    identities.truncate(MAX_IDENTITIES);
    Ok((directory, identities))
}

fn explain(host: &str, error: &reqwest::Error) -> AuthorityError {
    let mut innermost: &(dyn std::error::Error + 'static) = error;
    let mut untrusted = None;
    while let Some(source) = innermost.source() {
        innermost = source;
        untrusted = untrusted.or_else(|| is_about_trust(innermost));
    }
    let host = host.to_owned();
    match untrusted {
        Some(reason) => {
            let today = rfc3339(now()).split('T').next().unwrap_or_default().to_owned();
            AuthorityError::Untrusted { host, reason, today }
        }
        None => AuthorityError::Unreachable { host, reason: innermost.to_string() },
    }
}

/// What is wrong with its certificate, if that is it. An `io::Error` shows the error in it only by a reference of its own.
fn is_about_trust(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match error.downcast_ref().or_else(|| inside.and_then(|inside| inside.downcast_ref()))? {
        // rustls names both times, to the second.
        rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { .. }) => {
            Some("its certificate has expired".into())
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { .. }) => {
            Some("its certificate is not valid yet".into())
        }
        rustls::Error::InvalidCertificate(reason) => Some(reason.to_string()),
        _ => None,
    }
}

fn trust(ca_file: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<ClientConfig, AuthorityError> {
    let failed = |path: &Path, reason| AuthorityError::CaFile { path: path.display().to_string(), reason };
    let roots = match ca_file {
        Some(path) => authorities_in(path).map_err(|reason| failed(path, reason))?,
        None => http::built_in_roots(),
    };
    let config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| AuthorityError::Setup(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;

    #[test]
    fn directories_are_read_and_others_are_not() {
        let urls = r#""newNonce":"https://a/n","newAccount":"https://a/a","newOrder":"https://a/o""#;
        for (body, identities) in [
            (format!("{{{urls}}}"), &[][..]),
            (format!(r#"{{{urls},"meta":{{}},"keyChange":"x"}}"#), &[][..]),
            (
                format!(r#"{{{urls},"meta":{{"caaIdentities":["letsencrypt.org"]}}}}"#),
                &["letsencrypt.org"][..],
            ),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap().1, identities, "{body}");
        }
        for bad in [
            "",
            "<html>",
            "{}",
            r#"{"newNonce":1}"#,
            &format!("{{{}}}", urls.replace("https://a/o", "http://a/o")),
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_same_trouble_with_its_certificate_is_the_same_text() {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let said = |reason| {
            let tls = rustls::Error::InvalidCertificate(reason);
            // As tokio-rustls has it.
            is_about_trust(&std::io::Error::new(std::io::ErrorKind::InvalidData, tls))
        };
        let expired = |now| CertificateError::ExpiredContext { time: time(now), not_after: time(1) };
        assert_eq!(said(expired(10)).as_deref(), Some("its certificate has expired"));
        assert_eq!(said(expired(10)), said(expired(11)));
        let early = CertificateError::NotValidYetContext { time: time(1), not_before: time(10) };
        assert_eq!(said(early).as_deref(), Some("its certificate is not valid yet"));
        assert!(said(CertificateError::UnknownIssuer).is_some());
        assert!(is_about_trust(&std::io::Error::from_raw_os_error(111)).is_none());
    }

    #[tokio::test]
    async fn who_does_not_answer_is_named_with_what_to_do() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url = Url::parse(&format!("https://{free}/dir")).unwrap();
        let error = Authority::ask(&url, None, &provider).await.unwrap_err().to_string();
        assert!(error.contains("cannot be reached") && error.contains("127.0.0.1"), "{error}");
        let error =
            Authority::ask(&url, Some(Path::new("/nowhere.pem")), &provider).await.unwrap_err().to_string();
        assert!(error.contains("acme.ca_file") && error.contains("/nowhere.pem"), "{error}");
    }
}
