//! Data directory and store of a server that is stopped.

use std::io::ErrorKind;
use std::sync::Arc;

use super::CliError;
use crate::appliance::{STORE_FILE, options};
use crate::config::Config;
use crate::directory::Directory;
use crate::store::Store;

/// Does `work` with them, with the rights of the directory's owner. `nothing` says what the command does not do where no
/// server has ever run.
pub(super) fn on_store<T: Send>(
    config: &Config,
    nothing: &str,
    work: impl FnOnce(Store, &Arc<Directory>) -> Result<T, CliError> + Send,
) -> Result<T, CliError> {
    let missing = || {
        let path = config.data_dir.join(STORE_FILE);
        let message = format!(
            "{nothing}: no server runs, and {} is not there; if the data is elsewhere, give that with --data-dir",
            path.display()
        );
        CliError::failed("no_store", message)
    };
    let directory = match Directory::open(&config.data_dir) {
        Ok(directory) => Arc::new(directory),
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing()),
        Err(error) => {
            let message = format!("opening {} failed: {error}", config.data_dir.display());
            return Err(CliError::failed("data_dir", message));
        }
    };
    directory.as_owner(|| {
        let store = Store::open_existing(&directory, STORE_FILE, &options::store(config));
        let store = store.map_err(|error| CliError::failed("store", error))?.ok_or_else(missing)?;
        work(store, &directory)
    })
}
