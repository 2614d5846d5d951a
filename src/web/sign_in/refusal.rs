//! Why a sign-in cannot begin, in words, and how the owner gets in all the same.

use hyper::StatusCode;
use hyper::header::RETRY_AFTER;

use crate::atproto::oauth::{PDS_SILENT, UNREACHABLE_FOR_PDS};
use crate::web::answer::{Answer, error, with};

/// Says why a sign-in cannot begin, by its [code](crate::atproto::oauth::OauthError::code); `metadata` is the address that her PDS must be able to read.
pub(super) fn refusal(code: &'static str, metadata: &str) -> Answer {
    const LINK: &str =
        "`groundmist-sync sign-in` on this server's machine prints a link that signs you in without your PDS";
    const WHY: &str = "It cannot if that name leads nowhere from where the PDS is (a tailnet, a name in your house only), if a firewall keeps it out, or if the PDS is in the same house and the router does not send its own address back in (no hairpin NAT)";
    let (status, message) = match code {
        "busy" => (
            StatusCode::TOO_MANY_REQUESTS,
            "too many sign-ins were begun just now: try again in a minute".to_owned(),
        ),
        "pds_unreachable" => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "your PDS, or what leads to it, does not answer now: try again in a minute; `groundmist-sync doctor` says more, and {LINK}"
            ),
        ),
        UNREACHABLE_FOR_PDS => (
            StatusCode::BAD_GATEWAY,
            format!(
                "your PDS cannot reach this server: before you can sign in there it has to read {metadata}. {WHY}. Meanwhile {LINK}"
            ),
        ),
        PDS_SILENT => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "your PDS has stopped answering. Either it is slow just now, or it tries in vain to read {metadata}, as it has to before you can sign in there. {WHY}. Meanwhile {LINK}"
            ),
        ),
        _ => (
            StatusCode::BAD_GATEWAY,
            format!(
                "your PDS refuses, or its answer is not understood: the server's log says what it is. Meanwhile {LINK}"
            ),
        ),
    };
    with(error(status, code, &message), RETRY_AFTER, "60")
}
