//! Why a sign-in cannot begin, in words, and how the owner gets in all the same.

use hyper::StatusCode;
use hyper::header::RETRY_AFTER;

use crate::atproto::oauth::{PDS_SILENT, UNREACHABLE_FOR_PDS};
use crate::web::answer::{Answer, error, with};

/// Says why a sign-in cannot begin, by its [code](crate::atproto::oauth::OauthError::code). `metadata` is the address that her PDS
/// must be able to read; a server without a domain has none, and then the reason is never that the PDS cannot reach this server.
pub(super) fn refusal(code: &'static str, metadata: Option<&str>) -> Answer {
    const LINK: &str = "`groundmist-sync sign-in` on the machine that this server runs on prints a link that signs you in without your PDS";
    const WHY: &str = "It cannot if that name leads nowhere from where the PDS is (a tailnet, a name in your house only), if a firewall keeps it out, or if the PDS is in the same house and the router does not send its own address back in (no hairpin NAT)";
    let code = match (code, metadata) {
        (UNREACHABLE_FOR_PDS, None) => "bad_answer",
        (PDS_SILENT, None) => "pds_unreachable",
        _ => code,
    };
    let metadata = metadata.unwrap_or_default();
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
                "your PDS cannot reach this server, or does not take what it reads there: before you can sign in there it has to read {metadata}. {WHY}. If it can reach this server, the server's log says what your PDS answers. Meanwhile {LINK}"
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

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use serde_json::Value;

    use super::*;

    async fn said(code: &'static str, metadata: Option<&str>) -> (String, String) {
        let body = refusal(code, metadata).into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        (text("error"), text("message"))
    }

    #[tokio::test]
    async fn a_pds_that_has_nothing_to_read_is_not_said_to_read_it_in_vain() {
        const METADATA: &str = "https://sync.example/oauth/client-metadata.json";
        for (code, on_loopback) in [(UNREACHABLE_FOR_PDS, "bad_answer"), (PDS_SILENT, "pds_unreachable")] {
            let (said_code, message) = said(code, Some(METADATA)).await;
            assert_eq!(said_code, code);
            assert!(message.contains(METADATA) && message.contains("hairpin"), "{message}");
            let (said_code, message) = said(code, None).await;
            assert_eq!(said_code, on_loopback);
            assert!(!message.contains(" read") && !message.contains("hairpin"), "{message}");
        }
    }
}
