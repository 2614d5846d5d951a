//! What access knows, all of it in memory, and what a commit on its way does to it.

use std::time::Instant;

use super::audit::{Audit, Place};
use super::connect::{Codes, Families};
use super::entering::Checked;
use super::grant::{Decision, Grant, Grants};
use super::pending::PendingApps;
use super::root_document::{RootDocuments, RootKey, RootWrite};
use super::session::{Row, Session, deletion};
use super::sessions::{SessionWrite, Sessions};
use super::token::Claims;
use super::used::UsedTokens;
use super::{AccessError, App, KEEP_EXPIRED_MS, MAX_SESSIONS, Refused};
use crate::store::{Op, RecordKind, Store, StoreError};
use crate::types::Millis;

/// Sessions long expired that one new session clears away.
const CLEARED_AT_ONCE: usize = 16;

#[derive(Default)]
pub(super) struct State {
    pub(super) sessions: Sessions,
    pub(super) grants: Grants,
    pub(super) pending: PendingApps,
    pub(super) roots: RootDocuments,
    pub(super) used: UsedTokens,
    pub(super) codes: Codes,
    pub(super) families: Families,
    pub(super) audit: Audit,
    pub(super) flush: FlushClock,
}

/// When what is not worth a commit of its own is written.
#[derive(Debug, Default)]
pub(super) struct FlushClock {
    pub(super) scheduled: bool,
    pub(super) last: Option<Instant>,
}

/// What a commit on its way means.
#[derive(Debug, Default)]
pub(super) struct Underway {
    /// A session that begins or is renewed.
    pub(super) session: Option<SessionWrite>,
    /// Sessions that end.
    pub(super) gone: Vec<String>,
    /// Versions of root documents that are stored.
    pub(super) roots: Vec<RootWrite>,
    /// A decision.
    pub(super) grant: Option<Grant>,
    /// A refresh token's row that is written.
    pub(super) family: Option<String>,
    /// Refresh tokens that end.
    pub(super) families_gone: Vec<String>,
    /// The event that tells of it.
    pub(super) event: Option<Place>,
}

impl State {
    pub(super) fn load(store: &Store) -> Result<Self, StoreError> {
        let mut state = Self {
            sessions: Sessions::load(&store.records(RecordKind::Session)?),
            roots: RootDocuments::load(store.records(RecordKind::RootDocument)?),
            used: UsedTokens::load(&store.records(RecordKind::UsedToken)?),
            audit: Audit::load(&store.records(RecordKind::Audit)?),
            families: Families::load(&store.records(RecordKind::RefreshToken)?),
            ..Self::default()
        };
        for (key, row) in store.records(RecordKind::Grant)? {
            match Grant::read(&key, &row).or_else(|| Grant::unreadable(&key)) {
                Some(grant) => {
                    state.grants.set(grant);
                }
                None => tracing::warn!("a decision about an app cannot be read, not even which app"),
            }
        }
        let next_number = store.record(RecordKind::Pin, PendingApps::next_number_key())?;
        state.pending = PendingApps::load(&store.records(RecordKind::Pending)?, next_number.as_deref());
        // A decision and the end of the wait are not written together.
        let decided: Vec<App> =
            state.grants.all().filter(|g| g.decision != Decision::Revoked).map(Grant::app).collect();
        decided.iter().for_each(|app| state.pending.forget(app));
        Ok(state)
    }

    /// Whether a session may only read; `None` if its app may not even do that.
    pub(super) fn read_only(&self, session: &Session) -> Option<bool> {
        if session.is_local() {
            return Some(session.read_only);
        }
        match self.grants.get(&session.app())? {
            Decision::ReadWrite => Some(session.read_only),
            Decision::ReadOnly => Some(true),
            Decision::Denied | Decision::Revoked => None,
        }
    }

    /// The session that a token speaks for, as it holds now.
    pub(super) fn session(
        &mut self,
        store: &Store,
        claims: &Claims,
        now: Millis,
    ) -> Result<Session, Refused> {
        if now >= claims.expires() {
            return Err(Refused::Expired);
        }
        let id = self.sessions.id_now(&claims.session_id).to_owned();
        if self.sessions.is_doubtful(&id) {
            self.sessions.reload(&id, store);
            if self.sessions.is_doubtful(&id) {
                return Err(Refused::Unverifiable);
            }
        }
        let row = self.sessions.row(&id).ok_or_else(|| claims.without_session(now, &self.audit))?;
        let Some(reads_only) = claims.speaks_for(row, self.sessions.earlier.token(&claims.session_id)) else {
            return Err(Refused::Invalid("it does not match the session it names"));
        };
        let session = &row.session;
        if now >= session.expires {
            return Err(Refused::Expired);
        }
        // A token may do what it was asked for, if its session and its app's approval let it.
        let read_only = self.read_only(session).ok_or(Refused::Revoked)? || reads_only;
        Ok(Session { read_only, ..session.clone() })
    }

    /// Clears away what expired long ago.
    ///
    /// # Errors
    /// There are as many sessions as may be.
    pub(super) fn make_room(
        &mut self,
        now: Millis,
        ops: &mut Vec<Op>,
        underway: &mut Underway,
    ) -> Result<(), AccessError> {
        // One that can be renewed stays listed, so that the owner can end it.
        let renewable = self.families.sessions();
        let stays = |id: &str| renewable.contains(id);
        let expired = self.sessions.expired(now.saturating_sub(KEEP_EXPIRED_MS), CLEARED_AT_ONCE, stays);
        if self.sessions.len() >= MAX_SESSIONS && expired.is_empty() {
            return Err(AccessError::TooMany);
        }
        expired.iter().for_each(|id| self.end(id, ops, underway));
        Ok(())
    }

    /// A session is to end.
    pub(super) fn end(&mut self, id: &str, ops: &mut Vec<Op>, underway: &mut Underway) {
        if let Some((session, connected)) = self.sessions.with_last_connected(id) {
            let of_family = |family: &str| self.families.sessions_of(family);
            let (op, write) = self.roots.session_ends(session, connected, of_family).unzip();
            ops.extend(op);
            underway.roots.extend(write);
        }
        self.sessions.going(id);
        self.delete(id, ops, underway);
    }

    /// The rows of a session that is going are to be deleted.
    pub(super) fn delete(&self, id: &str, ops: &mut Vec<Op>, underway: &mut Underway) {
        ops.push(deletion(id));
        ops.extend(self.sessions.earlier.deletions(id));
        underway.gone.push(id.to_owned());
    }

    /// A session is to end, and all that came of the same code.
    pub(super) fn end_with_family(&mut self, id: &str, ops: &mut Vec<Op>, underway: &mut Underway) {
        for key in self.families.keys(|_, sessions| sessions.iter().any(|session| session == id)) {
            self.end_family(&key, ops, underway);
        }
        if self.sessions.stays(id) {
            self.end(id, ops, underway);
        }
    }

    /// A refresh token is to end, and its sessions.
    pub(super) fn end_family(&mut self, key: &str, ops: &mut Vec<Op>, underway: &mut Underway) {
        for id in self.families.sessions_of(key) {
            if self.sessions.stays(&id) {
                self.end(&id, ops, underway);
            }
        }
        self.forget_family(key, ops, underway);
    }

    /// A refresh token is to end; its sessions stay.
    pub(super) fn forget_family(&mut self, key: &str, ops: &mut Vec<Op>, underway: &mut Underway) {
        ops.push(self.families.going(key));
        underway.families_gone.push(key.to_owned());
    }

    /// A session is to begin.
    pub(super) fn begin(
        &mut self,
        row: Row,
        ops: &mut Vec<Op>,
        underway: &mut Underway,
    ) -> Result<(), AccessError> {
        ops.push(row.write()?);
        underway.session = Some(self.sessions.begin(row));
        Ok(())
    }

    /// A device's session is to be as this row has it.
    pub(super) fn renew(
        &mut self,
        row: Row,
        ops: &mut Vec<Op>,
        underway: &mut Underway,
    ) -> Result<(), AccessError> {
        ops.push(row.write()?);
        underway.session = self.sessions.renew(row);
        Ok(())
    }

    /// The key of an app's root document.
    pub(super) fn root_key(asked: &Checked) -> RootKey {
        RootKey { did: asked.did.clone(), app: asked.app.clone() }
    }

    /// A commit has come to its end.
    pub(super) fn settle(&mut self, underway: Underway, durable: bool, store: &Store) {
        let Underway { session, gone, roots, grant, family, families_gone, event } = underway;
        for write in roots {
            self.roots.written(write, durable, store);
        }
        if let Some(write) = session {
            self.sessions.written(&write, durable, store);
        }
        if durable {
            for id in &gone {
                self.sessions.remove(id, Refused::Revoked);
                self.sessions.earlier.forget(id);
            }
            families_gone.iter().for_each(|key| self.families.remove(key));
            if let Some(grant) = grant {
                self.decided(grant);
            }
            return;
        }
        // Whether it is in the store after all is for the store to say.
        gone.iter().for_each(|id| self.sessions.reload(id, store));
        family.iter().for_each(|key| self.families.reload(key, false, store));
        families_gone.iter().for_each(|key| self.families.reload(key, true, store));
        if let Some(grant) = grant {
            self.reload_grant(grant, store);
        }
        if let Some(place) = event {
            self.audit.reload(place, store);
        }
    }

    fn decided(&mut self, grant: Grant) {
        let (app, decision) = (grant.app(), grant.decision);
        let before = self.grants.set(grant);
        if decision != Decision::Revoked {
            self.pending.forget(&app);
        }
        if decision.lets_in() && before.is_some_and(|before| before.lets_in() && before != decision) {
            self.sessions.interrupt(&app, Refused::Changed);
        }
    }

    fn reload_grant(&mut self, grant: Grant, store: &Store) {
        let app = grant.app();
        let grant = match store.record(RecordKind::Grant, &app.key()) {
            Ok(None) => return self.grants.forget(&app),
            Ok(Some(row)) => Grant::read(&app.key(), &row),
            Err(_) => None,
        }
        // In doubt nobody gets in by it.
        .unwrap_or(Grant { decision: Decision::Revoked, ..grant });
        self.grants.set(grant);
    }
}
