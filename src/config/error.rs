//! What is wrong with a configuration: all of it at once.

use std::fmt;

use serde::Serialize;

use crate::types::count;

/// One thing to put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The setting, or the key as written.
    pub setting: String,
    /// The file and line, the variable or the flag that it comes from.
    pub origin: String,
    /// What is wrong and how to put it right. Never contains a secret.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.setting, self.origin, self.message)
    }
}

/// The configuration cannot be used; nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error(
        "the configuration file {path} cannot be read: {reason}. Check the path given with --config, or leave it out"
    )]
    File {
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The configuration file is not TOML.
    #[error("line {line} of {path} is not TOML: {reason}")]
    Syntax {
        /// Which file.
        path: String,
        /// Line, from 1.
        line: usize,
        /// The parser's message, without the text of the file: it may hold the secret.
        reason: String,
    },
    /// Settings are unknown, out of range or contradict each other.
    #[error("the configuration has {} to put right:{}", count(.0.len(), "thing"), list(.0))]
    Problems(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}
