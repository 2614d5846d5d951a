//! Reads settings one by one from the merged sources, and keeps what is wrong with them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use figment::value::Value;
use serde::Serialize;

use super::error::{ConfigError, Problem};
use super::sources::{Merged, variable_for};
use super::units::{parse_bytes, parse_count, parse_duration, show_bytes, show_duration};

/// A setting as it is in effect, for `config check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// Dotted key, as in the file.
    pub key: &'static str,
    /// The value as one would write it; `None` when unset.
    pub value: Option<String>,
    /// Where it comes from: `default`, a line of the file, a variable, a flag.
    pub origin: String,
    /// It may have several values.
    #[serde(skip)]
    pub is_list: bool,
}

/// Reads each setting exactly once; a key that nobody read is unknown.
pub(super) struct Reader {
    merged: Merged,
    unread: BTreeMap<String, Value>,
    pub(super) effective: Vec<Effective>,
    problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn new(mut merged: Merged) -> Self {
        let unread = merged.flat();
        let problems = std::mem::take(&mut merged.problems);
        Self { merged, unread, effective: Vec::new(), problems }
    }

    /// A whole number within a range.
    pub(super) fn count(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> usize {
        let number =
            self.number(key, default, in_memory(range), parse_count, |n| n.to_string(), "a whole number");
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    /// A size within a range of bytes.
    pub(super) fn bytes(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> usize {
        let what = "a size such as \"24 MiB\" (or a number of bytes)";
        let number = self.number(key, default, in_memory(range), parse_bytes, show_bytes, what);
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    /// A time span within a range.
    pub(super) fn time(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let parse = |text: &str| parse_duration(text).ok().map(|d| millis(&d));
        let show = |ms| show_duration(Duration::from_millis(ms));
        let range = millis(range.start())..=millis(range.end());
        let what = "a whole number and a unit (ms, s, m, h or d), such as \"10s\"";
        Duration::from_millis(self.number(key, millis(&default), range, parse, show, what))
    }

    fn number(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        parse: impl Fn(&str) -> Option<u64>,
        show: impl Fn(u64) -> String,
        what: &str,
    ) -> u64 {
        let usual = show(default);
        let value = self.parsed(key, Some((default, usual.clone())), |text| {
            let number = parse(text).ok_or_else(|| format!("is not {what}; the default is {usual}"))?;
            if range.contains(&number) {
                return Ok((number, show(number)));
            }
            let (low, high) = (show(*range.start()), show(*range.end()));
            Err(format!("must be from {low} to {high}; the default is {usual}"))
        });
        value.unwrap_or(default)
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let parse = |text: &str| match text {
            "true" | "1" | "yes" => Ok((true, "true".to_owned())),
            "false" | "0" | "no" => Ok((false, "false".to_owned())),
            _ => Err("write true or false".to_owned()),
        };
        self.parsed(key, Some((default, default.to_string())), parse).unwrap_or(default)
    }

    /// A value of any grammar. `parse` gives the value and how `config check` shows it, or what is wrong.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        default: Option<(T, String)>,
        parse: impl FnOnce(&str) -> Result<(T, String), String>,
    ) -> Option<T> {
        let Some(value) = self.unread.remove(key) else {
            let (value, shown) = default.unzip();
            let origin = if shown.is_some() { "default" } else { "not set" };
            self.effective.push(Effective { key, value: shown, origin: origin.into(), is_list: false });
            return value;
        };
        let origin = self.merged.origin(key, &value);
        let (text, shown_as) = match &value {
            Value::String(_, text) => (text.clone(), format!("{text:?}")),
            Value::Char(_, c) => (c.to_string(), format!("{c:?}")),
            Value::Bool(_, b) => (b.to_string(), b.to_string()),
            Value::Num(_, number) => {
                let text = number_text(*number);
                (text.clone(), text)
            }
            _ => {
                self.problem(key, origin, "must be a single value, not a list".into());
                return None;
            }
        };
        match parse(&text) {
            Ok((value, shown)) => {
                self.effective.push(Effective { key, value: Some(shown), origin, is_list: false });
                Some(value)
            }
            Err(wrong) => {
                let secret = key == "secret";
                let message = if secret {
                    wrong
                } else {
                    format!("{} {wrong}", shown_as.chars().take(120).collect::<String>())
                };
                self.problem(key, origin, message);
                None
            }
        }
    }

    /// Several values: a list in the file, or one text with commas. `parse` takes each, or says what is wrong.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        mut parse: impl FnMut(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(value) = self.unread.remove(key) else {
            self.effective.push(Effective { key, value: None, origin: "not set".into(), is_list: true });
            return Vec::new();
        };
        let origin = self.merged.origin(key, &value);
        let entries: Option<Vec<&str>> = match &value {
            Value::String(_, text) => Some(text.split(',').map(str::trim).collect()),
            Value::Array(_, entries) => entries.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let Some(entries) = entries else {
            self.problem(key, origin, "must be a list of texts".into());
            return Vec::new();
        };
        let mut taken = Vec::new();
        for entry in &entries {
            match parse(entry) {
                Ok(value) => taken.push(value),
                Err(wrong) => {
                    let shown: String = format!("{entry:?}").chars().take(120).collect();
                    self.problem(key, origin.clone(), format!("{shown} {wrong}"));
                }
            }
        }
        self.effective.push(Effective { key, value: Some(entries.join(", ")), origin, is_list: true });
        taken
    }

    /// Where a setting that was read comes from; `None` for a default.
    pub(super) fn origin(&self, key: &str) -> Option<&str> {
        let row = self.effective.iter().find(|row| row.key == key)?;
        (row.origin != "default" && row.origin != "not set").then_some(row.origin.as_str())
    }

    /// How `config check` shows a setting that was read.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.effective.iter().find(|row| row.key == key)?.value.as_deref()
    }

    /// Shows a setting differently from how it was read.
    pub(super) fn replace(&mut self, key: &str, value: String, origin: String) {
        if let Some(row) = self.effective.iter_mut().find(|row| row.key == key) {
            row.value = Some(value);
            row.origin = origin;
        }
    }

    pub(super) fn problem(&mut self, setting: &str, origin: String, message: String) {
        self.problems.push(Problem { setting: setting.into(), origin, message });
    }

    /// Fails with everything that was found, unknown keys included.
    pub(super) fn finish(mut self, known: &[&'static str]) -> Result<Vec<Effective>, ConfigError> {
        for (key, value) in std::mem::take(&mut self.unread) {
            let origin = self.merged.origin(&key, &value);
            let message = no_such_setting(&key, known, origin.starts_with("variable"));
            self.problem(&key, origin, message);
        }
        if self.problems.is_empty() { Ok(self.effective) } else { Err(ConfigError::Problems(self.problems)) }
    }
}

/// What to say of an unknown key.
pub(super) fn no_such_setting(key: &str, known: &[&'static str], in_variable: bool) -> String {
    match nearest(key, known) {
        Some(near) if in_variable => {
            format!("there is no such setting; did you mean {}?", variable_for(near))
        }
        Some(near) => format!("there is no such setting; did you mean {near}?"),
        None => "there is no such setting; remove it (`groundmist-sync config check` lists all)".into(),
    }
}

/// The part of a range that this machine can address.
fn in_memory(range: RangeInclusive<u64>) -> RangeInclusive<u64> {
    *range.start()..=u64::try_from(usize::MAX).map_or(*range.end(), |most| most.min(*range.end()))
}

fn millis(duration: &Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn number_text(number: figment::value::Num) -> String {
    match (number.to_u128_lossy(), number.to_actual()) {
        (_, figment::error::Actual::Float(float)) => float.to_string(),
        (_, figment::error::Actual::Signed(signed)) => signed.to_string(),
        (Some(unsigned), _) => unsigned.to_string(),
        (None, actual) => actual.to_string(),
    }
}

/// The known key that was probably meant: by spelling, with or without its section.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let leaf = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let score = |candidate: &str| distance(key, candidate).min(distance(&leaf(key), &leaf(candidate)) + 1);
    known
        .iter()
        .copied()
        .min_by_key(|candidate| score(candidate))
        .filter(|candidate| score(candidate) <= 2.max(leaf(key).len() / 3 + 1))
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(80).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(80).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_offered() {
        let known = ["owner", "limits.message_bytes", "limits.requests", "log.level"];
        for (key, near) in [
            ("ownr", Some("owner")),
            ("limits.mesage_bytes", Some("limits.message_bytes")),
            ("message_bytes", Some("limits.message_bytes")),
            ("sync.requests", Some("limits.requests")),
            ("log.lvel", Some("log.level")),
            ("completely.different", None),
        ] {
            assert_eq!(nearest(key, &known), near, "{key}");
        }
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("abc", "")), (3, 3, 3));
    }
}
