//! The configuration file as something to change: one setting at a time, comments and order kept.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use toml_edit::{Array, DocumentMut, ImDocument, Item, Table, TableLike, TomlError, Value};

use super::error::{ConfigError, Problem};
use super::reader::no_such_setting;
use super::replace::{WriteError, may_replace, replace};
use super::settings::{Loaded, check, known};
use super::sources::{Merged, Sources, syntax};

/// Where a change comes from, in what is said of it.
const ORIGIN: &str = "to be set";
/// The setting that is never written there, nor shown.
const SECRET: &str = "secret";

/// A configuration file, and changes of it that are not written yet.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: PathBuf,
    /// What the disk has; `None` if there is no file.
    before: Option<String>,
    text: String,
    /// Settings that were set.
    touched: Vec<String>,
}

impl ConfigFile {
    /// Reads a file. A missing one is empty.
    ///
    /// # Errors
    /// It cannot be read, or is not TOML.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let before = match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                let (path, reason) = (path.display().to_string(), error.to_string());
                return Err(ConfigError::File { path, reason });
            }
        };
        let text = before.clone().unwrap_or_default();
        let file = Self { path: path.into(), before, text, touched: Vec::new() };
        file.document()?;
        Ok(file)
    }

    /// Where it is, or will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The values of a dotted key, one unless it is a list; none if it is not set, or is a section.
    ///
    /// # Errors
    /// The key is `secret`, which is not shown.
    pub fn get(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        if key == SECRET {
            return Err(problem(key, "is not shown: it is for the server alone"));
        }
        let document = self.document()?;
        Ok(match find(document.as_table(), key) {
            Some(Item::Value(Value::Array(values))) => values.iter().map(words).collect(),
            Some(Item::Value(value)) if !value.is_inline_table() => vec![words(value)],
            _ => Vec::new(),
        })
    }

    /// Sets a dotted key; of a list the values are parted by commas. An empty value removes it, with its own line only.
    ///
    /// # Errors
    /// There is no such setting, or it must not be written there.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let document = self.document()?;
        let all = known();
        let row = all.iter().find(|row| row.key == key);
        let text = if value.is_empty() && find(document.as_table(), key).is_some() {
            remove(document, key)
        } else {
            let Some(row) = row else {
                let keys: Vec<&'static str> = all.iter().map(|row| row.key).collect();
                return Err(problem(key, &no_such_setting(key, &keys, false)));
            };
            if value.is_empty() {
                return Ok(());
            }
            if key == SECRET {
                return Err(problem(
                    key,
                    "does not belong on a command line, nor into a file that everybody may read: write it into a file of its own, readable by the server only, and set secret_file to its path; or leave it out to have one made",
                ));
            }
            let mut document = document.into_mut();
            put(&mut document, key, of_text(value, row.is_list)).ok_or_else(|| {
                problem(key, "is a section in the file, or inside of a value: correct that by hand")
            })?;
            document.to_string()
        };
        self.text = text;
        self.touched.push(key.to_owned());
        Ok(())
    }

    /// Whether anything is to be written.
    pub fn is_changed(&self) -> bool {
        self.before.as_deref().unwrap_or_default() != self.text
    }

    /// The configuration as it would be with this file in its place. Variables of the environment count, except where they
    /// hide what was set.
    ///
    /// # Errors
    /// Everything that would be wrong with it.
    pub fn check(&self, sources: &Sources) -> Result<Loaded, ConfigError> {
        let hidden: Vec<&str> = self.touched.iter().map(String::as_str).collect();
        let file = (self.path.clone(), self.text.clone());
        check(Merged::with(sources, Some(file), &hidden)?, sources.dev)
    }

    /// Whether it can be written, as far as can be told beforehand.
    ///
    /// # Errors
    /// It cannot; why.
    pub fn may_write(&self) -> Result<(), WriteError> {
        may_replace(&self.path)
    }

    /// Puts it in the old one's place, whole or not at all; makes it and its directory if they are missing.
    ///
    /// # Errors
    /// It could not be written.
    pub fn write(&mut self) -> Result<(), WriteError> {
        replace(&self.path, &self.text)?;
        self.before = Some(self.text.clone());
        Ok(())
    }

    fn document(&self) -> Result<ImDocument<&str>, ConfigError> {
        ImDocument::parse(self.text.as_str()).map_err(|error: TomlError| {
            syntax(&self.path, &self.text, error.span().map(|span| span.start), error.message())
        })
    }
}

fn problem(key: &str, message: &str) -> ConfigError {
    let (setting, origin) = (key.to_owned(), ORIGIN.to_owned());
    ConfigError::Problems(vec![Problem { setting, origin, message: message.to_owned() }])
}

fn split(key: &str) -> (Vec<&str>, &str) {
    let mut parts: Vec<&str> = key.split('.').collect();
    let leaf = parts.pop().unwrap_or_default();
    (parts, leaf)
}

fn find<'a>(root: &'a Table, key: &str) -> Option<&'a Item> {
    let (sections, leaf) = split(key);
    let mut table: &dyn TableLike = root;
    for section in sections {
        table = table.get(section)?.as_table_like()?;
    }
    table.get(leaf)
}

/// As a person would write it: what is a number or a truth value stands without quotes.
fn of_text(text: &str, is_list: bool) -> Value {
    if is_list {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        return Value::Array(entries.collect::<Array>());
    }
    match (text, text.parse::<i64>()) {
        ("true", _) => true.into(),
        ("false", _) => false.into(),
        (_, Ok(number)) if number.to_string() == text => number.into(),
        _ => text.into(),
    }
}

fn words(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string().trim().to_owned(),
    }
}

/// `None`: something else is in the way.
fn put(document: &mut DocumentMut, key: &str, mut value: Value) -> Option<()> {
    let (sections, leaf) = split(key);
    let first = document.is_empty();
    let header = document.trailing().as_str().unwrap_or_default().to_owned();
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for section in sections {
        table = table.entry(section).or_insert_with(|| Table::new().into()).as_table_like_mut()?;
    }
    match table.get_mut(leaf) {
        Some(Item::Value(old)) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        Some(Item::None) | None => {
            table.insert(leaf, value.into());
        }
        Some(_) => return None,
    }
    // A file of comments only keeps them at its top.
    if first && !header.is_empty() {
        document.set_trailing("");
        return DocumentMut::from_str(&format!("{header}{document}")).ok().map(|whole| *document = whole);
    }
    Some(())
}

/// Without the line of a key that is set. The comments above may be about more than it, and stay.
fn remove(document: ImDocument<&str>, key: &str) -> String {
    let text = document.raw().to_owned();
    let (sections, leaf) = split(key);
    let mut table: &dyn TableLike = document.as_table();
    let mut inline = false;
    for section in &sections {
        let Some(item) = table.get(section) else { return text };
        inline |= item.is_inline_table();
        let Some(next) = item.as_table_like() else { return text };
        table = next;
    }
    let spans = table.key(leaf).and_then(|key| key.span()).zip(table.get(leaf).and_then(Item::span));
    match (table.get(leaf), spans) {
        (Some(Item::Value(_)), Some((name, value))) if !inline => {
            let begin = text[..name.start].rfind('\n').map_or(0, |at| at + 1);
            let end = text[value.end..].find('\n').map_or(text.len(), |at| value.end + at + 1);
            format!("{}{}", &text[..begin], &text[end..])
        }
        _ => {
            let mut document = document.into_mut();
            let mut table: &mut dyn TableLike = document.as_table_mut();
            for section in sections {
                let Some(next) = table.get_mut(section).and_then(Item::as_table_like_mut) else {
                    return text;
                };
                table = next;
            }
            table.remove(leaf);
            document.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ConfigFile {
        let path = PathBuf::from("/nowhere/config.toml");
        ConfigFile { path, before: Some(text.into()), text: text.into(), touched: Vec::new() }
    }

    #[test]
    fn one_setting_changes_and_everything_else_stays() {
        for (before, key, value, after) in [
            ("", "domain", "a.example", "domain = \"a.example\"\n"),
            ("# mine\n", "domain", "a.example", "# mine\ndomain = \"a.example\"\n"),
            (
                "# head\ndomain = 'b.example' # the name\n\n[acme] # who\nstaging = true\n",
                "domain",
                "a.example",
                "# head\ndomain = \"a.example\" # the name\n\n[acme] # who\nstaging = true\n",
            ),
            (
                "# head\ndomain = 'b.example'\n\n# who\n[acme]\nstaging = true\n",
                "owner",
                "a.example",
                "# head\ndomain = 'b.example'\nowner = \"a.example\"\n\n# who\n[acme]\nstaging = true\n",
            ),
            ("[acme]\n# no\n", "acme.staging", "true", "[acme]\nstaging = true\n# no\n"),
            ("domain = 'x.y'", "acme.contact", "a@b.c", "domain = 'x.y'\n\n[acme]\ncontact = \"a@b.c\"\n"),
            (
                "acme = { contact = 'x' }\n",
                "acme.staging",
                "true",
                "acme = { contact = 'x' , staging = true }\n",
            ),
            ("acme.contact = 'x'\n", "acme.staging", "true", "acme.contact = 'x'\nacme.staging = true\n"),
            ("", "limits.requests", "007", "[limits]\nrequests = \"007\"\n"),
            ("", "limits.requests", "7", "[limits]\nrequests = 7\n"),
            (
                "",
                "identity.name_servers",
                "::1, 9.9.9.9",
                "[identity]\nname_servers = [\"::1\", \"9.9.9.9\"]\n",
            ),
            // Removing.
            (
                "# head\ndomain = 'x.y'\n# her\nowner = 'a.b' # who\n",
                "owner",
                "",
                "# head\ndomain = 'x.y'\n# her\n",
            ),
            ("a = 1\nb = [\n 1, # one\n 2,\n]\nc = 2", "b", "", "a = 1\nc = 2"),
            (
                "[acme]\ncontact = \"\"\"a\nb\"\"\"\nstaging = true\n",
                "acme.contact",
                "",
                "[acme]\nstaging = true\n",
            ),
            ("acme.contact = 'x'\nowner = 'y'\n", "acme.contact", "", "owner = 'y'\n"),
            ("acme = { contact = 'x', staging = true }\n", "acme.contact", "", "acme = { staging = true }\n"),
            ("[odd]\nx = 1\n[acme]\n", "odd", "", "[acme]\n"),
            ("owner = 'a.b'\n", "domain", "", "owner = 'a.b'\n"),
        ] {
            let mut file = file(before);
            file.set(key, value).unwrap();
            assert_eq!(file.text, after, "{key}={value} in {before:?}");
            file.document().unwrap();
        }
    }

    #[test]
    fn what_is_set_is_read_back_as_it_was_given() {
        for text in
            ["a \"quoted\" \\ 'thing'", "true", "007", "7", "-3", "1e3", "é\u{7f}", "99999999999999999999"]
        {
            let mut file = file("");
            file.set("owner", text).unwrap();
            assert_eq!(file.get("owner").unwrap(), [text], "{}", file.text);
        }
        let listed = file("[identity]\nhosts = ['a=::1', \"b=::1\"]\n[limits]\nrequests = 1_000\n");
        assert_eq!(listed.get("identity.hosts").unwrap(), ["a=::1", "b=::1"]);
        assert_eq!(listed.get("limits.requests").unwrap(), ["1000"]);
        for absent in ["owner", "identity", "identity.hosts.0", "limits.requests.x", "", "."] {
            assert!(listed.get(absent).unwrap().is_empty(), "{absent}");
        }
    }

    #[test]
    fn what_does_not_belong_there_is_refused() {
        let secret = "hunter2-hunter2-hunter2";
        for (before, key, value, part) in [
            ("", "ownr", "x", "did you mean owner?"),
            ("", "ownr", "", "did you mean owner?"),
            ("", "secret", secret, "secret_file"),
            ("acme = 1\n", "acme.contact", "a@b.c", "section"),
            ("[domain]\nx = 1\n", "domain", "a.b", "section"),
        ] {
            let mut file = file(before);
            let error = file.set(key, value).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains(secret), "{error}");
            assert_eq!(file.text, before);
        }
        let mut file = file(&format!("secret = '{secret}'\n"));
        assert!(!file.get("secret").unwrap_err().to_string().contains(secret));
        file.set("secret", "").unwrap();
        assert_eq!(file.text, "");
    }
}
