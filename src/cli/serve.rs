//! `serve`: runs the server.

use super::{CliError, Exit};
use crate::config::{Loaded, Sources};
use crate::{appliance, telemetry};

pub(super) fn run(loaded: Loaded, sources: Sources) -> Result<Exit, CliError> {
    let log = &loaded.config.log;
    let level = telemetry::init(log.level, log.format).map_err(|error| CliError::failed("log", error))?;
    telemetry::panics::log();
    let runtime = appliance::runtime()
        .map_err(|error| CliError::failed("start", format!("starting the socket threads failed: {error}")))?;
    let served = runtime.block_on(appliance::run(loaded, sources, level));
    // A blocking call that hangs on a broken disk must not hold up the end.
    runtime.shutdown_background();
    served?;
    Ok(Exit::Success)
}
