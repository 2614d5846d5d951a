//! A link that was made on the machine that the server runs on (`groundmist-sync sign-in`, `serve --dev`) signs a browser in, once.
//!
//! Programs that show a preview of a link, or look whether it is harmful, open it: so that does nothing but show a page with
//! a button. The button sends a form to the same address, which is taken from our own page only.

use hyper::header::{RETRY_AFTER, SET_COOKIE};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::see_other;
use crate::access::What;
use crate::types::now;
use crate::web::answer::{Answer, error, with};
use crate::web::caller::Caller;
use crate::web::routes::not_allowed;
use crate::web::{Web, gate, page};

/// What the path of a link begins with; the code follows.
pub(super) const PATH: &str = "/sign-in/";
/// Codes that one address may try in a minute.
pub(super) const TRIED_PER_ADDRESS: u64 = 10;
/// Codes that all together may try in a minute. A code cannot be guessed, and whoever floods the server must not keep the owner's
/// link from working: so this bounds the work only.
pub(super) const TRIED_PER_MINUTE: u64 = 60_000;

/// Answers a request whose path begins with [`PATH`].
pub(super) fn answer(head: &Parts, web: &Web, caller: &Caller) -> Answer {
    match head.method {
        Method::GET | Method::HEAD => page::link(&head.headers),
        Method::POST => redeem(head, web, caller).unwrap_or_else(|refusal| refusal),
        _ => not_allowed("use GET, and the button there", "GET, HEAD, POST"),
    }
}

fn redeem(head: &Parts, web: &Web, caller: &Caller) -> Result<Answer, Answer> {
    gate::own_page(&head.method, &head.headers, web)?;
    web.shared.sign_in.links.enter(caller.place).map_err(|_| {
        let message = "too many links were tried from your address just now: try again in a minute";
        with(error(StatusCode::TOO_MANY_REQUESTS, "busy", message), RETRY_AFTER, "60")
    })?;
    let code = head.uri.path().strip_prefix(PATH).unwrap_or_default();
    if !web.shared.page.sign_ins.redeem(code, now()) {
        return Ok(see_other("/?sign_in=link_used"));
    }
    let cookie = gate::sign_in(&head.headers, web)?;
    web.shared.access.note(What::SignedInByLink, caller.address);
    tracing::info!(address = ?caller.address, "the owner signed in by a link that was made on this machine");
    let mut answer = see_other("/");
    answer.headers_mut().insert(SET_COOKIE, cookie);
    Ok(answer)
}
