//! Lets an app in, or remembers that it asked.

use std::sync::Arc;

use super::audit::{Event, What};
use super::connect::Joining;
use super::entering::Checked;
use super::root_document::{Asking, Device, Presences};
use super::session::Row;
use super::state::{State, Underway};
use super::{
    Access, AccessError, Decision, EnterError, Entered, Entering, MAX_TOKEN_BYTES, NewSession, Proof,
    Session, now,
};
use crate::config::Approve;
use crate::store::Op;
use crate::types::{Millis, Moment};

/// Most namespaces of one app that `access.approve = "first-use"` lets it into.
pub const MAX_FIRST_USES: usize = 20;

impl Access {
    /// Gives a verified app its session and token, if the owner approved it. A device that has a session gets another token
    /// of it. Everything that has to hold is looked at
    /// and written in one go: a revocation comes before it or after it, and of two entries with the same token one wins.
    ///
    /// # Errors
    /// Why not; an app that is not approved is pending from then on. Nothing of it counts then, except that its used
    /// tokens stay used if the store failed.
    pub async fn enter(self: &Arc<Self>, entering: Entering) -> Result<Entered, EnterError> {
        self.enter_by(entering, None).await
    }

    /// As [`Access::enter`], by a code or refresh token: [`EnterError::Replayed`] if that was taken back meanwhile.
    pub(super) async fn enter_by(
        self: &Arc<Self>,
        entering: Entering,
        joining: Option<&Joining>,
    ) -> Result<Entered, EnterError> {
        let now = now();
        let asked = entering.checked(now)?;
        if self.is_first_use(&asked) {
            match self.approve_first_use(&asked.app).await {
                // Then it waits for the owner like any other.
                Err(AccessError::TooManyApps) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let row = Row::entering(self.session_for(&asked, now)?, &asked, now)?;
        // Until the token has been signed: the secret stays what it is.
        let _same_secret = self.signing.read().await;
        let sign = |row: &Row| {
            let given = self.device_token(&row.session, asked.read_only_wanted, now);
            self.signer.sign_for(row, &given)
        };
        // A session that is there already differs by its id at most, which is as long.
        if sign(&row)?.len() > MAX_TOKEN_BYTES {
            return Err(EnterError::Invalid("the app's client_id and the DID are too long for a token"));
        }
        let presences = self.presences(&State::root_key(&asked), asked.root_doc_url.as_deref());
        let (row, root_doc_url, sent) = {
            let mut state = self.state();
            let admitted = self.admit_app(&mut state, &asked, joining, row, &presences, now);
            self.schedule_flush(&mut state);
            let (row, root_doc_url, ops, underway) = admitted?;
            (row, root_doc_url, self.send(ops, underway, "creating the session"))
        };
        sent.await?;
        let token = sign(&row)?;
        let session = row.session;
        let state = self.state();
        let held = state.sessions.staying(&session.id).and_then(|row| state.read_only(row));
        // Revoked while it was on its way: the owner's word was later.
        let Some(read_only) = held else { return Err(EnterError::NotApproved(asked.app.namespace)) };
        let read_only = read_only || asked.read_only_wanted;
        Ok(Entered { token, session: Session { read_only, ..session }, root_doc_url })
    }

    fn is_first_use(&self, asked: &Checked) -> bool {
        let by_consent = asked.how == Proof::Consent;
        if self.settings().approve != Approve::FirstUse || asked.is_loopback || by_consent {
            return false;
        }
        let state = self.state();
        state.grants.get(&asked.app).is_none()
            && state.grants.of_client(&asked.app.client_id) < MAX_FIRST_USES
            && !state.used.is_replay(&asked.used)
    }

    fn session_for(&self, asked: &Checked, now: Millis) -> Result<Session, AccessError> {
        let new = NewSession {
            namespace: asked.app.namespace.clone(),
            name: asked.name.clone(),
            did: asked.did.clone(),
            client_id: asked.app.client_id.clone(),
            read_only: asked.read_only_wanted,
            life: None,
        };
        let session = new.into_session(now, self.settings().token_life)?;
        let (user_agent, jkt) = (asked.user_agent.clone(), asked.jkt.clone());
        Ok(Session { address: asked.address, user_agent, jkt, ..session })
    }

    /// Decides, and changes nothing unless it says yes.
    fn admit_app(
        &self,
        state: &mut State,
        asked: &Checked,
        joining: Option<&Joining>,
        new: Row,
        presences: &Presences,
        now: Millis,
    ) -> Result<(Row, Option<String>, Vec<Op>, Underway), EnterError> {
        let app = &asked.app;
        let (mut ops, mut underway) = (Vec::new(), Underway::default());
        let refusal = |what| Event::about(what, app, now).from(asked.address);
        if state.used.is_replay(&asked.used) {
            state.audit.note(refusal(What::RefusedReplay));
            return Err(EnterError::Replayed);
        }
        if asked.is_loopback && !self.settings().allow_loopback_clients {
            state.audit.note(refusal(What::RefusedLoopback));
            return Err(EnterError::Loopback);
        }
        let decision = match state.grants.get(app) {
            Some(decision @ (Decision::ReadWrite | Decision::ReadOnly)) => decision,
            Some(Decision::Denied) => {
                state.audit.note(refusal(What::RefusedDenied));
                return Err(EnterError::Denied(app.namespace.clone()));
            }
            Some(Decision::Revoked) | None => {
                if state.pending.ask(asked, now) {
                    tracing::info!(client_id = app.client_id, namespace = %app.namespace, "an app asks to be approved: it waits on your page, and in `groundmist-sync apps pending`");
                }
                state.audit.note(refusal(What::NotApproved));
                return Err(EnterError::NotApproved(app.namespace.clone()));
            }
        };
        let root = State::root_key(asked);
        if asked.root_doc_url.is_some() && !state.roots.has_room_for(&root) {
            return Err(EnterError::TooMany("the server keeps as many root documents as it may"));
        }
        state.used.clear_expired(now);
        if !state.used.has_room_for(asked.used.len()) {
            return Err(EnterError::TooMany("too many tokens were used lately: try again in a minute"));
        }
        if joining.is_some_and(|joining| !joining.is_welcome(state)) {
            return Err(EnterError::Replayed);
        }
        let (renewed, gives_way) = match state.sessions.of_device(&new) {
            Some(known) if now < known.session.expires => (Some(known.renewed(&new, now)), None),
            // What has ended stays ended: its tokens were refused, and are not to come back with a new one.
            Some(ended) => (None, Some(ended.session.id.clone())),
            None => (None, state.sessions.gives_way(app)?),
        };
        if renewed.is_none() && gives_way.is_none() {
            state.make_room(now, &mut ops, &mut underway)?;
        }
        let renews = renewed.is_some();
        let row = renewed.unwrap_or(new);
        let session = &row.session;
        let (place, event) = state
            .audit
            .write(Event::about(What::Entered, app, now).from(asked.address).session(&session.id))?;
        underway.event = Some(place);
        ops.push(event);
        if let Some(id) = gives_way {
            state.end(&id, &mut ops, &mut underway);
        }
        if !renews {
            // A deletion that is on its way may fail. Deleted here once more, the old session is not there beside the new one.
            for id in state.sessions.going_of_device(&row) {
                state.delete(&id, &mut ops, &mut underway);
            }
        }
        ops.extend(state.used.claim(&asked.used));
        let asking = Asking {
            url: asked.root_doc_url.as_deref(),
            writes: decision == Decision::ReadWrite && !asked.read_only_wanted,
            device: Device::new(session, joining.map(Joining::family), Moment::now()),
        };
        let (url, write) = state.tell_root(&root, &asking, presences);
        let (op, write) = write.unzip();
        ops.extend(op);
        underway.roots.extend(write);
        if renews {
            ops.extend(state.sessions.earlier.clear_ended(&row.session.id, now));
            state.renew(row.clone(), &mut ops, &mut underway)?;
        } else {
            state.begin(row.clone(), &mut ops, &mut underway)?;
        }
        if let Some(joining) = joining {
            joining.join(state, session, &mut ops, &mut underway, now)?;
        }
        Ok((row, url, ops, underway))
    }
}
