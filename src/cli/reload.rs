//! `reload`: has the running server read its configuration again.

use std::fmt::Write as _;

use hyper::Method;

use super::admin_client::call;
use super::{CliError, Exit, print, print_json};
use crate::config::{ConfigError, Loaded};
use crate::web::admin::{Changed, Reloaded};

/// The server reads what it was started with; here the configuration only says where the server is.
pub(super) fn run(loaded: Result<Loaded, ConfigError>, json: bool) -> Result<Exit, CliError> {
    let loaded =
        loaded.map_err(|error| CliError::failed("config", format!("nothing was changed: {error}")))?;
    let reloaded: Reloaded = call(&loaded.config, Method::POST, "/api/reload", None::<&()>)?;
    if json {
        print_json(&reloaded)?;
    } else {
        print(&words(&reloaded));
    }
    Ok(Exit::Success)
}

fn words(reloaded: &Reloaded) -> String {
    let mut text = String::new();
    for change in &reloaded.changed {
        let _ = writeln!(text, "Changed: {}", change.in_words());
    }
    for also in &reloaded.also {
        let _ = writeln!(text, "Also: {also}");
    }
    if text.is_empty() {
        text = "Nothing has changed that can be changed at once.\n".into();
    }
    if !reloaded.needs_restart.is_empty() {
        let list: Vec<String> = reloaded.needs_restart.iter().map(Changed::in_words).collect();
        let _ = writeln!(
            text,
            "Needs a restart to count (systemctl restart groundmist-sync):\n  {}",
            list.join("\n  ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_and_what_did_not_is_said() {
        assert!(words(&Reloaded::default()).starts_with("Nothing has changed"));
        let change = |setting: &str, from: Option<&str>, to: Option<&str>| Changed {
            setting: setting.into(),
            from: from.map(Into::into),
            to: to.map(Into::into),
        };
        let reloaded = Reloaded {
            changed: vec![change("log.level", Some("info"), Some("debug"))],
            also: vec!["the certificate was read again".into()],
            needs_restart: vec![change("owner", Some("a.example"), None), change("secret", None, None)],
        };
        let text = words(&reloaded);
        for line in [
            "Changed: log.level: debug, was info\n",
            "Also: the certificate was read again\n",
            "(systemctl restart groundmist-sync):\n  owner: not set, was a.example\n  secret\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in {text}");
        }
    }
}
