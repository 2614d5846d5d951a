//! The certificate that clients are shown, swapped while connections go on, and what is known of it.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use crate::types::Millis;

/// The protocol (ALPN) of connections by which this process finds out whether its name leads to it.
pub const PROBE_ALPN: &[u8] = b"groundmist-probe";

/// What `status`, `doctor`, metrics and the log say of the certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateNow {
    /// `tls` of the configuration: `acme`, `files` or `off`.
    pub mode: String,
    /// The name it is for.
    pub domain: Option<String>,
    /// From when clients accept it; none without a certificate. Milliseconds since 1970, as all times here.
    pub valid_from: Option<Millis>,
    /// Until when.
    pub valid_until: Option<Millis>,
    /// When a new one is to be ordered.
    pub renewal_due: Option<Millis>,
    /// A certificate is being ordered.
    pub ordering: bool,
    /// Attempts in a row that brought none.
    pub failures: u32,
    /// Why the last one failed and what to do, in words; none since one succeeded.
    pub last_error: Option<String>,
    /// When the next attempt is made, if one is waited for.
    pub next_attempt: Option<Millis>,
}

/// Shared by whoever obtains certificates and the listener that shows them.
#[derive(Debug)]
pub struct Certificate {
    domain: String,
    current: RwLock<Option<Arc<CertifiedKey>>>,
    challenge: RwLock<Option<Arc<ServerConfig>>>,
    probe: RwLock<Option<Arc<ServerConfig>>>,
    now: Mutex<CertificateNow>,
}

impl Certificate {
    /// None yet. `mode` is the configuration's `tls`.
    pub fn new(mode: &str, domain: &str) -> Arc<Self> {
        let now =
            CertificateNow { mode: mode.into(), domain: Some(domain.into()), ..CertificateNow::default() };
        Arc::new(Self {
            domain: domain.into(),
            current: RwLock::default(),
            challenge: RwLock::default(),
            probe: RwLock::default(),
            now: Mutex::new(now),
        })
    }

    /// From now on new connections are shown this one.
    pub fn present(&self, certified: CertifiedKey) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
    }

    /// The one that is shown.
    pub fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How to answer the authority's TLS-ALPN-01 connections (RFC 8737) while an order is under way.
    pub fn set_challenge(&self, config: Option<Arc<ServerConfig>>) {
        *self.challenge.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// The same; none when no order is under way.
    pub fn challenge(&self) -> Option<Arc<ServerConfig>> {
        self.challenge.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How to answer connections with ALPN [`PROBE_ALPN`], by which this process finds out whether its name leads to it.
    pub fn set_probe(&self, config: Option<Arc<ServerConfig>>) {
        *self.probe.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// The same; none when nothing is to be found out.
    pub fn probe(&self) -> Option<Arc<ServerConfig>> {
        self.probe.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a name in a ClientHello is the one it is for.
    pub fn is_for(&self, name: &str) -> bool {
        name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case(&self.domain)
    }

    /// What is known of it.
    pub fn now(&self) -> CertificateNow {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something happened to it.
    pub fn update(&self, change: impl FnOnce(&mut CertificateNow)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl ResolvesServerCert for Certificate {
    /// For our own name only: who asks for another, or for none, gets no certificate.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if self.is_for(hello.server_name()?) { self.current() } else { None }
    }
}
