//! What the owner does: approves, denies and revokes apps, ends sessions.

use std::sync::Arc;

use super::audit::{Event, What};
use super::state::Underway;
use super::{Access, AccessError, App, Decision, MAX_NAME_BYTES, now};
use crate::atproto::ClientId;

/// What a decision did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// What holds now.
    pub decision: Decision,
    /// Sessions that ended by it.
    pub sessions_ended: usize,
}

/// Who decides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Owner,
    /// `access.approve = "first-use"`.
    FirstUse,
}

impl Access {
    /// Decides about an app: durable first, then sockets close that may no longer be open. A change between reading
    /// and writing closes the app's sockets too; they come back with the same token and the new rights. Runs to its
    /// end even when the caller stops waiting.
    ///
    /// # Errors
    /// It is not an app's `client_id`, there is nothing to revoke, there are too many decisions, or the store could
    /// not write: then what held before still holds.
    pub async fn decide(self: &Arc<Self>, app: &App, decision: Decision) -> Result<Decided, AccessError> {
        self.decide_by(app, decision, By::Owner).await
    }

    pub(super) async fn approve_first_use(self: &Arc<Self>, app: &App) -> Result<(), AccessError> {
        let decided = self.decide_by(app, Decision::ReadWrite, By::FirstUse).await?;
        if decided.decision == Decision::ReadWrite {
            tracing::info!(client_id = app.client_id, namespace = %app.namespace, "approved an app on its first use (access.approve)");
        }
        Ok(())
    }

    async fn decide_by(
        self: &Arc<Self>,
        app: &App,
        decision: Decision,
        by: By,
    ) -> Result<Decided, AccessError> {
        // Earlier versions took ids that no app can have. What was approved then can still be taken back.
        let takes_back = !decision.lets_in() && self.decision(app).is_some();
        if !takes_back {
            app.client_id.parse::<ClientId>()?;
        }
        let (this, app) = (Arc::clone(self), app.clone());
        let task = tokio::spawn(async move {
            // One decision after the other: what is compared with memory is then what is durable.
            let _one = this.decisions.lock().await;
            this.decide_now(&app, decision, by).await
        });
        task.await.map_err(|_| AccessError::stopping("deciding about an app"))?
    }

    async fn decide_now(
        self: &Arc<Self>,
        app: &App,
        decision: Decision,
        by: By,
    ) -> Result<Decided, AccessError> {
        let now = now();
        let (sessions_ended, sent) = {
            let mut state = self.state();
            let before = state.grants.get(app);
            // Whoever decided first, and be it "no", is not overruled by a first use.
            if let (By::FirstUse, Some(decision)) = (by, before) {
                return Ok(Decided { decision, sessions_ended: 0 });
            }
            let sessions = if decision.lets_in() { Vec::new() } else { state.sessions.of_app(app) };
            if decision == Decision::Revoked && before.is_none() && sessions.is_empty() {
                let (client_id, namespace) = (app.client_id.clone(), app.namespace.to_string());
                return Err(AccessError::NoApp { client_id, namespace });
            }
            let grant = state.grants.decided(app, decision, now)?;
            let (mut ops, mut underway) = (vec![grant.write()?], Underway::default());
            let what = match (decision, by) {
                (Decision::ReadWrite, By::FirstUse) => What::ApprovedOnFirstUse,
                (Decision::ReadWrite, By::Owner) => What::Approved,
                (Decision::ReadOnly, _) => What::ApprovedReadOnly,
                (Decision::Denied, _) => What::Denied,
                (Decision::Revoked, _) => What::Revoked,
            };
            let (place, event) = state.audit.write(Event::about(what, app, now))?;
            underway.event = Some(place);
            ops.push(event);
            if !decision.lets_in() {
                // At once, so that nobody enters behind the deletions.
                state.grants.set(grant.clone());
                sessions.iter().for_each(|id| state.end(id, &mut ops, &mut underway));
                state.codes.forget(app);
                let families = state.families.keys(|of, _| of == app);
                families.iter().for_each(|key| state.forget_family(key, &mut ops, &mut underway));
            }
            underway.grant = Some(grant);
            (sessions.len(), self.send(ops, underway, "deciding about an app"))
        };
        sent.await?;
        self.schedule_flush(&mut self.state());
        Ok(Decided { decision, sessions_ended })
    }

    /// Revokes one session by id, or by name if only one has it: durable first, then its sockets close.
    /// Runs to its end even when the caller stops waiting.
    ///
    /// # Errors
    /// No such session, several of that name, or the store could not write (the session then stays valid).
    pub async fn revoke(self: &Arc<Self>, id_or_name: &str) -> Result<String, AccessError> {
        self.revoke_among(id_or_name, false).await
    }

    /// As [`Access::revoke`], but only among tokens made on the command line.
    ///
    /// # Errors
    /// As there.
    pub async fn revoke_token(self: &Arc<Self>, id_or_name: &str) -> Result<String, AccessError> {
        self.revoke_among(id_or_name, true).await
    }

    async fn revoke_among(self: &Arc<Self>, id_or_name: &str, local: bool) -> Result<String, AccessError> {
        let (id, sent) = {
            let mut state = self.state();
            let id = find(&state.sessions, id_or_name, local)?;
            let event = match state.sessions.get(&id) {
                Some(session) => Event::about(What::SessionRevoked, &session.app(), now()),
                None => Event::new(What::SessionRevoked, now()),
            };
            let (place, op) = state.audit.write(event.session(&id))?;
            let (mut ops, mut underway) = (vec![op], Underway { event: Some(place), ..Underway::default() });
            // Its device could come back by itself.
            state.end_with_family(&id, &mut ops, &mut underway);
            (id, self.send(ops, underway, "revoking the session"))
        };
        sent.await?;
        Ok(id)
    }

    /// Ends a session of somebody who is not the owner any more, and all that came of the same code: durable first, then its
    /// sockets close. One that has ended already is no error.
    ///
    /// # Errors
    /// The store could not write (the session then stays valid for when that owner comes back).
    pub async fn end_of_former_owner(self: &Arc<Self>, id: &str) -> Result<(), AccessError> {
        let sent = {
            let mut state = self.state();
            let (mut ops, mut underway) = (Vec::new(), Underway::default());
            let app = state.sessions.staying(id).map(super::Session::app);
            state.end_with_family(id, &mut ops, &mut underway);
            if ops.is_empty() {
                // Another socket of it has just come, and the session may still come back if its end cannot be stored.
                return if state.sessions.knows(id) { Err(AccessError::RevokedMeanwhile) } else { Ok(()) };
            }
            let event = match app {
                Some(app) => Event::about(What::FormerOwnerEnded, &app, now()),
                None => Event::new(What::FormerOwnerEnded, now()),
            };
            let (place, op) = state.audit.write(event.session(id))?;
            underway.event = Some(place);
            ops.push(op);
            self.send(ops, underway, "ending a session of a former owner")
        };
        tracing::info!(session = id, "a session ended, as its account is not the owner's any more");
        sent.await
    }

    /// Revokes every session and token, those on their way in included; returns how many. Approvals stay.
    ///
    /// # Errors
    /// The store could not write (the sessions then stay valid).
    pub async fn revoke_all(self: &Arc<Self>) -> Result<usize, AccessError> {
        let (count, sent) = {
            let mut state = self.state();
            let (place, op) = state.audit.write(Event::new(What::AllSessionsRevoked, now()))?;
            let (mut ops, mut underway) = (vec![op], Underway { event: Some(place), ..Underway::default() });
            let ids = state.sessions.ids();
            ids.iter().for_each(|id| state.end(id, &mut ops, &mut underway));
            state.codes.clear();
            let families = state.families.keys(|_, _| true);
            families.iter().for_each(|key| state.forget_family(key, &mut ops, &mut underway));
            (ids.len(), self.send(ops, underway, "revoking all sessions"))
        };
        sent.await?;
        Ok(count)
    }
}

/// The id that a command means.
fn find(sessions: &super::sessions::Sessions, id_or_name: &str, local: bool) -> Result<String, AccessError> {
    let fits = |session: &super::Session| !local || session.is_local();
    // An id that another session took over still means that device.
    let id = sessions.id_now(id_or_name);
    if sessions.knows(id) && sessions.get(id).is_none_or(fits) {
        return Ok(id.to_owned());
    }
    let mut named: Vec<_> =
        sessions.all().map(|(session, _)| session).filter(|s| s.name == id_or_name && fits(s)).collect();
    let now = now();
    if named.iter().any(|session| session.expires > now) {
        named.retain(|session| session.expires > now);
    }
    match named.as_slice() {
        [] => Err(AccessError::NotFound(id_or_name.chars().take(MAX_NAME_BYTES).collect())),
        [one] => Ok(one.id.clone()),
        many => Err(AccessError::Ambiguous {
            name: id_or_name.to_owned(),
            ids: many.iter().map(|s| format!("{} ({})", s.id, s.namespace)).collect::<Vec<_>>().join(", "),
        }),
    }
}
