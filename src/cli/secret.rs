//! `secret rotate`: a new signing secret, of the running server or of one that is stopped.

use std::sync::Arc;

use hyper::Method;

use super::admin_client::call;
use super::stopped::on_store;
use super::text::count;
use super::{CliError, Exit, print, print_json, runtime};
use crate::access::{Access, AccessError, Rotated, SigningSecret, secret};
use crate::config::Config;
use crate::directory::Directory;
use crate::store::Store;

pub(super) fn rotate(config: &Config, json: bool) -> Result<Exit, CliError> {
    let rotated = match call(config, Method::POST, "/api/secret/rotate", None::<&()>) {
        Err(CliError::NotRunning(_)) => {
            on_store(config, "there is no secret to change", |store, directory| {
                rotate_in(config, store, directory)
            })?
        }
        answered => answered?,
    };
    if json {
        print_json(&rotated)?;
    } else {
        print(&words(&rotated));
    }
    Ok(exit(&rotated))
}

/// Rotates the secret of a store that nobody else has open.
pub(super) fn rotate_in(
    config: &Config,
    store: Store,
    directory: &Arc<Directory>,
) -> Result<Rotated, CliError> {
    let secret_failed = |error| CliError::failed("secret", error);
    let store = Arc::new(store);
    secret::adopt(&store, directory).map_err(secret_failed)?;
    let secret = secret::load_or_create(config, directory).map_err(secret_failed)?;
    let kept_in = config.secret.is_none().then(|| directory.clone());
    let secret = SigningSecret::new(secret, kept_in);
    let commit = Arc::new(store.clone());
    let failed = |error: AccessError| CliError::failed(error.code(), error);
    let access = Access::open(store, commit, &secret.now(), config.access.clone()).map_err(failed)?;
    runtime()?.block_on(access.rotate_secret(&secret)).map_err(failed)
}

/// Success only if the new secret is in its file too.
pub(super) fn exit(rotated: &Rotated) -> Exit {
    if rotated.not_in_file.is_some() { Exit::Failure } else { Exit::Success }
}

/// What has happened, and what is to be done now.
pub(super) fn words(rotated: &Rotated) -> String {
    let Rotated { sessions, tokens, ref not_in_file } = *rotated;
    let mut text = format!(
        "The server signs with a new secret. {} of apps and {} made by command have ended, and their connections are closed.\nApps that you approved stay approved, and come back by themselves when their devices authenticate again.\n",
        count(sessions, "session"),
        count(tokens, "token"),
    );
    if tokens > 0 {
        text += "Make new tokens for devices that cannot: groundmist-sync token create\n";
    }
    if let Some(reason) = not_in_file {
        text += &format!(
            "The new secret is not in its file yet: {reason}. It is kept in the store, and the server takes it from there into the file when it starts next. Put right what the reason says, then restart the server: systemctl restart groundmist-sync\n"
        );
    }
    text + "Backups made before have the old secret, with which nobody gets in any more. Restoring one brings it back: make a new backup.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_to_do_is_said_if_there_is_anything() {
        let said = words(&Rotated { sessions: 1, tokens: 0, not_in_file: None });
        assert!(said.contains("1 session of apps and 0 tokens") && !said.contains("token create"), "{said}");
        let said = words(&Rotated { sessions: 2, tokens: 1, not_in_file: None });
        assert!(
            said.contains("2 sessions of apps and 1 token made") && said.contains("token create"),
            "{said}"
        );
    }
}
