//! `GET /metrics`: figures for monitoring, in Prometheus' text format. `docs/METRICS.md` names all of them.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use crate::access::Access;
use crate::engine::{Engine, OpeningFigures};
use crate::listen::{Certificate, PerAddress};
use crate::store::{LastBackup, Store, StoreStats};
use crate::sys::memory::resident_bytes;
use crate::telemetry::panics;
use crate::telemetry::tally::Tally;
use crate::types::Millis;
use text::Text;

mod http;
pub(super) mod process;
mod text;

pub use http::MetricsHttp;

/// What happened at the doors, counted by code.
#[derive(Debug, Default)]
pub struct Doors {
    /// `/authenticate` and its like: `ok` or the answer's error code.
    pub authenticated: Tally,
    /// WebSocket upgrades that were refused, by the answer's error code.
    pub refused: Tally,
    /// Connections that were closed so that others are served, by what ran out.
    pub evicted: Arc<Tally>,
}

/// Whom to ask for figures.
pub struct Metrics {
    /// Connections, documents, changes, commits.
    pub engine: Engine,
    /// Sessions and apps.
    pub access: Arc<Access>,
    /// Its size.
    pub store: Arc<Store>,
    /// Shared with who counts there.
    pub doors: Arc<Doors>,
    /// None without TLS.
    pub certificate: Option<Arc<Certificate>>,
    /// Counts connections by where they come from.
    pub per_address: Arc<PerAddress>,
    /// When the process started.
    pub started: Millis,
}

/// The answer to `GET /metrics`.
pub async fn answer(metrics: &Arc<Metrics>) -> Response<Full<Bytes>> {
    let store = Arc::clone(&metrics.store);
    // Counting pages reads the disk. What cannot be read is left out, and the rest told all the same.
    let read = move || (store.stats().ok(), store.last_backup().ok().flatten().unwrap_or_default());
    let (stats, last_backup) = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    let mut response = Response::new(Full::from(metrics.text(stats.as_ref(), last_backup)));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(text::CONTENT_TYPE));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Metrics {
    fn text(&self, stats: Option<&StoreStats>, last_backup: LastBackup) -> String {
        let mut text = Text::default();
        self.engine(&mut text);
        self.doors(&mut text);
        self.certificate(&mut text);
        if let Some(stats) = stats {
            text.gauge("groundmist_documents_stored", "Documents in the store.", stats.documents);
            text.gauge("groundmist_store_bytes", "Bytes that the store takes on the disk.", stats.file_bytes);
            text.gauge(
                "groundmist_store_dead_bytes",
                "Bytes of the store that hold no row.",
                stats.dead_bytes,
            );
        }
        text.gauge(
            "groundmist_last_backup_time_seconds",
            "When the last backup was made, since the Unix epoch; 0 if none is known of.",
            last_backup.created / 1000,
        );
        text.gauge("groundmist_last_backup_bytes", "Size of the last backup.", last_backup.bytes);
        self.process(&mut text);
        text.finish()
    }

    fn engine(&self, text: &mut Text) {
        let figures = self.engine.figures();
        let status = &figures.status;
        text.gauge(
            "groundmist_connections",
            "Clients that are connected and have joined.",
            status.connections,
        );
        text.gauge(
            "groundmist_documents_loaded",
            "Documents whose change graph is in memory.",
            status.documents_loaded,
        );
        text.gauge("groundmist_graph_memory_bytes", "Bytes of memory.budget in use.", status.memory_bytes);
        text.by_label(
            "groundmist_memory_bytes",
            "Memory that documents and clients make the server hold, by what it is for.",
            "gauge",
            "kind",
            status.memory.by_kind(),
        );
        text.gauge(
            "groundmist_largest_holder_bytes",
            "What the device that makes the server hold the most has open.",
            status.largest_holders.first().map_or(0, |holder| holder.bytes),
        );
        text.counter("groundmist_changes_in_total", "Changes made durable.", status.changes_in);
        text.counter("groundmist_changes_out_total", "Changes sent to clients.", status.changes_out);
        text.counter("groundmist_commits_total", "Commits, each with one fsync.", status.commits);
        text.gauge(
            "groundmist_commit_failing",
            "1 while changes cannot be stored, else 0.",
            status.journal_error.is_some().into(),
        );
        text.histogram(
            "groundmist_commit_seconds",
            "From handing changes to the journal to their being on the disk.",
            &figures.commit,
        );
        text.histogram(
            "groundmist_relay_seconds",
            "From the arrival of a change to its being on its way to others; once for each commit that is passed on.",
            &figures.relay,
        );
        let waiting = figures.waiting.map(|(queue, waiting)| (queue, waiting as u64));
        text.by_label(
            "groundmist_queue_length",
            "What waits for the threads of the engine.",
            "gauge",
            "queue",
            waiting,
        );
        text.counter(
            "groundmist_evictions_total",
            "Change graphs let go of to stay within memory.budget.",
            figures.evictions,
        );
        text.counter(
            "groundmist_gave_way_total",
            "Connections closed because they held more than their share of memory.budget.",
            figures.gave_way,
        );
        text.counter(
            "groundmist_quarantines_total",
            "Documents that stopped being synced because of what is in them.",
            figures.quarantines,
        );
        text.counter(
            "groundmist_refused_messages_total",
            "Sync messages refused because decoding them would cost too much.",
            figures.refusals,
        );
        Self::openings(&figures.openings, text);
    }

    fn openings(openings: &OpeningFigures, text: &mut Text) {
        let labels = |kind, place| format!("kind=\"{kind}\",place=\"{place}\"");
        let each = || openings.done.iter().copied();
        let counts: Vec<_> = each().map(|(kind, place, count, _)| (labels(kind, place), count)).collect();
        let times: Vec<_> = each().map(|(kind, place, _, us)| (labels(kind, place), us)).collect();
        text.by_labels(
            "groundmist_openings_total",
            "Documents opened, by what for and where.",
            "counter",
            &counts,
        );
        text.seconds_by_labels(
            "groundmist_opening_seconds_total",
            "Time that openings took, by what for and where.",
            "counter",
            &times,
        );
        text.by_label(
            "groundmist_openings_refused_total",
            "Openings that were not tried or came to nothing, by reason.",
            "counter",
            "reason",
            openings.refused.iter().copied(),
        );
    }

    fn doors(&self, text: &mut Text) {
        let (sessions, pending) = self.access.counts();
        text.gauge(
            "groundmist_sessions",
            "Sessions and sync tokens, expired ones of late included.",
            sessions as u64,
        );
        text.gauge("groundmist_apps_pending", "Apps that wait for the owner's decision.", pending as u64);
        text.by_label(
            "groundmist_authentications_total",
            "Apps that asked to be let in, by what came of it.",
            "counter",
            "result",
            self.doors.authenticated.read(),
        );
        text.by_label(
            "groundmist_refused_connections_total",
            "Clients that were not let connect, by reason.",
            "counter",
            "reason",
            self.doors.refused.read(),
        );
        text.by_label(
            "groundmist_evicted_connections_total",
            "Connections that were closed so that others are served, by what ran out.",
            "counter",
            "reason",
            self.doors.evicted.read(),
        );
        text.counter(
            "groundmist_address_full_total",
            "Connections that were closed because one address had too many.",
            self.per_address.rejected(),
        );
    }

    fn certificate(&self, text: &mut Text) {
        let now = self.certificate.as_ref().map(|certificate| certificate.now()).unwrap_or_default();
        text.gauge(
            "groundmist_certificate_expiry_time_seconds",
            "When the certificate expires, since the Unix epoch; 0 without one.",
            now.valid_until.unwrap_or_default() / 1000,
        );
        text.gauge(
            "groundmist_certificate_failures",
            "Attempts in a row that brought no certificate.",
            now.failures.into(),
        );
    }

    fn process(&self, text: &mut Text) {
        if let Some(bytes) = resident_bytes() {
            text.gauge("groundmist_process_resident_memory_bytes", "Memory of the process.", bytes);
        }
        if let Some(files) = process::open_files() {
            text.gauge("groundmist_process_open_files", "Files and sockets that are open.", files);
        }
        text.gauge(
            "groundmist_process_start_time_seconds",
            "When the process started, since the Unix epoch.",
            self.started / 1000,
        );
        text.counter("groundmist_panics_total", "Faults in the program that were survived.", panics::count());
        text.by_label(
            "groundmist_build_info",
            "Always 1; the version is its label.",
            "gauge",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1)],
        );
    }
}
