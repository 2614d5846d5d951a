//! Which app in which namespace a command is about.

use super::super::CliError;
use super::super::args::WhichApp;
use super::super::text::safe;
use crate::web::admin::Apps;

/// The app and namespace that the owner means.
pub(super) fn find(apps: &Apps, which: &WhichApp) -> Result<(String, String), CliError> {
    if let Ok(number) = which.app.trim_start_matches('#').parse::<u64>() {
        let Some(pending) = apps.pending.iter().find(|pending| pending.number == number) else {
            return Err(CliError::failed(
                "not_found",
                format!(
                    "no app with the number {number} waits: `groundmist-sync apps pending` lists those that do"
                ),
            ));
        };
        let namespace = pending.namespace.to_string();
        return match &which.namespace {
            Some(other) if !other.eq_ignore_ascii_case(&namespace) => Err(CliError::Usage(format!(
                "number {number} asked for {namespace}, not {}: name the app by its client_id to decide about another namespace",
                safe(other)
            ))),
            _ => Ok((pending.client_id.clone(), namespace)),
        };
    }
    if let Some(namespace) = &which.namespace {
        return Ok((which.app.clone(), namespace.clone()));
    }
    let decided = apps.apps.iter().map(|app| (&app.grant.client_id, &app.grant.namespace));
    let asked = apps.pending.iter().map(|pending| (&pending.client_id, &pending.namespace));
    let mut namespaces: Vec<String> = decided
        .chain(asked)
        .filter(|(client_id, _)| **client_id == which.app)
        .map(|(_, namespace)| namespace.to_string())
        .collect();
    namespaces.sort();
    namespaces.dedup();
    match namespaces.as_slice() {
        [one] => Ok((which.app.clone(), one.clone())),
        [] => Err(CliError::failed(
            "not_found",
            format!("{} has not asked: check it, or say where with --namespace", safe(&which.app)),
        )),
        many => Err(CliError::failed(
            "ambiguous_app",
            format!("this app is known in {}: say which with --namespace", many.join(", ")),
        )),
    }
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
