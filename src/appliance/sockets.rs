//! Which socket speaks what: opened together, then served together.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Error;
use super::reload::{Part, Prepare, Prepared};
use super::systemd::Note;
use crate::config::{Config, TlsMode};
use crate::engine::Engine;
use crate::listen::{
    Certificate, CertificateFromFiles, Https, ListenError, Listeners, Listening, PerAddress, Redirect,
    Spoken, accept, acme, again,
};
use crate::store::Store;
use crate::web::metrics::{Metrics, MetricsHttp};
use crate::web::{Proxies, Web};

/// Open sockets, and the certificate that is shown on them.
pub(super) struct Sockets {
    listeners: Listeners,
    /// Those that are open, the most important one first.
    pub list: Vec<Listening>,
    /// None without TLS.
    pub certificate: Option<Arc<Certificate>>,
    /// With `tls = "files"`: reads them again when told to.
    pub from_files: Option<Arc<CertificateFromFiles>>,
    /// Counts connections by where they come from.
    pub per_address: Arc<PerAddress>,
}

impl Sockets {
    /// Reads the owner's certificate, if it is hers, and opens what the configuration asks for.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let domain = config.domain.as_deref().unwrap_or_default();
        let ca_file = config.identity.ca_file.as_deref();
        let open = |files| CertificateFromFiles::open(files, ca_file, domain);
        let from_files = config.certificate.as_ref().map(open).transpose()?;
        let certificate = match (&from_files, config.tls) {
            (Some(files), _) => Some(files.certificate()),
            (None, TlsMode::Off) => None,
            (None, mode) => Some(Certificate::new(mode.as_str(), domain)),
        };
        let listeners = Listeners::open(config)?;
        let list = listeners.list();
        let per_address = PerAddress::new(config.limits.connections_per_address);
        Ok(Self { listeners, list, certificate, from_files, per_address })
    }

    /// Whom the requests of proxies come from. Connections are counted when they are accepted, or here.
    pub fn proxies(&self, config: &Config) -> Proxies {
        Proxies::new(config.listen.trusted_proxies.clone(), Arc::clone(&self.per_address))
    }

    /// What a reload does about the certificate.
    pub fn certificate_again(&self) -> Option<Part> {
        let prepare: Prepare = match (&self.from_files, &self.certificate) {
            (Some(files), _) => {
                let files = Arc::clone(files);
                Box::new(move |_| {
                    let read = files.read().map_err(|error| error.to_string())?;
                    let files = Arc::clone(&files);
                    let apply = Box::new(move || files.show(read));
                    Ok(Prepared { also: Some("the certificate's files were read".into()), apply })
                })
            }
            (None, Some(certificate)) => {
                let certificate = Arc::clone(certificate);
                Box::new(move |_| {
                    let waits = certificate.now().last_error.is_some();
                    let certificate = Arc::clone(&certificate);
                    let apply = Box::new(move || certificate.retry_now());
                    Ok(Prepared { also: waits.then(|| "the certificate is tried for again".into()), apply })
                })
            }
            (None, None) => return None,
        };
        Some(Part { settings: &[], prepare })
    }

    /// What systemd's status line says of the certificate; nothing while all is well.
    pub fn note(&self) -> Vec<Note> {
        let note = |certificate: &Arc<Certificate>| -> Note {
            let certificate = Arc::clone(certificate);
            Arc::new(move || {
                let now = certificate.now();
                match (now.valid_until, now.last_error) {
                    (_, Some(error)) => Some(format!("certificate: {error}")),
                    (None, None) => Some("no certificate yet".into()),
                    (Some(_), None) => None,
                }
            })
        };
        self.certificate.iter().map(note).collect()
    }

    /// Port of the most important one.
    pub fn port(&self) -> u16 {
        self.list.first().map_or(0, |first| first.address.port())
    }

    /// The address for clients, without a path.
    pub fn url(&self, config: &Config) -> String {
        match (self.list.first(), &config.domain) {
            (Some(first), Some(domain)) if first.spoken == Spoken::Https => {
                format!("wss://{domain}:{}", first.address.port())
            }
            (Some(first), _) => format!("ws://{}", first.address),
            (None, _) => String::new(),
        }
    }

    /// How browsers reach this server (RFC 6454, section 6.2).
    pub fn origin(&self, config: &Config) -> String {
        match (&config.domain, self.list.first()) {
            (Some(domain), _) => format!("https://{domain}"),
            (None, first) => first.map_or_else(String::new, |first| format!("http://{}", first.address)),
        }
    }

    /// Accepts on all of them until `stopping` turns true, and keeps the certificate up to date. The tasks
    /// that accept are given back: when they are dropped they end.
    pub fn serve(
        self,
        config: &Config,
        web: &Web,
        metrics: &Arc<Metrics>,
        store: Arc<Store>,
        engine: &Engine,
        stopping: &watch::Sender<bool>,
    ) -> Result<JoinSet<()>, ListenError> {
        let mut listening = JoinSet::new();
        let time = config.limits.handshake_timeout;
        for plain in self.listeners.plain {
            listening.spawn(accept(plain, web.clone(), stopping.subscribe()));
        }
        if let Some(plain) = self.listeners.metrics {
            let serve = MetricsHttp::new(Arc::clone(metrics), stopping.subscribe());
            listening.spawn(accept(plain, serve, stopping.subscribe()));
        }
        if let (Some(certificate), Some(domain)) = (self.certificate, &config.domain) {
            let https = Https::new(
                Arc::clone(&certificate),
                self.per_address,
                time,
                web.clone(),
                Arc::clone(&metrics.doors.evicted),
                stopping.subscribe(),
            )?;
            for tcp in self.listeners.https {
                listening.spawn(accept(tcp, https.clone(), stopping.subscribe()));
            }
            let redirect =
                Redirect::new(domain, time, Arc::clone(&metrics.doors.evicted), stopping.subscribe());
            for tcp in self.listeners.http {
                listening.spawn(accept(tcp, redirect.clone(), stopping.subscribe()));
            }
            if config.tls == TlsMode::Acme {
                let options = acme::Options::new(domain, &config.acme, &config.identity);
                let commit = Arc::new(engine.clone());
                tokio::spawn(acme::keep(certificate, store, commit, options, stopping.subscribe()));
            }
        }
        if let Some(files) = self.from_files {
            let stopping = stopping.subscribe();
            let begin = move || Arc::clone(&files).watch(stopping.clone());
            tokio::spawn(async { again("watching the certificate's files", begin).await });
        }
        for Listening { address, spoken } in &self.list {
            tracing::info!(%address, spoken = spoken.as_str(), "listening");
        }
        Ok(listening)
    }
}
