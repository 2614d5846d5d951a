//! `sign-in`: a link to the owner's page that works once, for when she cannot sign in at her PDS.

use std::io::Write as _;

use hyper::Method;

use super::admin_client::call;
use super::{CliError, Exit, print, print_json};
use crate::config::Config;
use crate::web::admin::SignInLink;

pub(super) fn run(config: &Config, json: bool) -> Result<Exit, CliError> {
    let made: SignInLink = call(config, Method::POST, "/api/sign-in-link", None::<&()>)?;
    if json {
        print_json(&made)?;
        return Ok(Exit::Success);
    }
    print(&format!("{}\n", made.link));
    let _ = writeln!(
        std::io::stderr(),
        "Open it in your browser within 10 minutes, and press the button there: it signs that browser in as the owner, once. Show it to nobody."
    );
    Ok(Exit::Success)
}
