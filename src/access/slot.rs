//! One session in memory: its row, what of it is on its way into the store, and its sockets.

use tokio::sync::watch;

use super::Refused;
use super::copies::Uses;
use super::session::Row;
use crate::types::{Millis, Moment};

/// When the sockets of a session must close.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// When the session ends by itself.
    pub(super) expires: Millis,
    /// Why it ended before that.
    pub(super) refused: Option<Refused>,
}

/// Tells the sockets of one session.
type End = watch::Sender<Standing>;

/// What memory holds of one session.
pub(super) struct Slot {
    pub(super) row: Row,
    /// Counts up: sessions begin in whole seconds, and many may in one.
    pub(super) number: u64,
    /// Counts what an authentication made of the row, from 1.
    pub(super) version: u64,
    /// The newest version that is known to be stored. While it is 0, nobody has a token of the session.
    pub(super) stored: u64,
    /// Versions on their way. Memory has the newest from the moment it is decided, because that is the order in the store.
    pub(super) writers: usize,
    /// A deletion of it is on its way.
    pub(super) going: bool,
    /// `last_used` in its row.
    pub(super) noted: Option<Millis>,
    /// When a socket with the session was last opened or closed; if none was, when the session began.
    pub(super) used: Moment,
    /// Made when the first socket opens.
    pub(super) end: Option<End>,
    /// From where its sockets come.
    pub(super) uses: Uses,
}

impl Slot {
    pub(super) fn new(row: Row, number: u64) -> Self {
        let (noted, used) = (row.session.last_used, Moment::now());
        let uses = Uses::default();
        Self { row, number, version: 1, stored: 0, writers: 0, going: false, noted, used, end: None, uses }
    }

    pub(super) fn is_durable(&self) -> bool {
        self.stored > 0
    }

    pub(super) fn live(&self) -> usize {
        self.end.as_ref().map_or(0, watch::Sender::receiver_count)
    }

    pub(super) fn last_connected(&self) -> Moment {
        if self.live() > 0 { Moment::now() } else { self.used }
    }

    pub(super) fn close(&mut self, why: Refused) {
        if let Some(end) = self.end.take() {
            end.send_modify(|standing| standing.refused = Some(why));
        }
    }

    /// Tells the sockets when the session ends now.
    pub(super) fn tell_end(&self) {
        let expires = self.row.session.expires;
        if let Some(end) = &self.end {
            end.send_if_modified(|standing| std::mem::replace(&mut standing.expires, expires) != expires);
        }
    }
}
