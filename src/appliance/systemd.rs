//! What systemd is told: readiness, reloads, a status line, signs of life (sd_notify(3)). Silent if it did not start us.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use crate::engine::{Engine, EngineStatus};
use crate::types::count;

/// How often the status line is brought up to date where no watchdog sets the pace.
const STATUS_EVERY: Duration = Duration::from_secs(60);
/// The watchdog is fed so many times within its limit: one late turn starves nobody.
const FED_PER_LIMIT: u32 = 3;

/// A part's word for the status line; `None` while it has nothing to say.
pub(super) type Note = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Tells systemd.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told about the server's state");
    }
}

/// A reload begins. Must be followed by [`NotifyState::Ready`], whatever comes of it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the monotonic clock cannot be read"),
    }
}

/// Keeps systemd informed while the server serves: feeds the watchdog while shards and journal answer, so that a hung
/// server is started anew, and keeps the status line. Ends at once if systemd did not start us.
pub(super) async fn inform(engine: Engine, notes: Vec<Note>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    let status = || status(&engine.status(), notes.iter().filter_map(|note| note()));
    pace(watchdog, || engine.is_alive(), status, notify).await;
}

async fn pace(
    watchdog: Option<Duration>,
    is_alive: impl Fn() -> bool,
    status: impl Fn() -> String,
    tell: impl Fn(&[NotifyState<'_>]),
) {
    let every = watchdog.map_or(STATUS_EVERY, |limit| (limit / FED_PER_LIMIT).min(STATUS_EVERY));
    let mut turns = interval(every.max(Duration::from_millis(1)));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    let mut hung = false;
    loop {
        turns.tick().await;
        if watchdog.is_some() {
            let alive = is_alive();
            if alive {
                tell(&[NotifyState::Watchdog]);
            } else if !hung {
                tracing::error!(
                    "the engine does not answer: if that lasts, systemd ends the server and starts it anew"
                );
            }
            hung = !alive;
        }
        let now = status();
        if now != told {
            tell(&[NotifyState::Status(&now)]);
            told = now;
        }
    }
}

/// Such as `3 connections, 12 documents in memory`, in one line.
fn status(engine: &EngineStatus, notes: impl Iterator<Item = String>) -> String {
    let mut text = format!(
        "{}, {} in memory",
        count(engine.connections, "connection"),
        count(engine.documents_loaded, "document")
    );
    if let Some(error) = &engine.journal_error {
        text = format!("{text}; changes cannot be saved: {error}");
    }
    for note in notes {
        text = format!("{text}; {note}");
    }
    // A line break would begin another assignment (sd_notify(3)).
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// What is told in five turns, hung in the third and fourth.
    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_by_who_is_alive_only() {
        let told = RefCell::new(Vec::new());
        let turn = Cell::new(0);
        let alive = || {
            turn.set(turn.get() + 1);
            !(3..=4).contains(&turn.get())
        };
        let status = || format!("turn {}", turn.get() / 3);
        let tell =
            |states: &[NotifyState<'_>]| told.borrow_mut().extend(states.iter().map(ToString::to_string));
        let limit = Duration::from_secs(9);
        let five_turns = tokio::time::sleep(limit / 3 * 4 + Duration::from_secs(1));
        tokio::select! {
            () = pace(Some(limit), alive, status, tell) => unreachable!("it goes on for ever"),
            () = five_turns => {}
        }
        let told = told.into_inner().iter().map(|state| state.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(told, ["WATCHDOG=1", "STATUS=turn 0", "WATCHDOG=1", "STATUS=turn 1", "WATCHDOG=1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watchdog_there_is_a_status_only() {
        let told = RefCell::new(Vec::new());
        let tell =
            |states: &[NotifyState<'_>]| told.borrow_mut().extend(states.iter().map(ToString::to_string));
        tokio::select! {
            () = pace(None, || unreachable!("nobody asks"), || "idle".into(), tell) => {}
            () = tokio::time::sleep(STATUS_EVERY * 3) => {}
        }
        assert_eq!(told.into_inner(), ["STATUS=idle"]);
    }

    #[test]
    fn the_status_is_one_line_in_words() {
        let mut engine = EngineStatus { connections: 1, documents_loaded: 12, ..Default::default() };
        assert_eq!(status(&engine, [].into_iter()), "1 connection, 12 documents in memory");
        engine.journal_error = Some("the disk\nis full".into());
        let text = status(&engine, ["certificate until May".to_owned()].into_iter());
        assert_eq!(
            text,
            "1 connection, 12 documents in memory; changes cannot be saved: the disk is full; certificate until May"
        );
    }
}
