//! `GET /api/owner`: who the running server takes for its owner.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::answer::{Answer, json};
use crate::access::{OwnerUnknown, Ownership};

/// Answer to `GET /api/owner`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerNow {
    /// The handle in the configuration, if the owner is given by one.
    pub handle: Option<String>,
    /// Whoever proves this DID is the owner; with a handle it is pinned.
    pub did: Option<String>,
    /// Why there is no `did`; nothing if the configuration names no owner.
    pub reason: Option<String>,
}

pub(super) fn owner(admin: &Admin) -> Answer {
    Ok(json(StatusCode::OK, &owner_now(&admin.ownership)))
}

pub(super) fn owner_now(ownership: &Ownership) -> OwnerNow {
    let handle = ownership.handle().map(ToString::to_string);
    let (did, reason) = match ownership.did() {
        Ok(did) => (Some(did.to_string()), None),
        Err(OwnerUnknown::NotConfigured) => (None, None),
        Err(OwnerUnknown::Unresolved { reason, .. }) => (None, Some(reason)),
    };
    OwnerNow { handle, did, reason }
}
