//! The DID that a handle leads to: by DNS, or by HTTPS if DNS has none (atproto handle spec, "Handle Resolution").
//! Only half the proof: the DID's document must name the handle as well.

use super::resolve::ResolveError;
use crate::net::{Http, HttpError, Kind, parse_url};
use crate::types::{Did, Handle, MAX_DID_BYTES};

/// Largest answer of `/.well-known/atproto-did` in bytes: a DID, and blanks around it.
const MAX_ANSWER_BYTES: usize = MAX_DID_BYTES + 1024;

/// DNS first, as the specification prefers it; what DNS says is final.
pub(super) async fn did_of(http: &Http, handle: &Handle) -> Result<Did, ResolveError> {
    let name = format!("_atproto.{handle}");
    // DNS that fails is as DNS that has none: HTTPS proves no less, and both need the document's word.
    let texts = http.txt(&name).await.unwrap_or_default();
    if let Some(found) = of_records(handle, &texts) {
        return found;
    }
    let no_such = |https| ResolveError::NoSuchHandle { handle: handle.clone(), https };
    let url = parse_url(&format!("https://{handle}/.well-known/atproto-did")).map_err(no_such)?;
    let body = http.get(Kind::Identity, &url, MAX_ANSWER_BYTES).await;
    let body = body.map_err(|https: HttpError| no_such(https))?;
    let first = String::from_utf8_lossy(&body).lines().next().unwrap_or_default().trim().to_owned();
    first.parse().map_err(|_| ResolveError::HandleUnclear {
        handle: handle.clone(),
        reason: "the first line of /.well-known/atproto-did is not a DID",
    })
}

/// `None` if no record is meant for this.
fn of_records(handle: &Handle, texts: &[String]) -> Option<Result<Did, ResolveError>> {
    let mut dids: Vec<&str> = texts.iter().filter_map(|text| text.strip_prefix("did=")).collect();
    dids.sort_unstable();
    dids.dedup();
    let unclear = |reason| Err(ResolveError::HandleUnclear { handle: handle.clone(), reason });
    Some(match dids.as_slice() {
        [] => return None,
        [one] => match one.trim().parse() {
            Ok(did) => Ok(did),
            Err(_) => unclear("the TXT record does not hold a DID after did="),
        },
        _ => unclear("there are several TXT records with different DIDs: leave one"),
    })
}
