//! `serve`: runs the server.

use super::{CliError, Exit};
use crate::config::Config;
use crate::{appliance, telemetry};

pub(super) fn run(config: Config, dev: bool) -> Result<Exit, CliError> {
    telemetry::init(&config.log).map_err(|error| CliError::failed("log", error))?;
    let runtime = appliance::runtime()
        .map_err(|error| CliError::failed("start", format!("starting the socket threads failed: {error}")))?;
    let served = runtime.block_on(appliance::run(config, dev));
    // A blocking call that hangs on a broken disk must not hold up the end.
    runtime.shutdown_background();
    served.map(|()| Exit::Success).map_err(|error| match error {
        appliance::Error::Certificate(wrong) => CliError::Setting(wrong.to_string()),
        other => CliError::failed("start", other),
    })
}
