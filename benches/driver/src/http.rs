//! As much HTTP/1.1 as is needed: requests that were written beforehand, and their answers.

use anyhow::{Context, Result, ensure};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
    BufReader,
};

/// Longest head or body taken, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// A POST of JSON, with these headers besides.
pub fn post(host: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

/// What came back.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header `DPoP-Nonce`.
    pub nonce: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// A connection that is kept.
pub struct Connection<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Over a stream.
    pub fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    /// Send a request and take its answer.
    pub async fn send(&mut self, request: &[u8]) -> Result<Answer> {
        self.0.write_all(request).await?;
        let head = head(&mut self.0).await?.context("no answer")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let field = |name: &str| {
            let line = head
                .lines()
                .find(|line| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))?;
            Some(line[name.len()..].trim().to_owned())
        };
        let length: usize = field("content-length:").map_or(Ok(0), |length| length.parse())?;
        ensure!(length <= MAX_BYTES, "an answer of {length} bytes");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        Ok(Answer {
            status: status.context("an answer without a status")?,
            nonce: field("dpop-nonce:"),
            body,
        })
    }
}

/// The head of a request or an answer; none at the end of the stream.
pub async fn head(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<String>> {
    let mut head = String::new();
    loop {
        let before = head.len();
        stream.read_line(&mut head).await?;
        if head.is_empty() {
            return Ok(None);
        }
        ensure!(head.len() > before && head.len() <= MAX_BYTES, "a head that does not end");
        if head[before..].trim_end().is_empty() {
            return Ok(Some(head));
        }
    }
}
