//! The owner's account as commands find it, and as the server pinned it: a handle alone is not enough to go by.

use std::io::ErrorKind;
use std::sync::Arc;

use hyper::Method;

use super::CliError;
use super::admin_client::call;
use crate::access::Pin;
use crate::appliance::{STORE_FILE, options};
use crate::atproto::Resolver;
use crate::config::Config;
use crate::directory::Directory;
use crate::net::{Http, HttpError};
use crate::store::Store;
use crate::types::{Did, Handle};
use crate::web::admin::OwnerNow;

/// What the server knows of its owner's handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pinned {
    /// The handle counts as this DID, wherever it leads by now.
    To(Did),
    /// The server has not asked yet.
    NotYet,
    /// That cannot be told; why, and what to do.
    Unclear(String),
}

/// The running server's word, or a failed attempt to get it.
pub(super) fn of_server(config: &Config) -> Result<OwnerNow, CliError> {
    call(config, Method::GET, "/api/owner", None::<&()>)
}

/// What `handle` is pinned to, by the running server's word or, if there is none, by its store.
pub(super) fn pinned(config: &Config, handle: &Handle, server: &Result<OwnerNow, CliError>) -> Pinned {
    match server {
        Ok(now) if now.handle.as_deref() == Some(handle.as_str()) => match &now.did {
            None => Pinned::NotYet,
            Some(did) => did.parse().map_or_else(|error| Pinned::Unclear(format!("{error}")), Pinned::To),
        },
        // It runs with an earlier configuration, and asks anew with this one.
        Ok(_) => Pinned::NotYet,
        Err(CliError::NotRunning(_)) => in_store(config, handle),
        Err(error) => Pinned::Unclear(error.to_string()),
    }
}

fn in_store(config: &Config, handle: &Handle) -> Pinned {
    let opened = Directory::open(&config.data_dir);
    let directory = match opened.and_then(|directory| Ok((directory.contains(STORE_FILE)?, directory))) {
        Ok((true, directory)) => Arc::new(directory),
        Ok((false, _)) => return Pinned::NotYet,
        Err(error) if error.kind() == ErrorKind::NotFound => return Pinned::NotYet,
        Err(error) => {
            return Pinned::Unclear(format!(
                "{} cannot be looked at ({error}): run the command as root (sudo) or as the user the server runs as",
                config.data_dir.join(STORE_FILE).display()
            ));
        }
    };
    let read = directory.as_owner(|| {
        let store = Store::open_existing(&directory, STORE_FILE, &options::store(config));
        match store.map_err(|error| error.to_string())? {
            Some(store) => Pin::read(&store).map_err(|error| error.to_string()),
            None => Ok(None),
        }
    });
    match read {
        Ok(Some(pin)) if pin.handle == *handle => Pinned::To(pin.did),
        Ok(_) => Pinned::NotYet,
        Err(reason) => Pinned::Unclear(reason),
    }
}

/// What asks other servers.
pub(super) fn network(config: &Config) -> Result<(Http, Resolver), HttpError> {
    let options = options::identity(config);
    let http = Http::new(&options.http)?;
    Ok((http.clone(), Resolver::new(http, options.plc_directory)))
}
