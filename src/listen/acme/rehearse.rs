//! The check before an order, made while no server runs: whoever sets one up learns at once what would go wrong.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::preflight::{PreflightError, check};
use super::{Options, reach};
use crate::listen::{Accept as _, Certificate, Tcp};

/// Pause when the system has no room for a connection.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Everything that is checked before an order, with `https` in the place of the server's socket; without one, everything
/// but whether the name leads here. What the owner should know all the same.
///
/// # Errors
/// What would keep a certificate from being ordered, and what to do.
pub async fn rehearse(https: Option<&Tcp>, options: &Options) -> Result<Vec<String>, PreflightError> {
    let certificate = Certificate::new("acme", &options.domain);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let check_reach = options.check_reach && https.is_some();
    let options = Options { check_reach, ..options.clone() };
    tokio::select! {
        ready = check(&options, &certificate, &provider) => ready.map(|ready| ready.warnings),
        never = answer(https, &certificate) => match never {},
    }
}

/// Answers our own questions, and nobody else's.
async fn answer(https: Option<&Tcp>, certificate: &Certificate) -> std::convert::Infallible {
    let Some(https) = https else { return std::future::pending().await };
    loop {
        match (https.accept().await, certificate.probe()) {
            (Ok((stream, _)), Some(config)) => {
                let handshake = TlsAcceptor::from(config).accept(stream);
                tokio::spawn(timeout(reach::HANDSHAKE_TIME, handshake));
            }
            (Ok(_), None) => {}
            (Err(_), _) => sleep(BACK_OFF).await,
        }
    }
}
