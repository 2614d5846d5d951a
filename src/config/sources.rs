//! Where settings come from: file, environment, flags; a later one wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};

use super::DEFAULT_FILE;
use super::error::{ConfigError, Problem};

const PREFIX: &str = "GROUNDMIST_SYNC_";
/// Variables of the Node prototype, for existing installations.
const PROTOTYPE: &[(&str, &str)] = &[
    ("ATPROTO_DID", "owner"),
    ("GROUNDMIST_SYNC_SECRET_KEY", "secret"),
    ("DATA_DIR", "data_dir"),
    ("PORT", super::settings::PORT),
];

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--port`
    pub port: Option<u16>,
    /// `--log-level`
    pub log_level: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
}

/// Everything that a configuration is made from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// `--config`: must exist.
    pub config: Option<PathBuf>,
    /// Read unless `config` is given; may be missing.
    pub default_file: PathBuf,
    /// Environment variables; an empty one counts as unset.
    pub env: Vec<(OsString, OsString)>,
    /// Flags.
    pub flags: Flags,
    /// `serve --dev`: no default file, and a fresh data directory unless one is given.
    pub dev: bool,
}

impl Sources {
    /// This process's environment and the default file's usual place.
    pub fn of_process(config: Option<PathBuf>, flags: Flags, dev: bool) -> Self {
        Self { config, default_file: DEFAULT_FILE.into(), env: std::env::vars_os().collect(), flags, dev }
    }

    /// The file that is read, or would be if it were there.
    pub fn file(&self) -> &Path {
        self.config.as_deref().unwrap_or(&self.default_file)
    }

    /// The variable that sets `key`, and so takes the place of what the file says.
    pub fn variable_of(&self, key: &str) -> Option<String> {
        variables(&self.env, &mut Vec::new()).remove(key).map(|(name, _)| name)
    }
}

/// All sources merged, and what is needed to say where a value came from.
pub(super) struct Merged {
    pub(super) figment: Figment,
    file: Option<(PathBuf, String)>,
    pub(super) problems: Vec<Problem>,
}

impl Merged {
    pub(super) fn read(sources: &Sources) -> Result<Self, ConfigError> {
        Self::with(sources, read_file(sources)?, &[])
    }

    /// With this file, and of the variables without those for `unset`.
    pub(super) fn with(
        sources: &Sources,
        file: Option<(PathBuf, String)>,
        unset: &[&str],
    ) -> Result<Self, ConfigError> {
        let mut figment = Figment::new();
        if let Some((path, text)) = &file {
            figment = figment.merge(Layer::file(path, text)?);
        }
        let mut problems = Vec::new();
        let variables = variables(&sources.env, &mut problems);
        for (key, (name, value)) in variables.into_iter().filter(|(key, _)| !unset.contains(&key.as_str())) {
            figment = figment.merge(Layer::one(&key, &value, format!("variable {name}")));
        }
        let flags = &sources.flags;
        let data_dir = flags.data_dir.as_deref().map(|dir| match dir.to_str() {
            Some(text) => text.to_owned(),
            None => {
                problems.push(not_utf8("data_dir", "flag --data-dir"));
                dir.to_string_lossy().into_owned()
            }
        });
        for (key, name, value) in [
            ("data_dir", "--data-dir", data_dir),
            (super::settings::PORT, "--port", flags.port.map(|port| port.to_string())),
            ("log.level", "--log-level", flags.log_level.clone()),
            ("log.format", "--log-format", flags.log_format.clone()),
        ] {
            if let Some(value) = value {
                figment = figment.merge(Layer::one(key, &value, format!("flag {name}")));
            }
        }
        Ok(Self { figment, file, problems })
    }

    /// Nothing is set.
    pub(super) fn nothing() -> Self {
        Self { figment: Figment::new(), file: None, problems: Vec::new() }
    }

    /// Every value that is set, by dotted key.
    pub(super) fn flat(&self) -> BTreeMap<String, Value> {
        let mut flat = BTreeMap::new();
        let data = self.figment.data().unwrap_or_default();
        if let Some(dict) = data.get(&Profile::Default) {
            flatten("", dict, &mut flat);
        }
        flat
    }

    /// The place to look at, in words.
    pub(super) fn origin(&self, key: &str, value: &Value) -> String {
        let metadata = self.figment.get_metadata(value.tag());
        match metadata.map(|m| (&m.name, &m.source)) {
            Some((_, Some(Source::File(path)))) => {
                let text = self.file.as_ref().map_or("", |(_, text)| text);
                match line_of(text, key) {
                    Some(line) => format!("line {line} of {}", path.display()),
                    None => path.display().to_string(),
                }
            }
            Some((name, _)) => name.to_string(),
            None => "unknown source".into(),
        }
    }
}

fn read_file(sources: &Sources) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let (path, must_exist) = match &sources.config {
        Some(path) => (path.clone(), true),
        None if sources.dev => return Ok(None),
        None => (sources.default_file.clone(), false),
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => Ok(None),
        Err(error) => Err(ConfigError::File { path: path.display().to_string(), reason: error.to_string() }),
    }
}

/// Only the parser's `message`: its full text quotes the line, which may hold the secret. `at` is a byte of `text`.
pub(super) fn syntax(path: &Path, text: &str, at: Option<usize>, message: &str) -> ConfigError {
    let before = &text.as_bytes()[..at.unwrap_or(0).min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let reason = message.split('`').next().unwrap_or_default().trim().replace('\n', "; ");
    ConfigError::Syntax { path: path.display().to_string(), line, reason }
}

/// The variables that are ours, by setting; two of different value for one setting are a problem.
fn variables(
    env: &[(OsString, OsString)],
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, (String, String)> {
    let mut found: BTreeMap<String, (String, String)> = BTreeMap::new();
    for (name, value) in env {
        let Some(name) = name.to_str() else { continue };
        let key = match PROTOTYPE.iter().find(|(prototype, _)| *prototype == name) {
            Some((_, key)) => (*key).to_owned(),
            None => match name.strip_prefix(PREFIX) {
                Some(rest) => rest.to_ascii_lowercase().replace("__", "."),
                None => continue,
            },
        };
        if value.is_empty() {
            continue;
        }
        let Some(value) = value.to_str() else {
            problems.push(not_utf8(&key, &format!("variable {name}")));
            continue;
        };
        match found.get(&key) {
            Some((other, set)) if set != value => problems.push(Problem {
                setting: key,
                origin: format!("variables {other} and {name}"),
                message: "both set it, to different values: keep one of them".into(),
            }),
            Some(_) => {}
            None => {
                found.insert(key, (name.to_owned(), value.to_owned()));
            }
        }
    }
    found
}

fn not_utf8(setting: &str, origin: &str) -> Problem {
    Problem { setting: setting.into(), origin: origin.into(), message: "is not UTF-8 text".into() }
}

/// The variable that sets a key.
pub(super) fn variable_for(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// One source for figment.
struct Layer {
    metadata: Metadata,
    dict: Dict,
}

impl Layer {
    fn file(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let dict = Toml::from_str::<Dict>(text)
            .map_err(|error| syntax(path, text, error.span().map(|span| span.start), error.message()))?;
        Ok(Self { metadata: Metadata::from("file", Source::File(path.into())), dict })
    }

    fn one(key: &str, value: &str, name: String) -> Self {
        let mut parts = key.rsplit('.');
        let last = parts.next().unwrap_or_default();
        let mut dict = Dict::from([(last.to_owned(), Value::from(value))]);
        for part in parts {
            dict = Dict::from([(part.to_owned(), Value::from(dict))]);
        }
        Self { metadata: Metadata::named(name), dict }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

fn flatten(prefix: &str, dict: &Dict, into: &mut BTreeMap<String, Value>) {
    for (name, value) in dict {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Dict(_, inner) if !inner.is_empty() => flatten(&key, inner, into),
            // An empty section sets nothing.
            Value::Dict(..) => {}
            _ => {
                into.insert(key, value.clone());
            }
        }
    }
}

/// The line, from 1, that sets `key`, or the nearest table above it.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let mut table = String::new();
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            table = plain(header.split(']').next().unwrap_or_default());
            lines.entry(table.clone()).or_insert(number + 1);
        } else if let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            let name = plain(name);
            let full = if table.is_empty() { name } else { format!("{table}.{name}") };
            lines.entry(full).or_insert(number + 1);
        }
    }
    let mut wanted = key;
    loop {
        if let Some(line) = lines.get(wanted) {
            return Some(*line);
        }
        wanted = wanted.rsplit_once('.')?.0;
    }
}

/// A TOML key without quotes and blanks.
fn plain(key: &str) -> String {
    key.split('.').map(|part| part.trim().trim_matches(['"', '\''])).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found() {
        let text = "# limits.requests = 1\nowner = 'x'\nlimits = { requests = 3 }\n[ sync ]\n\"announce\" = true\n[a.b]\nc=1\n";
        for (key, line) in [
            ("owner", Some(2)),
            ("limits.requests", Some(3)),
            ("sync.announce", Some(5)),
            ("a.b.c", Some(7)),
            ("nothing", None),
        ] {
            assert_eq!(line_of(text, key), line, "{key}");
        }
    }
}
