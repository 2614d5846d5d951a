//! Requests for documents that the store lacks: who waits for each of them, whether other devices were asked and what they
//! said, and how many requests each connection has pending.
//!
//! Looking at an absent document costs as much as there are devices to ask, and an app may ask for tens of thousands of
//! documents at once. So those that are due are taken one at a time, and whoever takes them stops when others have waited
//! long enough.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::sync::connection::Counts;
use crate::types::{ConnectionId, DocKey, DocumentId, Millis, Namespace, Steady};

#[cfg(test)]
mod tests;

/// How long after a look an absent document that is on its way is looked at again, in milliseconds.
pub const LOOK_AGAIN_MS: Millis = 100;

/// A connection has as many requests pending as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limits.requests: this connection waits for {most} documents already")]
pub struct TooManyRequests {
    most: usize,
}

/// Whether other devices were asked for a document that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    /// They will be asked at this time, if the document has not come.
    AskAt(Steady),
    /// They were asked.
    Asked,
}

/// The answer of one connection that is asked for a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The question is not sent. The connection has until this time to answer.
    Unasked(Steady),
    /// The question is sent. The connection has until this time to answer.
    Pending(Steady),
    /// It does not have the document, or has said something of it by itself.
    Given,
}

#[derive(Debug)]
struct Wait {
    /// Connections that have had no answer.
    by: Vec<ConnectionId>,
    others: Others,
    look_at: Steady,
}

#[derive(Debug, Default)]
struct Request {
    /// `None`: nobody waits any more, and a late answer still counts.
    wait: Option<Wait>,
    asked: Vec<(ConnectionId, Answer)>,
}

/// What is to be done about a document that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing now.
    Nothing,
    /// Ask other devices with [`Requests::ask`], then settle.
    Ask,
    /// Find out with [`Requests::settle`] who is to be told.
    Settle,
}

/// Who is concerned when an absent document has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Connections whose question was not sent: they are not asked any more.
    pub unasked: Vec<ConnectionId>,
    /// Connections that were asked, or said that they lack it: they take the document for unavailable until it is offered.
    pub asked: Vec<ConnectionId>,
}

#[derive(Debug)]
struct Pending {
    counts: Arc<Counts>,
    requests: usize,
}

/// The requests of one shard.
///
/// Invariants: `looks` holds each document that somebody waits for once, at its `look_at`. A joined connection's `requests` is
/// the number of documents whose `by` names it, and its share of what its [`Counts`] say.
#[derive(Debug, Default)]
pub struct Requests {
    documents: BTreeMap<DocKey, Request>,
    looks: BTreeSet<(Steady, DocKey)>,
    connections: HashMap<ConnectionId, Pending>,
}

impl Requests {
    /// A connection has joined.
    pub fn join(&mut self, id: ConnectionId, counts: Arc<Counts>) {
        self.connections.insert(id, Pending { counts, requests: 0 });
    }

    /// A connection has left. Its requests end with its shares, by [`Requests::withdraw`].
    pub fn leave(&mut self, id: ConnectionId) {
        if let Some(pending) = self.connections.remove(&id) {
            pending.counts.answer(pending.requests);
        }
    }

    /// A connection waits for a document. Others are asked at `ask_at`, unless somebody waited for it before. False if the
    /// connection waits for it already.
    /// # Errors
    /// The connection waits for `most` documents.
    pub fn want(
        &mut self,
        id: ConnectionId,
        key: &DocKey,
        ask_at: Steady,
        most: usize,
    ) -> Result<bool, TooManyRequests> {
        if self.waits(id, key) {
            return Ok(false);
        }
        let Some(pending) = self.connections.get_mut(&id) else { return Ok(false) };
        if !pending.counts.request(most) {
            return Err(TooManyRequests { most });
        }
        pending.requests += 1;
        let request = self.documents.entry(key.clone()).or_default();
        match &mut request.wait {
            Some(wait) => wait.by.push(id),
            None => {
                let wait = Wait { by: vec![id], others: Others::AskAt(ask_at), look_at: ask_at };
                request.wait = Some(wait);
                self.looks.insert((ask_at, key.clone()));
            }
        }
        Ok(true)
    }

    /// Whether a connection waits for a document.
    pub fn waits(&self, id: ConnectionId, key: &DocKey) -> bool {
        let wait = self.documents.get(key).and_then(|request| request.wait.as_ref());
        wait.is_some_and(|wait| wait.by.contains(&id))
    }

    /// A connection has no share in a document any more: it neither waits for it nor is asked for it.
    pub fn withdraw(&mut self, id: ConnectionId, key: &DocKey) {
        let Some(request) = self.documents.get_mut(key) else { return };
        request.asked.retain(|(asked, _)| *asked != id);
        if let Some(wait) = &mut request.wait
            && let Some(at) = wait.by.iter().position(|by| *by == id)
        {
            wait.by.swap_remove(at);
            answered(&mut self.connections, [id]);
        }
    }

    /// Tells what is to be done about a document that is absent. `is_put_off`: nobody is to be asked now.
    pub fn step(&mut self, key: &DocKey, now: Steady, is_put_off: impl FnOnce() -> bool) -> Step {
        let wait = self.documents.get(key).and_then(|request| request.wait.as_ref());
        let Some(Wait { by, others, .. }) = wait else { return Step::Nothing };
        let others = *others;
        if by.is_empty() {
            self.end_wait(key);
            return Step::Nothing;
        }
        match others {
            Others::AskAt(at) if at > now => Step::Nothing,
            _ if is_put_off() => {
                self.look_again(key, others, now + LOOK_AGAIN_MS);
                Step::Nothing
            }
            Others::AskAt(_) => Step::Ask,
            Others::Asked => Step::Settle,
        }
    }

    /// A connection that has not been asked for a wanted document is asked: [`Requests::take_question`] gives the question.
    /// What it says until `until` counts.
    pub fn ask(&mut self, id: ConnectionId, key: &DocKey, until: Steady) {
        if let Some(request) = self.documents.get_mut(key) {
            request.asked.push((id, Answer::Unasked(until)));
        }
    }

    /// Whether a connection is yet to be sent the question for a document.
    pub fn has_question(&self, id: ConnectionId, key: &DocKey) -> bool {
        let asked = self.documents.get(key).map_or(&[][..], |request| &request.asked);
        asked.iter().any(|(asked, answer)| *asked == id && matches!(answer, Answer::Unasked(_)))
    }

    /// The question for a document is sent to a connection now. False if there is none.
    pub fn take_question(&mut self, id: ConnectionId, key: &DocKey) -> bool {
        let Some(answer) = self.answer_of(id, key) else { return false };
        let Answer::Unasked(until) = *answer else { return false };
        *answer = Answer::Pending(until);
        true
    }

    /// A connection has said that it lacks a document, or something else about it, which is its answer too.
    pub fn said(&mut self, id: ConnectionId, key: &DocKey) {
        if let Some(answer) = self.answer_of(id, key) {
            *answer = Answer::Given;
        }
    }

    fn answer_of(&mut self, id: ConnectionId, key: &DocKey) -> Option<&mut Answer> {
        let asked = &mut self.documents.get_mut(key)?.asked;
        asked.iter_mut().find(|(asked, _)| *asked == id).map(|(_, answer)| answer)
    }

    /// Others were asked for a document. While one of them may still have it, it is looked at when the last of them must have
    /// answered, and nobody is told. Else the wait ends: these connections are to be told that it is unavailable.
    pub fn settle(&mut self, key: &DocKey, now: Steady) -> Vec<ConnectionId> {
        let asked = self.documents.get(key).map_or(&[][..], |request| &request.asked);
        let last = asked.iter().filter_map(|(_, answer)| match answer {
            Answer::Unasked(until) | Answer::Pending(until) if now < *until => Some(*until),
            _ => None,
        });
        match last.max() {
            Some(until) => {
                self.look_again(key, Others::Asked, until);
                Vec::new()
            }
            None => self.end_wait(key),
        }
    }

    /// Nobody waits for an answer any more. Returns who did.
    pub fn end_wait(&mut self, key: &DocKey) -> Vec<ConnectionId> {
        let wait = self.documents.get_mut(key).and_then(|request| request.wait.take());
        let Some(Wait { by, look_at, .. }) = wait else { return Vec::new() };
        self.looks.remove(&(look_at, key.clone()));
        answered(&mut self.connections, by.iter().copied());
        by
    }

    /// A newcomer has joined and others were asked for a document that is on its way: should it not come after all, all are
    /// asked again.
    pub fn ask_again(&mut self, key: &DocKey, now: Steady) {
        self.look_again(key, Others::AskAt(now), now + LOOK_AGAIN_MS);
    }

    fn look_again(&mut self, key: &DocKey, others: Others, look_at: Steady) {
        let wait = self.documents.get_mut(key).and_then(|request| request.wait.as_mut());
        if let Some(wait) = wait {
            wait.others = others;
            let before = std::mem::replace(&mut wait.look_at, look_at);
            self.looks.remove(&(before, key.clone()));
            self.looks.insert((look_at, key.clone()));
        }
    }

    /// Takes a document that is due, to be looked at again later; `None` if none is due.
    pub fn take_due(&mut self, now: Steady) -> Option<DocKey> {
        let (_, key) = self.looks.first().filter(|(at, _)| *at <= now)?.clone();
        let others = self.documents.get(&key)?.wait.as_ref()?.others;
        self.look_again(&key, others, now + LOOK_AGAIN_MS);
        Some(key)
    }

    /// Some document is due.
    pub fn is_due(&self, now: Steady) -> bool {
        self.looks.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Nobody waits for an answer.
    pub fn is_quiet(&self) -> bool {
        self.looks.is_empty()
    }

    /// A document that was absent is durable: nobody waits for it or is asked for it any more.
    pub fn arrived(&mut self, key: &DocKey) -> Arrival {
        self.end_wait(key);
        let asked = self.documents.remove(key).map_or_else(Vec::new, |request| request.asked);
        let (unasked, asked): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|(_, answer)| matches!(answer, Answer::Unasked(_)));
        let ids = |asked: Vec<(ConnectionId, Answer)>| asked.into_iter().map(|(id, _)| id).collect();
        Arrival { unasked: ids(unasked), asked: ids(asked) }
    }

    /// Nobody wants a document any more, or it is not to be had. Returns who waited for it.
    pub fn forget(&mut self, key: &DocKey) -> Vec<ConnectionId> {
        let waited = self.end_wait(key);
        self.documents.remove(key);
        waited
    }

    /// The wanted documents of a namespace behind `after`, in order, and whether a newcomer is to be asked for each: not if
    /// others are yet to be asked, since it will be among them.
    pub fn wanted_after<'a>(
        &'a self,
        namespace: &Namespace,
        after: Option<&DocKey>,
    ) -> impl Iterator<Item = (&'a DocKey, bool)> + use<'a> {
        let first = DocKey { namespace: namespace.clone(), document: DocumentId([0; 16]) };
        let from = after.map_or(Bound::Included(first), |after| Bound::Excluded(after.clone()));
        let namespace = namespace.clone();
        let wanted = self.documents.range((from, Bound::Unbounded));
        wanted.take_while(move |(key, _)| key.namespace == namespace).map(|(key, request)| {
            let wait = request.wait.as_ref();
            (key, !wait.is_some_and(|wait| matches!(wait.others, Others::AskAt(_))))
        })
    }
}

/// These connections have one request less.
fn answered(connections: &mut HashMap<ConnectionId, Pending>, ids: impl IntoIterator<Item = ConnectionId>) {
    for id in ids {
        // One that has left has given back all of its requests.
        if let Some(pending) = connections.get_mut(&id) {
            pending.requests -= 1;
            pending.counts.answer(1);
        }
    }
}
