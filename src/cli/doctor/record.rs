//! Whether the owner's account tells apps where this server is.

use url::Url;

use super::{Context, Finding};
use crate::atproto::repo::get_record;
use crate::atproto::{DidDocument, declaration};

const CHECK: &str = "record";

pub(super) async fn check(
    context: &Context<'_>,
    account: Option<&DidDocument>,
    pds: Option<&Url>,
) -> Finding {
    let (Some(account), Some(pds)) = (account, pds) else {
        return Finding::skipped(CHECK, "there is no PDS to look at");
    };
    let found = match get_record(&context.http, pds, &declaration::key(account.did())).await {
        Ok(found) => found,
        Err(error) => return Finding::skipped(CHECK, &error.to_string()),
    };
    let uri = declaration::uri(account.did());
    let publish = match &context.host {
        Some(host) => format!("groundmist-sync publish --host {host}"),
        None => "groundmist-sync publish --host NAME".to_owned(),
    };
    let Some(record) = found else {
        let found = format!("{uri} does not exist, so apps do not find this server by your account");
        return Finding::warning(CHECK, found, publish);
    };
    match (declaration::host(&record), &context.host) {
        (Some(there), Some(host)) if there.eq_ignore_ascii_case(host) => {
            Finding::ok(CHECK, format!("apps are told {there}"))
        }
        (Some(there), None) => {
            let found = format!("apps are told {there}; whether that is this server cannot be told");
            Finding::warning(CHECK, found, "give this server's name with --host")
        }
        (Some(there), Some(host)) => {
            Finding::failure(CHECK, format!("apps are told {there}, and this server is {host}"), publish)
        }
        (None, _) => Finding::failure(CHECK, format!("{uri} names no host, so apps are lost"), publish),
    }
}
