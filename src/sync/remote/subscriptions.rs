//! Who wants to hear of which storage, and what each of them is still to be told.
//!
//! [`Subscriptions`] queues no messages: a connection keeps marks for what changed, and a cursor over its open documents for
//! storages that it subscribed to just now. Both are worked off when the connection has room, in turns of bounded work, so
//! a subscription costs the same however many documents are open. A namespace has subscribers of its own and hears of
//! nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;

use crate::types::{Approval, ConnectionId, DocKey, DocumentId, Namespace, StorageId};

/// Most storages one connection may subscribe to.
pub const MAX_SUBSCRIPTIONS: usize = 256;
/// Bytes of subscriptions in one shard. Over it, only apps with less than an equal share may add more.
const BUDGET_BYTES: usize = 2 << 20;
/// Bytes that a subscription is charged besides its storage id: map nodes, and marks for changes.
const SUBSCRIPTION_BYTES: usize = 256;
/// Most changes that are marked singly for one connection. Beyond it, whole documents are marked.
const MAX_MARKS: usize = 64;
/// Steps of work in one turn of one connection. A step takes about 100 ns.
const TURN_STEPS: usize = 256;
/// Steps that a message takes.
const MESSAGE_STEPS: usize = 8;
/// Most connections that get a turn before other inputs are looked at again.
const TURNS: usize = 8;

/// A subscription was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The connection has as many as it may.
    #[error("this connection subscribes to the heads of {MAX_SUBSCRIPTIONS} storages already")]
    Connection,
    /// The app has its share.
    #[error("this app's connections subscribe to the heads of too many storages")]
    App,
}

/// Which subscriptions a document is looked through for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of the connection's.
    All,
    /// Those that are new.
    Fresh,
}

/// The next step for a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Tell it what heads a storage has.
    Tell(DocumentId, StorageId),
    /// Look what is known in a document, and answer with [`Subscriptions::found`].
    Look(DocumentId, Scope),
}

/// One connection's subscriptions.
#[derive(Debug)]
struct Listener {
    approval: Approval,
    bytes: usize,
    storages: BTreeSet<StorageId>,
    /// Changes that it is to be told.
    marks: BTreeSet<(DocumentId, StorageId)>,
    /// Documents to be looked through for all its storages; a part of those it has open.
    documents: BTreeSet<DocumentId>,
    /// New subscriptions, for which all open documents are looked through, and the last document that was.
    fresh: BTreeSet<StorageId>,
    after: Option<DocKey>,
    /// Steps left in this turn.
    steps: usize,
    waits_for_turn: bool,
}

impl Listener {
    /// The cursor has not come to this document: what is known of fresh storages there will be told anyway.
    fn is_ahead(&self, document: DocumentId) -> bool {
        self.after.as_ref().is_none_or(|after| document > after.document)
    }
}

/// All subscriptions. A storage without subscribers, and a connection without subscriptions, has no entry.
#[derive(Debug, Default)]
pub struct Subscriptions {
    namespaces: HashMap<Namespace, BTreeMap<StorageId, BTreeSet<ConnectionId>>>,
    listeners: HashMap<ConnectionId, Listener>,
    bytes: usize,
    by_approval: BTreeMap<Approval, usize>,
    /// Connections that have used up their turn and have more to do.
    turns: VecDeque<ConnectionId>,
}

fn cost(storage: &StorageId) -> usize {
    SUBSCRIPTION_BYTES + storage.as_str().len()
}

impl Subscriptions {
    /// Add a subscription. The connection is to be made ready to hear what is known.
    /// # Errors
    /// The connection or its app has too many.
    pub fn subscribe(
        &mut self,
        id: ConnectionId,
        approval: &Approval,
        storage: StorageId,
    ) -> Result<(), SubscribeError> {
        let own = self.listeners.get(&id);
        if own.is_some_and(|listener| listener.storages.contains(&storage)) {
            return Ok(());
        }
        if own.is_some_and(|listener| listener.storages.len() >= MAX_SUBSCRIPTIONS) {
            return Err(SubscribeError::Connection);
        }
        let bytes = cost(&storage);
        let of_app = self.by_approval.get(approval).copied().unwrap_or(0) + bytes;
        let apps = self.by_approval.len() + usize::from(of_app == bytes);
        if self.bytes + bytes > BUDGET_BYTES && of_app > BUDGET_BYTES / apps {
            return Err(SubscribeError::App);
        }
        self.bytes += bytes;
        self.by_approval.insert(approval.clone(), of_app);
        // One text for all that subscribe to the same storage.
        let topics = self.namespaces.entry(approval.namespace.clone()).or_default();
        let storage = topics.get_key_value(&storage).map_or(storage, |(known, _)| known.clone());
        topics.entry(storage.clone()).or_default().insert(id);
        let listener = self.listeners.entry(id).or_insert_with(|| Listener {
            approval: approval.clone(),
            bytes: 0,
            storages: BTreeSet::new(),
            marks: BTreeSet::new(),
            documents: BTreeSet::new(),
            fresh: BTreeSet::new(),
            after: None,
            steps: TURN_STEPS,
            waits_for_turn: false,
        });
        listener.bytes += bytes;
        listener.storages.insert(storage.clone());
        listener.fresh.insert(storage);
        listener.after = None;
        Ok(())
    }

    /// Take a subscription back.
    pub fn unsubscribe(&mut self, id: ConnectionId, storage: &StorageId) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        if !listener.storages.remove(storage) {
            return;
        }
        listener.fresh.remove(storage);
        listener.bytes -= cost(storage);
        let (approval, empty) = (listener.approval.clone(), listener.storages.is_empty());
        self.give_back(id, &approval, storage);
        if empty {
            self.listeners.remove(&id);
        }
    }

    /// The connection is gone.
    pub fn leave(&mut self, id: ConnectionId) {
        let Some(listener) = self.listeners.remove(&id) else { return };
        for storage in &listener.storages {
            self.give_back(id, &listener.approval, storage);
        }
    }

    fn give_back(&mut self, id: ConnectionId, approval: &Approval, storage: &StorageId) {
        self.bytes -= cost(storage);
        if let Some(of_app) = self.by_approval.get_mut(approval) {
            *of_app -= cost(storage);
            if *of_app == 0 {
                self.by_approval.remove(approval);
            }
        }
        let Some(topics) = self.namespaces.get_mut(&approval.namespace) else { return };
        if let Some(subscribers) = topics.get_mut(storage) {
            subscribers.remove(&id);
            if subscribers.is_empty() {
                topics.remove(storage);
            }
        }
        if topics.is_empty() {
            self.namespaces.remove(&approval.namespace);
        }
    }

    /// True without any subscription.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Who subscribes to a storage in a namespace.
    pub fn subscribers(&self, namespace: &Namespace, storage: &StorageId) -> Option<&BTreeSet<ConnectionId>> {
        self.namespaces.get(namespace)?.get(storage)
    }

    /// Whether a connection subscribes to a storage.
    pub fn wants(&self, id: ConnectionId, scope: Scope, storage: &StorageId) -> bool {
        self.listeners.get(&id).is_some_and(|listener| match scope {
            Scope::All => listener.storages.contains(storage),
            Scope::Fresh => listener.fresh.contains(storage),
        })
    }

    /// Mark that a storage's heads have changed, for one of its subscribers.
    pub fn changed(&mut self, id: ConnectionId, document: DocumentId, storage: &StorageId) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        if listener.fresh.contains(storage) && listener.is_ahead(document) {
            return;
        }
        if listener.marks.len() < MAX_MARKS {
            listener.marks.insert((document, storage.clone()));
        } else if !listener.marks.contains(&(document, storage.clone())) {
            listener.documents.insert(document);
        }
    }

    /// Mark that all of a document is to be looked through, if the connection subscribes to anything. True if so.
    pub fn opened(&mut self, id: ConnectionId, document: DocumentId) -> bool {
        let Some(listener) = self.listeners.get_mut(&id) else { return false };
        let all_fresh = listener.fresh.len() == listener.storages.len();
        if !(all_fresh && listener.is_ahead(document)) {
            listener.documents.insert(document);
        }
        true
    }

    /// The next step for a connection that has these documents open. `None` if it has none, or has used up its turn.
    pub fn next(&mut self, id: ConnectionId, open: &BTreeSet<DocKey>) -> Option<Step> {
        let listener = self.listeners.get_mut(&id)?;
        if let Some((document, storage)) = listener.marks.pop_first() {
            return Some(Step::Tell(document, storage));
        }
        if listener.documents.is_empty() && listener.fresh.is_empty() {
            return None;
        }
        if listener.steps == 0 {
            if !std::mem::replace(&mut listener.waits_for_turn, true) {
                self.turns.push_back(id);
            }
            return None;
        }
        if let Some(document) = listener.documents.pop_first() {
            return Some(Step::Look(document, Scope::All));
        }
        let after = listener.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let Some(next) = open.range((after, Bound::Unbounded)).next() else {
            listener.fresh.clear();
            listener.after = None;
            return None;
        };
        listener.after = Some(next.clone());
        Some(Step::Look(next.document, Scope::Fresh))
    }

    /// A document was looked through, which took so many steps, and something is known of these storages.
    pub fn found(&mut self, id: ConnectionId, document: DocumentId, storages: Vec<StorageId>, steps: usize) {
        let Some(listener) = self.listeners.get_mut(&id) else { return };
        let steps = steps.max(1) + MESSAGE_STEPS * storages.len();
        listener.steps = listener.steps.saturating_sub(steps);
        listener.marks.extend(storages.into_iter().map(|storage| (document, storage)));
    }

    /// True while connections wait for a turn.
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Begin the next turns: these connections are to be made ready.
    pub fn begin_turns(&mut self) -> Vec<ConnectionId> {
        let mut begun = Vec::new();
        while begun.len() < TURNS
            && let Some(id) = self.turns.pop_front()
        {
            if let Some(listener) = self.listeners.get_mut(&id) {
                listener.steps = TURN_STEPS;
                listener.waits_for_turn = false;
                begun.push(id);
            }
        }
        begun
    }
}

#[cfg(test)]
mod tests;
