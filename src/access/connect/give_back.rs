//! An app signs out: it gives back what it has (RFC 7009).

use std::sync::Arc;

use super::families::parse;
use super::{Access, ExchangeError, now};
use crate::access::audit::{Event, What};
use crate::access::state::Underway;

impl Access {
    /// Ends what a refresh token or an app's sync token stands for: all that came of its code. Who has one of these may do so,
    /// were it a thief. What is not known is none, and that is no error. Tokens made on the command line stay: they are
    /// the owner's to end.
    ///
    /// # Errors
    /// It is another app's, it only reads while its session has tokens that write, or the store could not write: then it
    /// still holds.
    pub async fn give_back(
        self: &Arc<Self>,
        token: &str,
        client_id: Option<&str>,
    ) -> Result<(), ExchangeError> {
        let others = |owner: &str| client_id.is_some_and(|client_id| client_id != owner);
        if let Some((key, secret)) = parse(token)
            && let Some(family) = { self.state().families.get(&key).cloned() }
        {
            if !family.holds(&secret) {
                return Ok(());
            }
            if others(&family.client_id) {
                return Err(ExchangeError::Client);
            }
            return Ok(self.end_family(Some(&key), What::AppSignedOut).await?);
        }
        let Ok(session) = self.verify(token, now()) else { return Ok(()) };
        if session.is_local() {
            return Ok(());
        }
        if others(&session.client_id) {
            return Err(ExchangeError::Client);
        }
        let sent = {
            let mut state = self.state();
            let Some(row) = state.sessions.staying(&session.id) else { return Ok(()) };
            // Whoever has a token that only reads disconnects nobody who writes.
            if session.read_only && state.read_only(row) == Some(false) {
                return Err(ExchangeError::Reader);
            }
            let (place, op) = state
                .audit
                .write(Event::about(What::AppSignedOut, &session.app(), now()).session(&session.id))?;
            let (mut ops, mut underway) = (vec![op], Underway { event: Some(place), ..Underway::default() });
            state.end_with_family(&session.id, &mut ops, &mut underway);
            self.send(ops, underway, "signing an app out")
        };
        Ok(sent.await?)
    }
}
