//! Logging: journald under systemd, readable text on a terminal, JSON by choice.
//!
//! A line is a thing that happened, in the owner's words, with fields. Tokens, secrets and URLs are never
//! fields: of a request only its path is logged. Other crates are heard only when they warn.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, reload};

use crate::types::{LogFormat, LogLevel};

pub mod histogram;
pub mod panics;
pub mod tally;

/// Logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.format = "journald"` without journald.
    #[error("log.format is journald, but journald cannot be reached ({0}): use auto, text or json")]
    Journald(std::io::Error),
    /// Set up twice in one process.
    #[error("logging was already set up in this process: {0}")]
    Again(tracing_subscriber::util::TryInitError),
}

/// Changes the level while the process runs.
#[derive(Debug, Clone)]
pub struct Level(reload::Handle<Targets, Registry>);

impl Level {
    /// Of no log.
    #[cfg(test)]
    pub fn detached() -> Self {
        Self(reload::Layer::new(filter(LogLevel::Info)).1)
    }

    /// From now on.
    pub fn set(&self, level: LogLevel) {
        // It fails only when logging itself is gone, and then nobody can be told.
        let _ = self.0.reload(filter(level));
    }
}

/// Sets up logging for the process.
///
/// # Errors
/// journald was asked for and is not there, or logging is set up already.
pub fn init(level: LogLevel, format: LogFormat) -> Result<Level, TelemetryError> {
    let (filter, handle) = reload::Layer::new(filter(level));
    let registry = Registry::default().with(filter);
    let journald = match format {
        LogFormat::Journald => Some(tracing_journald::layer().map_err(TelemetryError::Journald)?),
        // Without its socket, stderr still reaches the journal line by line.
        LogFormat::Auto if stderr_is_the_journal() => tracing_journald::layer().ok(),
        _ => None,
    };
    let layer = match (journald, format) {
        (Some(journald), _) => {
            journald.with_field_prefix(None).with_syslog_identifier("groundmist-sync".into()).boxed()
        }
        (None, LogFormat::Json) => json(std::io::stderr),
        (None, _) => text(std::io::stderr, std::io::stderr().is_terminal()),
    };
    registry.with(layer).try_init().map_err(TelemetryError::Again)?;
    Ok(Level(handle))
}

/// Our own crate at the chosen level, and warnings of other crates, which do not know what must not be said. automerge
/// is silent: it warns of each column that it does not know, and one message can have millions of those.
pub fn filter(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(ours.min(LevelFilter::WARN))
        .with_target("groundmist_sync", ours)
        .with_target("automerge", LevelFilter::OFF)
}

/// One JSON object a line.
pub fn json<S, W>(writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer).boxed()
}

/// A readable line.
pub fn text<S, W>(writer: W, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer().with_target(false).with_ansi(colours).with_writer(writer).boxed()
}

/// systemd names the stream it connected to the journal by device and inode (systemd.exec(5), `$JOURNAL_STREAM`);
/// stderr may have been redirected since.
fn stderr_is_the_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let metadata =
        std::io::stderr().as_fd().try_clone_to_owned().and_then(|fd| std::fs::File::from(fd).metadata());
    metadata.is_ok_and(|file| names(&stream, file.dev(), file.ino()))
}

fn names(stream: &str, dev: u64, ino: u64) -> bool {
    let numbers = stream.split_once(':').map(|(dev, ino)| (dev.parse(), ino.parse()));
    matches!(numbers, Some((Ok(d), Ok(i))) if (d, i) == (dev, ino))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, as_json: bool) -> String {
        let buffer = Buffer::default();
        let writer = {
            let buffer = buffer.clone();
            move || buffer.clone()
        };
        let layer = if as_json { json(writer) } else { text(writer, false) };
        tracing::subscriber::with_default(Registry::default().with(filter(level)).with(layer), || {
            tracing::info!(session = "abc", "made a sync token");
            tracing::debug!("details");
            tracing::debug!(target: "hyper::proto", "GET /sync?token=eyJhbGciOi");
            tracing::warn!(target: "hyper::proto", "odd");
            tracing::error!(target: "automerge::storage", "an unknown column");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn levels_are_ours_and_other_crates_only_warn() {
        let info = logged(LogLevel::Info, false);
        assert!(info.contains("made a sync token session=\"abc\"") && info.contains("odd"), "{info}");
        assert!(!info.contains("details") && !info.contains("column"));
        let trace = logged(LogLevel::Trace, false);
        assert!(trace.contains("details") && !trace.contains("eyJ"), "{trace}");
        assert_eq!(logged(LogLevel::Error, false), "");
    }

    #[test]
    fn the_level_changes_while_it_runs() {
        let buffer = Buffer::default();
        let writer = {
            let buffer = buffer.clone();
            move || buffer.clone()
        };
        let (filter, handle) = reload::Layer::new(filter(LogLevel::Warn));
        let level = Level(handle);
        tracing::subscriber::with_default(Registry::default().with(filter).with(text(writer, false)), || {
            for (wanted, word) in
                [(LogLevel::Warn, "one"), (LogLevel::Info, "two"), (LogLevel::Warn, "three")]
            {
                level.set(wanted);
                tracing::info!(word);
            }
        });
        let log = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("two") && log.lines().count() == 1, "{log}");
    }

    #[test]
    fn a_panic_is_logged_once_without_what_it_stumbled_over() {
        let buffer = Buffer::default();
        let writer = {
            let buffer = buffer.clone();
            move || buffer.clone()
        };
        let token = String::from("eyJhbGciOi");
        let before = panics::count();
        let usual = std::panic::take_hook();
        panics::log();
        tracing::subscriber::with_default(Registry::default().with(text(writer, false)), || {
            for _ in 0..2 {
                let _ = std::panic::catch_unwind(|| panic!("{token} is odd"));
            }
        });
        std::panic::set_hook(usual);
        let log = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("a fault in the program") && log.contains("telemetry.rs:"), "{log}");
        assert!(!log.contains("eyJ") && panics::count() >= before + 2, "{log}");
    }

    #[test]
    fn json_is_an_object_a_line() {
        let lines = logged(LogLevel::Info, true);
        let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!((&first["message"], &first["session"]), (&"made a sync token".into(), &"abc".into()));
        assert_eq!(lines.lines().count(), 2);
    }

    #[test]
    fn the_journal_is_told_by_device_and_inode() {
        assert!(names("8:1234", 8, 1234));
        for other in ["", "8", "8:", "8:1235", "9:1234", "a:b"] {
            assert!(!names(other, 8, 1234), "{other}");
        }
    }
}
