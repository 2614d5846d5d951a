//! A code or refresh token is sent in, and gives a session and the next refresh token: durable before it is answered.

use std::sync::Arc;

use super::codes::Taken;
use super::families::{Family, FamilyKey, REFRESH_GRACE_MS, is_over, is_same, parse};
use super::{Access, Consent, Exchange, ExchangeError, Exchanged, now};
use crate::access::audit::{Event, What};
use crate::access::entering::{Entering, Proof};
use crate::access::state::{State, Underway};
use crate::access::{AccessError, EnterError, Session};
use crate::store::Op;
use crate::types::{Millis, fingerprint, secret};

/// The family that a new session is of, as its row is to be. Only what the owner takes back can come between making
/// this and writing it.
pub(in crate::access) struct Joining {
    key: FamilyKey,
    family: Family,
    /// The code that began the family, if this is its first session.
    code: Option<String>,
    /// Sessions that end with this.
    ends: Vec<String>,
}

impl Joining {
    /// Key of the family.
    pub(in crate::access) fn family(&self) -> &str {
        &self.key
    }

    /// Nothing was taken back meanwhile. Called with the state locked, before anything is changed.
    pub(in crate::access) fn is_welcome(&self, state: &mut State) -> bool {
        match &self.code {
            Some(code) => state.codes.gives(code, &self.key).is_some(),
            None => state.families.get(&self.key).is_some(),
        }
    }

    /// The session joins: writes the row.
    pub(in crate::access) fn join(
        &self,
        state: &mut State,
        session: &Session,
        ops: &mut Vec<Op>,
        underway: &mut Underway,
        now: Millis,
    ) -> Result<(), AccessError> {
        let mut family = self.family.clone();
        family.sessions.push(session.id.clone());
        if self.code.is_some() {
            let goes = state.families.give_way(&family.app(), now);
            goes.iter().for_each(|key| state.forget_family(key, ops, underway));
        }
        let ends: Vec<&String> = self.ends.iter().filter(|id| state.sessions.knows(id)).collect();
        ends.into_iter().for_each(|id| state.end(id, ops, underway));
        ops.push(family.write(&self.key)?);
        state.families.set(self.key.clone(), family);
        underway.family = Some(self.key.clone());
        Ok(())
    }
}

impl Access {
    /// Gives the session and refresh token that the owner said yes to. Whatever comes of it, the code is used; one that
    /// comes a second time ends what it gave. Runs to its end even when the caller stops waiting.
    ///
    /// # Errors
    /// Why not.
    pub async fn exchange_code(
        self: &Arc<Self>,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
        exchange: Exchange,
    ) -> Result<Exchanged, ExchangeError> {
        let [code, redirect_uri, verifier] = [code, redirect_uri, verifier].map(str::to_owned);
        self.one_by_one(async move |this| {
            let taken = this.state().codes.take(&code, now());
            match taken {
                Taken::Unknown => Err(ExchangeError::Code),
                Taken::Again(family) => {
                    this.end_family(family.as_ref(), What::EndedByReplay).await?;
                    Err(ExchangeError::Code)
                }
                Taken::Now(consent) => {
                    consent.check(&exchange.client_id, &redirect_uri, &verifier)?;
                    this.first(*consent, &code, exchange).await
                }
            }
        })
        .await
    }

    /// Gives the next session and refresh token. Runs to its end even when the caller stops waiting.
    ///
    /// # Errors
    /// Why not; a token that was used before ends all that came of its code.
    pub async fn refresh(
        self: &Arc<Self>,
        token: &str,
        exchange: Exchange,
    ) -> Result<Exchanged, ExchangeError> {
        let (key, _) = parse(token).ok_or(ExchangeError::Refresh)?;
        let (family, secret) = token.split_once('.').ok_or(ExchangeError::Refresh)?;
        let (family, secret) = (family.to_owned(), secret.to_owned());
        // Strangers' tokens wait for nobody, and keep nobody waiting.
        if self.state().families.get(&key).is_none() {
            return Err(ExchangeError::Refresh);
        }
        self.one_by_one(async move |this| this.next(&family, key, &secret, exchange).await).await
    }

    /// One after the other, each until it is durable: what is compared with memory is then what the store says.
    async fn one_by_one<F>(
        self: &Arc<Self>,
        exchange: impl FnOnce(Arc<Self>) -> F + Send + 'static,
    ) -> Result<Exchanged, ExchangeError>
    where
        F: Future<Output = Result<Exchanged, ExchangeError>> + Send,
    {
        let this = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _one = this.exchanges.lock().await;
            exchange(Arc::clone(&this)).await
        });
        task.await.map_err(|_| AccessError::stopping("letting an app in"))?
    }

    async fn first(
        self: &Arc<Self>,
        consent: Consent,
        code: &str,
        exchange: Exchange,
    ) -> Result<Exchanged, ExchangeError> {
        if consent.did != exchange.owner {
            return Err(ExchangeError::Code);
        }
        let (name, random) = (new_secret()?, new_secret()?);
        let mut family = Family {
            client_id: consent.client_id,
            namespace: consent.namespace,
            did: consent.did,
            read_only: !consent.writes,
            jkt: exchange.jkt.clone(),
            name: exchange.name.clone(),
            secret: String::new(),
            before: None,
            mark_key: Some(new_secret()?),
            rotated: now(),
            sessions: Vec::new(),
        };
        let secret = family.marked(&random);
        family.secret = fingerprint(&secret);
        let joining = Joining { key: fingerprint(&name), family, code: Some(code.into()), ends: Vec::new() };
        self.join(joining, exchange, format!("{name}.{secret}")).await
    }

    async fn next(
        self: &Arc<Self>,
        name: &str,
        key: FamilyKey,
        secret: &str,
        exchange: Exchange,
    ) -> Result<Exchanged, ExchangeError> {
        let now = now();
        let old = self.state().families.get(&key).cloned().ok_or(ExchangeError::Refresh)?;
        if is_over(&old, now) {
            return Err(ExchangeError::Refresh);
        }
        if old.client_id != exchange.client_id {
            return Err(ExchangeError::Client);
        }
        // Without the key a copied token is worth nothing, so its coming here does not say that somebody else has it.
        if old.jkt.is_some() && old.jkt != exchange.jkt {
            return Err(ExchangeError::Key);
        }
        // Told that it is over, it stays so when that owner comes back.
        if old.did != exchange.owner {
            if old.holds(&fingerprint(secret)) {
                self.end_of_former_owner(old.sessions.last().map_or("", String::as_str)).await?;
            }
            return Err(ExchangeError::Refresh);
        }
        // Whoever knows the first half only learns nothing and ends nothing.
        if !old.has_given(secret) {
            return Err(ExchangeError::Refresh);
        }
        let sent = fingerprint(secret);
        let is = |kept: &str| is_same(kept, &sent);
        let mut sessions = old.sessions.clone();
        let (before, ends) = if is(&old.secret) {
            let keep = sessions.len().saturating_sub(1);
            (Some(old.secret.clone()), sessions.drain(..keep).collect())
        } else if old.before.as_deref().is_some_and(is) && self.was_answer_lost(&old, now) {
            // The answer that brought the newest token may have been lost on its way, and a phone on a train would then be
            // signed out. So the one before may come once more, at once, and only while nothing shows that anybody has
            // the newest: neither it nor its session was used. What was lost is then worth nothing, and if somebody
            // comes with it after all, the family ends.
            (None, sessions.pop().into_iter().collect())
        } else {
            self.end_family(Some(&key), What::EndedByReplay).await?;
            return Err(ExchangeError::Reused);
        };
        let name_of_device = exchange.name.clone().or(old.name.clone());
        let mark_key = Some(old.mark_key.clone().map_or_else(new_secret, Ok)?);
        let mut family = Family { before, mark_key, rotated: now, sessions, name: name_of_device, ..old };
        let secret = family.marked(&new_secret()?);
        family.secret = fingerprint(&secret);
        self.join(Joining { key, family, code: None, ends }, exchange, format!("{name}.{secret}")).await
    }

    fn was_answer_lost(&self, family: &Family, now: Millis) -> bool {
        let state = self.state();
        let newest = family.sessions.last().and_then(|id| state.sessions.get(id));
        now.saturating_sub(family.rotated) < REFRESH_GRACE_MS
            && newest.is_some_and(|session| session.last_used.is_none())
    }

    async fn join(
        self: &Arc<Self>,
        joining: Joining,
        exchange: Exchange,
        refresh_token: String,
    ) -> Result<Exchanged, ExchangeError> {
        let (family, by_code) = (&joining.family, joining.code.is_some());
        let entering = Entering {
            did: family.did.clone(),
            client_id: family.client_id.clone(),
            namespace: family.namespace.clone(),
            read_only_wanted: family.read_only,
            jkt: family.jkt.clone(),
            name: family.name.clone(),
            root_doc_url: exchange.root_doc_url,
            address: exchange.address,
            user_agent: exchange.user_agent,
            used: Vec::new(),
            how: Proof::Consent,
        };
        match self.enter_by(entering, Some(&joining)).await {
            Ok(entered) => Ok(Exchanged { entered, refresh_token }),
            // Taken back a moment ago.
            Err(EnterError::Replayed) if by_code => Err(ExchangeError::Code),
            Err(EnterError::Replayed) => Err(ExchangeError::Refresh),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends a family and its sessions, if it is still there.
    pub(super) async fn end_family(
        self: &Arc<Self>,
        key: Option<&FamilyKey>,
        what: What,
    ) -> Result<(), AccessError> {
        let sent = {
            let mut state = self.state();
            let Some((key, family)) = key.and_then(|key| Some((key, state.families.get(key)?.clone())))
            else {
                return Ok(());
            };
            let event = Event::about(what, &family.app(), now());
            let event = family.sessions.last().map_or(event.clone(), |id| event.session(id));
            let (place, op) = state.audit.write(event)?;
            let (mut ops, mut underway) = (vec![op], Underway { event: Some(place), ..Underway::default() });
            state.end_family(key, &mut ops, &mut underway);
            self.send(ops, underway, "ending what an app had")
        };
        sent.await
    }
}

fn new_secret() -> Result<String, AccessError> {
    secret().map_err(AccessError::random("drawing a refresh token"))
}
