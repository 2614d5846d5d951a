//! Whether the owner's PDS answers, and says who issues its tokens: without it no app gets in.

use url::Url;

use super::{Context, Finding};
use crate::atproto::{AuthServers, DidDocument};
use crate::net::Freshness;

const CHECK: &str = "PDS";

/// The finding, and the PDS if it can be asked further.
pub(super) async fn check<'a>(
    context: &Context<'_>,
    account: Option<&'a DidDocument>,
) -> (Finding, Option<&'a Url>) {
    let Some(account) = account else { return (Finding::skipped(CHECK, "the owner is not known"), None) };
    let Some(pds) = account.pds() else {
        let found = format!("the DID document of {} names no PDS", account.did());
        return (Finding::failure(CHECK, found, "the account has to be put right at its provider"), None);
    };
    let shown = pds.origin().ascii_serialization();
    match AuthServers::new(context.http.clone()).of_pds(pds, Freshness::Cached).await {
        Ok(server) if server.issuer == shown => {
            (Finding::ok(CHECK, format!("{shown} answers, and issues its tokens itself")), Some(pds))
        }
        Ok(server) => {
            (Finding::ok(CHECK, format!("{shown} answers; {} issues its tokens", server.issuer)), Some(pds))
        }
        Err(error) => {
            let fix = "if it is down, wait: nobody new gets in meanwhile, and devices that are in stay in; if it is yours, look at its log";
            (Finding::failure(CHECK, error, fix), Some(pds))
        }
    }
}
