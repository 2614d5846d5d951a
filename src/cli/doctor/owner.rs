//! Whether the owner is known for certain, and her handle still leads to her.

use std::sync::Arc;

use super::{Context, Finding};
use crate::atproto::DidDocument;
use crate::cli::account::Pinned;
use crate::config::Owner;
use crate::net::Freshness;
use crate::types::{Did, Handle};

const CHECK: &str = "owner";
const HANDLE: &str = "owner's handle";

/// The findings, and the owner's account if it could be looked up.
pub(in crate::cli) async fn check(context: &Context<'_>) -> (Vec<Finding>, Option<Arc<DidDocument>>) {
    match &context.config.owner {
        None => {
            let fix = "set `owner` to your DID or handle in the configuration";
            (vec![Finding::failure(CHECK, "the configuration names no owner, so nobody gets in", fix)], None)
        }
        Some(Owner::Did(did)) => {
            let (finding, account) = known(context, did).await;
            (vec![finding], account)
        }
        Some(Owner::Handle(handle)) => match &context.pinned {
            Pinned::To(did) => {
                let (finding, account) = known(context, did).await;
                (vec![finding, still_leads_to(context, handle, did).await], account)
            }
            Pinned::NotYet => first_time(context, handle).await,
            Pinned::Unclear(reason) => {
                let (mut findings, account) = first_time(context, handle).await;
                let found = "what the server has pinned the handle to cannot be told";
                findings.push(Finding::warning(HANDLE, found, reason));
                (findings, account)
            }
        },
    }
}

/// Of a DID that is the owner's, whatever else changes.
async fn known(context: &Context<'_>, did: &Did) -> (Finding, Option<Arc<DidDocument>>) {
    match context.resolver.document(did, Freshness::Cached).await {
        Ok(document) => (Finding::ok(CHECK, called(&document)), Some(document)),
        Err(error) => (Finding::failure(CHECK, error, network_or("`owner` in the configuration")), None),
    }
}

/// Of a handle that no server has asked yet.
async fn first_time(context: &Context<'_>, handle: &Handle) -> (Vec<Finding>, Option<Arc<DidDocument>>) {
    match context.resolver.account(handle).await {
        Ok(document) => {
            let found =
                format!("{handle} leads to {}; the server keeps to that once it has asked", document.did());
            (vec![Finding::ok(CHECK, found)], Some(document))
        }
        Err(error) => (vec![Finding::failure(CHECK, error, network_or("the handle"))], None),
    }
}

/// Of a handle that is pinned.
async fn still_leads_to(context: &Context<'_>, handle: &Handle, did: &Did) -> Finding {
    match context.resolver.account(handle).await {
        Ok(document) if document.did() == did => Finding::ok(HANDLE, format!("{handle} leads to it")),
        Ok(document) => {
            let other = document.did();
            let found = format!(
                "{handle} leads to {other} by now; the server stays with {did}, where it led at first"
            );
            let fix = format!(
                "if {did} is you, set `owner` to it, so that nobody is in doubt; if {other} is you, set `owner` to that and restart the server"
            );
            Finding::warning(HANDLE, found, fix)
        }
        Err(error) => {
            let found = format!("it leads nowhere for certain now, and the server stays with {did}: {error}");
            Finding::warning(
                HANDLE,
                found,
                format!("put the handle right at your provider, or set `owner` to {did}"),
            )
        }
    }
}

fn called(document: &DidDocument) -> String {
    let did = document.did();
    document.handle().map_or_else(|| did.to_string(), |handle| format!("{did}, which calls itself @{handle}"))
}

fn network_or(what: &str) -> String {
    format!("check {what}, and that this machine reaches the internet; nobody gets in as long as this lasts")
}
