//! `config check`: the settings in effect with their sources, or all that is wrong.

use std::io::Write as _;

use super::text::{settings, wrap};
use super::{CliError, Exit, print, print_json};
use crate::config::{ConfigError, Loaded};

pub(super) fn run(loaded: Result<Loaded, ConfigError>, json: bool) -> Result<Exit, CliError> {
    match loaded {
        Ok(loaded) if json => {
            print_json(&serde_json::json!({ "ok": true, "settings": loaded.settings }))?;
            Ok(Exit::Success)
        }
        Ok(loaded) => {
            let rows: Vec<[String; 3]> = loaded
                .settings
                .into_iter()
                .map(|row| [row.key.into(), row.value.unwrap_or_else(|| "-".into()), row.origin])
                .collect();
            print(&format!("{}\nThe configuration is sound.\n", settings(&rows)));
            Ok(Exit::Success)
        }
        Err(ConfigError::Problems(problems)) if json => {
            print_json(&serde_json::json!({ "ok": false, "error": "config", "problems": problems }))?;
            Ok(Exit::Config)
        }
        Err(error) if json => Err(error.into()),
        Err(error) => {
            // As every command says it, but in lines that a terminal need not break.
            let _ = write!(std::io::stderr(), "{}", wrap(&format!("error: {error}"), 4));
            Ok(Exit::Config)
        }
    }
}
