//! Who uses something that all clients share: an approved app, one of its devices.
//!
//! Shares of connections and of memory form a tree. The root is the server's total; below it come the approvals, below each
//! approval its devices. Five hundred sessions of one app are one branch, so they buy no more than one session does.

use std::sync::Arc;

use super::Namespace;

/// An app that the owner approved in one namespace. Tokens made on the command line are one app of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Approval {
    /// The namespace that the approval is for.
    pub namespace: Namespace,
    /// The app's `client_id`.
    pub client_id: Arc<str>,
}

/// One device of an approved app.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Party {
    /// The app that the device runs.
    pub approval: Approval,
    /// The id of the device's session; not a secret.
    pub session: Arc<str>,
}

impl Party {
    /// The device whose session has the id `session`.
    pub fn new(namespace: Namespace, client_id: &str, session: &str) -> Self {
        Self { approval: Approval { namespace, client_id: client_id.into() }, session: session.into() }
    }
}
