//! `POST /api/sign-in-link`: a link that signs a browser in, once. On the admin socket only: a browser that is signed in has no use
//! for it, and a stolen cookie must not make more of itself.

use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::answer::{Answer, Failure, json};
use crate::access::{LINK_LIFE_MS, SignIns, What};
use crate::types::{Millis, now};
use crate::web::throttle::Throttle;

/// Links that may be made in a minute.
pub const LINKS_PER_MINUTE: u64 = 10;

/// Answer to `POST /api/sign-in-link`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInLink {
    /// What to open in a browser. Whoever opens it and presses the button is the owner there.
    pub link: String,
    /// Until when it works, in milliseconds since the Unix epoch.
    pub expires: Millis,
}

/// Makes them.
pub struct SignInLinks {
    sign_ins: Arc<SignIns>,
    throttle: Throttle,
}

impl SignInLinks {
    /// Signs in where the owner's page looks.
    pub fn new(sign_ins: Arc<SignIns>) -> Self {
        Self { sign_ins, throttle: Throttle::per_minute(LINKS_PER_MINUTE, LINKS_PER_MINUTE) }
    }
}

pub(super) fn make(admin: &Admin) -> Answer {
    let SignInLinks { sign_ins, throttle } = &admin.sign_in_links;
    throttle.enter(None).map_err(|wait| {
        let message = format!("too many links were made just now: try again in {} s", wait.as_secs() + 1);
        Failure::new(StatusCode::TOO_MANY_REQUESTS, "busy", message)
    })?;
    let now = now();
    let code = sign_ins.link(now)?;
    admin.access.note(What::LinkMade, None);
    tracing::info!("a link was made on this machine that signs in once");
    let link = format!("{}/sign-in/{code}", admin.origin);
    Ok(json(StatusCode::CREATED, &SignInLink { link, expires: now + LINK_LIFE_MS }))
}
