//! Whether a server is running here, for the owner that the configuration names.

use super::{Context, Finding};
use crate::cli::CliError;

const CHECK: &str = "server";

pub(super) fn check(context: &Context<'_>) -> Finding {
    let now = match &context.server {
        Ok(now) => now,
        Err(CliError::NotRunning(_)) => {
            let found = format!("no server is running on {}", context.config.data_dir.display());
            let fix = "start it: systemctl start groundmist-sync; if its data is elsewhere, give --data-dir";
            return Finding::warning(CHECK, found, fix);
        }
        Err(error) => return Finding::warning(CHECK, "the running server cannot be asked", error),
    };
    let configured = context.config.owner.as_ref().map(|owner| owner.as_str());
    let serves = now.handle.as_deref().or(now.did.as_deref());
    if serves != configured {
        let found = format!(
            "the running server was started for {}, and the configuration names {}",
            serves.unwrap_or("nobody"),
            configured.unwrap_or("nobody")
        );
        return Finding::warning(CHECK, found, "restart it: systemctl restart groundmist-sync");
    }
    if let Some(reason) = &now.reason {
        let fix = "put that right; the server asks again by itself, within five minutes";
        return Finding::warning(
            CHECK,
            format!("it is running, and does not know its owner yet: {reason}"),
            fix,
        );
    }
    Finding::ok(CHECK, "it is running")
}
