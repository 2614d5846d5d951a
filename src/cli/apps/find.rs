//! Which app in which namespaces a command is about.
//!
//! An app chooses itself where it asks. So what it asked for elsewhere must neither make a command fail that the owner gives
//! by `client_id`, nor turn it to another namespace than the one that counts:
//!
//! - `revoke` is about standing approvals only, all of them: where one is left, its token stays good. Without an approval it is
//!   about denials, which only the owner makes.
//! - `deny` is about all requests that wait; without one, about standing approvals, then about other decisions.
//! - `approve` is about the one request that waits, or without one about the one decision. It lets nobody in on a doubt.

use super::super::CliError;
use super::super::args::WhichApp;
use super::super::text::safe;
use crate::access::Decision;
use crate::web::admin::Apps;

/// What the owner decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Approve,
    Deny,
    Revoke,
}

impl Verb {
    /// As it stands in the API's path.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Revoke => "revoke",
        }
    }
}

/// What an app has in one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Waits,
    Decided(Decision),
}

impl Known {
    /// How much it counts when a command names no namespace, the least first; `None` if it does not.
    fn rank(self, verb: Verb) -> Option<u8> {
        match (verb, self) {
            (Verb::Revoke, Self::Decided(decision)) if decision.lets_in() => Some(0),
            (Verb::Revoke, Self::Decided(Decision::Denied)) => Some(1),
            (Verb::Revoke, _) => None,
            (_, Self::Waits) => Some(0),
            (Verb::Deny, Self::Decided(decision)) if decision.lets_in() => Some(1),
            (Verb::Approve | Verb::Deny, Self::Decided(_)) => Some(2),
        }
    }
}

/// The app and the namespaces that the owner means, at least one.
pub(super) fn find(apps: &Apps, verb: Verb, which: &WhichApp) -> Result<(String, Vec<String>), CliError> {
    if let Ok(number) = which.app.trim_start_matches('#').parse::<u64>() {
        return by_number(apps, number, which);
    }
    if let Some(namespace) = &which.namespace {
        return Ok((which.app.clone(), vec![namespace.clone()]));
    }
    let namespaces = by_client_id(apps, verb, &which.app);
    match (verb, namespaces.as_slice()) {
        (Verb::Approve, [_, _, ..]) => {
            let message = format!(
                "this app is known in {}: say which with --namespace, or by its number in `groundmist-sync apps pending`",
                namespaces.join(", ")
            );
            Err(CliError::failed("ambiguous_app", message))
        }
        (_, [_, ..]) => Ok((which.app.clone(), namespaces)),
        (Verb::Revoke, []) => Err(CliError::failed(
            "not_found",
            format!(
                "{} is approved nowhere: `groundmist-sync apps list` shows what is decided",
                safe(&which.app)
            ),
        )),
        (_, []) => Err(CliError::failed(
            "not_found",
            format!("{} has not asked: check it, or say where with --namespace", safe(&which.app)),
        )),
    }
}

fn by_number(apps: &Apps, number: u64, which: &WhichApp) -> Result<(String, Vec<String>), CliError> {
    let Some(pending) = apps.pending.iter().find(|pending| pending.number == number) else {
        return Err(CliError::failed(
            "not_found",
            format!(
                "no app with the number {number} waits: `groundmist-sync apps pending` lists those that do"
            ),
        ));
    };
    let namespace = pending.namespace.to_string();
    match &which.namespace {
        Some(other) if !other.eq_ignore_ascii_case(&namespace) => Err(CliError::Usage(format!(
            "number {number} asked for {namespace}, not {}: name the app by its client_id to decide about another namespace",
            safe(other)
        ))),
        _ => Ok((pending.client_id.clone(), vec![namespace])),
    }
}

/// Namespaces of all that counts most.
fn by_client_id(apps: &Apps, verb: Verb, client_id: &str) -> Vec<String> {
    let waits = apps.pending.iter().filter(|pending| pending.client_id == client_id);
    let waits = waits.map(|pending| (Known::Waits, pending.namespace.to_string()));
    let decided = apps.apps.iter().map(|app| &app.grant).filter(|grant| grant.client_id == client_id);
    let decided = decided.map(|grant| (Known::Decided(grant.decision), grant.namespace.to_string()));
    let ranked: Vec<(u8, String)> =
        waits.chain(decided).filter_map(|(known, namespace)| Some((known.rank(verb)?, namespace))).collect();
    let most = ranked.iter().map(|(rank, _)| *rank).min();
    let mut namespaces: Vec<String> =
        ranked.into_iter().filter(|(rank, _)| Some(*rank) == most).map(|(_, namespace)| namespace).collect();
    namespaces.sort();
    namespaces.dedup();
    namespaces
}

/// Where an app is approved but for one namespace: what a command that named none leaves as it is.
pub(super) fn approved_elsewhere(apps: &Apps, client_id: &str, decided: &[String]) -> Vec<String> {
    let of_app = apps.apps.iter().map(|app| &app.grant).filter(|grant| grant.client_id == client_id);
    let approved = of_app.filter(|grant| grant.decision.lets_in()).map(|grant| grant.namespace.to_string());
    approved.filter(|namespace| !decided.contains(namespace)).collect()
}
/// The app and namespace whose root document the owner means.
pub(super) fn with_root_document(
    apps: &Apps,
    client_id: &str,
    namespace: Option<&str>,
) -> Result<(String, String), CliError> {
    if let Some(namespace) = namespace {
        return Ok((client_id.to_owned(), namespace.to_owned()));
    }
    let of_app = apps.apps.iter().filter(|app| app.grant.client_id == client_id);
    let namespaces: Vec<String> =
        of_app.filter(|app| app.root_document.is_some()).map(|app| app.grant.namespace.to_string()).collect();
    match namespaces.as_slice() {
        [one] => Ok((client_id.to_owned(), one.clone())),
        [] => Err(CliError::failed(
            "not_found",
            format!(
                "the devices of {} start from no document: `groundmist-sync apps list` shows which apps have one",
                safe(client_id)
            ),
        )),
        many => Err(CliError::failed(
            "ambiguous_app",
            format!("this app starts from a document in {}: say which with --namespace", many.join(", ")),
        )),
    }
}
