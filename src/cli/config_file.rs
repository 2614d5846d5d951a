//! `config get` and `config set`: the configuration file, and nothing that is set elsewhere.

use std::io::Write as _;

use serde_json::{Value, json};

use super::text::safe;
use super::{CliError, Exit, print, print_json};
use crate::config::{ConfigFile, Sources};

pub(super) fn get(sources: &Sources, key: &str, json: bool) -> Result<Exit, CliError> {
    let values = ConfigFile::open(sources.file())?.get(key)?;
    if json {
        print_json(&json!({ "key": key, "values": values }))?;
    } else {
        print(&values.iter().map(|value| format!("{value}\n")).collect::<String>());
    }
    Ok(Exit::Success)
}

pub(super) fn set(sources: &Sources, changes: &[(String, String)], json: bool) -> Result<Exit, CliError> {
    let mut file = ConfigFile::open(sources.file())?;
    let refused = |error| CliError::Setting(format!("nothing was changed: {error}"));
    for (key, value) in changes {
        file.set(key, value).map_err(refused)?;
    }
    file.check(sources).map_err(refused)?;
    let changed = file.is_changed();
    if changed {
        file.write()?;
    }
    let mut err = std::io::stderr();
    for (key, name) in changes.iter().filter_map(|(key, _)| Some((key, sources.variable_of(key)?))) {
        let _ = writeln!(
            err,
            "note: where the variable {name} is set, as it is here, that counts and not {key} in the file"
        );
    }
    let path = file.path().display();
    if json {
        let settings: Value = changes.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        print_json(&json!({ "file": path.to_string(), "changed": changed, "settings": settings }))?;
    } else if changed {
        let lines: String = changes.iter().map(|(key, value)| line(key, value)).collect();
        print(&format!(
            "{lines}Written to {path}. A running server takes it up by: groundmist-sync reload\n"
        ));
    } else {
        print(&format!("{path} says that already.\n"));
    }
    Ok(Exit::Success)
}

fn line(key: &str, value: &str) -> String {
    match value {
        "" => format!("{key} is not set any more.\n"),
        value => format!("{key} is {}.\n", safe(value)),
    }
}
